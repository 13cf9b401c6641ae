"""Keras layers whose TensorFlow kernels are faster than Keras's own: the same maths, names and arguments.

    from layers import BatchNormalization, Conv2D, Dropout      # in place of keras.layers

On another backend, and for what the kernels cannot do (a mask, another axis, renorm, synchronized), each is Keras's.
A net is saved by `plain`, in Keras's own layers and float32, and predicts by `fast`.
"""

import re
from pathlib import Path

import keras
import numpy as np

from gpu import gpus

TENSORFLOW = keras.backend.backend() == "tensorflow"
if TENSORFLOW:
    import tensorflow as tf

# Keras's dtype policy for a precision
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


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
        # XLA has a kernel for int32, not for uint32; the bits are the same.
        bits = tf.raw_ops.StatelessRandomUniformFullInt(shape=[(n + 1) // 2], seed=seed, dtype=tf.int32)
        bits = tf.reshape(tf.bitcast(bits, tf.uint16), [-1])[:n]
        mask = tf.cast(bits >= drop, inputs.dtype) * tf.cast(2**16 / (2**16 - drop), inputs.dtype)
        return inputs * tf.reshape(mask, tf.shape(inputs))


def native_precision(wanted=None):
    """Returns the precision to compute in here: `wanted`, or the fastest (None), else "float32" where it is not native.

    bfloat16 is native to NVIDIA GPUs of compute capability 8 or more, TPUs, and, with TensorFlow, x86 processors with
    AMX or AVX512-BF16 (XLA's convolutions, which JAX uses, gain nothing there); float16 to GPUs of 7.0 (V100) or more.
    """
    native = _native_precisions()
    return next((precision for precision in native if wanted in (None, precision)), "float32")


def _native_precisions(cpuinfo=Path("/proc/cpuinfo")):
    """The half precisions that every processor in use here computes natively, the best first."""
    if "tpu" in {device.split(":")[0] for device in keras.distribution.list_devices()}:
        return ["bfloat16"]
    if found := gpus():
        lowest = min(gpu.capability or (0, 0) for gpu in found)
        return ["bfloat16"] * (lowest >= (8, 0)) + ["float16"] * (lowest >= (7, 0))
    if not TENSORFLOW:
        return []
    try:
        flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:  # not Linux
        return []
    return ["bfloat16"] if flags and {"amx_bf16", "avx512_bf16"} & set(flags[1].split()) else []


FAST = {getattr(keras.layers, kind.__name__): kind for kind in (Conv2D, BatchNormalization, Dropout)}
PLAIN = {fast: plain for plain, fast in FAST.items()}


def plain(model):
    """Returns a copy of a Sequential or functional model in Keras's own layers and float32, with its weights.

    Raises ValueError if a layer of the copy computes in half precision all the same.
    """
    copy = _copy(model, PLAIN, "float32", {})
    for layer in copy._flatten_layers():
        if layer.compute_dtype in HALF:
            raise ValueError(f"layer {layer.name!r} computes in {layer.compute_dtype} whatever dtype it is given")
    return copy


def fast(model, precision="float32", dtypes=None):
    """Returns a copy of a plain model in this file's layers, with its weights.

    precision: that of its layers, a key of POLICIES. dtypes: the dtype policies of the layers that have another one,
    from `explicit_dtypes`; None: the output layer in float32, as nets of before these were recorded.
    """
    if dtypes is None:
        dtypes = {core(model).layers[-1].name: "float32"}
    return _copy(model, FAST, POLICIES[precision], dtypes if precision != "float32" else {})


CORE = "joint_flips"  # a name that no layer of an architecture has by chance


def core(model):
    """The net within one that shows it an image and its flips (models.aggregated), or the model itself."""
    return next((layer for layer in model.layers if layer.name == CORE), model)


def final_softmax(model, output=0):
    """Returns the layer or operation whose softmax gives a model's output; None where something else does.

    What is called more than once does not count, since its other results are to stay probabilities; nor what computes
    something else besides.
    """
    history = model.outputs[output]._keras_history
    last = history.operation
    if len(last._inbound_nodes) != 1:
        return None
    if isinstance(last, keras.Model):
        return final_softmax(last, history.tensor_index) if getattr(last, "outputs", None) else None
    if type(last).__name__ == "Softmax" and type(last).__module__.startswith("keras."):  # the layer, and keras.ops'
        return last if last.axis in (-1, len(model.outputs[output].shape) - 1) else None
    if type(last) not in (keras.layers.Dense, keras.layers.Activation) or last.activity_regularizer is not None:
        return None
    return last if last.activation is keras.activations.softmax else None


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
    statistics = [weight for layer in normalizations for weight in layer.non_trainable_weights]
    overflows = any(layer.compute_dtype == "float16" for layer in model._flatten_layers())
    seen = 0
    for batch in batches:
        for layer in normalizations:
            layer.momentum = seen / (seen + 1)
        before = [keras.ops.convert_to_numpy(weight) for weight in statistics] if overflows else []
        model(batch, training=True)
        if overflows and not all(np.isfinite(keras.ops.convert_to_numpy(weight)).all() for weight in statistics):
            for weight, value in zip(statistics, before, strict=True):  # as if the batch had not been
                weight.assign(value)
        else:
            seen += 1
    for layer, momentum in zip(normalizations, momenta, strict=True):
        layer.momentum = momentum


def explicit_dtypes(model, precision):
    """Returns {path: dtype policy} of a model's layers that have another policy than `precision` gives.

    A path is the names of the layers around a layer and its own, joined by "/". A saved net is float32 throughout, so
    these are to be recorded beside it.
    """
    found = {}

    def note(path, config):
        policy = _policy(config)
        if policy in KNOWN and policy != _usual(config, POLICIES[precision]):
            found[path] = policy

    _each_layer(keras.saving.serialize_keras_object(model), note)
    return found


def plain_config(model):
    """The Keras config of `plain`'s copy, of which nothing is built."""
    return _changed(model, PLAIN, "float32", {})


HALF = {"bfloat16", "float16"}
KNOWN = {*POLICIES.values(), *HALF}  # the policies that a copy changes; a layer in float64 or integers stays as it is
FAST_NAME = "fast>"  # before the name by which Keras finds a class of this file


def _changed(model, classes, policy, dtypes):
    """A model's Keras config with other classes, {class: the one in its place}, and other dtype policies."""
    written = {tuple(_written(kind).values()): instead for kind, instead in classes.items()}

    def change(path, config):
        instead = written.get((config.get("module"), config.get("class_name")))
        if instead is not None:
            config |= _written(instead)
            config["registered_name"] = FAST_NAME + instead.__name__ if instead in PLAIN else None
        if _policy(config) in KNOWN:
            config["config"]["dtype"] = dtypes.get(path, _usual(config, policy))

    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)  # the copy needs no optimizer
    _each_layer(config, change)
    return config


def _copy(model, classes, policy, dtypes):
    """A copy of a model, with its weights, by its `_changed` config."""
    config = _changed(model, classes, policy, dtypes)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)  # for the layers that a layer makes by itself
    try:
        with keras.saving.custom_object_scope({FAST_NAME + kind.__name__: kind for kind in PLAIN}):
            copy = keras.saving.deserialize_keras_object(config)
    finally:
        keras.config.set_dtype_policy(before)
    set_weights(copy, model.get_weights())
    return copy


def set_weights(model, weights):
    """Sets a model's weights, and what its layers derive from them."""
    model.set_weights(weights)
    finalize(model)


def finalize(model):
    """Has layers derive anew what they compute from their weights once, Normalization its mean and variance.

    Returns whether there are such layers: what is compiled with a model holds what they derived before.
    """
    found = [layer for layer in model._flatten_layers() if hasattr(layer, "finalize_state")]
    for layer in found:
        layer.finalize_state()
    return bool(found)


def _written(kind):
    """How a Keras config names a class of Keras's layers or of this file's."""
    return {"module": "keras.layers" if kind in FAST else kind.__module__, "class_name": kind.__name__}


def _usual(config, policy):
    """The dtype policy that a layer has in a net of `policy`: an input is float32 in all of them."""
    return "float32" if config.get("class_name") == "InputLayer" else policy


def _policy(config):
    """The name of a layer's dtype policy, as its Keras config has it; None where it has none."""
    policy = config["config"].get("dtype")
    return policy.get("config", {}).get("name") if isinstance(policy, dict) else policy


def _each_layer(config, visit, path=()):
    """Calls visit(path, config) for each layer in a Keras config, those within layers and models, too."""
    if isinstance(config, (list, tuple)):
        for part in config:
            _each_layer(part, visit, path)
    elif isinstance(config, dict):
        inner = config.get("config")
        layer = isinstance(inner, dict) and (
            inner.keys() & {"trainable", "layers"} or config.get("class_name") == "InputLayer"
        )
        if layer and "name" in inner:
            # Paths begin inside the model, and inside the net that `models.aggregated` wraps.
            path = (CORE,) if inner["name"] == CORE else (*path, inner["name"])
            visit("/".join(path[1:]), config)
        for part in list(config.values()):
            _each_layer(part, visit, path)
