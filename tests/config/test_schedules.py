"""Every learning-rate schedule gives the right rates; Keras's schedules give the same rates as in Keras."""

import inspect
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, load

import recipes
from recognizer.base.errors import UserError
from recognizer.config import schedules
from recognizer.config.overrides import resolve


def table(schedule, epochs, steps, logs=None):
    """Returns the learning rates of all steps, float32 (epochs, steps). logs: each epoch's metrics."""
    rates, state, rows = schedules.make({"schedule": schedule, "epochs": epochs}, steps), None, []
    for epoch in range(epochs):
        row, state = rates(epoch, state, logs[epoch - 1] if logs and epoch else {})
        assert (row.dtype, row.shape) == (np.float32, (steps,))
        rows.append(row)
    return np.stack(rows)


def rates(name, epochs, logs=None):
    """Returns the learning rates of a recipe, epoch by epoch."""
    steps = table(resolve(name)["schedule"], epochs, 3, logs)
    assert np.all(steps == steps[:, :1])
    return steps[:, 0]


def test_schedules_are_the_published_ones():
    np.testing.assert_array_equal(rates("grenholm", 20), np.float32(1e-3 * 0.9 ** np.arange(20)))
    np.testing.assert_array_equal(rates("deotte", 45), np.float32(1e-3 * 0.95 ** np.arange(45)))
    phases = np.float32([0.01] + [0.1] * 5 + [0.01] * 5 + [0.001] * 5)
    np.testing.assert_array_equal(rates("linear", 11), np.full(11, 0.01, np.float32))
    np.testing.assert_array_equal(rates("linear-phases", 11), phases[:11])
    np.testing.assert_array_equal(rates("vgg-bn-dropout-phases", 16), phases)


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
    given = table({"name": "one_cycle", "learning_rate": 2.0, "warmup": 0.2}, 10, 10).ravel()
    assert np.argmax(given) == 20
    assert max(given) == 2.0
    assert given[0] == 0
    assert np.all(np.diff(given[20:]) < 0)
    assert given[-1] < 0.001


# {name: (a schedule with times in epochs, the arguments of the same schedule in Keras, with times in steps)}. Training
# has EPOCHS epochs of STEPS steps.
STEPS, EPOCHS = 5, 4
KERAS = {
    "cosine": (
        dict(name="cosine", learning_rate=0.1),
        dict(initial_learning_rate=0.1, decay_steps=20),
    ),
    "cosine ends early": (
        dict(name="CosineDecay", initial_learning_rate=1, decay_epochs=2.5, alpha=0.1),
        dict(initial_learning_rate=1.0, decay_steps=12.5, alpha=0.1),
    ),
    "cosine with warm-up": (
        dict(name="cosine-decay", learning_rate=0, warmup_target=0.1, warmup_epochs=1.5),
        dict(initial_learning_rate=0.0, decay_steps=12.5, warmup_target=0.1, warmup_steps=7.5),
    ),
    "restarts": (
        dict(name="cosine_decay_restarts", learning_rate=0.1, first_decay_epochs=0.7, m_mul=0.9),
        dict(initial_learning_rate=0.1, first_decay_steps=3.5, m_mul=0.9),
    ),
    "equal restarts": (
        dict(name="CosineDecayRestarts", learning_rate=0.1, first_decay_epochs=0.7, t_mul=1, alpha=0.01),
        dict(initial_learning_rate=0.1, first_decay_steps=3.5, t_mul=1.0, alpha=0.01),
    ),
    "exponential": (
        dict(name="ExponentialDecay", learning_rate=0.1, decay_rate=0.9, decay_epochs=1),
        dict(initial_learning_rate=0.1, decay_rate=0.9, decay_steps=5),
    ),
    "exponential stairs": (
        dict(name="exponential_decay", learning_rate=1, decay_rate=0.5, decay_epochs=1, staircase=True),
        dict(initial_learning_rate=1.0, decay_rate=0.5, decay_steps=5, staircase=True),
    ),
    "inverse time": (
        dict(name="inverse-time-decay", learning_rate=0.1, decay_rate=3),
        dict(initial_learning_rate=0.1, decay_rate=3, decay_steps=20),
    ),
    "piecewise": (
        dict(name="PIECEWISECONSTANTDECAY", boundaries=[0.9, 2, 2.5], values=[1, 0.1, 0.5, 0]),
        dict(boundaries=[4.5, 10, 12.5], values=[1.0, 0.1, 0.5, 0.0]),
    ),
    "polynomial": (
        dict(name="PolynomialDecay", learning_rate=0.1),
        dict(initial_learning_rate=0.1, decay_steps=20),
    ),
    "polynomial cycles": (
        dict(name="polynomialdecay", learning_rate=0.1, decay_epochs=1.5, power=2, cycle=True, end_learning_rate=0.01),
        dict(initial_learning_rate=0.1, decay_steps=7.5, power=2, cycle=True, end_learning_rate=0.01),
    ),
}


@pytest.mark.parametrize("kind", KERAS)
def test_the_rates_of_a_schedule_of_keras_are_those_that_keras_gives_step_by_step(kind):
    import keras

    ours, arguments = KERAS[kind]
    schedule = resolve("grenholm", [("schedule", ours), ("epochs", EPOCHS)])["schedule"]
    theirs = getattr(keras.optimizers.schedules, schedule["name"])(**arguments)
    expected = [float(keras.ops.convert_to_numpy(theirs(step))) for step in range(EPOCHS * STEPS)]
    given = table(schedule, EPOCHS, STEPS).ravel()
    np.testing.assert_allclose(given, expected, rtol=1e-6, atol=1e-6 * max(expected))  # float32's rounding
    np.testing.assert_array_equal(given, table(schedule, EPOCHS, STEPS).ravel())


def test_every_schedule_of_keras_has_all_of_its_arguments():
    import keras

    classes = {
        name: value
        for name, value in vars(keras.optimizers.schedules).items()
        if inspect.isclass(value) and value is not keras.optimizers.schedules.LearningRateSchedule
    }
    assert classes.keys() == schedules.KERAS.keys()
    for name, value in classes.items():
        theirs = {
            key.replace("initial_l", "l").replace("_steps", "_epochs") for key in inspect.signature(value).parameters
        }
        assert theirs - {"name"} == set().union(*schedules.KERAS[name])


@pytest.mark.slow
def test_the_rates_are_those_of_keras_on_jax_too():
    pytest.importorskip("jax")
    kinds = ["cosine with warm-up", "restarts", "piecewise"]
    same = test_the_rates_of_a_schedule_of_keras_are_those_that_keras_gives_step_by_step.__name__
    process = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *[f"{__file__}::{same}[{kind}]" for kind in kinds]],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "3 passed" in process.stdout, process.stdout


def test_cosine_with_a_learning_rate_alone_falls_from_it_to_nothing_over_the_training():
    schedule = resolve("grenholm", [("schedule", {"name": "cosine", "learning_rate": 0.5})])["schedule"]
    given = table(schedule, 20, 50).ravel()
    assert given[0] == 0.5
    assert given[500] == pytest.approx(0.25)
    assert np.all(np.diff(given) < 0)
    assert 0 < given[-1] < 1e-5


@pytest.mark.parametrize(
    ("name", "changes", "peak"),
    [
        *((name, [], None) for name in recipes.RECIPES),
        ("single", [("schedule", "cosine")], 6e-3),
        (
            "single",
            [("schedule", {"name": "cosine", "learning_rate": 0, "warmup_target": 0.3, "warmup_epochs": 1})],
            0.3,
        ),
        ("linear", [("schedule", {"name": "PiecewiseConstantDecay", "boundaries": [2], "values": [0.01, 0.2]})], 0.2),
    ],
)
def test_the_peak_of_a_schedule_is_the_highest_rate_of_its_steps(name, changes, peak):
    config = resolve(name, changes)
    rates = schedules.make(config, 200)
    highest = max(rates(epoch, None, {})[0].max() for epoch in range(config["epochs"]))
    found = schedules.peak(config["schedule"])
    assert found == pytest.approx(float(highest), rel=0.01)
    assert peak in (None, found)


def test_a_schedule_chosen_by_its_name_keeps_the_settings_that_it_has_too():
    assert resolve("grenholm", [("schedule.name", "Cosine")])["schedule"] == {
        "name": "CosineDecay",
        "learning_rate": 1e-3,
    }
    # in any order of the overrides, the settings belong to the schedule that is chosen by name
    for overrides in (
        [("schedule.name", "exponential-decay"), ("schedule.decay_rate", 0.5)],
        [("schedule.decay_rate", 0.5), ("schedule.name", "ExponentialDecay")],
    ):
        expected = {"name": "ExponentialDecay", "learning_rate": 1e-3, "decay_rate": 0.5}
        assert resolve("grenholm", overrides)["schedule"] == expected
    with pytest.raises(UserError, match="no CosineDecay setting 'warmup'; did you mean 'warmup_"):
        resolve("single", [("schedule.warmup", 0.1), ("schedule.name", "cosine")])
    expected = {"name": "constant", "learning_rate": 2}
    assert resolve("linear", [("schedule.initial_learning_rate", 2)])["schedule"] == expected


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        ({"name": "cosin"}, "did you mean 'cosine'?"),
        ({"name": "expontial"}, "did you mean 'exponential'?"),
        ({"name": ["cosine"]}, "no schedule ['cosine']"),
        ({"learning_rate": 1}, "the schedule needs a name, one of: CosineDecay,"),
        ({"name": "cosine"}, "'CosineDecay' needs learning_rate"),
        ({"name": "cosine", "learning_rate": 1, "decay_steps": 9}, "did you mean 'decay_epochs'?"),
        ({"name": "cosine", "learning_rate": 1, "warmup_steps": 9}, "did you mean 'warmup_epochs'?"),
        (
            {"name": "CosineDecayRestarts", "learning_rate": 1, "first_decay_steps": 9},
            "did you mean 'first_decay_epochs'?",
        ),
        ({"name": "CosineDecayRestarts", "learning_rate": 1}, "needs first_decay_epochs"),
        ({"name": "ExponentialDecay", "learning_rate": 1, "decay": 0.9}, "did you mean 'decay_"),
        ({"name": "ExponentialDecay", "learning_rate": 1}, "needs decay_rate"),
        ({"name": "cosine", "learning_rate": 1, "decay_epochs": 0}, "decay_epochs must be a number of 0.001 or more"),
        ({"name": "cosine", "learning_rate": 1, "alpha": "low"}, "schedule.alpha must be a number"),
        ({"name": "cosine", "learning_rate": 10**400}, "schedule.learning_rate must be a number"),
        (
            {"name": "cosine", "learning_rate": 1, "warmup_epochs": 1},
            "warmup_epochs and schedule.warmup_target (the rate to rise to) go together",
        ),
        (
            {"name": "cosine", "learning_rate": 1, "warmup_target": 1},
            "warmup_epochs and schedule.warmup_target (the rate to rise to) go together",
        ),
        (
            {"name": "cosine", "learning_rate": 0, "warmup_target": 1, "warmup_epochs": 20},
            "schedule.warmup_epochs must be below the 20 epochs of the training, not 20",
        ),
        ({"name": "PiecewiseConstantDecay", "boundaries": [1], "values": [1]}, "one more entry"),
        ({"name": "PiecewiseConstantDecay", "boundaries": [2, 1], "values": [1, 2, 3]}, "boundaries must rise"),
        ({"name": "PiecewiseConstantDecay", "boundaries": [], "values": [1]}, "boundaries must rise"),
        ({"name": "PiecewiseConstantDecay", "boundaries": 3, "values": [1]}, "boundaries must be a list of epochs"),
        (
            {"name": "InverseTimeDecay", "learning_rate": 1, "decay_rate": 1, "staircase": 1},
            "staircase must be true or false",
        ),
        ({"name": "exponential", "learning_rate": 1}, "needs decay"),
        ({"name": "exponential", "learning_rate": "abc", "decay": 1}, "schedule.learning_rate must be a number"),
        (
            {"name": "exponential", "learning_rate": -0.001, "decay": 1},
            "schedule.learning_rate must be a number of 0 or more",
        ),
        ({"name": "one_cycle", "learning_rate": 1, "warmup": 20}, "of 0 or more and below 1, not 20"),
        ({"name": "plateau", "learning_rate": 1, "factor": 3}, "schedule.factor must be"),
        ({"name": "plateau", "learning_rate": 1, "monitor": "val_acc"}, "'val_acc' is not measured"),
        ({"name": "phases", "learning_rates": [[1, -1]]}, "a list of [epochs, rate], each 0 or more"),
        ({"name": "phases", "learning_rates": [[1]]}, "a list of [epochs, rate]"),
        ({"name": "phases", "learning_rates": []}, "at least one [epochs, rate]"),
        ({"name": "constant", "learning_rate": 0}, "the highest learning rate of the schedule is 0"),
        ({"name": "one_cycle", "learning_rate": 0.0}, "the highest learning rate of the schedule is 0"),
        ({"name": "phases", "learning_rates": [[1, 0], [2, 0]]}, "the highest learning rate of the schedule is 0"),
        ({"name": "PiecewiseConstantDecay", "boundaries": [1], "values": [0, 0]}, "the highest learning rate"),
    ],
)
def test_a_schedule_that_is_not_valid_is_one_line(schedule, told):
    with pytest.raises(UserError) as error:
        resolve("grenholm", [("schedule", schedule)])
    assert told in str(error.value)
    assert len(str(error.value)) < 290
    assert "\n" not in str(error.value)


def test_a_run_that_was_stopped_goes_on_at_the_rates_where_it_was(tmp_path, monkeypatch, no_pictures):
    import train
    from recognizer.base.files import read_rows
    from recognizer.runs import checkpoints

    monkeypatch.chdir(tmp_path)
    schedule = {"name": "cosine", "learning_rate": 0, "warmup_target": 0.01, "warmup_epochs": 1.3}
    tiny = ["--epochs", "3", "--set", "steps_per_epoch=6", "--data", "digits", "--precision", "float32"]
    arguments = ["linear", *tiny, "--set", f"schedule={schedule}"]
    train.main([*arguments, "--run", "whole"])
    write = checkpoints.write

    def stop(*arguments):
        write(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        train.main([*arguments, "--run", "stopped"])
    monkeypatch.setattr(checkpoints, "write", write)
    train.main(["--resume"])
    whole, stopped = tmp_path / "runs" / "whole", tmp_path / "runs" / "stopped"
    steps = read_rows(whole / "net-01.steps.csv")
    assert len({row["learning_rate"] for row in steps}) == 18  # a rate for each step
    assert steps == read_rows(stopped / "net-01.steps.csv")
    for name, array in load(whole / "predictions.npz").items():
        np.testing.assert_array_equal(array, load(stopped / "predictions.npz")[name])
