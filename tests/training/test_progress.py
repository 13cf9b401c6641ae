"""What a user sees while nets train: the time left, and what is predicted after the last epoch."""

import re
import types

import pytest

from recognizer.parallel import overview
from recognizer.training import progress

STEPS, EPOCHS = 40, 10  # 4 steps a call, a second each; a validation after the first epoch takes 2 seconds


class Clock:
    """time.perf_counter for a test, which says when time passes."""

    def __init__(self, monkeypatch, *modules):
        self.now = 100.0
        for module in modules:
            monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)


def train(shown, clock, first_call, last_call, validation, epochs=EPOCHS):
    """Calls the methods of a Progress as keras.Model.fit does; the arguments are extra seconds of the first epoch."""
    logs = {"loss": 1.0, "accuracy": 0.5, "val_accuracy": 0.6}
    shown.set_model(types.SimpleNamespace(stop_training=False))
    shown.set_params({"epochs": EPOCHS})
    shown.on_train_begin()
    for epoch in range(epochs):
        shown.on_epoch_begin(epoch)
        for done in range(4, STEPS + 1, 4):
            clock.now += 4 + (epoch == 0) * (first_call * (done == 4) + last_call * (done == STEPS))
            shown.on_train_batch_end(done - 1, logs)
        clock.now += 2 + validation * (epoch == 0)
        shown.on_epoch_end(epoch, logs)


def seconds(out):
    """The seconds left that each line shows."""
    found = re.findall(r"(?:(\d+) min )?(\d+) s (?:of training )?left", out)
    return [60 * int(minutes or 0) + int(rest) for minutes, rest in found]


@pytest.mark.parametrize(
    ("first_call", "last_call", "validation"), [(0, 0, 0), (30, 0, 0), (0, 0, 40), (0, 60, 0), (30, 60, 40)], ids=str
)
@pytest.mark.parametrize("where", ["one", "bar", "jobs"])
def test_the_time_left_does_not_count_what_is_compiled_in_the_first_epoch(
    where, first_call, last_call, validation, monkeypatch, capsys
):
    clock, told = Clock(monkeypatch, progress, overview), []
    arguments = 1, 1, STEPS, types.SimpleNamespace(rate=0.1)
    if where == "jobs":
        overall = overview.Overview(1, 2)
        shown = progress.Reports(lambda sent: overall.update(1, sent), *arguments, 2, {"early_stopping": None})
    else:
        bar = types.SimpleNamespace(update=lambda *_, told, **__: told and print(told), stop=lambda: None)
        monkeypatch.setattr(progress, "bar", lambda total: (bar, 0))
        shown = progress.Progress(*arguments, 1 if where == "bar" else 2, {"early_stopping": None})
    train(shown, clock, first_call, last_call, validation)
    told = seconds(capsys.readouterr().out)
    assert len(told) == {"one": EPOCHS - 1, "bar": EPOCHS * STEPS // 4 - 2, "jobs": EPOCHS - 1}[where]
    for i, left in enumerate(told, 1):
        if where == "bar":
            calls = i + 1
            if calls * 4 == STEPS:
                continue  # shown for the moment before the first epoch's validation
            expected = EPOCHS * STEPS - 4 * calls
        else:
            expected = (EPOCHS - i) * STEPS
        assert expected * 0.99 - 1 <= left <= expected * 1.06 + 1


def predicting(out):
    return [line.strip() for line in out.splitlines() if "predicting" in line]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "predicting 360 test images"),
        (["--validation-split", "0.1"], "predicting 144 validation and 360 test images"),
        (["--set", "test_shift=1"], "predicting 360 test images, each with 4 shifts"),
        (["--set", "score_augmented=true"], "predicting 360 test and 360 augmented test images"),
        (["--nets", "2"], "net 1/2  predicting 360 test images"),
        (["--verbose", "1"], "predicting 360 test images"),
        (["--verbose", "0"], None),
    ],
    ids=str,
)
def test_a_line_after_the_last_epoch_says_what_is_predicted(options, expected, alone, no_pictures, capsys):
    import train

    train.main(["linear", "--epochs", "1", "--data", "digits", "--run", "r", *options])
    out = capsys.readouterr().out
    assert predicting(out)[:1] == ([expected] if expected else [])
    assert "Net 1/" in out.partition("predicting")[2] or not expected


def test_no_line_if_nothing_is_predicted_and_unlabelled_rows_are_counted(alone, kaggle_folder, no_pictures, capsys):
    import train

    for path, expected in (("train.csv", []), ("", ["predicting 10 test images"])):
        train.main(["linear", "--epochs", "1", "--data", str(kaggle_folder / path)])
        assert predicting(capsys.readouterr().out) == expected
