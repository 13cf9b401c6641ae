"""The table of runs, the differences of two, and what a repetition changed."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import assert_one_line_error, copied, load, script, write_csv

from recognizer.base.errors import UserError
from recognizer.base.files import write_arrays
from recognizer.commands import runs
from recognizer.runs import compare, metrics, run_folder

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def three_runs(trained, tmp_path, monkeypatch):
    """runs/ with a finished run, the same with other predictions and settings, and one that is not finished."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c"):
        shutil.copytree(trained / "runs" / "bag", tmp_path / "runs" / name)
    (tmp_path / "runs" / "c" / "result.json").unlink()
    other = tmp_path / "runs" / "b"
    config = json.loads((other / "config.json").read_text())
    config["schedule"]["decay"] = 0.5
    config |= {"model": "residual", "model_config": {}}
    (other / "config.json").write_text(json.dumps(config))
    result = json.loads((other / "result.json").read_text())
    result["ensemble_validation"]["accuracy"] = 0.9
    (other / "result.json").write_text(json.dumps(result))
    return tmp_path / "runs"


def test_runs_are_listed_the_best_first_as_text_page_and_csv(three_runs, capsys):
    runs.main(["--html", "runs.html", "--csv", "runs.csv"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["b", "a", "c"]
    assert "90.00%" in lines[1]
    assert lines[1].split()[1:3] == ["deotte", "residual"]  # the recipe and the architecture
    assert "scikit-learn's digits" in lines[1]  # accuracies on other data are not to be compared
    low, high = metrics.interval(
        0.9, json.loads((three_runs / "b" / "result.json").read_text())["ensemble_validation"]["rows"]
    )
    assert f"{low:.2%}-{high:.2%}" in lines[1]
    assert "unfinished" in lines[3]
    with open("runs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["b", "a", "c"]
    assert [row["model"] for row in rows] == ["residual", "deotte", "deotte"]
    assert float(rows[0]["validation"]) == 0.9
    page = (three_runs.parent / "runs.html").read_text()
    assert page.index(">b<") < page.index(">a<") < page.index(">c<")
    assert ">residual<" in page
    assert 'src="' not in page
    runs.main(["--html", "runs.html", "--csv", "runs.csv"])  # over its own
    (three_runs.parent / "mine.csv").write_text("label,pixel0")
    with pytest.raises(UserError, match=r"mine\.csv exists and is not a table of runs"):
        runs.main(["--csv", "mine.csv"])


@pytest.mark.parametrize("columns", [60, 80, 100, 120, 140, 200])
def test_the_table_fits_the_terminal_and_names_what_it_leaves_out(columns, three_runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    runs.main([])
    whole = capsys.readouterr().out.splitlines()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    runs.main([])
    shown = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in shown[:4]) <= max(columns, 70)  # what is most important stays
    assert all(any(word in line for line in shown[:4]) for word in ("validation", "test", "90.00%", "(unfinished)"))
    absent = set(whole[0].split()) - set(shown[0].split()) - {"95", "%", "interval"}
    assert absent == {word for word in absent if word in shown[-1]}
    assert bool(absent) == shown[-1].startswith("left out") == (columns < len(whole[0]))


def test_the_csv_and_the_page_have_a_column_for_each_setting_in_which_the_runs_differ(three_runs, capsys):
    older = json.loads((three_runs / "c" / "config.json").read_text())
    for key in ("label_smoothing", "tensorboard", "deterministic"):  # newer than the run
        older.pop(key)
    older |= {"seed": 7, "augmentation": older["augmentation"] | {"erasing_range": [3, 9]}}
    (three_runs / "c" / "config.json").write_text(json.dumps(older))
    runs.main(["--html", "runs.html", "--csv", "runs.csv"])
    lines = capsys.readouterr().out.splitlines()
    assert "schedule.decay" not in lines[0]
    with open("runs.csv", newline="") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    added = [key for key in rows["a"] if key not in compare.COLUMNS]
    settings = ["model_config.dropout", "model_config.momentum", "augmentation.erasing_range", "schedule.decay", "seed"]
    assert added == settings  # in the order of schema.py
    assert [rows[run]["schedule.decay"] for run in "abc"] == ["0.95", "0.5", "0.95"]
    assert [rows[run]["model_config.dropout"] for run in "abc"] == ["0.4", "", "0.4"]
    assert [rows[run]["augmentation.erasing_range"] for run in "abc"] == ["", "", "[3, 9]"]
    assert [rows[run]["seed"] for run in "abc"] == ["0", "0", "7"]
    page = (three_runs.parent / "runs.html").read_text()
    assert 'class="number" onclick="sort(this)">schedule.decay<' in page
    assert 'class="" onclick="sort(this)">augmentation.erasing_range<' in page
    assert page.index(">[3, 9]<")
    shutil.rmtree(three_runs / "b")
    shutil.rmtree(three_runs / "c")
    runs.main(["--csv", "runs.csv"])  # nothing differs
    with open("runs.csv", newline="") as file:
        assert next(csv.reader(file)) == compare.COLUMNS


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_the_page_of_runs_is_sorted_by_a_click(three_runs):
    for name, seconds in (("a", 1000), ("b", 90), ("c", 200)):
        for path in (three_runs / name).glob("net-*.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": seconds / 2}))  # of two nets
    runs.main(["--html", "runs.html"])
    page = three_runs.parent / "runs.html"
    written = page.read_text()

    def by(column, clicks):
        head = f"[...document.querySelectorAll('th')].find(head => head.textContent === '{column}')"
        click = f"for (let i = 0; i < {clicks}; i++) {head}.click()"
        page.write_text(written.replace("</body>", f"<script>{click}</script></body>"))
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
        dom = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
        return sorted("abc", key=lambda run: dom.index(f">{run}<"))

    assert by("run", clicks=2) == ["a", "b", "c"]
    assert by("seconds", clicks=1) == ["a", "c", "b"]  # 1,000 seconds, 200, 90


def test_two_runs_are_compared_by_settings_and_digits_with_mcnemars_test(three_runs, digits, capsys, monkeypatch):
    arrays = load(three_runs / "b" / "predictions.npz")
    for key in ("test_01", "test_02"):
        arrays[key][:] = np.eye(10)[digits.test.y]  # b is right throughout
        arrays[key][3] = np.eye(10)[(digits.test.y[3] + 1) % 10]
    write_arrays(three_runs / "b" / "predictions.npz", arrays)
    first = load(three_runs / "a" / "predictions.npz")
    wrong = (first["test_01"] + first["test_02"]).argmax(1) != digits.test.y
    runs.main(["diff", "a", "b"])
    told = capsys.readouterr().out
    assert "schedule.decay: 0.95 | 0.5" in told
    gained, lost = wrong.sum() - wrong[3], 1 - wrong[3]
    from scipy.stats import binomtest

    p = binomtest(int(lost), int(lost + gained)).pvalue
    assert f"Test digits that both predict: 360; right: {1 - wrong.mean():.2%} | 99.72%; McNemar's p = {p:.2g}" in told
    assert f"only b is right: {gained}" in told
    assert "Validation digits that both predict" in told
    with pytest.raises(UserError, match="'c' is not finished"):
        runs.main(["diff", "a", "c"])
    monkeypatch.setattr(compare, "_predicted", lambda *_: {})
    runs.main(["diff", "a", "b"])
    assert "Digits: no labelled digit was predicted by both runs" in capsys.readouterr().out


def test_runs_with_different_test_sets_are_compared_on_validation_digits_alone(three_runs, digits, tmp_path, capsys):
    write_csv(tmp_path / "train.csv", digits.train.x, digits.train.y)
    config = json.loads((three_runs / "b" / "config.json").read_text())
    config["data"] |= {"source": str(tmp_path / "train.csv"), "test_fingerprint": None}
    (three_runs / "b" / "config.json").write_text(json.dumps(config))
    arrays = load(three_runs / "b" / "predictions.npz")
    kept = {key: array for key, array in arrays.items() if not key.startswith("test")}
    write_arrays(three_runs / "b" / "predictions.npz", kept)
    for pair in (("a", "b"), ("b", "a")):
        runs.main(["diff", *pair])
        told = capsys.readouterr().out
        assert "Test digits: the runs had different ones" in told
        assert "Validation digits that both predict" in told
        assert "Test digits that both predict" not in told


def test_a_run_whose_figures_are_none_is_left_out_of_the_table(three_runs, capsys):
    (three_runs / "b" / "result.json").write_text('{"ensemble_test": {"accuracy": "high"}}')
    runs.main([])
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines()] == ["run", "a", "c"]
    assert "runs/b is not a run that can be read" in told.err


def test_there_being_no_runs_is_one_line(tmp_path):
    assert_one_line_error(script("runs", cwd=tmp_path), "there are no runs in runs/")


def test_a_damaged_run_is_left_out_of_the_table_and_told_of(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder, name in zip(copied(trained, tmp_path, "a", "b", "c"), ("config", "result", "net-01"), strict=True):
        (folder / f"{name}.json").write_text('{"ensemble_validation": 3}')
    copied(trained, tmp_path, "bag")
    runs.main([])
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines()] == ["run", "bag"]
    assert told.err.count("skipped") == 3
    assert len(told.err.splitlines()) == 3
    assert run_folder.newest(finished=True).name != "a"  # whose settings are lost
    assert capsys.readouterr().err.count("skipped") == 1


def test_a_run_whose_sweep_is_no_name_is_skipped(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    copied(trained, tmp_path, "bag")
    (damaged,) = copied(trained, tmp_path, "damaged")
    config = json.loads((damaged / "config.json").read_text())
    (damaged / "config.json").write_text(json.dumps(config | {"sweep": [1]}))
    runs.main([])
    told = capsys.readouterr()
    assert "sweep must be a string" in told.err
    assert [line.split()[0] for line in told.out.splitlines()] == ["run", "bag"]


def test_what_is_different_between_two_runs_is_said(trained, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(trained / "runs" / "bag", other)
    config = json.loads((other / "config.json").read_text())
    config["versions"]["numpy"] = "1.0"
    (other / "config.json").write_text(json.dumps(config))
    arrays = load(other / "predictions.npz")
    arrays["test_02"][0, 0] += 0.25
    write_arrays(other / "predictions.npz", arrays)
    told = compare.repeated(trained / "runs" / "bag", other)
    assert told[0] == f"Different from bag: numpy {np.__version__} then, 1.0 now"
    assert "Net 1: weights and predictions identical" in told[1]
    assert "Net 2: weights or predictions are different, at most 0.25 in the test set's probabilities" in told[2]
