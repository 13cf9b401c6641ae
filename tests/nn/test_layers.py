"""The fast layers and optimizers compute what Keras's own compute."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from recognizer.nn import layers


def trained_once(layer, x, upstream, training=True):
    """(outputs, gradients by x, gamma and beta, moving statistics after) of one call, as arrays."""
    x = tf.Variable(x)
    with tf.GradientTape() as tape:
        y = layer(x, training=training)
        loss = tf.reduce_sum(tf.cast(y, tf.float32) * upstream)
    gradients = tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])
    return [np.asarray(tf.cast(a, tf.float32)) for a in (y, *gradients, *layer.non_trainable_variables)]


def pair(kind, shape, **arguments):
    """Keras's layer and ours, with the same random weights."""
    rng = np.random.default_rng(1)
    made = [kind(**arguments), getattr(layers, kind.__name__)(**arguments)]
    for layer in made:
        layer.build(shape)
    weights = [rng.uniform(0.5, 2, w.shape).astype(np.float32) for w in made[0].weights]
    for layer in made:
        layer.set_weights(weights)
    return made


@pytest.mark.parametrize("shape", [(8, 6, 5, 7), (12, 9), (4, 6, 7)], ids=str)
@pytest.mark.parametrize(
    "arguments",
    [{}, dict(momentum=0.9, epsilon=1e-2), dict(center=False), dict(scale=False), dict(trainable=False), dict(axis=1)],
    ids=str,
)
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_batch_normalization_has_keras_outputs_gradients_and_moving_statistics(shape, arguments, training):
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, shape).astype(np.float32)
    upstream = rng.normal(size=shape).astype(np.float32)
    plain, ours = pair(keras.layers.BatchNormalization, shape, **arguments)
    for expected, found in zip(
        trained_once(plain, x, upstream, training), trained_once(ours, x, upstream, training), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_moving_variance_is_uncorrected_as_in_keras():
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    layer = layers.BatchNormalization(momentum=0.0)
    layer(x, training=True)
    np.testing.assert_allclose(np.asarray(layer.moving_variance), x.var(axis=0), rtol=1e-5)


def test_batch_normalization_in_bfloat16_stays_bfloat16_and_near_float32():
    rng = np.random.default_rng(0)
    x, upstream = (rng.normal(size=(16, 8, 8, 4)).astype(np.float32) for _ in range(2))
    plain, ours = pair(keras.layers.BatchNormalization, x.shape, dtype="mixed_bfloat16")
    assert ours(x, training=True).dtype == tf.bfloat16
    assert {w.dtype for w in ours.weights} == {"float32"}
    plain, ours = pair(keras.layers.BatchNormalization, x.shape, dtype="mixed_bfloat16")
    for expected, found in zip(trained_once(plain, x, upstream), trained_once(ours, x, upstream), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0.05, atol=0.05 * np.abs(expected).max())


def test_a_mask_is_honoured_by_keras_own_way():
    rng = np.random.default_rng(0)
    x, mask = rng.normal(size=(4, 6, 3)).astype(np.float32), rng.random((4, 6)) < 0.5
    plain, ours = pair(keras.layers.BatchNormalization, x.shape)
    np.testing.assert_allclose(ours(x, training=True, mask=mask), plain(x, training=True, mask=mask), rtol=1e-5)


@pytest.mark.parametrize("rate", [0.05, 0.25, 0.4, 0.5])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_dropout_drops_at_its_rate_scales_the_rest_and_passes_the_same_gradient(rate, dtype):
    layer = layers.Dropout(rate, seed=3, dtype=dtype)
    x = tf.ones((64, 24, 24, 32), layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    gradient = np.asarray(tf.cast(tape.gradient(y, x), tf.float32))
    y = np.asarray(tf.cast(y, tf.float32))
    np.testing.assert_array_equal(y, gradient)
    kept = y[y != 0]
    np.testing.assert_allclose(kept, 1 / (1 - rate), rtol=1e-4 if dtype == "float32" else 4e-3)
    assert np.mean(y == 0) == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / y.size) + 2**-17)
    # Independent along every axis: neighbours are dropped together as often as chance has it.
    dropped = y == 0
    for axis in range(4):
        together = np.mean(
            np.take(dropped, range(1, y.shape[axis]), axis) & np.take(dropped, range(y.shape[axis] - 1), axis)
        )
        assert together == pytest.approx(rate**2, abs=0.002)


def test_dropout_masks_follow_from_the_seed_and_change_from_call_to_call():
    x = np.ones((10, 33), np.float32)  # an odd number of elements
    first, again = (layers.Dropout(0.5, seed=7) for _ in range(2))
    masks = [np.asarray(first(x, training=True)) for _ in range(2)]
    np.testing.assert_array_equal(masks[0], again(x, training=True))
    assert not np.array_equal(*masks)
    np.testing.assert_array_equal(first(x, training=False), x)
    np.testing.assert_array_equal(first(x), x)


def test_dropout_with_a_noise_shape_is_keras_own():
    y = np.asarray(layers.Dropout(0.5, noise_shape=(None, 1), seed=0)(np.ones((50, 9), np.float32), training=True))
    assert all(len(set(row)) == 1 for row in y)


STRIDED = dict(filters=5, kernel_size=1, strides=2)


@pytest.mark.parametrize("sizes", [(7,), (8,), (8, 8), (7, 9)], ids=str)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        dict(padding="same"),
        dict(use_bias=False),
        dict(activation="relu"),
        dict(strides=3),
        dict(groups=3, filters=6),
    ],
    ids=str,
)
def test_the_strides_of_a_convolution_of_single_pixels_are_those_of_keras(sizes, arguments):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, *sizes, 3)).astype(np.float32)
    kind = keras.layers.Conv1D if len(sizes) == 1 else keras.layers.Conv2D
    plain, ours = pair(kind, x.shape, **STRIDED | arguments)
    upstream = rng.normal(size=plain(x).shape).astype(np.float32)
    for expected, found in zip(trained_once(plain, x, upstream), trained_once(ours, x, upstream), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


SHORTCUT = """
import sys
import keras
import tensorflow as tf
from recognizer.nn import copies, layers as ours

def gradients(model, x):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(x, training=True) ** 2)
    return tape.gradient(loss, model.trainable_variables)

layers = keras.layers
for net in (
    [keras.Input((14, 14, 12)), layers.Conv2D(12, 1), layers.Conv2D(24, 1, strides=2)],
    [keras.Input((14, 14, 12)), layers.Conv2D(12, 1), layers.Conv2D(24, 1, strides=(2, 1), use_bias=False)],
    [keras.Input((196, 12)), layers.Conv1D(12, 1), layers.Conv1D(24, 1, strides=2)],
):
    model = keras.Sequential(net)
    if sys.argv[1] == "own":
        ours.make_strides_safe(model)
    else:
        model = copies.fast(model, sys.argv[1])
    for rows in (13, 15, 29, 93, 101):
        step = tf.function(lambda x: gradients(model, x))
        for _ in range(20):
            step(tf.random.normal((rows, *model.input_shape[1:])))
"""


@pytest.mark.parametrize("layers", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow), "own"])
def test_a_residual_nets_shortcut_trains_on_batches_of_any_size(layers):
    command = [sys.executable, "-c", SHORTCUT, layers]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr  # the process died in oneDNN's kernel, by a signal


@pytest.mark.parametrize("shape", [(4, 4, 3), (6, 4, 3), (4, 4, 4)], ids=str)
@pytest.mark.parametrize("arguments", [{}, dict(use_bias=False, activation="relu"), dict(padding="same")], ids=str)
def test_a_convolution_over_the_whole_input_is_keras_own(shape, arguments):
    x = np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32)
    made = [kind(7, 4, **arguments) for kind in (keras.layers.Conv2D, layers.Conv2D)]
    results = []
    for layer in made:
        layer.build((None, *shape))
        layer.set_weights(made[0].get_weights())
        with tf.GradientTape() as tape:
            y = layer(x)
            loss = tf.reduce_sum(y**2)
        results.append([y, *tape.gradient(loss, [v.value for v in layer.trainable_variables])])
    assert results[0][0].shape == results[1][0].shape
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
