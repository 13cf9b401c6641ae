"""The predictions that training stored are used if they are those of the saved nets, and averaged over all nets."""

import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, TINY, copied, load, read_submission, write_csv
from PIL import Image

import predict
import train
from recognizer.base.errors import UserError
from recognizer.base.files import write_arrays
from recognizer.commands import runs
from recognizer.data.arrays import Digits, Images
from recognizer.runs import gathered, metrics, run_folder
from recognizer.runs.predictions import read_test_predictions
from recognizer.training import predicting

FINISHED = """
import sys; sys.path.insert(0, sys.argv[1])
import predict
predict.main(sys.argv[2:])
assert not {"keras", "tensorflow", "jax"} & set(sys.modules), "imported"
"""


def predicted(folder, name="bag", **environment):
    """Predicts a run's own test set in a process of its own; returns its submission's, table's and picture's bytes."""
    command = [sys.executable, "-c", FINISHED, str(ROOT), name, "--probabilities", "--out", "s.csv"]
    process = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=120
    )
    files = [(folder / name).read_bytes() for name in ("s.csv", "s-probabilities.csv", "s-preview.png")]
    return files, process


def forget(folder):
    """Makes a run look like one of an earlier version, which did not record checksums."""
    for path in folder.glob("net-*.json"):
        result = json.loads(path.read_text())
        del result["checksums"]
        path.write_text(json.dumps(result))


@pytest.mark.slow
def test_a_finished_runs_own_test_set_is_predicted_at_once_as_training_did_and_without_keras(trained, tmp_path):
    (folder,) = copied(trained, tmp_path, "bag")
    at_once, process = predicted(tmp_path)
    assert process.returncode == 0, process.stderr
    assert "Using the predictions stored during training: bag\n" in process.stdout
    arrays = load(folder / "predictions.npz")
    mean = (np.float64(arrays["test_01"]) + arrays["test_02"]) / 2
    mean = metrics.sharpened(mean, run_folder.temperature(folder))
    rows = at_once[1].decode().splitlines()[1:]
    assert [row.split(",", 1)[1] for row in rows] == [",".join(f"{p:.6f}" for p in row) for row in mean]
    forget(folder)
    anew, process = predicted(tmp_path)
    assert "Using the predictions stored" not in process.stdout
    assert "imported" in process.stderr
    assert at_once == anew


def flipped(folder):
    content = bytearray((folder / "predictions.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "predictions.npz").write_bytes(content)


def swapped(folder):
    arrays = load(folder / "predictions.npz")
    arrays["test_01"], arrays["test_02"] = arrays["test_02"], arrays["test_01"]
    write_arrays(folder / "predictions.npz", arrays)


def changed(folder):
    arrays = load(folder / "predictions.npz")
    arrays["test_02"] = np.roll(arrays["test_02"], 1, axis=1)
    write_arrays(folder / "predictions.npz", arrays)


def lacking(folder):
    arrays = load(folder / "predictions.npz")
    del arrays["test_01"]
    write_arrays(folder / "predictions.npz", arrays)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (flipped, "predictions.npz"),
        (swapped, "predictions.npz has changed since net 1 was trained"),
        (changed, "predictions.npz has changed since net 2 was trained"),
        (lacking, "predictions.npz has changed since net 1 was trained"),
        (lambda folder: (folder / "predictions.npz").unlink(), "predictions.npz"),
        (lambda folder: (folder / "predictions.npz").write_bytes(b""), "predictions.npz"),
    ],
    ids=["flipped", "swapped", "changed", "lacking", "gone", "empty"],
)
def test_stored_predictions_that_have_changed_are_not_used(damage, told, trained, digits, tmp_path, capsys):
    (folder,) = copied(trained, tmp_path, "bag")
    damage(folder)
    assert read_test_predictions(folder, run_folder.read_config(folder), digits.test) is None
    error = capsys.readouterr().err
    assert told in error
    assert error.endswith(": predicting anew\n")
    assert error.count("\n") == 1


def test_a_net_that_has_changed_since_training_predicts_anew(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (folder,) = copied(trained, tmp_path, "bag")
    shutil.copy(folder / "net-01.keras", folder / "net-02.keras")
    predict.main(["bag"])
    assert "net-02.keras has changed since it was trained" in capsys.readouterr().err
    expected = load(trained / "runs" / "bag" / "predictions.npz")["test_01"].argmax(1)
    np.testing.assert_array_equal(read_submission(tmp_path / "submissions" / "bag.csv"), expected)


def test_a_net_that_is_gone_is_named_once(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (folder,) = copied(trained, tmp_path, "bag")
    (folder / "net-02.keras").unlink()
    with pytest.raises(UserError, match=r"net-02\.keras cannot be used as a net \(No such file"):
        predict.main(["bag"])
    assert capsys.readouterr().err == ""


def test_other_test_sets_are_computed_and_so_are_results_of_strangers(trained, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (folder,) = copied(trained, tmp_path, "bag")
    write_csv(tmp_path / "some.csv", digits.test.x[::-1][:30])
    predict.main(["bag", "--test", "some.csv"])
    assert "Using the predictions stored" not in capsys.readouterr().out
    whole = load(folder / "predictions.npz")
    expected = (np.float64(whole["test_01"]) + whole["test_02"])[::-1][:30].argmax(1)
    np.testing.assert_array_equal(read_submission(tmp_path / "submissions" / "bag-some.csv"), expected)
    for strange in ("x", {}, {"net": 3}, {"net": [], "test": {}}):
        result = json.loads((folder / "net-01.json").read_text())
        (folder / "net-01.json").write_text(json.dumps(result | {"checksums": strange}))
        config = run_folder.read_config(folder)
        assert read_test_predictions(folder, config, digits.test) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.update(test_01=arrays["test_01"][:5]),
        lambda arrays: arrays.update(validation_rows_01=arrays["validation_rows_01"] + 10**9),
        lambda arrays: arrays.pop("validation_01"),
        lambda arrays: arrays.update(validation_02=np.array(["9"])),
    ],
    ids=["short", "rows outside", "lacking", "texts"],
)
def test_predictions_of_other_data_are_told_in_one_line(change, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, _ = copied(trained, tmp_path, "theirs", "bag")
    arrays = load(folder / "predictions.npz")
    change(arrays)
    write_arrays(folder / "predictions.npz", arrays)
    with pytest.raises(UserError, match=r"theirs.predictions.npz is not of this run's data"):
        runs.main(["diff", "theirs", "bag"])


@pytest.mark.slow
def test_predicting_shows_how_far_it_is(trained, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    copied(trained, tmp_path, "bag")
    write_csv(tmp_path / "others.csv", digits.test.x[:30])
    predict.main(["bag", "--test", "others.csv"])
    assert "Predicting 30 images with 2 nets ...\n" in capsys.readouterr().out
    for i in range(2):
        Image.fromarray(digits.test.x[i]).save(tmp_path / f"{i}.png")
    predict.main(["bag", "--images", "0.png"])
    assert "Predicting 1 shape in 1 picture with 2 nets ...\n" in capsys.readouterr().out
    predict.main(["bag", "--images", "0.png", "1.png"])
    assert "Predicting 2 shapes in 2 pictures with 2 nets ...\n" in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    predict.main(["bag", "--test", "others.csv"])
    shown = capsys.readouterr().out
    assert "Predicting 30 images with 2 nets \N{BOX DRAWINGS HEAVY HORIZONTAL}" in re.sub(
        r"\x1b\[[0-9;?]*[A-Za-z]", "", shown
    )
    assert "100%" in shown


def test_any_set_of_runs_predicts_by_the_mean_of_all_their_nets(trained, monkeypatch, no_pictures):
    monkeypatch.chdir(trained)
    for name in ("linear", "codeastar"):
        train.main([name, *TINY, "--data", "digits", "--run", name])
    every = {}
    for name in ("bag", "linear", "codeastar"):
        arrays = load(trained / "runs" / name / "predictions.npz")
        every[name] = [value for key, value in arrays.items() if key.startswith("test_")]
    assert run_folder.find_finished(["bag", "runs/bag/", "bag"]) == [run_folder.RUNS / "bag"]
    for chosen in (["linear"], ["linear", "bag", "linear"], ["bag", "codeastar", "linear"]):
        predict.main([*chosen, "--out", "submissions/set.csv", "--probabilities"])
        found = np.loadtxt(trained / "submissions" / "set-probabilities.csv", delimiter=",", skiprows=1)[:, 1:]
        mean = np.mean([p for name in dict.fromkeys(chosen) for p in every[name]], axis=0)
        folders = run_folder.find_finished(chosen)
        temperature = predicting.temperature(folders, [run_folder.read_config(folder) for folder in folders])
        np.testing.assert_allclose(found, metrics.sharpened(mean, temperature), atol=1e-5)
        np.testing.assert_array_equal(read_submission(trained / "submissions" / "set.csv"), mean.argmax(1))
    for name in ("linear", "codeastar"):
        shutil.rmtree(trained / "runs" / name)


def mistakes(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_lists_its_wrong_rows_of_validation_and_test(trained, digits):
    folder = trained / "runs" / "bag"
    arrays, found = load(folder / "predictions.npz"), mistakes(folder / "mistakes.csv")
    votes = np.full((2, len(digits.train.y), 10), np.nan)
    for net in (1, 2):
        votes[net - 1, arrays[f"validation_rows_0{net}"]] = arrays[f"validation_0{net}"]
    seen = np.flatnonzero(~np.isnan(votes).all(0).all(1))
    means = {"validation": (seen, np.nanmean(votes[:, seen], axis=0), digits.train.y[seen])}
    test = (arrays["test_01"] + arrays["test_02"]) / 2
    means["test"] = np.arange(len(test)), test, digits.test.y
    expected = {
        (part, row + 1, label, guess)
        for part, (rows, mean, labels) in means.items()
        for row, label, guess in zip(rows, labels, mean.argmax(1), strict=True)
        if label != guess
    }
    listed = [(row["part"], *(int(row[key]) for key in ("row", "label", "predicted"))) for row in found]
    assert len(listed) == len(expected)
    assert set(listed) == expected
    order = [(row["part"] == "test", -float(row["probability"])) for row in found]
    assert order == sorted(order)  # the most certain mistakes first
    sharpened = metrics.sharpened(test, run_folder.temperature(folder))
    for row in found:
        assert 0 <= float(row["label_probability"]) <= float(row["probability"]) <= 1
        if row["part"] == "test":
            shown = sharpened[int(row["row"]) - 1, [int(row["predicted"]), int(row["label"])]]
            assert [float(row["probability"]), float(row["label_probability"])] == pytest.approx(shown, rel=1e-3)


NAMED = ["part", "row", "name", "label", "predicted", "probability", "label_probability"]
UNNAMED = [column for column in NAMED if column != "name"]


@pytest.mark.parametrize(
    ("validation", "test", "named", "columns", "expected"),
    [
        ([3, 5], True, "", UNNAMED, [("validation", "4"), ("validation", "6"), ("test", "2")]),
        ([3, 5], False, "", UNNAMED, [("validation", "4"), ("validation", "6")]),
        ([], True, "", UNNAMED, [("test", "2")]),
        ([3], True, "train", NAMED, [("validation", "4", "3.png"), ("test", "2", "")]),
        ([3], True, "train test", NAMED, [("validation", "4", "3.png"), ("test", "2", "1.png")]),
        ([], False, "", None, []),
    ],
    ids=str,
)
@pytest.mark.parametrize("wrong", [True, False], ids=["wrong", "right"])
def test_the_wrong_rows_are_those_of_labelled_data_with_their_names(
    validation, test, named, columns, expected, wrong, digits, tmp_path
):
    names = np.array([f"{i}.png" for i in range(8)])
    parts = {
        part: Images(images.x[:8], images.y[:8], part, names if part in named.split() else None)
        for part, images in (("train", digits.train), ("test", digits.test))
    }
    if not test:
        parts["test"] = dataclasses.replace(parts["test"], y=None)

    def predicted(images, rows):
        sure = np.full((8, 10), 0.01, np.float32)
        sure[np.arange(8), images.y if images.y is not None else 0] = 0.9
        for row in rows if wrong else ():
            sure[row] = np.roll(sure[row], 1)
        return sure

    arrays = {"test_01": predicted(parts["test"], [1]), "validation_rows_01": np.array(validation, int)}
    if validation:
        arrays["validation_01"] = predicted(parts["train"], validation)[validation]
    write_arrays(tmp_path / "predictions.npz", arrays)
    config = {"nets": 1, "temperature": 1}
    gathered.write_mistakes(tmp_path, config, Digits(**parts, source="some"), {"temperature": 1})
    path = tmp_path / "mistakes.csv"
    assert path.is_file() == (columns is not None)
    if columns:
        assert path.read_text().splitlines()[0] == ",".join(columns)
        keys = ["part", "row", *["name"] * ("name" in columns)]
        found = mistakes(path)
        assert [tuple(row[key] for key in keys) for row in found] == (expected if wrong else [])
        for row in found:
            assert int(row["predicted"]) == (int(row["label"]) + 1) % 10
            assert float(row["probability"]) > 0.7 > 0.1 > float(row["label_probability"]) > 0
