"""Batch normalization's statistics, computed anew."""

import keras
import numpy as np
import pytest
from keras import ops

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


class Rows(keras.layers.Layer):
    """Normalises each row of an image by itself, by a layer that it holds in a dict and a list."""

    def __init__(self, bn):
        super().__init__()
        self.held = {"norms": [bn]}

    def call(self, x, training=None):
        return ops.stack([self.held["norms"][0](x[:, i], training=training) for i in range(28)], axis=1)


class Model(keras.Model):
    def __init__(self, bn):
        super().__init__()
        self.bn = bn

    def call(self, x, training=False):
        return self.bn(x, training=training)


@keras.saving.register_keras_serializable("test_batch_norm")
class Cell(keras.layers.Layer):
    state_size = output_size = 28

    def __init__(self, bn, **kwargs):
        super().__init__(**kwargs)
        self.bn = bn

    def build(self, shape):
        self.bn.build(shape)

    def call(self, x, states, training=False):
        return self.bn(x, training=training), states

    def get_config(self):
        return super().get_config() | {"bn": keras.saving.serialize_keras_object(self.bn)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("bn")), **config)


# Ways to normalise an image by its rows, all at once or one after another: each gets a BatchNormalization.
KINDS = {
    "alone": lambda bn: [bn],
    "a model": lambda bn: [keras.Sequential([keras.Input((28, 28)), bn])],
    "a model of one's own": lambda bn: [Model(bn)],
    "a layer of one's own": lambda bn: [Rows(bn)],
    "a layer of a layer": lambda bn: [keras.layers.TimeDistributed(keras.Sequential([keras.Input((28,)), bn]))],
    "time distributed": lambda bn: [keras.layers.TimeDistributed(bn)],
    "bidirectional": lambda bn: [keras.layers.Bidirectional(keras.layers.RNN(Cell(bn), return_sequences=True))],
    "twice": lambda bn: [keras.layers.Permute((1, 2)), lambda x: ops.concatenate([bn(x[:, :14]), bn(x[:, 14:])], 1)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_are_means_over_all_calls_wherever_the_layer_sits(kind, digits):
    x = digits.train.x[:96, ..., None] / np.float32(255)
    inputs = keras.Input((28, 28, 1))
    y = keras.layers.Reshape((28, 28))(inputs)
    for layer in KINDS[kind](layers.BatchNormalization(momentum=0.7)):
        y = layer(y)
    model = keras.Model(inputs, y)
    batch_norm.update_bn(model, np.split(x, 3))
    found = batch_norm._normalizations(model)
    assert found
    for one in found:
        # Keras calls a cell once more for the first row.
        rtol = 0.05 if kind == "bidirectional" else 1e-5
        np.testing.assert_allclose(one.moving_mean, x[..., 0].mean((0, 1)), rtol=rtol, atol=1e-6)
        assert one.momentum == 0.7
        assert "call" not in vars(one)


def test_a_batch_that_overflows_in_float16_does_not_count(digits):
    x = digits.train.x[:96, ..., None] / np.float32(255)
    inputs, bn = keras.Input((28, 28, 1)), layers.BatchNormalization(dtype="mixed_float16")
    model = keras.Model(inputs, bn(bn(inputs) * 0 + inputs))  # two calls
    batch_norm.update_bn(model, [x[:48], x[:48] * 1e6, x[48:]])
    np.testing.assert_allclose(bn.moving_mean, [x.mean()], rtol=1e-2)
    batch_norm.update_bn(model, [x[:48] * 1e6])
    np.testing.assert_allclose(bn.moving_mean, [x.mean()], rtol=1e-2)


def test_statistics_lag_behind_after_few_steps_at_a_high_momentum():
    for momentum, steps, expected in ((0.99, 100, True), (0.99, 500, False), (0.9, 100, False)):
        assert batch_norm.lags(building.build("quick", arguments={"momentum": momentum}), steps) == expected
    assert not batch_norm.lags(building.build("linear"), 1)
