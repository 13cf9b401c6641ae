"""Keras layers with faster or safer TensorFlow kernels; maths, names and arguments are Keras's.

On another backend, and where a kernel lacks a feature (a mask, another axis, renorm, synchronized), Keras's code runs.
"""

import keras

from recognizer.base.backend import TENSORFLOW, Tensor

if TENSORFLOW:
    import tensorflow as tf


# Registered, so that Keras can rebuild them from their configs, as Bidirectional does with the layer that it wraps.
registered = keras.saving.register_keras_serializable("fast")


@registered
class Conv1D(keras.layers.Conv1D):
    """keras.layers.Conv1D, whose strides are safe if the kernel has one element, see `_takes_pixels`."""

    def call(self, inputs: Tensor) -> Tensor:
        return _of_taken_pixels(self, inputs) if _takes_pixels(self) else super().call(inputs)


@registered
class Conv2D(keras.layers.Conv2D):
    """keras.layers.Conv2D, computed as a matrix product if the kernel covers the whole input (Deotte's last layer).

    The strides of a 1x1 convolution are safe, see `_takes_pixels`.
    """

    def call(self, inputs: Tensor) -> Tensor:
        if _takes_pixels(self):
            return _of_taken_pixels(self, inputs)
        whole = inputs.shape[1:3] == self.kernel_size and self.padding == "valid" and self.groups == 1
        if not (TENSORFLOW and whole and self.dilation_rate == (1, 1) and self.data_format == "channels_last"):
            return super().call(inputs)
        kernel = tf.reshape(self.kernel, [-1, self.filters])
        outputs = tf.matmul(tf.reshape(inputs, [-1, kernel.shape[0]]), kernel)
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.convert_to_tensor(self.bias))
        return tf.reshape(self.activation(outputs), [-1, 1, 1, self.filters])


def _takes_pixels(layer):
    """Returns whether a convolution takes single pixels with strides, as a residual net's usual shortcut does.

    oneDNN's kernel for the gradient (TensorFlow 2.21, AVX-512) writes outside its memory for some odd batch sizes, and
    the process dies. So the pixels are taken first, and the convolution has no strides.
    """
    taken = set(layer.kernel_size) == {1} != set(layer.strides)
    return TENSORFLOW and taken and layer.data_format == "channels_last"


def _of_taken_pixels(layer, inputs):
    taken = inputs[(slice(None), *(slice(None, None, step) for step in layer.strides))]
    outputs = keras.ops.conv(taken, layer.kernel, padding="valid", data_format=layer.data_format)
    return layer.activation(outputs + layer.bias if layer.use_bias else outputs)


@registered
class BatchNormalization(keras.layers.BatchNormalization):
    """keras.layers.BatchNormalization, computed by TensorFlow's fused kernel, which also takes bfloat16 inputs."""

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        last = self.axis in (-1, len(inputs.shape) - 1)
        renorm = getattr(self, "renorm", False)  # new in Keras 3.14
        fused = TENSORFLOW and last and mask is None and not (renorm or self.synchronized)
        if not fused or self.variable_dtype != "float32" or inputs.dtype == tf.float64:
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        images = inputs if len(inputs.shape) == 4 else tf.reshape(inputs, [-1, 1, 1, channels])
        learning = bool(training and self.trainable)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=images,
            scale=self.gamma.value if self.scale else tf.ones([channels]),
            offset=self.beta.value if self.center else tf.zeros([channels]),
            mean=tf.zeros([0]) if learning else self.moving_mean.value,
            variance=tf.zeros([0]) if learning else self.moving_variance.value,
            epsilon=self.epsilon,
            is_training=learning,
        )
        if learning:
            # The kernel returns the variance with Bessel's correction, Keras stores it without.
            n = tf.cast(tf.size(images) // channels, tf.float32)
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance * ((n - 1) / n))):
                moving.assign(moving.value * self.momentum + batch * (1 - self.momentum))
        return outputs if len(inputs.shape) == 4 else tf.reshape(outputs, tf.shape(inputs))


@registered
class Dropout(keras.layers.Dropout):
    """keras.layers.Dropout with 16 random bits for each element: its rate is exact to 1/131,072."""

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        drop = round(self.rate * 2**16)
        if not (TENSORFLOW and training and 0 < drop < 2**16) or self.noise_shape is not None:
            return super().call(inputs, training=training)
        n = tf.size(inputs)
        seed = tf.cast(self.seed_generator.next(), tf.int32)
        # XLA has a kernel for int32, but not for uint32; the bits are the same.
        bits = tf.raw_ops.StatelessRandomUniformFullInt(shape=[(n + 1) // 2], seed=seed, dtype=tf.int32)
        bits = tf.reshape(tf.bitcast(bits, tf.uint16), [-1])[:n]
        mask = tf.cast(bits >= drop, inputs.dtype) * tf.cast(2**16 / (2**16 - drop), inputs.dtype)
        return inputs * tf.reshape(mask, tf.shape(inputs))


def make_strides_safe(model: keras.Model) -> None:
    """Makes Keras's own convolutions of single pixels with strides, wherever they are in a model, those of this file.

    Only their class changes: a layer's state and its place in the model stay.
    """
    for layer in model._flatten_layers():
        if type(layer) in (keras.layers.Conv1D, keras.layers.Conv2D) and _takes_pixels(layer):
            layer.__class__ = FAST[type(layer)]


FAST = {getattr(keras.layers, kind.__name__): kind for kind in (Conv1D, Conv2D, BatchNormalization, Dropout)}
PLAIN = {fast: plain for plain, fast in FAST.items()}
