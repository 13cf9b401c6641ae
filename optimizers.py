"""Keras optimizers whose TensorFlow kernels are faster than Keras's own: the same maths, names and arguments.

Each updates a variable by one kernel instead of a dozen. On another backend, and for what the kernels cannot do, it is
Keras's.
"""

import math
import re

import keras
import numpy as np

from console import UserError, reason
from layers import TENSORFLOW

if TENSORFLOW:
    import tensorflow as tf


def make(name, **arguments):
    """Returns Keras's optimizer `name`; its learning rate is 0 until it is assigned.

    Raises UserError for a name or an argument that Keras does not know.
    """
    for key, value in arguments.items():
        if isinstance(value, str) and key != "name":  # "no" would pass for true
            raise UserError(f"optimizer_config.{key} must be a number, true, false or a list, not {value!r}")
    try:
        kind = type(keras.optimizers.get(name))
        kind = FAST.get(kind, kind)
        # What Keras would find out in the first step is found out now.
        kind(learning_rate=0.0, **arguments).apply([keras.ops.zeros((2, 2))], [keras.Variable(np.zeros((2, 2)))])
        return kind(learning_rate=0.0, **arguments)
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"optimizer {name!r} cannot be made with optimizer_config {arguments}: {reason(error)}"
        ) from error


class Adam(keras.optimizers.Adam):
    """keras.optimizers.Adam."""

    def update_step(self, gradient, variable, learning_rate):
        if self.amsgrad or not _dense_float32(gradient, variable):
            return super().update_step(gradient, variable, learning_rate)
        i = self._get_variable_index(variable)
        betas = self.beta_1, self.beta_2
        _apply_adam(self, gradient, variable, self._momentums[i], self._velocities[i], learning_rate, *betas)


class Muon(keras.optimizers.Muon):
    """keras.optimizers.Muon, for convolution kernels too: each as a matrix with a column for each filter.

    As Jordan's own does ("Muon: an optimizer for hidden layers in neural networks", 2024); Keras's leaves them to Adam.
    """

    def _should_use_adamw(self, variable):
        if len(variable.shape) != 4:
            return super()._should_use_adamw(variable)
        return any(re.search(keyword, variable.path) for keyword in self.exclude_layers)

    def _adamw_update_step(self, gradient, variable, learning_rate, m, v):
        if not _dense_float32(gradient, variable):
            return super()._adamw_update_step(gradient, variable, learning_rate, m, v)
        _apply_adam(self, gradient, variable, m, v, learning_rate, self.adam_beta_1, self.adam_beta_2)

    def zeropower_via_newtonschulz5(self, x, steps):
        """Keras's iteration x <- (a + b xx' + c (xx')^2) x, on a CPU on the small matrix xx' alone.

        For the long matrices that kernels are, that is a third of the work. Its rounding errors grow tenfold a step:
        harmless in float32 for five steps, not in a GPU's TF32 or for many more.
        """
        ops = keras.ops
        matrix = ops.reshape(x, (-1, x.shape[-1]))
        if not TENSORFLOW or steps > 5 or tf.config.list_logical_devices("GPU"):
            return ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)
        tall = matrix.shape[0] > matrix.shape[1]
        matrix = ops.transpose(matrix) if tall else matrix
        matrix = matrix / (ops.norm(matrix) + 1e-7)
        gram = matrix @ ops.transpose(matrix)
        one = ops.eye(gram.shape[0], dtype=gram.dtype)
        product = one
        for _ in range(steps):
            factor = self.muon_a * one + self.muon_b * gram + self.muon_c * gram @ gram
            product, gram = factor @ product, factor @ gram @ factor
        matrix = product @ matrix
        return ops.reshape(ops.transpose(matrix) if tall else matrix, x.shape)

    def lr_adjust(self, x):
        if self.rms_rate is None:
            return x
        columns = x.shape[-1]
        return x * (max(columns, math.prod(x.shape) // columns) ** 0.5 * self.rms_rate)


def _apply_adam(optimizer, gradient, variable, m, v, learning_rate, beta_1, beta_2):
    step = keras.ops.cast(optimizer.iterations + 1, "float32")
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=m.value.handle,
        v=v.value.handle,
        beta1_power=tf.pow(float(beta_1), step),
        beta2_power=tf.pow(float(beta_2), step),
        lr=tf.cast(learning_rate, tf.float32),
        beta1=beta_1,
        beta2=beta_2,
        epsilon=optimizer.epsilon,
        grad=tf.cast(gradient, tf.float32),
    )


class RMSprop(keras.optimizers.RMSprop):
    """keras.optimizers.RMSprop."""

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        if TENSORFLOW and not self.momentum:  # the kernel wants its place all the same
            self._momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient, variable, learning_rate):
        if self.centered or not _dense_float32(gradient, variable):
            return super().update_step(gradient, variable, learning_rate)
        i = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyRMSProp(
            var=variable.handle,
            ms=self._velocities[i].value.handle,
            mom=self._momentums[i].value.handle,
            lr=tf.cast(learning_rate, tf.float32),
            rho=self.rho,
            momentum=self.momentum,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, tf.float32),
        )


FAST = {keras.optimizers.Adam: Adam, keras.optimizers.Muon: Muon, keras.optimizers.RMSprop: RMSprop}


def _dense_float32(gradient, variable):
    return TENSORFLOW and isinstance(gradient, tf.Tensor) and variable.dtype == tf.float32
