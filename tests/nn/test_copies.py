"""Copies of a net, in Keras's own layers and in the fast ones, predict as the net does."""

import keras
import numpy as np
import pytest

from recognizer.nn import building, copies, layers


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_net_is_saved_in_plain_float32_and_predicts_the_same_fast(precision, digits):
    x = digits.test.x[:64, ..., None] / np.float32(255)
    model = building.build("deotte", seed=2, precision=precision)
    plain = copies.plain(model)
    assert {type(layer).__module__.split(".")[0] for layer in plain.layers} == {"keras"}
    assert {layer.dtype_policy.name for layer in plain.layers} == {"float32"}
    expected = plain.predict(x, verbose=0)
    np.testing.assert_allclose(copies.fast(plain).predict(x, verbose=0), expected, atol=1e-5)
    again = copies.fast(plain, precision)
    assert type(again.layers[1]) is layers.BatchNormalization
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_model_two_models_deep_is_copied_into_plain_layers():
    def outer(net):
        inputs = keras.Input((28, 28, 1))
        return keras.Model(inputs, net(inputs))

    inner = keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(2, 28), layers.BatchNormalization()])
    copy = copies.plain(outer(outer(outer(inner))))
    kinds = {type(layer) for layer in copy._flatten_layers()}
    assert not kinds & set(layers.PLAIN)
    assert keras.layers.Conv2D in kinds
