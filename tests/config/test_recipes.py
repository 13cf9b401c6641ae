"""The architectures and recipes are the published ones; settings are checked; schedules are Keras's."""

import numpy as np
import pytest

import recipes
from recognizer.base.errors import UserError
from recognizer.config import members, schedules
from recognizer.config.overrides import parse_override, resolve

# recipe: (architecture, optimizer, batch, steps, epochs, validation split)
PUBLISHED = {
    "grenholm": ("grenholm", "adam", 16, 500, 20, 0.1),
    "codeastar": ("codeastar", "rmsprop", 64, 640, 30, 0.08),
    "vgg-rmsprop": ("vgg-rmsprop", "rmsprop", 256, "full", 20, 0.2),
    "linear": ("linear", "sgd", 64, None, 11, 0),
    "linear-phases": ("linear", "sgd", 64, None, 11, 0),
    "linear-augmented": ("linear", "sgd", 64, None, 11, 0),
    "vgg": ("vgg", "sgd", 64, None, 11, 0),
    "vgg-phases": ("vgg", "sgd", 64, None, 11, 0),
    "vgg-augmented": ("vgg", "sgd", 64, None, 11, 0),
    "vgg-dropout": ("vgg-dropout", "sgd", 64, None, 11, 0),
    "vgg-dropout-phases": ("vgg-dropout", "sgd", 64, None, 11, 0),
    "vgg-bn-dropout": ("vgg-bn-dropout", "sgd", 64, None, 16, 0),
    "vgg-bn-dropout-phases": ("vgg-bn-dropout", "sgd", 64, None, 16, 0),
    "deotte": ("deotte", "adam", 64, "full", 45, 0.1),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_is_the_published_one(name):
    c = resolve(name)
    keys = ("model", "optimizer", "batch_size", "steps_per_epoch", "epochs", "validation_split")
    assert tuple(c[key] for key in keys) == PUBLISHED[name]


def rates(name, epochs, logs=None):
    """The learning rates a recipe's schedule gives, epoch by epoch."""
    settings = dict(resolve(name)["schedule"])
    function, state, given = schedules.SCHEDULES[settings.pop("name")], None, []
    for epoch in range(epochs):
        rate, state = function(epoch, state, logs[epoch - 1] if logs and epoch else {}, epochs, **settings)
        given.append(rate)
    return given


def test_schedules_are_the_published_ones():
    np.testing.assert_allclose(rates("grenholm", 20), 1e-3 * 0.9 ** np.arange(20))
    np.testing.assert_allclose(rates("deotte", 45), 1e-3 * 0.95 ** np.arange(45))
    assert rates("linear", 11) == [0.01] * 11
    assert rates("linear-phases", 11) == [0.01] + [0.1] * 5 + [0.01] * 5
    assert rates("vgg-bn-dropout-phases", 16) == [0.01] + [0.1] * 5 + [0.01] * 5 + [0.001] * 5


def test_plateau_does_what_keras_reduce_lr_on_plateau_does():
    import keras

    rng = np.random.default_rng(0)
    for _ in range(5):
        logs = [{"val_accuracy": float(v)} for v in np.maximum.accumulate(0.9 + 0.001 * rng.integers(0, 4, 40))]
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(optimizer=keras.optimizers.SGD(1e-3))
        callback = keras.callbacks.ReduceLROnPlateau("val_accuracy", factor=0.3, patience=3, min_lr=1e-4, mode="max")
        callback.set_model(model)
        callback.on_train_begin()
        theirs = []
        for epoch, log in enumerate(logs):
            theirs.append(float(model.optimizer.learning_rate.numpy()))
            callback.on_epoch_end(epoch, dict(log))
        np.testing.assert_allclose(rates("codeastar", 40, logs), theirs, rtol=1e-5)
        assert min(theirs) < 5e-4


def test_one_cycle_rises_to_its_peak_and_ends_at_nothing():
    given = [schedules.one_cycle(e / 10, None, {}, 10, learning_rate=2.0, warmup=0.2)[0] for e in range(101)]
    assert np.argmax(given) == 20
    assert max(given) == 2.0
    assert given[0] == given[-1] == 0
    assert np.all(np.diff(given[20:]) < 0)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([("epocs", 3)], "did you mean 'epochs'"),
        ([("epochs", 0)], "epochs must be a whole number"),
        ([("epochs", True)], "epochs must be a whole number"),
        ([("validation_split", 1.0)], "below 1"),
        ([("schedule.decai", 1)], "did you mean 'decay'"),
        ([("schedule", {"name": "expontial"})], "did you mean 'exponential'"),
        ([("schedule", {"name": "exponential"})], "needs decay, learning_rate"),
        ([("steps_per_epoch", "some")], "steps_per_epoch"),
        ([("epochs.more", 3)], "has no parts"),
        ([("weights", "bset")], "did you mean 'best'"),
        ([("weights", "best"), ("validation_split", 0)], "set validation_split above 0"),
        ([("source", "me")], "no setting 'source'"),
        ([("members", {"epochs": 3})], "members must be a list"),
        ([("members", [{"epocs": 3}])], "did you mean 'epochs'"),
        ([("members", [{"epochs": 0}])], "epochs must be a whole number"),
        ([("members", [{"nets": 2}])], "no setting 'nets'"),
        ([("schedule.learning_rate", "abc")], "schedule.learning_rate must be a finite number"),
        ([("schedule.learning_rate", float("inf"))], "must be a finite number"),
        ([("schedule.learning_rate", -0.001)], "schedule.learning_rate must be a finite number, 0 or more, not -0.001"),
        ([("schedule", {"name": "one_cycle", "learning_rate": 1, "warmup": 20})], "0 or more and below 1, not 20"),
        ([("schedule", {"name": "plateau", "learning_rate": 1, "factor": 3})], "schedule.factor must be"),
        ([("schedule", {"name": "phases", "learning_rates": [[1, -1]]})], "a list of [epochs, rate], each 0 or more"),
        ([("schedule", {"name": "phases", "learning_rates": [[1]]})], "a list of [epochs, rate]"),
        ([("augmentation.rotation_range", float("nan"))], "must be a finite number"),
        ([("schedule", {"name": "plateau", "learning_rate": 1, "monitor": "val_acc"})], "'val_acc' is not measured"),
        ([("schedule", {"name": "plateau", "learning_rate": 1}), ("validation_split", 0)], "loss, accuracy (a valid"),
        ([("replicas", 0)], "replicas must be a whole number"),
        ([("replicas", 3)], "batch_size (now 16) to a multiple of 3"),
        ([("replicas", 2), ("steps_per_epoch", None)], 'steps_per_epoch to "full"'),
    ],
)
def test_a_mistyped_setting_or_value_is_told_with_the_valid_ones(overrides, told):
    with pytest.raises(UserError) as error:
        resolve("grenholm", overrides)
    assert told in str(error.value)


def test_the_nets_of_a_kind_follow_one_another_and_differ_in_what_members_say():
    kinds = [{}, {"epochs": 3, "augmentation.shear_range": 20}]
    config = resolve("grenholm", [("nets", 5), ("members", kinds)])
    nets = [members.member(config, net) for net in range(1, 6)]
    assert [net["epochs"] for net in nets] == [20, 20, 20, 3, 3]
    assert [net["augmentation"].get("shear_range") for net in nets] == [None, None, None, 20, 20]
    assert nets[3] | {"epochs": 20, "augmentation": config["augmentation"]} == config
    assert [(settings["epochs"], settings["nets"]) for settings in members.kinds(config)] == [(20, 3), (3, 2)]


def test_a_setting_that_some_nets_have_of_their_own_is_set_for_every_net(monkeypatch):
    kinds = [{"epochs": 4}, {}, {"epochs": 4, "augmentation.shear_range": 20}]
    monkeypatch.setitem(recipes.RECIPES, "mixed", recipes.SINGLE | dict(nets=3, members=kinds))
    nets = [members.member(resolve("mixed", [("epochs", 2)]), net) for net in (1, 2, 3)]
    assert [(net["epochs"], net["augmentation"]["shear_range"]) for net in nets] == [(2, 10), (2, 10), (2, 20)]
    assert recipes.RECIPES["mixed"]["members"] == kinds


@pytest.mark.parametrize("key", ["augmentation", "schedule.learning_rate", "model", "model_config"])
def test_a_setting_that_some_nets_have_of_their_own_is_not_half_overridden(key, monkeypatch):
    own = {
        "augmentation.elastic_alpha": 20,
        "model_config.padding": "same",
        "schedule": {"name": "constant", "learning_rate": 0.1},
    }
    monkeypatch.setitem(recipes.RECIPES, "mixed", recipes.SINGLE | dict(nets=2, members=[{}, own]))
    with pytest.raises(UserError, match=f"{key} cannot be set for 'mixed'.*--set members=\\[\\]"):
        resolve("mixed", [(key, "deotte" if key == "model" else 30)])
    assert resolve("mixed", [("augmentation.elastic_alpha", 30), ("members", [])])["members"] == []
    assert resolve("mixed", [("augmentation.shear_range", 5)])["augmentation"]["shear_range"] == 5


def test_a_value_on_the_command_line_is_json_or_pythons_constant_or_text():
    given = ["a=1e-3", "a=.05", "a=-.5", "a=[1, 2]", "a=true", "a=False", "a=None", "a=sgd"]
    expected = [1e-3, 0.05, -0.5, [1, 2], True, False, None, "sgd"]
    assert [parse_override(text)[1] for text in given] == expected
    for text in ("a=nan", "a=NaN", "a=-inf"):
        with pytest.raises(UserError, match="a setting must be a finite number"):
            parse_override(text)


def test_an_epoch_takes_the_next_part_of_endless_passes():
    from augment import Augmentation
    from recognizer.training import batches

    rows = np.arange(100, 150)
    config = resolve("grenholm", [("batch_size", 10), ("steps_per_epoch", 7)]) | {"seed": 3}
    order = np.concatenate([batches.epoch_plan(config, 1, epoch, rows, Augmentation())[0] for epoch in range(5)])
    assert len(order) == 350
    for start in range(0, 350, 50):
        assert sorted(order[start : start + 50]) == list(rows)
    assert not np.array_equal(order[:50], order[50:100])
    whole = resolve("linear") | {"seed": 3}
    assert batches.images_per_epoch(whole, 1000) == 1000
    assert (batches.steps_per_epoch(whole, 1000), batches.steps_per_epoch(resolve("deotte"), 1000)) == (16, 15)
