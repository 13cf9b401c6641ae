"""Training that stops early does what Keras's EarlyStopping does, resumes exactly, and measures the saved net."""

import csv
import json
import types

import keras
import numpy as np
import pytest
from conftest import check_resumed
from keras import layers

import train
from recognizer.base.errors import UserError
from recognizer.config import schedules
from recognizer.config.overrides import resolve
from recognizer.nn import building
from recognizer.training.checkpoint import BestWeights


def run_epochs(callback, accuracies):
    """Calls a callback for epochs with these validation accuracies; returns (number of epochs made, its model)."""
    weight = keras.Variable(0.0)
    model = types.SimpleNamespace(
        stop_training=False,
        weights=[weight],
        get_weights=lambda: [np.array(weight)],
        set_weights=lambda values: weight.assign(values[0]),
    )
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, accuracy in enumerate(accuracies):
        weight.assign(epoch + 1.0)
        callback.on_epoch_end(epoch, {"val_accuracy": accuracy})
        if model.stop_training:
            break
    callback.on_train_end()
    return epoch + 1, model


@pytest.mark.parametrize("patience", range(5))
def test_it_stops_and_keeps_what_keras_early_stopping_does(patience):
    for seed in range(40):
        accuracies = np.random.default_rng(seed).integers(0, 12, 30) / 12
        theirs = keras.callbacks.EarlyStopping("val_accuracy", 0, patience, 0, "max", restore_best_weights=True)
        expected, model = run_epochs(theirs, accuracies)
        ours = BestWeights(patience)
        found, own = run_epochs(ours, accuracies)
        ours.use(own)
        assert (found, float(own.weights[0])) == (expected, float(model.weights[0]))


OPTIONS = ["quick", "--data", "digits", "--epochs", "20", "--set", "steps_per_epoch=3", "--early-stopping", "2"]


def log_of(folder):
    with open(folder / "net-01.csv", newline="") as file:
        return list(csv.DictReader(file))


AVERAGED = ["--set", "optimizer_config.use_ema=true", "--set", "update_bn=2"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], AVERAGED], ids=str)
def test_a_run_that_died_before_its_end_was_written_is_trained_no_further(
    more, tmp_path, monkeypatch, no_pictures, capsys
):
    monkeypatch.chdir(tmp_path)
    train.main([*OPTIONS, *more, "--run", "whole"])
    told = capsys.readouterr().out
    whole = tmp_path / "runs" / "whole"
    result, epochs = json.loads((whole / "net-01.json").read_text()), len(log_of(whole))
    best = result["weights_epoch"]
    assert (result["epochs"], result["planned_epochs"], best) == (epochs, 20, epochs - 2)
    assert f"stopped after epoch {epochs} of 20, best {best}" in told
    assert "up to 20 epochs" in told
    assert "at most" in told
    assert "biased upward" in told
    rates = schedules.make(resolve("quick", [("epochs", 20)]), 3)  # of all epochs, not of those made
    for epoch, row in enumerate(log_of(whole)):
        assert float(row["learning_rate"]) == pytest.approx(rates(epoch, None, {})[0][-1], rel=1e-4)
    for stopped_after in (best, epochs):
        check_resumed([*OPTIONS, *more], stopped_after, tmp_path, monkeypatch)
        broken = tmp_path / "runs" / "broken"
        assert len(log_of(broken)) == epochs
        broken.rename(tmp_path / f"broken-{stopped_after}")


@pytest.mark.slow
def test_batch_norm_is_recalibrated_before_each_validation_and_training_stays_the_same(
    tmp_path, monkeypatch, no_pictures
):
    monkeypatch.chdir(tmp_path)
    short = ["grenholm", "--data", "digits", "--epochs", "2", "--batch-size", "64", "--set", "update_bn=8"]
    short += ["--set", "steps_per_epoch=4", "--set", "validation_rows=null"]
    for name, weights in (("last", "last"), ("best", "best")):
        train.main([*short, "--weights", weights, "--run", name])
    last, best = (tmp_path / "runs" / name for name in ("last", "best"))
    assert (last / "net-01.steps.csv").read_text() == (best / "net-01.steps.csv").read_text()
    result, rows = json.loads((best / "net-01.json").read_text()), log_of(best)
    measured = float(rows[result["weights_epoch"] - 1]["val_accuracy"])
    assert result["validation_accuracy"] == pytest.approx(measured, abs=1e-6)
    assert float(log_of(last)[-1]["val_accuracy"]) < measured - 0.1  # of statistics that lag behind


def spectral():
    convolution = layers.SpectralNormalization(layers.Conv2D(4, 3))  # its training pass divides the kernel
    middle = [convolution, layers.BatchNormalization(), layers.MaxPooling2D(4), layers.Flatten()]
    return keras.Sequential([keras.Input((28, 28, 1)), *middle, layers.Dense(10, activation="softmax")])


def test_recalibration_changes_no_weight_of_any_layer(tmp_path, monkeypatch, no_pictures):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(building.ARCHITECTURES, "spectral", spectral)
    short = ["grenholm", "--model", "spectral", "--data", "digits", "--epochs", "2", "--set", "update_bn=2"]
    for weights in ("last", "best"):  # only "best" recomputes the statistics before each validation
        train.main([*short, "--set", "steps_per_epoch=3", "--weights", weights, "--run", weights])
    steps = [(tmp_path / "runs" / name / "net-01.steps.csv").read_text() for name in ("last", "best")]
    assert steps[0] == steps[1]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([("validation_split", 0)], "early_stopping is decided on a validation split"),
        ([("weights", "averaged"), ("update_bn", 5)], "leave out weights 'averaged'"),
        ([("weights", "last")], "leave out weights 'last'"),
        ([("early_stopping", -1)], "early_stopping must be a whole number of 0 or more"),
        ([("early_stopping", 2.5)], "early_stopping must be a whole number"),
    ],
    ids=str,
)
def test_what_cannot_go_with_it_is_refused(overrides, told):
    with pytest.raises(UserError, match=told):
        resolve("grenholm", [("early_stopping", 3), *overrides])
    assert resolve("grenholm", [("early_stopping", 3)])["weights"] == "best"
    assert resolve("grenholm")["weights"] == "last"
