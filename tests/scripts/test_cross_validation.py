"""Cross-validation: each row is predicted by nets that did not train on it; recipes are compared on the same rows."""

import json
import os
import shutil
import subprocess
import sys

import driver
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from conftest import ROOT

from recognizer.base.errors import UserError


@pytest.fixture
def cross_validation(monkeypatch, tmp_path):
    """The module, with an empty folder of results."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import cross_validation

    monkeypatch.setattr(cross_validation, "KEPT", tmp_path)
    return cross_validation


def test_a_gpu_that_nvidia_smi_cannot_read_has_no_name(cross_validation, monkeypatch, tmp_path):
    import shared

    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho Failed to initialize NVML: Driver/library version mismatch\nexit 18\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert shared.gpu_name() is None
    program.write_text("#!/bin/sh\necho Tesla T4\n")
    assert shared.gpu_name() == "Tesla T4"


@pytest.fixture
def accuracy(cross_validation, monkeypatch, tmp_path):
    """The module of the commands, with an empty folder of submissions."""
    import accuracy

    monkeypatch.setattr(accuracy, "SUBMISSIONS", tmp_path)
    return accuracy


def keep(folder, name, probabilities, labels):
    np.savez(folder / f"{name}.npz", probabilities=np.float16(probabilities), labels=np.uint8(labels))


def test_every_row_is_in_one_fold_and_folds_have_the_same_digits(cross_validation, digits):
    parts = cross_validation.split(digits.train.y, 10, seed=3)
    assert sorted(np.concatenate(parts)) == list(range(len(digits.train.y)))
    counts = np.array([np.bincount(digits.train.y[rows], minlength=10) for rows in parts])
    assert (np.ptp(counts, axis=0) <= 1).all()
    again, other = (cross_validation.split(digits.train.y, 10, seed) for seed in (3, 4))
    assert all(np.array_equal(*pair) for pair in zip(parts, again, strict=True))
    assert not np.array_equal(parts[0], other[0])


def test_recipes_are_compared_on_the_rows_that_both_predicted(cross_validation, tmp_path):
    labels = np.arange(100) % 10
    right = np.full((100, 10), 0.01) + 0.9 * np.eye(10)[labels]
    wrong = np.full((100, 10), 0.01) + 0.9 * np.eye(10)[(labels + 1) % 10]
    worse, better = right.copy(), right.copy()
    worse[:12], better[8:12], better[20] = wrong[:12], wrong[8:12], wrong[20]  # 8 rows wrong by one, 1 by the other
    better[90:] = np.nan  # a fold is left to train
    keep(tmp_path, "worse-0", worse[None], labels)
    keep(tmp_path, "better-0", better[None], labels)
    first, _, header, _, *rows = cross_validation.compared(["worse-0", "better-0", "worse-0+better-0"])
    assert first == "90 rows; all recipes below get 4 of them wrong"
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    names = [cell.strip() for cell in header.strip("|").split("|")]
    found = [dict(zip(names, row, strict=True)) for row in cells]
    assert [(row["nets"], row["errors"]) for row in found][:2] == [("1", "12"), ("1", "5")]
    assert found[2]["nets"] == "2"
    p = scipy.stats.binomtest(1, 9).pvalue
    assert found[1]["errors of the first only; of this only"] == "8; 1"
    assert float(found[1]["p"]) == pytest.approx(p, abs=5e-4)
    assert float(found[1]["Holm"]) >= float(found[1]["p"])


@pytest.mark.parametrize(
    ("values", "corrected"),
    [
        ([0.01], [0.01]),
        ([0.01, 0.04], [0.02, 0.04]),
        ([0.04, 0.01, 0.03], [0.06, 0.03, 0.06]),
        ([0.5, 0.9], [1, 1]),
    ],
)
def test_holm_corrects_for_the_number_of_comparisons(cross_validation, values, corrected):
    assert cross_validation.holm(values) == pytest.approx(corrected)


@pytest.mark.slow
def test_a_recipe_is_cross_validated_in_two_parts_and_what_it_misreads_is_drawn(tmp_path):
    folder = driver.copied(tmp_path)
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks", ignore=shutil.ignore_patterns("results"))

    def accuracy(*arguments):
        command = [sys.executable, "benchmarks/accuracy.py", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ, check=True).stdout

    options = ["cv", "quick", "--data", "digits", "--folds", "3", "--set", "steps_per_epoch=20"]
    assert "fold 1/3" in accuracy(*options, "--until", "1")
    kept = folder / "benchmarks" / "results" / "cv"
    with np.load(kept / "quick-0.npz") as arrays:
        some = np.isfinite(arrays["probabilities"]).all((0, 2))
    assert 0 < some.sum() < len(some)
    told = accuracy(*options)
    assert "fold 1/3" not in told
    assert "fold 3/3" in told
    with np.load(kept / "quick-0.npz") as arrays:
        probabilities, labels = arrays["probabilities"], arrays["labels"]
    assert probabilities.shape == (1, len(labels), 10)
    assert probabilities.dtype == np.float16
    assert np.isfinite(probabilities).all()
    right = np.mean(probabilities[0].argmax(1) == labels)
    runs = json.loads((kept / "quick-0.json").read_text())["runs"]
    assert right == pytest.approx(np.mean([run["accuracy"] for run in runs]), abs=1e-3)
    assert f"{right:.3%}" in accuracy("compare", "quick-0")
    drawn = accuracy("unread", "quick-0", "--data", "digits").strip()
    assert (folder / "benchmarks" / "unread.png").samefile(folder / drawn)
    less = [*options, "--set", "epochs=1", "--name", "less", "--until", "1", "--without", "quick-0"]
    assert "fold 1/3" in accuracy(*less)
    runs = [folder / "runs" / f"cv-{name}-0-3-0" for name in ("quick", "less")]
    rows, fewer = (json.loads((run / "config.json").read_text())["data"]["rows"] for run in runs)
    misread = (probabilities[0].argmax(1) != labels)[~some]  # those of the first fold are not trained on in any case
    assert rows - fewer == misread.sum() > 0


def test_submissions_of_several_seeds_are_averaged(accuracy, tmp_path):
    votes = np.random.default_rng(0).dirichlet(np.ones(10), (12, 5))
    for seed, probabilities in enumerate(votes[:11]):
        accuracy.write_submission(tmp_path / f"nets-kaggle-{seed}.csv.gz", probabilities)
    accuracy.write_submission(tmp_path / "more-nets-kaggle-0.csv.gz", votes[11])
    accuracy.average("nets-kaggle")
    assert accuracy.average("nets-kaggle") == f"{tmp_path / 'nets-kaggle.csv.gz'}: the mean of 11 submissions"
    written = pd.read_csv(tmp_path / "nets-kaggle.csv.gz")
    assert list(written)[:3] == ["ImageId", "Label", "p0"]
    np.testing.assert_allclose(written.filter(like="p"), votes[:11].mean(0), atol=1e-4)
    assert (written["Label"] == votes[:11].mean(0).argmax(1)).all()
    assert (written["ImageId"] == np.arange(1, 6)).all()
    with pytest.raises(UserError, match=r"there is no .*none-kaggle-SEED\.csv\.gz"):
        accuracy.average("none-kaggle")
