"""Grad-CAM: how much each pixel of a digit contributes to a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras


def grad_cam(model: keras.Model) -> Callable[[np.ndarray, int], np.ndarray]:
    """Returns a function heat(image, label): how much each pixel contributes to a label, float32 (28, 28) in 0..1.

    image: a digit, uint8 (28, 28). Grad-CAM (Selvaraju et al., "Grad-CAM: visual explanations from deep networks",
    2017) uses the last feature maps of 5x5 or more that all paths through the net contain, except the outputs of
    BatchNormalization. Each pixel is weighted by its own gradient, as in Draelos and Carin, "HiResCAM" (2020), since
    the place of a stroke matters. Without such maps all values are 0.
    """
    import keras

    from recognizer.nn.flip_classes import core

    model = core(model)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    if hasattr(copy.layers[-1], "activation"):
        copy.layers[-1].activation = keras.activations.linear  # logits: probabilities of 1 have no gradient
    body, head = _split(copy)
    if head is None:
        return lambda image, label: np.zeros((28, 28), np.float32)
    centres = _centres(body)

    def heat(image, label):
        features = body(image[None, ..., None] / np.float32(255), training=False)
        gradient = _gradient(lambda x: head(x, training=False)[0, label], features)
        if gradient is None:  # rounding in the net has no gradient
            return np.zeros((28, 28), np.float32)
        found = np.maximum((np.asarray(features) * np.asarray(gradient))[0].sum(axis=-1), 0)
        for _ in range(2):  # rows, then columns
            found = np.stack([np.interp(np.arange(28), centres, [0, *line, 0]) for line in found.T])
        return (found / max(found.max(), 1e-9)).astype(np.float32)

    return heat


def _split(model):
    """Returns (a model from images to the last usable feature maps, a model from these maps to the outputs).

    Returns (None, None) if there are no such maps.
    """
    import keras

    for layer in reversed(model.layers):
        features, normalised = layer.output, isinstance(layer, keras.layers.BatchNormalization)
        shape = getattr(features, "shape", ())  # some layers have several outputs
        maps = len(shape) == 4 and shape[1] == shape[2] >= 5
        if not maps or normalised:  # normalised maps are not 0 where an image is empty
            continue
        try:
            return keras.Model(model.inputs[0], features), keras.Model(features, model.outputs[0])
        except ValueError:  # one of a residual block's branches
            continue
    return None, None


def _centres(body):
    """Returns the position on the image of each row (or column) of the feature maps, and one more beyond either end.

    The position of a row is the mean position of the pixels that it depends on, weighted by its gradient.
    """
    import keras

    x = keras.ops.convert_to_tensor(np.random.default_rng(0).random((32, 28, 28, 1), np.float32))
    middles = []
    for k in range(body.output.shape[1]):
        felt = np.abs(_gradient(lambda x, k=k: keras.ops.sum(body(x, training=False)[:, k, k]), x)).sum(axis=(0, 2, 3))
        felt -= felt.min()  # a net that standardises each image depends on every pixel a little
        middles.append(felt @ np.arange(28) / max(felt.sum(), 1e-9))
    apart = 28 / len(middles)
    return np.maximum.accumulate([middles[0] - apart, *middles, middles[-1] + apart])


def _gradient(function, x):
    """Returns the gradient at x of a function from a tensor to a number, computed by the backend in use.

    On TensorFlow it is None if the function does not depend on x, or depends on it only through integers.
    """
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(function)(x)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x)
