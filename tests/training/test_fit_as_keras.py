"""Any optimizer and loss of Keras trains as in Keras's own compile and fit, on the same batches."""

import functools
import inspect
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers as k
from sklearn.utils.class_weight import compute_class_weight

from recognizer.base.errors import UserError
from recognizer.config import keras_classes
from recognizer.config.overrides import resolve
from recognizer.nn import losses, optimizers, parts
from recognizer.training.batches import TrainingBatches, class_weights
from recognizer.training.model import TrainingModel

STEPS, BATCH = 8, 16
RATES = np.linspace(0.01, 0.03, STEPS, dtype=np.float32)


def net(optimizer="adam"):
    """A small net without the kinks of ReLU, at which rounding becomes large, and the same one each time.

    Our Muon takes convolution kernels, too, which Keras's leaves to Adam.
    """
    keras.utils.set_random_seed(1)
    first = (
        [k.Flatten(), k.Dense(4, use_bias=False)]
        if optimizer == "muon"
        else [k.Conv2D(4, 5, strides=3, use_bias=False)]
    )
    middle = [k.BatchNormalization(), k.Activation("tanh"), k.Flatten()]
    return keras.Sequential([parts.images(), *first, *middle, parts.classes()])


@functools.cache
def data():
    rng = np.random.default_rng(0)
    labels = np.eye(10, dtype=np.float32)[rng.integers(0, 10, STEPS * BATCH)]
    return rng.random((STEPS * BATCH, 28, 28, 1), np.float32), labels


class Rates(keras.callbacks.Callback):
    def __init__(self, rates):
        super().__init__()
        self.rates = rates

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = float(self.rates[batch])


def fit_by_keras(optimizer, loss="categorical_crossentropy", optimizer_name="adam", rates=RATES, eager=True, **more):
    model = net(optimizer_name)
    model.compile(optimizer, loss, metrics=["accuracy"], run_eagerly=eager)
    more |= dict(batch_size=BATCH, shuffle=False, verbose=0, callbacks=[Rates(rates)])
    log = model.fit(*data(), **more).history
    return model.get_weights(), log


def fit_by_ours(optimizer, loss=None, optimizer_name="adam", rates=RATES, replicas=1, sample_weight=None):
    network = net(optimizer_name)
    model = TrainingModel(network, STEPS, replicas)
    model.compile(optimizer, loss)
    model.epoch.rates.assign(rates)
    model.steps_per_execution = 3
    more = dict(batch_size=BATCH, shuffle=False, verbose=0, sample_weight=sample_weight)
    log = model.fit(*data(), **more).history
    return network.get_weights(), log


def assert_same(ours, theirs, atol=1e-5):
    (weights, log), (expected, expected_log) = ours, theirs
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=atol)
    for key in ("loss", "accuracy"):
        assert log[key] == pytest.approx(expected_log[key], rel=1e-4), key


VARIANTS = {
    "plain": {},
    "accumulated": dict(gradient_accumulation_steps=2),
    "decayed": dict(weight_decay=0.1),
    "clipped": dict(clipnorm=0.05),
    "averaged": dict(use_ema=True, ema_momentum=0.5),
    "overwritten": dict(use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3),
    "all": dict(gradient_accumulation_steps=2, weight_decay=0.1, global_clipnorm=0.1, use_ema=True, ema_momentum=0.5),
}
NAMES = [name for name in keras_classes.OPTIMIZERS if hasattr(keras.optimizers, name)]


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        pytest.param(name, variant, marks=[pytest.mark.slow] * (i % len(VARIANTS) != j))
        for i, name in enumerate(NAMES)
        for j, variant in enumerate(VARIANTS)
    ],
)
def test_an_optimizer_with_what_every_one_takes_trains_as_in_keras(name, variant):
    arguments, lower = VARIANTS[variant], name.lower()
    # Eagerly: in a graph, Keras's own ScheduleFreeAdamW begins with a momentum of 0, not with the weights.
    expected = fit_by_keras(getattr(keras.optimizers, name)(**arguments), optimizer_name=lower)
    found = fit_by_ours(optimizers.make(lower, **arguments), optimizer_name=lower)
    assert_same(found, expected, atol=1e-4 if name == "RMSprop" else 2e-5)
    assert max(np.abs(one - other).max() for one, other in zip(found[0], net(lower).get_weights(), strict=True)) > 0.01


class Kept(keras.callbacks.Callback):
    """Keeps a model's state after each epoch, as a checkpoint does."""

    def __init__(self):
        super().__init__()
        self.states = []

    def on_epoch_end(self, epoch, logs=None):
        self.states.append([np.array(variable) for variable in self.model.state()])


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in ("Nadam", "SGD"))) for n in NAMES]
)
@pytest.mark.parametrize("scale_loss", [False, True])
def test_an_optimizer_goes_on_exactly_where_it_was_stopped(name, scale_loss):
    kept, ends = Kept(), []
    for epoch in (0, 1, 2):
        model = TrainingModel(net(), STEPS)
        model.compile(
            optimizers.make(name.lower(), **VARIANTS["all"] | {"gradient_accumulation_steps": 3}), scale_loss=scale_loss
        )
        model.epoch.rates.assign(RATES)
        if epoch:
            for variable, value in zip(model.state(), kept.states[epoch - 1], strict=True):
                variable.assign(value)
        more = dict(initial_epoch=epoch, epochs=2, batch_size=BATCH, shuffle=False, verbose=0)
        model.fit(*data(), callbacks=[] if epoch else [kept], **more)
        ends.append(model.get_weights())
    assert any(
        np.abs(one - other).max() > 1e-4 for one, other in zip(ends[0], kept.states[-1], strict=False)
    )  # averaged
    for end in ends[1:]:
        for one, other in zip(end, ends[0], strict=True):
            np.testing.assert_array_equal(one, other)


LOSS_VARIANTS = [(name, {}) for name in keras_classes.LOSSES]
LOSS_VARIANTS += [
    ("CategoricalCrossentropy", dict(label_smoothing=0.1)),
    ("CategoricalFocalCrossentropy", dict(label_smoothing=0.1, gamma=1.0, alpha=[0.1] * 5 + [0.4] * 5)),
    ("BinaryFocalCrossentropy", dict(apply_class_balancing=True, label_smoothing=0.2)),
    ("Tversky", dict(alpha=0.3, axis=[1])),
    ("Huber", dict(delta=0.2, reduction="sum")),
]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (i % 5 > 0)) for i, case in enumerate(LOSS_VARIANTS)],
    ids=str,
)
def test_a_loss_trains_as_in_keras(name, arguments):
    rates = RATES * (1e-9 if "Percentage" in name else 0.1 if "reduction" in arguments else 10)
    expected = fit_by_keras(keras.optimizers.SGD(), getattr(keras.losses, name)(**arguments), rates=rates, eager=False)
    smoothing = {key: arguments[key] for key in arguments if key == "label_smoothing"}
    others = {key: arguments[key] for key in arguments if key != "label_smoothing"}
    found = fit_by_ours(optimizers.make("sgd"), loss=losses.make(name, **smoothing, **others), rates=rates)
    assert_same(found, expected)
    moved = zip(found[0], net().get_weights(), strict=True)
    assert max(np.abs(one - other).max() for one, other in moved) > 1e-3


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("name", ["CategoricalCrossentropy", "MeanSquaredError"])
def test_class_weights_train_as_in_keras(name, replicas, monkeypatch):
    monkeypatch.setattr(k, "BatchNormalization", k.Identity)  # it takes the statistics of each replica's part
    weights, loss = np.linspace(0, 3, 10, dtype=np.float32), getattr(keras.losses, name)()
    expected = fit_by_keras(keras.optimizers.SGD(), loss, class_weight=dict(enumerate(weights)))
    own = data()[1] @ weights
    found = fit_by_ours(optimizers.make("sgd"), loss=losses.make(name), replicas=replicas, sample_weight=own)
    assert_same(found, expected)


@pytest.mark.parametrize("flips", [[], ["horizontal"]])
@pytest.mark.parametrize("mixup", [0, 0.3])
def test_each_image_has_the_weight_of_its_labels(flips, mixup, digits):
    weights = np.arange(10, dtype=np.float32).tolist()
    own = dict(class_weight=weights, joint_flips=flips, augmentation={"mixup_alpha": mixup} if mixup else {})
    settings = resolve("linear", list(own.items())) | {"seed": 1, "augment_engine": "batch"}
    _, labels, found = next(iter(TrainingBatches(settings, 1, digits.train, np.arange(200)).data))
    labels = np.array(labels).reshape(len(labels), -1, 10).sum(1)  # a flip's ten classes are digits, too
    assert mixup == 0 or 0 < labels.max(1).min() < 1
    np.testing.assert_allclose(found, labels @ weights, rtol=1e-5)


def test_balanced_weights_are_those_of_scikit_learn_on_a_nets_own_rows():
    labels = np.repeat(np.arange(9), np.arange(1, 10))  # there is no 9
    expected = [*compute_class_weight("balanced", classes=np.arange(9), y=labels), 0]
    np.testing.assert_allclose(class_weights("balanced", labels), expected, rtol=1e-6)
    assert class_weights(None, labels) is None


def test_the_tables_have_every_class_and_argument_of_keras():
    elsewhere = {"self", "kwargs", "learning_rate", "from_logits", "name", "dtype"}
    bases = {"Loss", "Optimizer", "OptimizerMap"}
    for key, module, every in (
        ("optimizer", keras.optimizers, keras_classes.EVERY_OPTIMIZER),
        ("loss", keras.losses, {"reduction"}),
    ):
        table = getattr(keras_classes, {"optimizer": "OPTIMIZERS", "loss": "LOSSES"}[key])
        for name, kind in vars(module).items():
            if isinstance(kind, type) and name not in bases and name.lower() not in keras_classes.UNFIT:
                arguments = inspect.signature(kind.__init__).parameters.keys() - elsewhere - every
                assert arguments == table[name], name


@pytest.mark.slow
def test_they_train_as_in_keras_under_jax_too():
    pytest.importorskip("jax")
    some = "SGD-all or Adam-averaged or ScheduleFreeAdamW-plain or MeanSquaredE or class_weights or Tversky or labels"
    command = [sys.executable, "-m", "pytest", __file__, "-q", "-m", "", "-k", some]
    process = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"KERAS_BACKEND": "jax"})
    assert process.returncode == 0, process.stdout[-2000:]


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("Huber", dict(delta="small"), "delta must be a number"),
        ("Huber", dict(delta=[1, 2, 3]), "cannot be used with loss_config"),
        ("Dice", dict(axis=7), "cannot be used"),
        ("Tversky", dict(alpha=None), "cannot be used"),
        ("CategoricalFocalCrossentropy", dict(alpha=[1, 2]), "cannot be used"),
        ("MeanSquaredError", dict(reduction="none"), "leave out reduction"),
        ("MeanSquaredError", dict(reduction="average"), "reduction"),
    ],
    ids=str,
)
def test_a_loss_that_could_not_be_used_is_refused_before_training(name, arguments, told):
    with pytest.raises(UserError, match=told) as error:
        losses.make(name, **arguments)
    assert "\n" not in str(error.value)
