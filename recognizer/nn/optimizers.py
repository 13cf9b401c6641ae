"""Faster optimizers; maths, names and arguments are Keras's, except that Muon also takes convolution kernels.

On TensorFlow, a step of Adam (also inside Muon) or RMSprop updates a variable by one kernel instead of a dozen. On
another backend, and where a kernel lacks a feature, Keras's operations are used.
"""

import math
import re
from typing import Any

import keras
import numpy as np

from recognizer.base.backend import TENSORFLOW, Tensor
from recognizer.base.errors import UserError
from recognizer.base.reasons import reason
from recognizer.config.keras_classes import CLASSES

if TENSORFLOW:
    import tensorflow as tf

Variable = Any  # a keras.Variable, or the tf.Variable in it: Keras on TensorFlow passes these to update_step


def make(name: str, **arguments: Any) -> keras.optimizers.Optimizer:
    """Returns Keras's optimizer `name`, a key of CLASSES["optimizer"]. Its learning rate is 0 until it is assigned.

    Raises UserError for a name or an argument that this version of Keras does not have.
    """
    kind = FAST.get(name) or getattr(keras.optimizers, CLASSES["optimizer"][name], None)
    if kind is None:
        raise UserError(f"optimizer {name!r} is not in Keras {keras.__version__}: it needs a later one")
    for key, value in arguments.items():
        if isinstance(value, str) and key != "name":  # "no" would count as true
            raise UserError(f"optimizer_config.{key} must be a number, true, false or a list, not {value!r}")
    try:
        # Make one step on a small variable, so that errors of the first step are raised now. With gradient accumulation
        # the first update comes several steps later, so try without accumulation, too.
        for more in (arguments | {"gradient_accumulation_steps": None}, arguments):
            variable = keras.Variable(np.zeros((2, 2), np.float32))
            kind(learning_rate=0.0, **more).apply([keras.ops.zeros((2, 2))], [variable])
        return kind(learning_rate=0.0, **arguments)
    except Exception as error:
        told = f"optimizer {name!r} cannot be made with optimizer_config {arguments}"
        raise UserError(f"{told}: {reason(error)}") from error


def absent_layers(arguments: dict, model: keras.Model) -> list[str]:
    """Returns the entries of an optimizer's `exclude_layers` that match no weight of a model."""
    paths = [variable.path for variable in model.trainable_variables]
    return [name for name in arguments.get("exclude_layers") or () if not any(re.search(name, path) for path in paths)]


class Adam(keras.optimizers.Adam):
    """keras.optimizers.Adam with one kernel for each variable."""

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        if self.amsgrad or not _dense_float32(gradient, variable):
            return super().update_step(gradient, variable, learning_rate)
        i = self._get_variable_index(variable)
        betas = self.beta_1, self.beta_2
        _apply_adam(self, gradient, variable, self._momentums[i], self._velocities[i], learning_rate, *betas)


class Muon(keras.optimizers.Optimizer):
    """Muon for hidden layers, as in Keras 3.13, but also for convolution kernels, which Keras leaves to Adam.

    A kernel is a matrix with one column for each filter, as in Jordan's original ("Muon: an optimizer for hidden layers
    in neural networks", 2024). It does not inherit from Keras's, since arguments and steps differ in Keras 3.12.
    """

    # The arguments that only Muon has, with Keras's defaults. Each becomes an attribute.
    ARGUMENTS = (
        dict(adam_beta_1=0.9, adam_beta_2=0.999, adam_weight_decay=0.004, adam_lr_ratio=1, epsilon=1e-7)
        | dict(muon_a=3.4445, muon_b=-4.7750, muon_c=2.0315, momentum=0.95, ns_steps=5, nesterov=True, rms_rate=0.2)
        | dict(exclude_layers=(), exclude_embeddings=True)
    )

    def __init__(self, learning_rate: float = 0.001, weight_decay: float | None = 0.004, **arguments: Any) -> None:
        own = {name: arguments.pop(name, default) for name, default in self.ARGUMENTS.items()}
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **arguments)
        for name, value in own.items():
            setattr(self, name, value)

    def _should_use_adamw(self, variable):
        if len(variable.shape) not in (2, 4) or (self.exclude_embeddings and "embedding" in variable.path.lower()):
            return True
        return any(re.search(keyword, variable.path) for keyword in self.exclude_layers or ())

    def build(self, variables: list[Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self.momentums, self.velocities = [], []
        for variable in variables:
            self.momentums.append(self.add_variable_from_reference(variable, name="momentum"))
            adam = self._should_use_adamw(variable)
            self.velocities.append(self.add_variable_from_reference(variable, name="velocity") if adam else None)

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        i = self._get_variable_index(variable)
        m, v = self.momentums[i], self.velocities[i]
        if v is None:
            self._muon_update_step(gradient, variable, learning_rate, m)
        else:
            self._adamw_update_step(gradient, variable, learning_rate * self.adam_lr_ratio, m, v)

    def _muon_update_step(self, gradient, variable, learning_rate, m):
        self.assign_add(m, keras.ops.add(gradient, m * (self.momentum - 1)))
        step = keras.ops.add(gradient, self.momentum * m) if self.nesterov else m
        update = self.zeropower_via_newtonschulz5(step, self.ns_steps)
        self.assign_sub(variable, self.lr_adjust(learning_rate * update))

    def _adamw_update_step(self, gradient, variable, learning_rate, m, v):
        beta_1, beta_2 = self.adam_beta_1, self.adam_beta_2
        if _dense_float32(gradient, variable):
            _apply_adam(self, gradient, variable, m, v, learning_rate, beta_1, beta_2)
            return
        ops = keras.ops
        step = ops.cast(self.iterations + 1, variable.dtype)
        rate, gradient = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        rate = rate * ops.sqrt(1 - ops.power(beta_2, step)) / (1 - ops.power(beta_1, step))
        self.assign_add(m, ops.subtract(gradient, m) * (1 - beta_1))
        self.assign_add(v, ops.subtract(ops.square(gradient), v) * (1 - beta_2))
        self.assign_sub(variable, m * rate / (ops.sqrt(v) + self.epsilon))

    def _apply_weight_decay(self, variables):
        for variable in variables:
            decay = self.adam_weight_decay if self._should_use_adamw(variable) else self.weight_decay
            if decay is not None and self._use_weight_decay(variable):
                variable.assign(variable - variable * decay * keras.ops.cast(self.learning_rate, variable.dtype))

    def zeropower_via_newtonschulz5(self, x: Tensor, steps: int) -> Tensor:
        """Returns x after `steps` iterations x <- (a + b xx' + c (xx')^2) x, which bring its singular values near 1.

        For up to five steps, TensorFlow on a CPU iterates only the small matrix xx': a third of the work, since kernels
        are long matrices. Rounding errors then grow tenfold with each step: harmless for five steps in float32, but not
        in a GPU's TF32 or for many more steps.
        """
        ops = keras.ops
        matrix = ops.reshape(x, (-1, x.shape[-1]))
        tall = matrix.shape[0] > matrix.shape[1]
        matrix = ops.transpose(matrix) if tall else matrix
        matrix = matrix / (ops.norm(matrix) + 1e-7)
        if not TENSORFLOW or steps > 5 or tf.config.list_logical_devices("GPU"):
            for _ in range(steps):
                gram = matrix @ ops.transpose(matrix)
                matrix = self.muon_a * matrix + (self.muon_b * gram + self.muon_c * gram @ gram) @ matrix
        else:
            gram = matrix @ ops.transpose(matrix)
            one = ops.eye(gram.shape[0], dtype=gram.dtype)
            product = one
            for _ in range(steps):
                factor = self.muon_a * one + self.muon_b * gram + self.muon_c * gram @ gram
                product, gram = factor @ product, factor @ gram @ factor
            matrix = product @ matrix
        return ops.reshape(ops.transpose(matrix) if tall else matrix, x.shape)

    def lr_adjust(self, x: Tensor) -> Tensor:
        if self.rms_rate is None:
            return x
        columns = x.shape[-1]
        return x * (max(columns, math.prod(x.shape) // columns) ** 0.5 * self.rms_rate)

    def get_config(self) -> dict:
        return super().get_config() | {name: getattr(self, name) for name in self.ARGUMENTS}


class RMSprop(keras.optimizers.RMSprop):
    """keras.optimizers.RMSprop with one kernel for each variable."""

    def build(self, variables: list[Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        if TENSORFLOW and not self.momentum:  # the kernel needs this variable even without momentum
            self._momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
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


def _dense_float32(gradient, variable):
    """Returns whether TensorFlow's kernels can apply a gradient to a variable."""
    return TENSORFLOW and isinstance(gradient, tf.Tensor) and variable.dtype == tf.float32


def _apply_adam(optimizer, gradient, variable, m, v, learning_rate, beta_1, beta_2):
    """Makes one step of Adam by one kernel, which updates a variable and its moments m and v."""
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


FAST = {"adam": Adam, "muon": Muon, "rmsprop": RMSprop}
