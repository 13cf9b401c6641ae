"""The training step: compiled by XLA as on a GPU, its loss on logits, in float16 with a scaled loss.

No GPU is needed: where `tf.config.list_physical_devices` answers with one, Keras compiles the step by XLA, on the CPU.
"""

import json
import os
import random
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, check_resumed, load
from keras import layers as k
from keras import ops

import recipes
from recognizer.base.machine import Gpu
from recognizer.config import members
from recognizer.config.overrides import resolve
from recognizer.nn import batch_norm, building, copies, flip_classes, grad_cam, layers, optimizers, parts
from recognizer.nn import precision as precisions
from recognizer.nn.precision import native_precision
from recognizer.training import batches, callbacks, inference
from recognizer.training.inference import predictor_of
from recognizer.training.model import TrainingModel
from recognizer.training.trainer import Trainer, new_model

STEPS = 4


@pytest.fixture
def believe_in_gpu(monkeypatch):
    """A context in which Keras sees a GPU, for as long as it resolves jit_compile="auto"."""
    answer = tf.config.list_physical_devices

    def with_gpu(kind=None):
        gpu = [tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")]
        return answer(kind) + gpu * (kind in (None, "GPU"))

    def resolved(make):
        with monkeypatch.context() as patch:
            patch.setattr(tf.config, "list_physical_devices", with_gpu)
            return make()

    return resolved


def some_steps(trainer, digits, augmentation=None, size=32, joint_flips=(), rate=1e-3):
    """Trains for STEPS steps on real digits; returns their losses and the weights after them."""
    config = resolve("linear", [("batch_size", size), ("steps_per_epoch", STEPS), ("validation_split", 0.0)])
    config |= {"seed": 3, "augment_engine": "batch", "joint_flips": list(joint_flips)}
    config |= {"augmentation": augmentation or {}}
    made = batches.TrainingBatches(config, 1, digits.train, np.arange(999)).data
    callbacks.seed_dropout(trainer, 3, 1, 0)
    trainer.epoch.rates.assign(np.full(STEPS, rate))
    trainer.steps_per_execution = 2
    trainer.fit(made, verbose=0, shuffle=False)
    return np.array(trainer.epoch.losses), trainer.get_weights()


# By XLA


def plain_dropout(net):
    """Sets the rates of a net's dropouts and noises to 0, so that two ways of computing it can be compared."""
    for layer in net._flatten_layers():
        for name in ("rate", "stddev"):
            if isinstance(getattr(layer, name, None), float):
                setattr(layer, name, 0.0)


def check_compiled(make_trainer, digits, believe_in_gpu, random=False, apart=1e-5, **more):
    """A trainer's steps, validation, predictions, statistics and Grad-CAM by XLA are those without it."""
    plain, compiled = make_trainer(), believe_in_gpu(make_trainer)
    for variable, value in zip(compiled.state(), plain.state(), strict=True):
        variable.assign(value)
    assert not plain.jit_compile
    supported = all(layer.supports_jit for layer in compiled.network._flatten_layers())
    assert compiled.jit_compile == supported
    losses, weights = some_steps(compiled, digits, **more)
    assert np.isfinite(losses).all()
    if random:
        return
    expected_losses, expected = some_steps(plain, digits, **more)
    # Batch normalization enlarges rounding errors. Those of TensorFlow's kernels are five times XLA's, both compared
    # with float64.
    normalized = any(isinstance(layer, k.BatchNormalization) for layer in compiled.network._flatten_layers())
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4 if normalized else 1e-5, atol=1e-5)
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=apart)

    compiled.set_weights(expected)
    x = digits.test.x[:64]
    y = np.eye(compiled.network.output_shape[-1], dtype=np.float32)[digits.test.y[:64]]
    for loss in ("loss", "accuracy"):
        found = [m.evaluate(x[..., None] / 255, y, verbose=0, return_dict=True)[loss] for m in (compiled, plain)]
        assert found[0] == pytest.approx(found[1], rel=1e-4)
    if compiled.network.output_shape[-1] == 10:
        by_xla, without = believe_in_gpu(lambda: predictor(compiled)), predictor(plain)
        assert believe_in_gpu(lambda: by_xla.model.jit_compile) == supported
        np.testing.assert_allclose(by_xla.predict(x, 1), without.predict(x, 1), atol=1e-5)
    if not supported:
        return
    images = x[..., None].astype(np.float32) / 255
    tf.function(lambda: batch_norm.update_bn(compiled.network, [images]), jit_compile=True)()
    batch_norm.update_bn(plain.network, [images])
    for ours, theirs in zip(compiled.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def predictor(trainer):
    return inference.Predictor(trainer.plain(), "float32", copies.explicit_dtypes(trainer.network, "float32"))


def trainer_of(net, name="adam", replicas=1, **arguments):
    trainer = TrainingModel(net, STEPS, replicas)
    trainer.compile(optimizers.make(name, **arguments))
    return trainer


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_trains_where_keras_believes_in_a_gpu(name, digits, believe_in_gpu):
    for kind in members.kinds(resolve(name)):
        config = kind | {"seed": 1, "precision": "float32"}

        def make(config=config):
            keras.backend.clear_session()
            trainer = new_model(config, 1, STEPS)
            plain_dropout(trainer.network)
            return trainer

        # Adam and RMSprop divide by a gradient's size: if it is 0 up to rounding, a weight still moves by the rate.
        more = {key: kind[key] for key in ("joint_flips", "augmentation")}
        check_compiled(make, digits, believe_in_gpu, rate=1e-5, apart=2.2 * STEPS * 1e-5, **more)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg-dropout", "deotte"])
def test_dropout_by_xla_keeps_its_rate_and_the_loss_finite(name, digits, believe_in_gpu):
    check_compiled(lambda: trainer_of(building.build(name, 1)), digits, believe_in_gpu, random=True)


def test_a_dropout_by_xla_drops_as_many_as_its_rate_says():
    layer = layers.Dropout(0.3, seed=1)
    for jit in (False, True):
        mask = np.array(tf.function(lambda: layer(tf.ones((100, 99)), training=True), jit_compile=jit)())
        assert np.unique(mask).tolist() == pytest.approx([0, 1 / 0.7], rel=1e-4)
        assert (mask == 0).mean() == pytest.approx(0.3, abs=0.02)


def net(*middle):
    return keras.Sequential([parts.images(), *middle, k.Flatten(), parts.classes()])


def attention():
    inputs = parts.images()
    rows = k.Reshape((28, 28))(inputs)
    rows = rows + k.Embedding(28, 28)(ops.arange(28))
    rows = k.LayerNormalization()(rows + k.MultiHeadAttention(2, 8, dropout=0.1)(rows, rows))
    return keras.Model(inputs, parts.classes()(k.GlobalAveragePooling1D()(rows)))


def shared():
    inputs, layer = parts.images(), k.Conv2D(1, 3, padding="same")
    joined = k.Concatenate()([layer(layer(inputs)), ops.flip(inputs, axis=1)])
    return keras.Model(inputs, parts.classes()(k.Flatten()(joined)))


def averaged():
    """Two heads, whose probabilities are averaged: no softmax is at the end."""
    inputs = parts.images()
    flat = k.Flatten()(inputs)
    return keras.Model(inputs, k.Average()([k.Dense(10, "softmax")(flat), k.Dense(10, "softmax")(flat)]))


def adapted():
    layer = k.Normalization()
    layer.adapt(np.random.default_rng(0).random((8, 28, 28, 1), np.float32))
    return net(layer)


NETS = {
    "README's example": lambda: net(layers.Conv2D(32, 3, activation="relu"), k.MaxPooling2D(), layers.Dropout(0.3)),
    "strided and dilated": lambda: net(layers.Conv2D(4, 3, strides=2), k.Conv2D(4, 3, dilation_rate=2)),
    "depthwise": lambda: net(k.DepthwiseConv2D(5), k.SeparableConv2D(4, 3), k.Conv2DTranspose(2, 3, strides=2)),
    "one dimension": lambda: net(k.Reshape((28, 28)), k.Conv1D(8, 3), k.AveragePooling1D(2)),
    "pooling": lambda: net(k.AveragePooling2D(3), layers.Conv2D(8, 3), k.GlobalMaxPooling2D()),
    "padding": lambda: net(k.ZeroPadding2D(2), k.Cropping2D(1), k.UpSampling2D(), k.MaxPooling2D(4)),
    "normalizations": lambda: net(
        layers.Conv2D(4, 3), layers.BatchNormalization(), k.LayerNormalization(), k.GroupNormalization(2)
    ),
    "keras batch norm": lambda: net(k.Conv2D(4, 3), k.BatchNormalization(), k.UnitNormalization()),
    "spectral": lambda: net(k.SpectralNormalization(k.Conv2D(4, 3))),
    "dropouts": lambda: net(layers.Conv2D(4, 3), k.SpatialDropout2D(0.2), k.Dropout(0.2), k.AlphaDropout(0.1)),
    "noises": lambda: net(k.GaussianNoise(0.1), k.GaussianDropout(0.1)),
    "LSTM": lambda: net(k.Reshape((28, 28)), k.LSTM(8)),
    "GRU": lambda: net(k.Reshape((28, 28)), k.Bidirectional(k.GRU(8))),
    "time distributed": lambda: net(k.Reshape((4, 7, 28)), k.TimeDistributed(k.Dense(3))),
    "attention": attention,
    "shared": shared,
    "averaged": averaged,
    "regularised": lambda: net(
        k.Conv2D(4, 3, kernel_regularizer="l2", activity_regularizer=keras.regularizers.L1(1e-4)),
        k.Dense(4, kernel_constraint="max_norm"),
    ),
    "activations": lambda: net(k.Conv2D(4, 3), k.PReLU(), k.LeakyReLU(), k.Dense(4, "gelu"), k.Activation("swish")),
    "preprocessing": lambda: net(k.Rescaling(2.0, -1.0), k.Resizing(20, 20), k.CenterCrop(16, 16)),
    "normalization": adapted,
    "random images": lambda: net(k.RandomRotation(0.05), k.RandomTranslation(0.1, 0.1), k.RandomZoom(0.1)),
    "softmax layer": lambda: keras.Sequential([parts.images(), k.Flatten(), k.Dense(10), k.Softmax()]),
    "softmax activation": lambda: keras.Sequential([parts.images(), k.Flatten(), k.Dense(10), k.Activation("softmax")]),
    "nested": lambda: keras.Sequential([parts.images(), keras.Sequential([k.Flatten(), parts.classes()])]),
}


SOME = ("README's example", "normalizations")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in SOME)) for n in NETS])
def test_a_net_of_each_kind_of_layer_trains_where_keras_believes_in_a_gpu(name, digits, believe_in_gpu):
    def make():
        keras.backend.clear_session()
        keras.utils.set_random_seed(1)
        built = NETS[name]()
        plain_dropout(built)
        return trainer_of(built, "sgd", momentum=0.9)

    check_compiled(make, digits, believe_in_gpu, random="random" in name)


def test_where_a_net_looks_is_the_same_by_xla(digits):
    trainer = trainer_of(building.build("quick", 1))
    some_steps(trainer, digits)
    image, label = digits.test.x[3], int(digits.test.y[3])
    heat = grad_cam.grad_cam(trainer.plain())
    expected = heat(image, label)
    assert expected.max() == pytest.approx(1)
    x = tf.constant(image[None, ..., None] / np.float32(255))
    compiled = tf.function(
        lambda x: grad_cam._gradient(lambda x: trainer.network(x, training=False)[0, label], x), jit_compile=True
    )
    expected = grad_cam._gradient(lambda x: trainer.network(x, training=False)[0, label], x)
    np.testing.assert_allclose(compiled(x), expected, atol=1e-5)


LOWER = """
import sys; sys.path.insert(0, sys.argv[1])
from recognizer.base import environment; environment.import_keras()
import jax, numpy as np
from recognizer.config.members import kinds
from recognizer.config.overrides import resolve
from recognizer.training.trainer import Trainer, new_model
for name in sys.argv[2:]:
    config = resolve(name) | {"seed": 1, "precision": "float32"}
    trainer = new_model(config | kinds(config)[0], 1, 4)
    classes, size = trainer.network.output_shape[-1], config["batch_size"]
    state = trainer._get_jax_state(*[True] * 4)
    batch = np.zeros((size, 28, 28, 1), np.float32), np.zeros((size, classes), np.float32)
    text = jax.jit(trainer.train_step).trace(state, batch).lower(lowering_platforms=("cuda",)).as_text()
    print(name, "stablehlo" in text)
"""


@pytest.mark.slow
def test_every_recipes_step_can_be_compiled_for_cuda_under_jax():
    pytest.importorskip("jax")
    names = [name for name in recipes.RECIPES if not name.endswith(("-phases", "-augmented"))]
    command = [sys.executable, "-c", LOWER, str(ROOT), *names]
    process = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | {"KERAS_BACKEND": "jax"}
    )
    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stdout.split("\n")[:-1] == [f"{name} True" for name in names]


WARM_UP = """
import sys; sys.path.insert(0, sys.argv[1])
from recognizer.base import environment; environment.import_keras()
import numpy as np
from recognizer.nn import building, optimizers
from recognizer.training import batches
from recognizer.training.model import TrainingModel
trainer = TrainingModel(building.build("linear", 1, "float32"), 8)
trainer.compile(optimizers.make("adam", use_ema=True))
batch = np.zeros((8, 28, 28, 1), np.float32), np.eye(10, dtype=np.float32)[:8]
trainer.warm_up(batches.Batches(8, lambda step: batch))
trainer.fit(batches.Batches(8, lambda step: batch), verbose=0)
print("warm", trainer.steps_per_execution)
"""


@pytest.mark.slow
def test_averaged_weights_are_measured_at_several_steps_a_call_under_jax():
    pytest.importorskip("jax")
    command = [sys.executable, "-c", WARM_UP, str(ROOT)]
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stdout.startswith("warm")


# The loss

WRONG = """
import sys; sys.path.insert(0, sys.argv[1])
from recognizer.base import environment; environment.import_keras()
import keras, numpy as np
from recognizer.base.machine import Gpu
from recognizer.nn import optimizers, parts
from recognizer.training.model import TrainingModel
x, y = np.ones((4, 28, 28, 1), np.float32), np.eye(10, dtype=np.float32)[[1, 1, 1, 1]]
for ending in ("classes", "activation", "nested", "nested softmax", "softmax", "ops.softmax"):
    flat = [parts.images(), keras.layers.Flatten()]
    if ending == "classes":
        net = keras.Sequential([*flat, parts.classes()])
    elif ending == "nested":
        net = keras.Sequential([*flat, keras.Sequential([keras.Input((784,)), parts.classes()])])
    elif ending == "nested softmax":
        inner = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10), keras.layers.Softmax()])
        net = keras.Sequential([*flat, inner])
    elif ending == "ops.softmax":
        inputs = parts.images()
        net = keras.Model(inputs, keras.ops.softmax(keras.layers.Dense(10)(keras.layers.Flatten()(inputs))))
    else:
        last = keras.layers.Activation("softmax") if ending == "activation" else keras.layers.Softmax()
        net = keras.Sequential([*flat, keras.layers.Dense(10), last])
    for replicas in (1, 2):
        bias = np.zeros(10, np.float32)
        bias[0] = 100  # a probability of 1 for a wrong class
        net.set_weights([np.zeros((784, 10), np.float32), bias])
        trainer = TrainingModel(keras.models.clone_model(net), 1, replicas)
        trainer.network.set_weights(net.get_weights())
        trainer.compile(optimizers.make("sgd"))
        trainer.epoch.rates.assign([1.0])
        trainer.fit(x, y, batch_size=4, verbose=0)
        moved = bias - np.asarray(trainer.network.get_weights()[1])
        print(float(trainer.epoch.losses[0]), *np.round(moved, 5).tolist())
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_confidently_wrong_net_has_its_gradient_however_many_replicas(backend):
    pytest.importorskip(backend)
    process = subprocess.run(
        [sys.executable, "-c", WRONG, str(ROOT)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"KERAS_BACKEND": backend},
    )
    assert process.returncode == 0, process.stderr[-2000:]
    rows = [list(map(float, line.split())) for line in process.stdout.splitlines()]
    assert len(rows) == 12
    for loss, *moved in rows:
        assert loss == pytest.approx(100, rel=1e-5)
        assert moved == pytest.approx([1, -1, *[0] * 8], abs=1e-5)


def test_a_saved_net_still_ends_in_its_softmax(digits):
    for name in ("linear", "residual"):
        net = building.build(name, 1)
        x = digits.test.x[:8, ..., None] / np.float32(255)
        expected = net.predict(x, verbose=0)
        trainer = trainer_of(net)
        assert np.abs(trainer.predict(x, verbose=0).sum(1) - 1).max() > 1e-3  # logits
        np.testing.assert_allclose(trainer.plain().predict(x, verbose=0), expected, atol=1e-6)


def test_nets_of_one_kind_share_one_compiled_predictor(digits, monkeypatch):
    calls, original = [], keras.layers.Dense.call

    def call(self, inputs, training=None):
        calls.append(1)
        return original(self, inputs, training)

    monkeypatch.setattr(keras.layers.Dense, "call", call)
    predictor, x = None, digits.test.x
    traced = []
    for seed in (1, 2, 3):
        keras.backend.clear_session()
        plain = copies.plain(building.build("linear", seed))
        expected = np.array(plain(x[..., None] / np.float32(255)))
        predictor = predictor_of(plain, last=predictor)
        before = len(calls)
        found = predictor.predict(x, 1)
        traced.append(len(calls) - before)
        assert found.shape == (len(x), 10)
        np.testing.assert_allclose(predictor.predict(x), expected, atol=1e-6)
        for n in (1, 3, 300):  # padded, and cut again
            np.testing.assert_allclose(predictor.predict(x[:n]), expected[:n], atol=1e-6)
    assert traced[0] > 0
    assert traced[1:] == [0, 0]


def inner_output():
    inputs, inner = parts.images(), keras.Input((784,))
    heads = keras.Model(inner, [k.Dense(10, "softmax")(inner), k.Dense(10, "softmax")(inner)])
    return keras.Model(inputs, heads(k.Flatten()(inputs))[1])


def called_twice():
    inputs, inner = parts.images(), keras.Input((784,))
    head, flat = keras.Model(inner, k.Dense(10, "softmax")(inner)), k.Flatten()(inputs)
    return keras.Model(inputs, head(flat * ops.max(head(flat), axis=1, keepdims=True)))


@keras.saving.register_keras_serializable("test_trainer")
class Concentrated(k.Layer):
    def call(self, probabilities):
        self.add_loss(ops.mean(ops.sum(probabilities**2, axis=1)))
        return probabilities


def taken_within():
    inputs, inner = parts.images(), keras.Input((784,))
    probabilities = k.Dense(10, "softmax")(inner)
    head = keras.Model(inner, [probabilities, Concentrated()(probabilities)])
    return keras.Model(inputs, head(k.Flatten()(inputs))[0])


@keras.saving.register_keras_serializable("test_trainer")
class Smoothed(k.Dense):
    def call(self, inputs):
        return 0.5 * super().call(inputs) + 0.05


def penalised():
    return k.Dense(10, "softmax", activity_regularizer=keras.regularizers.L2(1.0))


def recurrent():
    return keras.Sequential([parts.images(), k.Reshape((28, 28)), k.SimpleRNN(10, activation="softmax")])


ENDINGS = {
    "the second output of a model within": inner_output,
    "a model within called twice": called_twice,
    "a layer within takes the probabilities": taken_within,
    "a class of its own": lambda: net(Smoothed(10, activation="softmax")),
    "a penalty on probabilities": lambda: keras.Sequential([parts.images(), k.Flatten(), penalised()]),
    "recurrent": recurrent,
    "averaged": averaged,
}


@pytest.mark.parametrize("name", ENDINGS)
def test_the_logits_of_any_ending_are_those_of_its_probabilities(name, digits):
    keras.utils.set_random_seed(2)
    built, x = ENDINGS[name](), digits.test.x[:16, ..., None] / np.float32(255)
    expected, y = np.array(built(x, training=True)), np.eye(10)[digits.test.y[:16]]
    built.compile("sgd", "categorical_crossentropy")
    loss = built.evaluate(x, y, verbose=0)
    trainer = trainer_of(built, "sgd")
    np.testing.assert_allclose(tf.nn.softmax(trainer(x, training=True)), expected, atol=1e-6)
    assert trainer.evaluate(x, y, verbose=0, return_dict=True)["loss"] == pytest.approx(loss, rel=1e-4)
    np.testing.assert_allclose(trainer.plain()(x), expected, atol=1e-6)


def test_a_net_is_the_same_whatever_nets_were_trained_before(digits, monkeypatch, tmp_path):
    """Even if its architecture draws a number for each net."""
    monkeypatch.setitem(building.ARCHITECTURES, "drawn", lambda: net(k.Dense(random.choice([2, 3, 4]))))
    settings = resolve(
        "linear", [("model", "drawn"), ("epochs", 1), ("steps_per_epoch", 2), ("min_steps_per_epoch", 1)]
    )
    settings |= {"seed": 1, "precision": "float32", "augment_engine": "batch", "tensorboard": False}
    together, parameters = Trainer(settings, digits), set()
    for folder in ("together", "alone"):
        (tmp_path / folder).mkdir()
    for number in (1, 2, 3, 4):
        parameters.add(together.fit(number, tmp_path / "together", verbose=0)["parameters"])
        Trainer(settings, digits).fit(number, tmp_path / "alone", verbose=0)
        name = f"net-{number:02d}.predictions.npz"
        np.testing.assert_array_equal(*(load(tmp_path / folder / name)["test"] for folder in ("together", "alone")))
    assert len(parameters) > 1


def test_nets_with_flips_share_one_predictor():
    made = []
    for seed in (1, 2, 3):
        keras.backend.clear_session()
        flips = ["horizontal"]
        plain = flip_classes.aggregated(copies.plain(building.build("linear", seed, joint_flips=flips)), flips)
        made.append(predictor_of(plain, last=made[-1] if made else None))
    assert made[0] is made[1] is made[2]
    assert predictor_of(copies.plain(building.build("vgg")), last=made[0]) is not made[0]


def test_what_a_layer_derives_from_its_weights_follows_them(digits):
    x = digits.test.x[:16, ..., None] / np.float32(255)
    predictor = None
    for scale in (1, 7):
        keras.backend.clear_session()
        layer = k.Normalization()
        layer.adapt(scale * x)
        plain = net(layer)
        predictor = predictor_of(plain, last=predictor)
        np.testing.assert_allclose(predictor.predict(digits.test.x[:16]), plain(x), atol=1e-5)


def test_a_layer_whose_argument_is_called_config_is_copied(digits):
    @keras.saving.register_keras_serializable("test_trainer")
    class Block(k.Layer):
        def __init__(self, config, dtype=None, **arguments):
            super().__init__(dtype=dtype, **arguments)
            self.config = config

        def call(self, inputs):
            return inputs * self.config["n"]

        def get_config(self):
            return super().get_config() | {"config": {"n": self.config["n"], "name": "x"}}

    x, built = digits.test.x[:4, ..., None] / np.float32(255), net(Block({"n": 2}))
    np.testing.assert_allclose(copies.plain(built)(x), built(x), atol=1e-6)


# float16


def float16(name="linear", optimizer="adam", replicas=1, **arguments):
    trainer = TrainingModel(building.build(name, 1, "float16"), STEPS, replicas)
    trainer.compile(optimizers.make(optimizer, **arguments), scale_loss=True)
    return trainer


@pytest.mark.parametrize("where", ["forward", "gradients"])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["as it is", "XLA"])
def test_a_step_that_overflows_is_as_if_it_had_not_been(where, compiled, digits, believe_in_gpu):
    x = digits.train.x[:96, ..., None] / np.float32(255)
    y = np.eye(10, dtype=np.float32)[digits.train.y[:96]]
    parts = [(x[i : i + 32], y[i : i + 32]) for i in (0, 32, 64)]
    spoilt = (np.full_like(x[:32], 1e30), y[:32]) if where == "forward" else (x[:32], np.full_like(y[:32], 1e30))

    def trained(batches, rates):
        make = lambda: float16("quick", "sgd", momentum=0.9, use_ema=True, ema_momentum=0.5)  # noqa: E731
        trainer = believe_in_gpu(make) if compiled else make()
        trainer.epoch.rates.assign(rates)
        trainer.optimizer.dynamic_scale.assign(256.0)  # nothing else overflows
        data = tf.data.Dataset.from_generator(
            lambda: iter(batches), output_signature=(tf.TensorSpec((None, 28, 28, 1)), tf.TensorSpec((None, 10)))
        )
        history = trainer.fit(data.apply(tf.data.experimental.assert_cardinality(len(batches))), verbose=0)
        scale = trainer.optimizer.dynamic_scale, trainer.optimizer.step_counter
        states = [np.array(v) for v in trainer.state() if not any(v is own for own in scale)]
        return states, np.array(trainer.epoch.losses), history.history, float(scale[0])

    # The rate of the skipped step is not taken by the next one.
    states, losses, log, scale = trained([parts[0], spoilt, *parts[1:]], [1e-3, 5.0, 2e-3, 3e-3])
    expected, other, expected_log, _ = trained(parts, [1e-3, 2e-3, 3e-3, 0])
    assert scale == 128
    assert np.isfinite(losses).tolist() == [True, False, True, True]
    np.testing.assert_allclose(losses[[0, 2, 3]], other[:3], rtol=1e-4)
    assert len(states) == len(expected)
    for ours, theirs in zip(states, expected, strict=True):  # but for how float16 rounds at another scale
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    for key in ("loss", "accuracy"):
        assert log[key] == pytest.approx(expected_log[key], rel=1e-4)


def test_a_batch_that_overflows_does_not_count_in_the_statistics_taken_anew(digits):
    parts = np.split(digits.train.x[:64, ..., None] / np.float32(255), 2)
    found = []
    for some in (parts, [parts[0], np.full_like(parts[0], 6e4), parts[1]]):
        net = building.build("quick", 1, "float16")
        batch_norm.update_bn(net, some)
        found.append(net.get_weights())
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_float16_net_none_of_whose_steps_is_finite_stops_in_a_line(tmp_path, monkeypatch, no_pictures):
    import train
    from recognizer.base.errors import UserError

    monkeypatch.chdir(tmp_path)
    options = ["linear", "--precision", "float16", "--data", "digits", "--batch-size", "700", "--epochs", "40"]
    monkeypatch.setattr(keras.layers.Rescaling, "call", lambda self, inputs: inputs * 1e30)
    with pytest.raises(UserError, match="whatever the loss scale") as error:
        train.main(options)
    assert "\n" not in str(error.value)


OVERFLOW = """
import sys; sys.path.insert(0, sys.argv[1])
from recognizer.base import environment; environment.import_keras()
import keras, numpy as np
from recognizer.data import sources
from recognizer.nn import building, optimizers
from recognizer.training import batches
from recognizer.training.model import TrainingModel
digits = sources.load("digits").train
x, y = digits.x[:96, ..., None] / np.float32(255), np.eye(10, dtype=np.float32)[digits.y[:96]]
parts = [(x[i : i + 32], y[i : i + 32]) for i in (0, 32, 64)]
spoilt = {"forward": (np.full_like(x[:32], 1e30), y[:32]), "gradients": (x[:32], np.full_like(y[:32], 1e30))}

def trained(parts, rates, several):
    trainer = TrainingModel(building.build("quick", 1, "float16"), 4)
    trainer.compile(optimizers.make("sgd", momentum=0.9, use_ema=True, ema_momentum=0.5), scale_loss=True)
    trainer.optimizer.dynamic_scale.assign(256.0)
    trainer.epoch.rates.assign(rates)
    trainer.steps_per_execution = several
    log = trainer.fit(batches.Batches(len(parts), parts.__getitem__), verbose=0, shuffle=False).history
    scale = trainer.optimizer.dynamic_scale, trainer.optimizer.step_counter
    states = [np.array(v) for v in trainer.state() if not any(v is own for own in scale)]
    return states, np.array(trainer.epoch.losses), log["loss"][0], log["accuracy"][0], float(scale[0])

expected, other, *log, _ = trained(parts, [1e-3, 2e-3, 3e-3, 0], 1)
for where, several in (("forward", 1), ("gradients", 1), ("gradients", 4)):
    states, losses, *same, scale = trained([parts[0], spoilt[where], *parts[1:]], [1e-3, 5.0, 2e-3, 3e-3], several)
    assert np.isfinite(losses).tolist() == [True, False, True, True], losses
    assert scale == 128, scale
    np.testing.assert_allclose(losses[[0, 2, 3]], other[:3], rtol=1e-4)
    np.testing.assert_allclose(same, log, rtol=1e-4)
    for ours, theirs in zip(states, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    print("as if it had not been")
"""


@pytest.mark.slow
def test_a_step_that_overflows_under_jax_is_as_if_it_had_not_been():
    pytest.importorskip("jax")
    process = subprocess.run(
        [sys.executable, "-c", OVERFLOW, str(ROOT)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"KERAS_BACKEND": "jax"},
    )
    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stdout.count("as if it had not been") == 3


@pytest.mark.slow
def test_a_float16_run_goes_on_exactly_where_it_was_stopped(tmp_path, monkeypatch, no_pictures):
    import train

    monkeypatch.chdir(tmp_path)
    options = ["quick", "--precision", "float16", "--data", "digits", "--set", "steps_per_epoch=6", "--epochs", "3"]
    train.main([*options, "--run", "whole"])
    assert json.loads((tmp_path / "runs" / "whole" / "config.json").read_text())["precision"] == "float16"
    check_resumed(options, 2, tmp_path, monkeypatch)
    logs = [(tmp_path / "runs" / name / "net-01.steps.csv").read_text() for name in ("whole", "broken")]
    assert logs[0] == logs[1]


@keras.saving.register_keras_serializable("test_trainer")
class Masked(k.Layer):
    """Leaves out every second pixel, by a mask of -inf as in attention."""

    def build(self, shape):
        self.mask = self.add_weight(shape=(shape[-1],), initializer="zeros", trainable=False)
        self.mask.assign(np.where(np.arange(shape[-1]) % 2, 0, -np.inf))

    def call(self, inputs):
        return inputs * ops.exp(self.mask)


def test_a_net_with_an_infinite_constant_trains_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch, no_pictures):
    import train

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(building.ARCHITECTURES, "masked", lambda: net(k.Flatten(), Masked()))
    options = ["linear", "--model", "masked", "--data", "digits", "--set", "steps_per_epoch=3", "--epochs", "2"]
    train.main([*options, "--run", "whole"])
    check_resumed(options, 1, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["quick", *(pytest.param(name, marks=pytest.mark.by_hand) for name in ("codeastar", "linear"))]
)
def test_float16_learns_as_float32_does(name, digits):
    accuracies = {}
    for precision in ("float32", "float16"):
        for seed in (1, 2, 3):
            overrides = [("epochs", 1), ("steps_per_epoch", 60), ("min_steps_per_epoch", 1), ("augmentation", {})]
            config = resolve(name, overrides) | {"seed": seed, "precision": precision}
            keras.backend.clear_session()
            trainer = new_model(config, 1, 60)
            made = batches.TrainingBatches(config | {"augment_engine": "batch"}, 1, digits.train, np.arange(1437)).data
            trainer.epoch.rates.assign(np.full(60, 0.01 if name == "linear" else 1e-3))
            trainer.fit(made, verbose=0, shuffle=False)
            assert np.isfinite(np.array(trainer.epoch.losses)).all()
            predicted = trainer.predict(digits.test.x[..., None] / np.float32(255), verbose=0).argmax(1)
            accuracies.setdefault(precision, []).append((predicted == digits.test.y).mean())
    means = [np.mean(accuracies[precision]) for precision in ("float32", "float16")]
    assert means[1] == pytest.approx(means[0], abs=0.02), accuracies


@pytest.mark.slow
def test_a_run_with_a_layer_in_bfloat16_goes_on_where_it_was_stopped(tmp_path, monkeypatch, no_pictures):
    import train

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(building.ARCHITECTURES, "half", lambda: net(k.Flatten(), k.Dense(4, dtype="bfloat16")))
    options = ["--model", "half", "--data", "digits", "--set", "steps_per_epoch=3", "--epochs", "3"]
    train.main([*options, "--run", "whole"])
    check_resumed(options, 1, tmp_path, monkeypatch)


def test_the_precision_is_what_the_gpu_computes_fast(monkeypatch):
    for capabilities, expected in (
        ([(9, 0)], "bfloat16"),
        ([(8, 6), (8, 0)], "bfloat16"),
        ([(7, 5)], "float16"),  # T4
        ([(7, 0), (8, 0)], "float16"),  # V100 beside A100
        ([(6, 0)], "float32"),  # P100
        ([None], "float32"),  # AMD
    ):
        found = [Gpu("a GPU", capability) for capability in capabilities]
        monkeypatch.setattr(precisions, "gpus", lambda found=found: found)
        assert native_precision() == expected
        assert native_precision("float32") == "float32"
        for other in ("bfloat16", "float16"):  # of a run made elsewhere
            native = other == expected or (
                other == "float16" and min(capability or (0, 0) for capability in capabilities) >= (7, 0)
            )
            assert native_precision(other) == (other if native else "float32")


# Dtypes


def test_layers_with_a_dtype_of_their_own_keep_it_when_the_net_predicts(digits, tmp_path):
    inputs = parts.images()

    def built(policy):
        keras.config.set_dtype_policy(policy)
        try:
            inner = keras.Sequential([layers.Conv2D(4, 3, dtype="float32"), k.ReLU()], name="inner")
            x = k.SpectralNormalization(layers.Conv2D(3, 3))(inner(inputs))
            head = keras.Sequential([k.Flatten(), k.Dense(10, "softmax", dtype="float32", name="last")], name="head")
            return keras.Model(inputs, head(x))
        finally:
            keras.config.set_dtype_policy("float32")

    net = built("mixed_bfloat16")
    dtypes = copies.explicit_dtypes(net, "bfloat16")
    assert dtypes.pop("head/last") == "float32"
    assert sorted(dtypes.values()) == ["bfloat16", "float32"]  # of the input to `head`, and the first convolution
    dtypes = copies.explicit_dtypes(net, "bfloat16")
    plain = copies.plain(net)
    assert {layer.compute_dtype for layer in plain._flatten_layers()} == {"float32"}
    plain.save(tmp_path / "net.keras")
    assert not re.search(r"bfloat16", (tmp_path / "net.keras").read_bytes().decode("latin-1"))
    fast = copies.fast(plain, "bfloat16", dtypes)
    kept = {layer.name: layer.compute_dtype for layer in fast._flatten_layers()}
    assert kept["last"] == "float32"
    assert [v for name, v in kept.items() if name.startswith("conv2d")].count("float32") == 1
    x = digits.test.x[:64, ..., None] / np.float32(255)
    np.testing.assert_array_equal(fast.predict(x, verbose=0), net.predict(x, verbose=0))
    assert {layer.compute_dtype for layer in copies.fast(plain, "float32", dtypes)._flatten_layers()} == {"float32"}
