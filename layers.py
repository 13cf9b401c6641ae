"""Keras layers whose TensorFlow kernels are faster than Keras's own: the same maths, names and arguments.

    from layers import BatchNormalization, Conv2D, Dropout      # in place of keras.layers

On another backend, and for what the kernels cannot do (a mask, another axis, renorm, synchronized), each is Keras's.
A net is saved by `plain`, in Keras's own layers and float32, and predicts by `fast`.
"""

import re
from pathlib import Path

import keras

TENSORFLOW = keras.backend.backend() == "tensorflow"
if TENSORFLOW:
    import tensorflow as tf

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # Keras's dtype policy for a precision


class Conv2D(keras.layers.Conv2D):
    """keras.layers.Conv2D, as a matrix product where its kernel covers the whole input (Deotte's last one)."""

    def call(self, inputs):
        whole = inputs.shape[1:3] == self.kernel_size and self.padding == "valid" and self.groups == 1
        if not (TENSORFLOW and whole and self.dilation_rate == (1, 1) and self.data_format == "channels_last"):
            return super().call(inputs)
        kernel = tf.reshape(self.kernel, [-1, self.filters])
        outputs = tf.matmul(tf.reshape(inputs, [-1, kernel.shape[0]]), kernel)
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.convert_to_tensor(self.bias))
        return tf.reshape(self.activation(outputs), [-1, 1, 1, self.filters])


class BatchNormalization(keras.layers.BatchNormalization):
    """keras.layers.BatchNormalization by TensorFlow's fused kernel, which reads bfloat16 as it is."""

    def call(self, inputs, training=None, mask=None):
        last = self.axis in (-1, len(inputs.shape) - 1)
        renorm = getattr(self, "renorm", False)  # an argument since Keras 3.14
        fused = TENSORFLOW and last and mask is None and not (renorm or self.synchronized)
        if not fused or inputs.dtype == tf.float64:
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
            # The kernel gives the variance with Bessel's correction, Keras keeps it without.
            n = tf.cast(tf.size(images) // channels, tf.float32)
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance * ((n - 1) / n))):
                moving.assign(moving.value * self.momentum + batch * (1 - self.momentum))
        return outputs if len(inputs.shape) == 4 else tf.reshape(outputs, tf.shape(inputs))


class Dropout(keras.layers.Dropout):
    """keras.layers.Dropout with a mask of 16 random bits an element: the rate is met to 1/131,072."""

    def call(self, inputs, training=False):
        drop = round(self.rate * 2**16)
        if not (TENSORFLOW and training and 0 < drop < 2**16) or self.noise_shape is not None:
            return super().call(inputs, training=training)
        n = tf.size(inputs)
        seed = tf.cast(self.seed_generator.next(), tf.int32)
        bits = tf.raw_ops.StatelessRandomUniformFullInt(shape=[(n + 1) // 2], seed=seed, dtype=tf.uint32)
        bits = tf.reshape(tf.bitcast(bits, tf.uint16), [-1])[:n]
        mask = tf.cast(bits >= drop, inputs.dtype) * tf.cast(2**16 / (2**16 - drop), inputs.dtype)
        return inputs * tf.reshape(mask, tf.shape(inputs))


def native_precision(wanted="bfloat16"):
    """Returns `wanted`, "bfloat16" or "float32", or "float32" where no processor here computes bfloat16 natively.

    Native: an NVIDIA GPU of compute capability 8 or more, a TPU; with TensorFlow, an x86 processor with AMX or
    AVX512-BF16 (XLA's convolutions, which JAX uses, gain nothing there).
    """
    if wanted == "float32" or _native_bfloat16():
        return wanted
    return "float32"


def _native_bfloat16(cpuinfo=Path("/proc/cpuinfo")):
    kinds = {device.split(":")[0] for device in keras.distribution.list_devices()}
    if "tpu" in kinds:
        return True
    if TENSORFLOW:
        gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
        if gpus:
            return all(gpu.get("compute_capability", (0, 0)) >= (8, 0) for gpu in gpus)
        try:
            flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
        except OSError:  # not Linux
            return False
        return bool(flags and {"amx_bf16", "avx512_bf16"} & set(flags[1].split()))
    if keras.backend.backend() == "jax" and "gpu" in kinds:
        import jax

        return all(float(getattr(gpu, "compute_capability", 0)) >= 8 for gpu in jax.devices())
    return False


FAST = {getattr(keras.layers, kind.__name__): kind for kind in (Conv2D, BatchNormalization, Dropout)}
PLAIN = {fast: plain for plain, fast in FAST.items()}


def plain(model):
    """Returns a copy of a Sequential or functional model in Keras's own layers and float32, with its weights."""
    return _copy(model, PLAIN, lambda layer: "float32")


def fast(model, precision="float32"):
    """Returns a copy of a plain model in this file's layers, with its weights.

    precision: "float32", or "bfloat16" for all layers but the last, which gives the probabilities.
    """
    last = core(model).layers[-1]
    return _copy(model, FAST, lambda layer: "float32" if layer is last else POLICIES[precision])


CORE = "joint_flips"  # a name that no layer of an architecture has by chance


def core(model):
    """The net within one that shows it an image and its flips (models.aggregated), or the model itself."""
    return next((layer for layer in model.layers if layer.name == CORE), model)


class Replicas(keras.Model):
    """A net that trains on each batch in `replicas` equal parts, which TensorFlow computes side by side.

    A core is faster at a part of the batch than at its share of every operation on the whole. As under tf.distribute,
    batch normalisation takes each part's own mean and variance, and moves its statistics once a part; all else is the
    same maths. `net` is the net itself, whose weights these are.
    """

    def __init__(self, net, replicas=1):
        super().__init__()
        self.net, self.replicas = net, replicas
        self.built = True

    def call(self, inputs, training=False):
        if not training or self.replicas == 1:
            return self.net(inputs, training=training)
        parts = keras.ops.split(inputs, self.replicas)
        return keras.ops.concatenate([self.net(part, training=True) for part in parts])


def all_layers(model):
    """All layers of a model, those of models within it, too."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from all_layers(layer)


def update_bn(model, batches):
    """Sets batch normalisation's moving statistics to their means over `batches` of inputs, float32 (b, 28, 28, 1).

    As torch.optim.swa_utils.update_bn: what a net has seen in training, augmented, is not what it is to predict.
    """
    normalizations = [layer for layer in all_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in normalizations]
    for i, batch in enumerate(batches):
        for layer in normalizations:
            layer.momentum = i / (i + 1)
        model(batch, training=True)
    for layer, momentum in zip(normalizations, momenta, strict=True):
        layer.momentum = momentum


def _copy(model, classes, dtype):
    def clone(layer):
        if not isinstance(layer, keras.layers.Layer):  # an operation of keras.ops
            return type(layer).from_config(layer.get_config())
        if isinstance(layer, keras.Model):  # two models deep, where Keras before 3.15 clones no further by itself
            return keras.models.clone_model(layer, clone_function=clone, recursive=True)
        kind = classes.get(type(layer), type(layer))
        return kind.from_config(layer.get_config() | {"dtype": dtype(layer)})

    compiled, model.compiled = model.compiled, False  # clone_model would compile the copy, with an optimizer of its own
    try:
        copy = keras.models.clone_model(model, clone_function=clone, recursive=True)
    finally:
        model.compiled = compiled
    copy.set_weights(model.get_weights())
    return copy
