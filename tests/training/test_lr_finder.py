"""The learning-rate finder: the training loss by a rising rate, and the rates that it suggests."""

import re

import keras
import numpy as np
import pytest

from recognizer.commands import plot
from recognizer.config.overrides import resolve
from recognizer.training import callbacks, lr_finder, plan


# known: a rate that trains well
@pytest.mark.parametrize(
    ("recipe", "known"), [("linear", 0.03), pytest.param("codeastar", 0.001, marks=pytest.mark.slow)]
)
def test_the_loss_falls_from_the_untrained_nets_and_rises_about_a_rate_that_trains_well(recipe, known):
    trainer = plan.for_rate_test(resolve(recipe), 0, "digits")
    rates, losses = lr_finder.losses_by_rate(trainer)
    smoothed, found = lr_finder.smooth(losses), lr_finder.suggestions(rates, losses)
    assert found["steepest"] < found["lowest"]
    assert known / 10 < found["steepest"] < 10 * known
    assert smoothed.min() < 0.9 * smoothed[0]
    assert smoothed[-1] > smoothed[0]
    assert rates[0] == pytest.approx(1e-6)
    assert rates[-1] < 10  # it has stopped
    for tested in (trainer, plan.for_rate_test(resolve(recipe), 0, "digits")):
        np.testing.assert_array_equal(lr_finder.losses_by_rate(tested), (rates, losses))
    trainer.begin(1)
    trainer.batches.set_epoch(0)
    callbacks.seed_dropout(trainer.model, 0, 1, 0)
    x, y = next(iter(trainer.batches.data))
    untrained = trainer.model.compute_loss(x, y, trainer.model(x, training=True))
    assert float(keras.ops.convert_to_numpy(untrained)) == pytest.approx(losses[0], rel=1e-5)


def test_the_first_net_of_an_ensemble_is_tested_as_its_member_has_it():
    changes = [("model", "linear"), ("augmentation.brightness_range", [0.5, 1.5])]
    trainer = plan.for_rate_test(resolve("ensemble", changes), 3, "digits")
    expected = {"joint_flips": ["horizontal"], "batch_size": 128, "seed": 3, "augment_engine": "keras"}
    assert {key: trainer.settings[key] for key in expected} == expected
    assert trainer.batches.steps == lr_finder.SETTINGS["steps_per_epoch"]


def test_the_suggestions_are_where_the_smoothed_loss_falls_fastest_and_where_it_is_lowest():
    rates = np.geomspace(1e-6, 1, 121)
    power = np.log10(rates)
    losses = 2.3 - 2 / (1 + np.exp(-4 * (power + 3.5))) + 3 / (1 + np.exp(-8 * (power + 0.5)))
    losses[-10:] = np.linspace(9, 1, 10)  # falls faster, but after the lowest loss
    noise = np.random.default_rng(0).normal(0, 0.05, 121)
    for values in (losses, losses + noise, 10 * losses):
        found = lr_finder.suggestions(rates, values)
        assert np.log10(found["steepest"]) == pytest.approx(-3.5, abs=0.15)
        assert -2.5 < np.log10(found["lowest"]) < -0.8
    assert lr_finder.suggestions(rates, 2.3 + noise / 10) == {}
    assert lr_finder.suggestions(rates, 2.3 + rates) == {}
    assert lr_finder.suggestions(rates[:1], losses[:1]) == {}


FLAT = [2.0] * 20


@pytest.mark.parametrize(
    ("losses", "skips", "diverged"),
    [
        ([2.0], False, False),
        ([np.nan], False, True),
        ([np.nan], True, False),  # float16's first scale is too large
        ([*FLAT, np.inf], False, True),
        ([*FLAT, np.nan], True, False),
        ([*FLAT, 9.0], False, False),  # a spike
        ([*FLAT, *[9.0] * 10], False, True),
        ([*FLAT, *[7.0] * 20], False, False),
        ([np.nan, *FLAT, *[9.0] * 10], True, True),
        ([-0.9] * 20 + [1.0] * 10, False, False),  # a cosine similarity's
    ],
)
def test_a_loss_has_diverged_once_it_is_not_finite_or_four_times_its_minimum(losses, skips, diverged):
    assert lr_finder.has_diverged(np.array(losses, np.float32), skips) == diverged


def test_plot_lr_says_the_rates_beside_the_recipes_own_and_makes_no_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    drawn = []
    for out in ("a.png", "b.png"):
        options = ["--recipe", "ensemble", "--model", "linear", "--set", "optimizer=sgd"]
        options += ["--set", 'members=[{"schedule.learning_rate": 0.5}, {}]']
        plot.main(["lr", *options, "--data", "digits", "--out", out])
        line = capsys.readouterr().out.splitlines()[-1]
        assert re.fullmatch(
            rf"{out}: steepest at 0\.\d+, lowest at 0\.\d+: choose a rate well below that of the lowest loss; "
            r".* peak is 0\.5",
            line,
        )
        drawn.append((tmp_path / out).read_bytes())
    assert drawn[0] == drawn[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
