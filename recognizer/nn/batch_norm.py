"""Batch normalisation's moving statistics, computed anew after training."""

import keras
import numpy as np


def is_in(model):
    """Whether a model has a BatchNormalization, in whatever layer."""
    return bool(_normalizations(model))


def lags(model, steps):
    """Whether the initial moving statistics still have a part of 1 % or more in those after so many training steps."""
    momenta = [layer.momentum for layer in _normalizations(model)]
    return bool(momenta) and max(momenta) ** steps > 0.01


def _normalizations(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def update_bn(model, batches):
    """Sets batch normalisation's moving statistics to their means over `batches` of inputs, float32 (b, 28, 28, 1).

    Like torch.optim.swa_utils.update_bn. Called with unaugmented images, which match test images; the statistics of
    training are those of augmented ones. A layer that a net calls more than once takes the mean over all its calls.
    """
    averages = [_Average(layer) for layer in _normalizations(model)]
    if not averages:
        return
    overflows = any(layer.compute_dtype == "float16" for layer in model._flatten_layers())
    for batch in batches:
        before = [average.state() for average in averages] if overflows else []
        model(batch, training=True)
        if overflows and not all(average.is_finite() for average in averages):
            for average, state in zip(averages, before, strict=True):  # the batch does not count
                average.restore(*state)
    for average in averages:
        average.end()


class _Average:
    """Makes a BatchNormalization keep the mean of its statistics over all its calls, until `end`.

    It replaces the layer's `call`, not `__call__`, which TimeDistributed passes by.
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
