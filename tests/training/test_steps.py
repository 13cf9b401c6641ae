"""Training steps: the learning rate of each, and a batch in parts."""

import keras
import numpy as np
import tensorflow as tf

from recognizer.nn import building, optimizers
from recognizer.training.model import TrainingModel


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


def test_penalties_are_the_same_however_many_replicas(digits):
    x = digits.train.x[:64, ..., None] / np.float32(255)
    layers = [keras.layers.Flatten(), keras.layers.Dense(10, kernel_regularizer="l2", activity_regularizer="l1")]
    net = keras.Sequential([keras.Input((28, 28, 1)), *layers, keras.layers.Softmax()])
    found = []
    for replicas in (1, 2, 4):
        trainer = TrainingModel(net, 1, replicas)
        trainer(x, training=True)
        assert len(trainer.losses) == replicas + 1
        found.append(float(sum(trainer.losses)))
    np.testing.assert_allclose(found, found[0], rtol=1e-5)
    trainer(x)  # as in validation
    np.testing.assert_allclose(float(sum(trainer.losses)), found[0], rtol=1e-5)
