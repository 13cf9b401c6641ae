"""Recomputes the moving statistics of batch normalization after training."""

from collections.abc import Iterable

import keras
import numpy as np

from recognizer.base.backend import Tensor


def is_in(model: keras.Model) -> bool:
    """Returns whether a model has a BatchNormalization layer, nested ones included."""
    return bool(_normalizations(model))


def lags(model: keras.Model, updates: int) -> bool:
    """Returns whether the initial values still make up over 1 % of the moving statistics after so many updates."""
    momenta = [layer.momentum for layer in _normalizations(model)]
    return bool(momenta) and max(momenta) ** updates > 0.01


def _normalizations(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def update_bn(model: keras.Model, batches: Iterable[Tensor]) -> None:
    """Sets the moving statistics of batch normalization to the means over `batches`, float32 (b, 28, 28, 1) each.

    Like torch.optim.swa_utils.update_bn. The batches should be unaugmented images, which match test images; training
    collects the statistics of augmented images. If a net calls a layer several times, the mean is over all calls.
    """
    averages = [_Average(layer) for layer in _normalizations(model)]
    if not averages:
        return
    overflows = any(layer.compute_dtype == "float16" for layer in model._flatten_layers())
    for batch in batches:
        before = [average.state() for average in averages] if overflows else []
        model(batch, training=True)
        if overflows and not all(average.is_finite() for average in averages):
            for average, state in zip(averages, before, strict=True):  # skips this batch
                average.restore(*state)
    for average in averages:
        average.end()


class _Average:
    """Makes a BatchNormalization keep the mean of its statistics over all its calls, until `end`.

    It replaces the layer's `call`, not `__call__`, since TimeDistributed calls `call` directly.
    """

    def __init__(self, layer):
        self.layer, self.momentum, self.original, self.calls = layer, layer.momentum, layer.call, 0
        layer.call = self.call

    def call(self, inputs, training=None, **others):
        if training and self.layer.trainable:
            self.layer.momentum = self.calls / (self.calls + 1)
            self.calls += 1
        return self.original(inputs, training=training, **others)

    def end(self):
        del self.layer.call
        self.layer.momentum = self.momentum

    def state(self):
        return self.calls, [keras.ops.convert_to_numpy(weight) for weight in self.layer.non_trainable_weights]

    def restore(self, calls, values):
        self.calls = calls
        for weight, value in zip(self.layer.non_trainable_weights, values, strict=True):
            weight.assign(value)

    def is_finite(self):
        return all(np.isfinite(values).all() for values in self.state()[1])
