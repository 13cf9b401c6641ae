"""Sweeps: which trials are made, that none is lost or made twice, what is refused, what tables and pictures say."""

import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, assert_one_line_error, script

import recipes
from recognizer.base import environment
from recognizer.base.errors import UserError
from recognizer.commands import runs
from recognizer.commands import sweep as command
from recognizer.config import overrides, sweep_settings
from recognizer.parallel import processes, sweeps
from recognizer.reports import sweep_charts, sweep_report
from recognizer.runs import run_folder

LINEAR = ["linear", "--data", "digits", "--validation-split", "0.1", "--set", "steps_per_epoch=3"]
GRID = ["--epochs", "2", "--grid", "learning_rate=0.01,0.1", "--seeds", "2", "--sweep", "some"]
optuna = pytest.mark.skipif(not environment.installed("optuna"), reason="needs optuna: requirements/cluster.txt")


class Pipe:
    """A worker's end of a pipe, for a task that is done in the test's own process."""

    def __init__(self, item, update, answer):
        self.item, self.update, self.answer, self.inbox, self.result = item, update, answer, [item], None

    def recv(self):
        return self.inbox.pop(0) if self.inbox else None

    def send(self, message):
        kind, value = message
        if kind == "progress":
            self.update(self.item, value)
        elif kind == "question":
            self.inbox.append(self.answer(self.item, value))
        else:
            self.result = value


@pytest.fixture
def here(alone, monkeypatch):
    """Trials are trained in this process, one after another."""

    def each(task, take, jobs, arguments, update, named, answer, fresh, lost):
        while (item := take(None)) is not None:
            pipe = Pipe(item, update, answer)
            task(pipe, *arguments)
            yield item, pipe.result

    monkeypatch.setattr(processes, "each", each)


def table(name="some"):
    """The rows of a sweep's table but for the times."""
    with open(Path("sweeps") / name / "trials.csv", newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def test_each_trial_of_a_grid_is_a_run_with_its_settings(here, capsys):
    command.main([*LINEAR, *GRID])
    rows = table()
    names = [f"some-{i:03d}" for i in (1, 2, 3, 4)]
    assert [(row["run"], row["learning_rate"], row["seed"]) for row in rows] == list(
        zip(names, ["0.01", "0.1"] * 2, ["0", "0", "1", "1"], strict=True)
    )
    for row in rows:
        folder = Path("runs") / row["run"]
        config = run_folder.read_config(folder)
        assert config["sweep"] == "some"
        assert config["schedule"]["learning_rate"] == float(row["learning_rate"])
        assert (config["seed"], config["epochs"], config["validation_split"]) == (int(row["seed"]), 2, 0.1)
        result = json.loads((folder / "result.json").read_text())
        assert float(row["validation_accuracy"]) == result["ensemble_validation"]["accuracy"]
        assert row["state"] == "done"
    out = capsys.readouterr().out
    assert len(re.findall(r"^Trial \d/4:  some-00\d  learning_rate 0.\d+, seed \d:  validation", out, re.M)) == 4
    assert len(re.findall(r"about .* left$", out, re.M)) == 3
    assert "0.1" in re.search(r"^Best:.*", out, re.M)[0]
    assert {path.name for path in Path("sweeps/some").iterdir()} == {
        *("sweep.json", "trials.json", "trials.csv", "table.html", "line.png", ".lock")
    }
    runs.main([])  # lists no trials
    assert capsys.readouterr().out == "and 4 trials of sweep 'some': --sweep some lists them\n"
    runs.main(["--sweep", "some", "--csv", "trials.csv"])
    assert capsys.readouterr().out.count("some-00") == 4
    assert len(Path("trials.csv").read_text().splitlines()) == 5
    with pytest.raises(UserError, match="no sweep 'sone'; did you mean 'some'"):
        runs.main(["--sweep", "sone"])


def test_a_trial_that_diverges_is_named_and_the_others_go_on(here, capsys):
    net = ["codeastar", *LINEAR[1:], "--set", "optimizer=sgd", "--epochs", "1"]
    command.main([*net, "--grid", "learning_rate=0.01,1e29", "--sweep", "some"])
    assert [row["state"] for row in table()] == ["done", "failed"]
    assert "failed: net 1 of run 'some-002': the loss became" in capsys.readouterr().out
    command.main(["--sweep", "some", "--resume"])  # tries it again
    assert "1 of 2 trials to train" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"trials of sweeps are unfinished: python -m recognizer sweep --resume"):
        run_folder.newest(finished=False)
    with pytest.raises(UserError, match=r"no unfinished sweep"):
        command.main(["--resume"])
    with pytest.raises(UserError, match=r"no trial of sweeps.all could be trained: net 1 of run 'all-001'"):
        command.main([*net, "--grid", "learning_rate=1e29", "--sweep", "all"])


def test_what_is_left_of_a_sweep_is_trained_by_resume(here, monkeypatch):
    end = sweeps._end

    def stop(sweep, trial, *ended):
        if trial.run == "some-003":
            raise KeyboardInterrupt
        end(sweep, trial, *ended)

    monkeypatch.setattr(sweeps, "_end", stop)
    with pytest.raises(KeyboardInterrupt):
        command.main([*LINEAR, *GRID])
    assert [row["state"] for row in table()] == ["done", "done", "unfinished", "unfinished"]
    made = {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/net-01.json")}
    assert len(made) == 3  # the third was trained, but its end was not recorded
    monkeypatch.setattr(sweeps, "_end", end)
    command.main(["--resume"])
    assert [row["state"] for row in table()] == ["done"] * 4
    assert all(path.stat().st_mtime_ns == then for path, then in made.items())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sweep.json", "{"),
        ("sweep.json", "[]"),
        ("sweep.json", "{}"),
        ("trials.json", '[{"run": 1}]'),
        ("trials.json", "7"),
    ],
)
def test_a_damaged_sweep_is_refused_in_a_line_and_skipped_without_a_name(name, content, alone, capsys):
    asked = sweep_settings.asked(command.parser().parse_args(["linear", "--seeds", "2"]))
    asked |= {"sweep": "some", "jobs": 1, "created": "2026", "command": [], "data": {"source": "digits"}}
    Path("sweeps/some").mkdir(parents=True)
    for path, value in (("sweep.json", json.dumps(asked)), ("trials.json", "[]"), (name, content)):
        (Path("sweeps/some") / path).write_text(value)
    with pytest.raises(UserError, match=r"^sweeps.some.*(cannot be read|not a sweep that can be read)"):
        command.main(["--resume", "--sweep", "some"])
    with pytest.raises(UserError, match="no unfinished sweep"):
        command.main(["--resume"])
    assert re.fullmatch(r"sweeps.some.*: skipped\n", capsys.readouterr().err)


@pytest.mark.slow
@optuna
def test_a_search_prunes_what_falls_behind_and_marks_it(here, capsys, monkeypatch):
    from recognizer.parallel import search

    behind = {"some-003", "some-005"}

    def continues(self, trial, epoch, accuracy):
        self.told = [*getattr(self, "told", []), (trial.number, epoch)]
        return f"some-{trial.number + 1:03d}" not in behind or epoch < 2

    monkeypatch.setattr(search.Search, "continues", continues)
    ranges = ["--range", "learning_rate=0.001..1:log", "--range", "batch_size=16..64", "--grid", "optimizer=sgd,adam"]
    command.main([*LINEAR, *ranges, "--trials", "6", "--epochs", "3", "--sweep", "some"])
    rows = table()
    assert {row["run"] for row in rows if row["state"] == "pruned"} == behind
    assert {row["note"] for row in rows if row["state"] == "pruned"} == {"after epoch 2"}
    for row in rows:
        config = run_folder.read_config(Path("runs") / row["run"])
        assert config["schedule"]["learning_rate"] == float(row["learning_rate"])
        assert 0.001 <= config["schedule"]["learning_rate"] <= 1
        assert (config["batch_size"], config["optimizer"]) == (
            int(row["batch_size"]),
            row["optimizer"].capitalize(),
        ) or (config["optimizer"].lower() == row["optimizer"])
        assert 16 <= config["batch_size"] <= 64
    pruned = json.loads(Path("runs/some-003/pruned.json").read_text())
    assert pruned == {"epoch": 2, "val_accuracy": pytest.approx(float(rows[2]["validation_accuracy"]))}
    assert not run_folder.is_finished(Path("runs/some-003"))
    out = capsys.readouterr().out
    assert out.count("pruned: after epoch 2") == 2
    assert "4 done, 2 pruned" in out
    assert Path("sweeps/some/parallel.png").is_file()
    runs.main(["--sweep", "some"])
    assert capsys.readouterr().out.count(" (pruned)") == 2


@optuna
def test_a_pruner_ends_a_trial_that_is_below_the_median():
    from recognizer.parallel.search import Search

    asked = {"grids": [[]], "ranges": [{"key": "a", "low": 0.0, "high": 1.0, "log": False}], "seed": 0}
    before = [({"a": 0.1 * i}, "done", 0.9, {1: 0.8, 2: 0.9}) for i in range(6)]
    search = Search(asked, before, 6)
    trial, _ = search.propose()
    assert not search.continues(trial, 1, 0.5)
    search.tell(trial, "pruned", 0.5)
    trial = search.again({"a": 0.25}, {1: 0.85})
    assert trial.params == {"a": 0.25}
    assert search.continues(trial, 2, 0.95)
    drawn = {Search(asked, [], n).propose()[1]["a"] for n in range(5)}
    assert len(drawn) == 5  # a resumed search does not draw the same again


REFUSED = {
    "nothing varies": ([], "--grid KEY=V1,V2"),
    "no such recipe": (["liner"], "did you mean 'linear'"),
    "no such study": (["deotte-architecure", "--seeds", "2"], "did you mean 'deotte-architecture'"),
    "no such setting": (["--grid", "batchsize=1,2"], "did you mean 'batch_size'"),
    "no such part": (["--grid", "schedule.decy=1,2"], "decy"),
    "no such argument": (["--grid", "model_config.drop=1,2", "--set", "model=deotte"], "takes no argument 'drop'"),
    "not a value": (["--grid", "epochs=1,two"], "epochs must be"),
    "the last cell only": (["--grid", "epochs=1,2", "--grid", "batch_size=16,0"], "batch_size must be"),
    "not buildable": (["--grid", "model_config.dropout=0.1,7", "--set", "model=deotte"], "cannot be built"),
    "not an augmentation": (["--grid", "augmentation.rotation_range=0,true"], "rotation_range"),
    "no values": (["--grid", "epochs"], "--grid takes KEY=V1,V2"),
    "empty values": (["--grid", "epochs="], "--grid takes KEY=V1,V2"),
    "a value twice": (["--grid", "epochs=1,2,1"], "twice"),
    "a key twice": (["--grid", "epochs=1,2", "--epochs", "3"], "epochs is given twice"),
    "two grids of a key": (["--grid", "epochs=1,2", "--grid", "epochs=3,4"], "epochs is given twice"),
    "a range as a grid": (
        ["--grid", "batch_size=64..128"],
        "for a range write --range batch_size=64..128 and --trials",
    ),
    "a rate and its full name": (
        ["--grid", "learning_rate=.1,.2", "--set", "schedule.learning_rate=.1"],
        "schedule.learning_rate is given twice",
    ),
    "grid and range": (["--grid", "epochs=1,2", "--range", "epochs=1..2", "--trials", "2"], "epochs is given twice"),
    "seed as a setting": (["--grid", "seed=1,2"], "--seeds"),
    "no seeds": (["--seeds", "0"], "--seeds must be"),
    "a wrong seed": (["--seeds", "2", "--seed", "-1"], "--seed must be"),
    "no trials": (["--range", "epochs=1..3"], "--trials"),
    "trials only": (["--trials", "3", "--seeds", "2"], "--range"),
    "no such range": (["--range", "epochs=1-3", "--trials", "2"], "LOW..HIGH"),
    "range backwards": (["--range", "epochs=3..1", "--trials", "2"], "larger"),
    "range of words": (["--range", "optimizer=adam..sgd", "--trials", "2"], "number"),
    "logarithm of zero": (["--range", "learning_rate=0..1:log", "--trials", "2"], "above 0"),
    "a range with no such scale": (["--range", "epochs=1..3:lin", "--trials", "2"], "only :log or a step"),
    "a range with no step": (["--range", "epochs=1..3:0", "--trials", "2"], "only :log or a step"),
    "a range that its steps miss": (["--range", "batch_size=32..100:32", "--trials", "2"], "not to 100"),
    "end of a range": (["--range", "batch_size=0..10", "--trials", "2"], "batch_size must be"),
    "seeds in a search": (
        ["--range", "epochs=1..3", "--trials", "2", "--seeds", "3"],
        "--seeds does not go with --range",
    ),
    "no validation rows": (["--seeds", "2", "--validation-split", "0"], "--validation-split"),
    "some without": (["--grid", "validation_split=0,0.1"], "--validation-split"),
    "a study's grid": (["deotte-100", "--grid", "epochs=1,2"], "leave out --grid"),
    "scale of a recipe": (["--seeds", "2", "--scale", "0.1"], "--scale"),
    "scale above 1": (["deotte-100", "--scale", "2"], "--scale must be"),
    "a wrong name": (["--seeds", "2", "--sweep", "a/b"], "not a name"),
    "no such data": (["--seeds", "2", "--data", "nowhere"], "nowhere"),
    "no sweep": (["--resume", "--sweep", "none"], "no sweep 'none'"),
    "resume and more": (["--resume", "--seeds", "2"], "leave out seeds"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_trained(name, alone):
    arguments, told = REFUSED[name]
    data = [] if "--data" in arguments or "--resume" in arguments else ["--data", "digits"]
    recipe = ["linear"] if arguments[:1] and arguments[0].startswith("--") and "--resume" not in arguments else []
    split = ["--validation-split", "0.1"] if recipe and not any("validation" in text for text in arguments) else []
    if "range" in name and not environment.installed("optuna"):
        pytest.skip("needs optuna: requirements/cluster.txt")
    with pytest.raises(UserError, match=re.escape(told)) as error:
        command.main([*recipe, *arguments, *data, *split])
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)
    assert not Path("runs").exists()
    assert not Path("sweeps").exists()


def test_a_study_needs_a_labelled_test_set(alone, kaggle_folder):
    with pytest.raises(UserError, match=r"deotte-100.*--data mnist"):
        command.main(["deotte-100", "--data", str(kaggle_folder)])


@pytest.mark.parametrize("jobs", ["0", "-1", "two"])
def test_a_number_of_jobs_that_cannot_be_is_refused(jobs, tmp_path):
    assert_one_line_error(script("sweep", "--seeds", 2, "--jobs", jobs, cwd=tmp_path), "--jobs", "auto")


def test_without_optuna_a_search_says_how_to_get_it(alone, monkeypatch):
    monkeypatch.setattr(environment, "installed", lambda package: package != "optuna")
    with pytest.raises(UserError, match=r"optuna is not installed: .*requirements/cluster.txt"):
        command.main([*LINEAR, "--range", "epochs=1..3", "--trials", "2"])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("epochs=1,2", [1, 2]),
        ("augmentation.erasing_range=[3,9],[2,4]", [[3, 9], [2, 4]]),
        ("schedule.learning_rates=[[1,.1],[2,.01]],[[3,.1]]", [[[1, 0.1], [2, 0.01]], [[3, 0.1]]]),
        ("optimizer=adam,sgd", ["adam", "sgd"]),
        ("class_weight=null,balanced", [None, "balanced"]),
    ],
)
def test_values_of_a_grid_are_read_as_those_of_set(text, values):
    assert sweep_settings._axis(text)["values"] == values


@pytest.mark.parametrize("scale", [1, 0.3, 0.01])
@pytest.mark.parametrize("name", recipes.STUDIES)
def test_studies_are_of_valid_settings_at_any_scale(name, scale):
    arguments = command.parser().parse_args([name, "--scale", str(scale)])
    asked = sweep_settings.asked(arguments)
    points = list(sweep_settings.points(asked))
    study = recipes.STUDIES[name]
    largest = {"deotte-augmentation": 21, "deotte-100": 1, "deotte-architecture": 3 + 6 + 8 + 8 + 5}[name]
    assert len({(grid, json.dumps(point)) for grid, point, _, _ in points}) <= largest
    if scale == 1:
        assert len(points) == largest * study["seeds"]
        assert not asked["note"]
    else:
        assert f"scale {scale:g}" in asked["note"]
        assert len(points) < largest * study["seeds"]
    for settings in sweep_settings.samples(asked):
        config = sweep_settings.config(asked, settings, 0)
        assert config["epochs"] >= 1
        assert config["nets"] == (15 if name == "deotte-100" else 1)


def cell_trials():
    """Trials of two axes with three runs of each cell, one of which is missing."""
    trials = []
    for seed in range(3):
        for i, point in enumerate([{"a": a, "b": b} for a in (1, 2) for b in ("x", "y")]):
            trial = sweeps.Trial(
                f"t-{len(trials)}", 0, point, {}, seed, "done", 0.9 + 0.02 * i + 0.001 * seed, 0.1, 1.0
            )
            trials.append(trial)
    trials[-1].state = "failed"
    return trials


ASKED = {
    "grids": [
        [
            {"name": "a", "values": [1, 2], "settings": [{"a": 1}, {"a": 2}]},
            {"name": "b", "values": ["x", "y"], "settings": [{"b": "x"}, {"b": "y"}]},
        ]
    ],
    "ranges": [],
    "settings": [["epochs", 2]],
    "own": [],
    "biased": False,
    "score": "validation",
    "note": "",
    "recipe": "linear",
    "study": None,
    "seeds": 3,
    "data": {"origin": "digits"},
}


def test_the_cells_of_the_heat_map_are_means_with_standard_errors_and_n():
    ((name, figure),) = sweep_report.pictures("some", ASKED, cell_trials())
    assert name == "heat-map"
    shown = {text.get_text() for text in figure.axes[0].texts}
    expected = {
        f"{np.mean(own):.2%}\n± {np.std(own, ddof=1) / len(own) ** 0.5:.2%}\nn {len(own)}"
        for i in range(4)
        for own in [[0.9 + 0.02 * i + 0.001 * seed for seed in range(3 - (i == 3))]]
    }
    assert shown == expected


def bars(axes):
    """The lengths of a chart's visible error bars."""
    (lines,) = axes.collections
    lengths = [np.ptp(segment[:, 1]) for segment in lines.get_segments() if len(segment)]
    return [length for length in lengths if np.isfinite(length)]


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ([1, 1, 1], "one run each: no error bars"),
        ([1, 3, 2], "mean ± standard error, n 1 to 3; grey: each run; no error bar: one run"),
        ([3, 3, 3], "mean ± standard error, n 3; grey: each run"),
        ([0, 3, 0], "mean ± standard error, n 3; grey: each run"),
    ],
    ids=str,
)
@pytest.mark.parametrize("values", [[0.1, 0.2, 0.4], ["x", "y", "z"]], ids=str)
def test_a_value_with_one_run_has_no_error_bar(values, runs, told):
    cells = {(i,): sweep_report.Cell([0.9 + 0.01 * seed for seed in range(n)]) for i, n in enumerate(runs)}
    (axes,) = sweep_charts.line(cells, {"name": "a", "values": values}, "some", "validation").axes
    assert bars(axes) == pytest.approx([2 * cell.error for cell in cells.values() if cell.n > 1])
    assert axes.get_title() == f"some\n{told}"


def test_the_table_says_which_differences_are_seen(tmp_path):
    trials = cell_trials()
    sweep_report.write(tmp_path, ASKED, trials)
    page = (tmp_path / "table.html").read_text()
    assert page.count("below the best (") == 3
    assert page.count("best mean") == 1
    for trial in trials:
        trial.accuracy = 0.9 + 0.01 * trial.seed + (0.001 if trial.point["b"] == "y" else 0)
    sweep_report.write(tmp_path, ASKED, trials)
    assert (tmp_path / "table.html").read_text().count("difference from the best not seen") == 3
    assert any("3 of 3 other settings may be as good" in line for line in sweep_report.summary(ASKED, trials))


def killed(folder, arguments, environment, after):
    """Starts a sweep, kills its process once `after` files of finished nets exist; returns False if it ended before."""
    process = subprocess.Popen(
        [sys.executable, "-m", "recognizer", "sweep", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    end = time.monotonic() + 300
    while len(list(folder.glob("runs/*/net-01.csv"))) < after and time.monotonic() < end:
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    process.kill()
    process.wait()
    time.sleep(1)  # its processes end with it
    return True


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param("grid", marks=pytest.mark.by_hand), pytest.param("search", marks=optuna)]
)
def test_a_sweep_that_is_killed_three_times_loses_no_trial_and_trains_none_twice(kind, tmp_path, monkeypatch):
    variables = os.environ | {"PYTHONPATH": str(ROOT), "TF_NUM_INTRAOP_THREADS": "1"}
    search = ["--range", "learning_rate=0.001..1:log", "--trials", "6", "--epochs", "3"]
    what = [*LINEAR, *(GRID[:-2] if kind == "grid" else search), "--jobs", "2", "--sweep", "some"]
    if kind == "grid":
        whole = tmp_path / "whole"
        whole.mkdir()
        assert script("sweep", *what, cwd=whole, TF_NUM_INTRAOP_THREADS="1").returncode == 0
    broken = tmp_path / "broken"
    broken.mkdir()
    finished = {}
    for after, arguments in ((1, what), (2, ["--resume"]), (3, ["--sweep", "some", "--resume"])):
        assert killed(broken, arguments, variables, after)
        for path in broken.glob("runs/*/net-01.json"):
            finished.setdefault(path, path.stat().st_mtime_ns)
    process = script("sweep", "--resume", cwd=broken, TF_NUM_INTRAOP_THREADS="1")
    assert process.returncode == 0, process.stderr
    monkeypatch.chdir(broken)
    rows = table()
    assert [row["run"] for row in rows] == [f"some-{i:03d}" for i in range(1, len(rows) + 1)]
    assert {path.name for path in Path("runs").glob("[!.]*")} == {row["run"] for row in rows}
    assert all(path.stat().st_mtime_ns == then for path, then in finished.items())
    if kind == "grid":
        monkeypatch.chdir(whole)
        assert rows == table()
    else:
        assert len(rows) == 6
        assert len({row["learning_rate"] for row in rows}) == 6
        assert {row["state"] for row in rows} <= {"done", "pruned"}


def asked_for(*arguments):
    """What the command line asks for, with what a sweep adds when it starts."""
    asked = json.loads(json.dumps(sweep_settings.asked(command.parser().parse_args(list(arguments)))))
    return asked | {"sweep": "some", "threads": 1, "late": False, "biased": False, "data": {"origin": "here"}}


def test_recipes_that_a_sweep_begins_with_are_the_same_as_train_pys():
    config = sweep_settings.config(asked_for("deotte", "--epochs", "3", "--grid", "nets=2"), {"nets": 2}, 7)
    assert config.items() >= overrides.resolve("deotte", [("epochs", 3), ("nets", 2)]).items()
    assert (config["seed"], config["precision"]) == (7, "auto")


def test_a_recipe_that_is_edited_later_does_not_change_a_sweep(monkeypatch):
    asked = asked_for("grenholm", "--grid", "batch_size=16,32")
    before = sweep_settings.config(asked, {"batch_size": 32}, 0)
    monkeypatch.setitem(recipes.RECIPES, "grenholm", {"model": "linear"})
    assert sweep_settings.config(asked, {"batch_size": 32}, 0) == before


def test_an_architecture_that_is_edited_later_is_named_and_its_trials_fail(here, monkeypatch, capsys):
    import keras

    import models

    def train_after_edit(sweep, train=sweeps.train):
        monkeypatch.setattr(models, "classes", lambda: keras.layers.Dense(10, "softmax", use_bias=False))
        yield from train(sweep)

    monkeypatch.setattr(sweeps, "train", train_after_edit)
    with pytest.raises(UserError, match="architecture 'linear' was edited since the sweep was started"):
        command.main([*LINEAR, "--seeds", "2", "--epochs", "1", "--sweep", "some"])
    monkeypatch.undo()


def test_whatever_goes_wrong_in_a_trial_the_others_are_trained(here, monkeypatch):
    from recognizer.training import plan

    def prepared(config, source, digits, prepared=plan.prepared):
        if config["seed"] == 1:
            raise ZeroDivisionError("an error of a library")
        return prepared(config, source, digits)

    monkeypatch.setattr(plan, "prepared", prepared)
    command.main([*LINEAR, "--seeds", "3", "--epochs", "1", "--sweep", "some"])
    assert [row["state"] for row in table()] == ["done", "failed", "done"]
    assert "an error of a library" in table()[1]["note"]


@pytest.mark.parametrize("study", sorted(recipes.STUDIES))
def test_the_users_settings_hold_in_each_trial_of_a_study_and_its_note_is_true(study):
    own = {"epochs": 2, "validation_split": 0.25, "batch_size": 40, "precision": "float32"}
    options = ["--epochs", "2", "--validation-split", ".25", "--set", "batch_size=40", "--precision", "float32"]
    asked = asked_for(study, "--scale", "0.1", *options)
    for settings in sweep_settings.samples(asked):
        assert sweep_settings.config(asked, settings, 0).items() >= own.items()
    assert re.search(r", 2 of \d+( to \d+)? epochs$", asked["note"])
    asked = asked_for(study, "--scale", "0.2")
    epochs = {sweep_settings.config(asked, settings, 0)["epochs"] for settings in sweep_settings.samples(asked)}
    told = re.search(r", (\d+)(?: to (\d+))? of [\d to]+ epochs", asked["note"])
    assert (min(epochs), max(epochs)) == (int(told[1]), int(told[2] or told[1]))


def test_settings_between_the_ends_of_a_range_are_tried_too(here):
    if not environment.installed("optuna"):
        pytest.skip("needs optuna: requirements/cluster.txt")
    with pytest.raises(UserError, match="replicas"):
        command.main(["single", "--data", "digits", "--range", "batch_size=64..256", "--trials", "4"])
    assert not list(Path("runs").glob("*"))
    assert not list(Path("sweeps").glob("*"))


@optuna
def test_a_search_takes_steps_within_a_range(here):
    steps = ["--range", "batch_size=64..192:64", "--range", "learning_rate=0.01..0.05:0.02"]
    command.main([*LINEAR, *steps, "--trials", "4", "--epochs", "1", "--sweep", "some"])
    rows = table()
    assert len(rows) == 4
    assert {row["batch_size"] for row in rows} <= {"64", "128", "192"}
    assert {round(float(row["learning_rate"]), 9) for row in rows} <= {0.01, 0.03, 0.05}


def test_a_folder_that_is_no_sweep_is_named(alone):
    Path("sweeps/some").mkdir(parents=True)
    with pytest.raises(UserError, match=r"sweeps.some exists and is not a sweep"):
        command.main([*LINEAR, *GRID])


@pytest.mark.parametrize(("scores", "seen"), [([0.9, 0.9], False), ([0.8, 0.8], False), ([0.7, 0.71], True)], ids=str)
def test_equal_runs_are_no_evidence_of_a_difference(scores, seen):
    best = sweep_report.Cell([0.9, 0.9])
    assert ("below the best" in sweep_report.compared(sweep_report.Cell(scores), best)) == seen
