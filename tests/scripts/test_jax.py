"""A machine with JAX and without TensorFlow trains and predicts, on the very same batches."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, assert_one_line_error, interrupted, load, read_submission, script, write_csv

pytest.importorskip("jax")


HIDE = """
import sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] == "tensorflow" else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Hiding, sys.meta_path)
"""


@pytest.fixture
def no_tensorflow(tmp_path):
    """Environment variables under which TensorFlow cannot be imported."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HIDE)
    return {"PYTHONPATH": str(folder)}


@pytest.mark.slow
def test_train_and_predict_run_without_tensorflow(tmp_path, no_tensorflow, digits):
    tiny = ["--data", "digits", "--epochs", 2, "--set", "steps_per_epoch=40", "--set", "optimizer=rmsprop"]
    process = script("train.py", "grenholm", *tiny, "--run", "jax", cwd=tmp_path, **no_tensorflow)
    assert process.returncode == 0, process.stderr
    assert "jax on the CPU" in process.stdout
    run = tmp_path / "runs" / "jax"
    config = json.loads((run / "config.json").read_text())
    assert "jax" in config["versions"]
    assert "tensorflow" not in config["versions"]
    # A test set from another file is predicted anew, not read from the run. Both backends predict the same digits.
    write_csv(tmp_path / "own.csv", digits.test.x)
    expected = load(run / "predictions.npz")["test_01"].argmax(1)
    for environment in (no_tensorflow, {}):
        process = script("predict.py", "--test", "own.csv", cwd=tmp_path, **environment)
        assert process.returncode == 0, process.stderr
        np.testing.assert_array_equal(read_submission(tmp_path / "submissions" / "jax-own.csv"), expected)


@pytest.mark.slow
@pytest.mark.by_hand
@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_the_one_cycle_schedule_learns_and_resumes_under_jax(tmp_path, no_tensorflow):
    # A call executes several steps if they are small, and their number changes XLA's rounding. A run measures how
    # many, records it, and a repetition takes it over. JAX does not read the number of threads that is given to
    # TensorFlow.
    no_tensorflow["TF_NUM_INTRAOP_THREADS"] = "1"
    tiny = ["quick", "--data", "digits", "--epochs", 12, "--set", "steps_per_epoch=40", "--batch-size", 32]
    process = script("train.py", *tiny, "--run", "r", cwd=tmp_path, **no_tensorflow)
    assert process.returncode == 0, process.stderr
    result = json.loads((tmp_path / "runs" / "r" / "result.json").read_text())
    assert result["test_accuracy"]["mean"] > 0.8
    assert interrupted(tmp_path, "broken", signal.SIGTERM, 5, "--repeat", "r", **no_tensorflow)[0] == 143
    process = script("train.py", "--resume", cwd=tmp_path, **no_tensorflow)
    assert process.returncode == 0, process.stderr
    whole, resumed = (load(tmp_path / "runs" / name / "predictions.npz") for name in ("r", "broken"))
    for key in whole:
        np.testing.assert_array_equal(whole[key], resumed[key])


@pytest.mark.slow
def test_the_learning_rate_finder_is_exact_under_jax_too(tmp_path, no_tensorflow):
    for out in ("a.png", "b.png"):
        options = ["--recipe", "codeastar", "--set", "weights=averaged", "--data", "digits", "--out", out]
        process = script("plot", "lr", *options, cwd=tmp_path, **no_tensorflow)
        assert process.returncode == 0, process.stderr
        rate = float(re.search(r"start with --learning-rate (\S+);", process.stdout)[1])
        assert 1e-4 < rate < 1e-2
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.slow
def test_tensorboard_has_the_pictures_of_a_run_under_jax(tmp_path):
    tiny = ["--model", "linear", "--data", "digits", "--epochs", 1, "--validation-split", 0.1]
    process = script("train.py", *tiny, "--run", "r", "--tensorboard", cwd=tmp_path, KERAS_BACKEND="jax")
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "runs" / "r" / "result.json").is_file()
    (events,) = (tmp_path / "runs" / "r" / "tensorboard").glob("events*")
    assert b"hardest-answers" in events.read_bytes()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--augment-engine", "keras"], "--augment-engine keras needs its ImageDataGenerator"),
        pytest.param(
            ["--augment-engine", "keras", "--set", "augmentation.brightness_range=[0.5,1]"],
            "augmentation brightness_range needs its ImageDataGenerator",
            marks=pytest.mark.slow,
        ),
        (["--set", "augmentation.brightness_range=[0.5,1]"], "needs ImageDataGenerator: use --augment-engine keras"),
    ],
    ids=["engine", "both", "transform"],
)
def test_what_needs_tensorflow_is_refused_without_it_before_a_run_is_made(options, told, tmp_path, no_tensorflow):
    process = script("train.py", "grenholm", "--data", "digits", *options, cwd=tmp_path, **no_tensorflow)
    assert_one_line_error(process, told)
    assert len(process.stderr) < 300
    assert not (tmp_path / "runs").exists()


DUMP = """
import sys; sys.path.insert(0, sys.argv[1])
from recognizer.base import environment; environment.import_keras()
import numpy as np
from recognizer.config.overrides import resolve
from recognizer.data import sources
from recognizer.training.batches import TrainingBatches
images = sources.load("digits").train
elastic = dict(elastic_alpha=20, erasing_range=[3, 9], mixup_alpha=0.2)
for name, more in (("plain", {}), ("elastic", elastic), ("wrap", dict(fill_mode="wrap"))):
    changes = dict(batch_size=50, min_steps_per_epoch=1, replicas=1, steps_per_epoch=None)
    config = resolve("single", changes.items()) | {"seed": 4, "augment_engine": "batch"}
    config["joint_flips"] = ["horizontal"] * (name == "elastic")
    config["augmentation"] |= more
    batches = TrainingBatches(config, 2, images, np.arange(20, 140))
    batches.set_epoch(3)
    data = batches.data
    batches = [data[i] for i in range(len(data))] if hasattr(data, "__getitem__") else list(data)
    np.savez(name, **{f"{part}{i}": b[j] for i, b in enumerate(batches) for j, part in enumerate("xy")})
"""


@pytest.mark.slow
def test_the_batches_are_those_of_tensorflow(tmp_path, no_tensorflow):
    folders = {}
    for name, environment in (("tensorflow", {}), ("jax", no_tensorflow)):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        process = subprocess.run(
            [sys.executable, "-c", DUMP, str(ROOT)],
            cwd=folders[name],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert process.returncode == 0, process.stderr
    for transforms in ("plain", "elastic", "wrap"):
        ours, expected = (load(folders[name] / f"{transforms}.npz") for name in ("jax", "tensorflow"))
        assert ours.keys() == expected.keys() == {f"{part}{i}" for part in "xy" for i in range(3)}
        for key in ours:
            differing = np.abs(ours[key] - expected[key]) > 1e-3
            # Rounding may put a point on the other side of the edge of "wrap".
            assert differing.mean() < (1e-4 if transforms == "wrap" else 1e-9)


def test_a_backend_that_is_not_there_is_told_in_one_line(tmp_path, no_tensorflow):
    process = script("train.py", "--data", "digits", cwd=tmp_path, KERAS_BACKEND="tensorflow", **no_tensorflow)
    assert_one_line_error(process, "requirements.txt")
