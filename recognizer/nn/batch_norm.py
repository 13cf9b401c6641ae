"""Batch normalisation's moving statistics, computed anew after training."""

import keras
import numpy as np


def lags(model, steps):
    """Whether the initial moving statistics still have a part of 1 % or more in those after so many training steps."""
    momenta = [layer.momentum for layer in _normalizations(model)]
    return bool(momenta) and max(momenta) ** steps > 0.01


def _normalizations(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def update_bn(model, batches):
    """Sets batch normalisation's moving statistics to their means over `batches` of inputs, float32 (b, 28, 28, 1).

    Like torch.optim.swa_utils.update_bn. Called with unaugmented images, which match test images; the statistics of
    training are those of augmented ones.
    """
    normalizations = _normalizations(model)
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
            for weight, value in zip(statistics, before, strict=True):  # the batch does not count
                weight.assign(value)
        else:
            seen += 1
    for layer, momentum in zip(normalizations, momenta, strict=True):
        layer.momentum = momentum
