"""The learning-rate finder: the training loss by a rising rate, and the rates that it suggests."""

import re
import shlex

import keras
import numpy as np
import pytest

from recognizer.commands import plot
from recognizer.config.overrides import configured
from recognizer.reports import charts
from recognizer.training import callbacks, lr_finder, plan


# known: a rate that trains well
@pytest.mark.parametrize(
    ("recipe", "known"), [("linear", 0.03), pytest.param("codeastar", 0.001, marks=pytest.mark.slow)]
)
def test_the_loss_falls_from_the_untrained_nets_and_rises_about_a_rate_that_trains_well(recipe, known):
    trainer = plan.for_rate_test(configured(recipe, []), 0, "digits")
    rates, losses = lr_finder.losses_by_rate(trainer)
    smoothed, found = lr_finder.smooth(losses), lr_finder.suggestions(rates, losses)
    assert known / 3 < found["start with"] < 3 * known
    assert found["start with"] < found["lowest"]
    assert smoothed.min() < 0.9 * smoothed[0]
    assert smoothed[-1] > smoothed[0]
    assert rates[0] == pytest.approx(1e-6)
    assert rates[-1] < 10  # it has stopped
    for tested in (trainer, plan.for_rate_test(configured(recipe, []), 0, "digits")):
        np.testing.assert_array_equal(lr_finder.losses_by_rate(tested), (rates, losses))
    trainer.begin(1)
    trainer.batches.set_epoch(0)
    callbacks.seed_dropout(trainer.model, 0, 1, 0)
    x, y = next(iter(trainer.batches.data))
    untrained = trainer.model.compute_loss(x, y, trainer.model(x, training=True))
    assert float(keras.ops.convert_to_numpy(untrained)) == pytest.approx(losses[0], rel=1e-5)


def test_the_first_net_of_an_ensemble_is_tested_as_its_member_has_it():
    changes = [("model", "linear"), ("augmentation.brightness_range", [0.5, 1.5])]
    trainer = plan.for_rate_test(configured("ensemble", changes), 3, "digits")
    expected = {"joint_flips": ["horizontal"], "batch_size": 128, "seed": 3, "augment_engine": "keras"}
    assert {key: trainer.settings[key] for key in expected} == expected
    assert trainer.batches.steps == lr_finder.SETTINGS["steps_per_epoch"]


@pytest.mark.parametrize(
    ("middle", "width", "diverges"),
    [
        (-3.5, 0.25, -0.5),  # batch normalization: the loss falls early, and stays low for long
        (-3.5, 0.25, -1.5),
        (-2, 0.4, -0.5),
        (-1.5, 0.1, -1),  # plain SGD: the loss falls shortly before it diverges
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", [None, 0, 1, 2])
@pytest.mark.parametrize("scale", [1, 10])
def test_the_suggestion_lies_between_the_middle_of_the_fall_and_the_lowest_loss(middle, width, diverges, seed, scale):
    rates = np.geomspace(1e-6, 10, 150)
    power = np.log10(rates)
    losses = 2.3 - 2 / (1 + np.exp(-(power - middle) / width)) + 3 / (1 + np.exp(-10 * (power - diverges)))
    losses = losses[: np.flatnonzero(power > diverges)[0] + 14]
    losses[-10:] = np.linspace(9, 1, 10)  # falls faster, but after the lowest loss
    losses += 0 if seed is None else np.random.default_rng(seed).normal(0, 0.05, len(losses))
    found = lr_finder.suggestions(rates, scale * losses)
    suggested, lowest = np.log10(found["start with"]), np.log10(found["lowest"])
    assert middle < suggested < lowest < diverges
    assert suggested == pytest.approx((middle + lowest) / 2, abs=0.15)


def test_a_loss_that_does_not_fall_gives_no_suggestion():
    rates = np.geomspace(1e-6, 1, 121)
    noise = np.random.default_rng(0).normal(0, 0.005, 121)
    for losses in (2.3 + noise, 2.3 + rates, np.full(121, 2.3)):
        assert lr_finder.suggestions(rates, losses) == {}
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
        ([*FLAT, 90.0], False, False),  # a spike
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
        line, compare = capsys.readouterr().out.splitlines()[-2:]
        found = re.fullmatch(
            rf"{out}: start with --learning-rate (0\.\d+); the loss is lowest at (0\.\d+); the recipe's peak is (0\.5)",
            line,
        )
        command, _, grid, *rest = shlex.split(compare.removeprefix("Compare: python -m recognizer sweep "))
        assert (command, grid) == ("ensemble", f"schedule.learning_rate={','.join(sorted(found.groups(), key=float))}")
        assert rest == ["--set", "model=linear", *options[4:], "--data", "digits"]
        drawn.append((tmp_path / out).read_bytes())
    assert drawn[0] == drawn[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_plot_lr_suggests_nothing_where_the_loss_does_not_fall(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lr_finder, "suggestions", lambda *_: {})
    plot.main(["lr", "--recipe", "linear", "--data", "digits"])
    told = capsys.readouterr().out.splitlines()[-1]
    assert told == "lr.png: no suggestion, since the loss does not fall; the recipe's peak is 0.01"


@pytest.mark.parametrize(
    "marked", [{"start with": 1e-3, "lowest": 0.1, "the recipe's peak": 0.01}, {"peak": 5.0}], ids=str
)
def test_the_legend_covers_nothing_that_is_drawn(marked):
    rates = np.geomspace(1e-6, 10, 150)
    losses = 2.3 - 2 / (1 + np.exp(-4 * (np.log10(rates) + 3.5)))
    figure = charts.losses_by_rate(rates, losses, lr_finder.smooth(losses), marked, "title")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    legends = [*figure.legends, *filter(None, [axes.get_legend()])]
    assert len(legends) == 1
    assert {text.get_text() for text in legends[0].get_texts()} >= {
        f"{name}: {rate:.2g}" for name, rate in marked.items()
    }
    assert not legends[0].get_window_extent().overlaps(axes.get_window_extent())
