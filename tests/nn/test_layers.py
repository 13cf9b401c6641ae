"""The fast layers and optimizers compute what Keras's own compute."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recognizer.base.errors import UserError
from recognizer.nn import batch_norm, building, copies, layers, optimizers
from recognizer.training.model import TrainingModel


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


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Adam", {}),
        ("Adam", dict(beta_1=0.7, epsilon=1e-3)),
        ("Adam", dict(amsgrad=True)),
        ("Adam", dict(clipnorm=0.1)),
        ("Adam", dict(gradient_accumulation_steps=3)),
        ("Muon", {}),
        ("Muon", dict(exclude_layers=["variable"])),
        ("RMSprop", {}),
        ("RMSprop", dict(momentum=0.5)),
        ("RMSprop", dict(centered=True)),
    ],
    ids=str,
)
def test_an_optimizer_steps_as_keras_own_does(name, arguments):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(30, 7)).astype(np.float32)
    gradients = rng.normal(size=(20, 30, 7)).astype(np.float32)
    found = []
    for made in (getattr(keras.optimizers, name), getattr(optimizers, name)):
        variable = keras.Variable(start)
        optimizer = made(learning_rate=0.01, **arguments)
        optimizer.build([variable])
        step = tf.function(optimizer.apply)
        for gradient in gradients:
            step([tf.constant(gradient)])
        found.append(np.asarray(variable))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-5)
    assert np.abs(found[0] - start).max() > 0.05


def test_muon_makes_the_step_of_a_convolution_kernel_orthogonal():
    start = np.zeros((3, 3, 20, 10), np.float32)
    variable = keras.Variable(start)
    optimizer = optimizers.Muon(learning_rate=1.0, rms_rate=None, weight_decay=None)
    optimizer.build([variable])
    optimizer.apply([tf.constant(np.random.default_rng(0).normal(size=start.shape).astype(np.float32))])
    singular = np.linalg.svd(np.asarray(variable).reshape(180, 10), compute_uv=False)
    assert 0.6 < singular.min() <= singular.max() < 1.3  # what five Newton-Schulz iterations come to
    expected = keras.optimizers.Muon().zeropower_via_newtonschulz5(np.eye(5, 3, dtype=np.float32), 5)
    found = optimizer.zeropower_via_newtonschulz5(np.eye(5, 3, dtype=np.float32), 5)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_each_step_of_an_epoch_has_its_own_learning_rate_however_many_are_executed_at_once(digits):
    x, y = digits.train.x[:70, ..., None] / np.float32(255), np.eye(10)[digits.train.y[:70]]
    rates = [0.1, 0.0, 0.3, 0.0, 0.2, 0.1, 0.05]
    found = []
    for executed in (1, 3, 7):
        trainer = TrainingModel(building.build("linear", seed=1), len(rates))
        trainer.compile(optimizers.make("sgd"))
        trainer.steps_per_execution = executed
        trainer.epoch.rates.assign(rates)
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(10)
        trainer.fit(data, epochs=2, verbose=0, shuffle=False)
        found.append(trainer.get_weights())
    model = building.build("linear", seed=1)
    model.compile("sgd", loss="categorical_crossentropy")
    for rate, start in list(zip(rates, range(0, 70, 10), strict=True)) * 2:
        model.optimizer.learning_rate = rate
        model.train_on_batch(x[start : start + 10], y[start : start + 10])
    for weights in found:
        for ours, expected in zip(weights, model.get_weights(), strict=True):
            np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("adam", dict(beta_1="fast"), "beta_1"),
        ("adam", dict(beta_9=0.9), "beta_9"),
        ("adam", dict(beta_1=None), "NoneType"),
        ("rmsprop", dict(rho=[0.9, 0.1]), "rho"),
        ("sgd", dict(clipvalue=[1, 2]), "list"),
    ],
    ids=str,
)
def test_an_argument_that_no_optimizer_could_use_is_refused_before_training(name, arguments, told):
    with pytest.raises(UserError, match=told) as error:
        optimizers.make(name, **arguments)
    assert "\n" not in str(error.value)


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


def test_replicas_have_the_gradients_of_the_whole_batch_and_normalise_each_part_by_itself(digits):
    x = digits.train.x[:64, ..., None] / np.float32(255)
    y = tf.one_hot(digits.train.y[:64], 10)

    def gradients(model):
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = tf.reduce_mean(keras.losses.categorical_crossentropy(y, logits, from_logits=True))
        return tape.gradient(loss, model.trainable_weights)

    one, four = (TrainingModel(building.build("vgg", seed=1), 1, replicas) for replicas in (1, 4))
    for whole, parts in zip(gradients(one), gradients(four), strict=True):
        np.testing.assert_allclose(parts, whole, rtol=1e-3, atol=1e-5)

    net = building.build("deotte", seed=1, dropout=0.0)
    expected = np.concatenate([net(part, training=True) for part in (x[:32], x[32:])])
    trainer = TrainingModel(building.build("deotte", seed=1, dropout=0.0), 1, 2)
    np.testing.assert_allclose(tf.nn.softmax(trainer(x, training=True)), expected, atol=1e-5)
    expected = building.build("deotte", seed=1, dropout=0.0)(x, training=False)
    trainer = TrainingModel(building.build("deotte", seed=1, dropout=0.0), 1, 2)
    np.testing.assert_allclose(tf.nn.softmax(trainer(x)), expected, atol=1e-6)
