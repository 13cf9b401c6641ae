"""Batch normalisation's statistics, computed anew."""

import keras
import numpy as np

from recognizer.nn import batch_norm, building, layers


def test_statistics_taken_anew_are_the_means_over_the_batches_given(digits):
    x = digits.train.x[:256, ..., None] / np.float32(255)
    inputs = keras.Input((28, 28, 1))
    hidden = keras.layers.AveragePooling2D(4)(layers.BatchNormalization(momentum=0.9)(inputs))
    inner = keras.Sequential([keras.layers.Flatten(), layers.BatchNormalization()])  # a model within the model
    model = keras.Model(inputs, inner(hidden))
    model(x[:8] + 5, training=True)  # statistics of other images
    batch_norm.update_bn(model, np.split(x, 4))
    first, last = model.layers[1], inner.layers[-1]
    assert (first.momentum, last.momentum) == (0.9, 0.99)
    np.testing.assert_allclose(first.moving_mean, [x.mean()], rtol=1e-4)
    np.testing.assert_allclose(first.moving_variance, [np.mean([part.var() for part in np.split(x, 4)])], rtol=1e-4)
    normalised = (x - x.mean()) / x.std()
    pooled = normalised.reshape(256, 7, 4, 7, 4).mean((2, 4)).reshape(256, 49)
    np.testing.assert_allclose(last.moving_mean, pooled.mean(0), atol=0.02)  # each batch is normalised by itself


def test_statistics_lag_behind_after_few_steps_at_a_high_momentum():
    for momentum, steps, expected in ((0.99, 100, True), (0.99, 500, False), (0.9, 100, False)):
        assert batch_norm.lags(building.build("quick", momentum=momentum), steps) == expected
    assert not batch_norm.lags(building.build("linear"), 1)
