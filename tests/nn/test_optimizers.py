"""The fast optimizers step as Keras's own do; arguments that no optimizer could use are refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from recognizer.base.errors import UserError
from recognizer.nn import optimizers


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
