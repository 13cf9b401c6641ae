"""Training with a GPU, or with too little memory; tested without a GPU."""

import json
import os
import shutil

import numpy as np
import pytest
from conftest import TINY, load, script

import predict
import train
from recognizer.base import gpu_advice, machine
from recognizer.base.errors import UserError
from recognizer.runs import compare
from recognizer.training import memory, progress, trainer


def test_training_and_predicting_say_once_each_that_a_gpu_is_not_used(
    tmp_path, monkeypatch, capsys, no_pictures, kaggle_folder
):
    (tmp_path / "driver").touch()
    monkeypatch.setattr(gpu_advice, "DRIVERS", (str(tmp_path / "driver"),))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.chdir(tmp_path)
    if machine.gpus() or os.name == "nt":
        pytest.skip("this machine has a GPU, or is Windows, which has other signs of a driver")
    train.main(["--model", "linear", "--nets", "2", *TINY, "--data", "digits", "--run", "r"])
    assert capsys.readouterr().err.count("has an NVIDIA driver") == 1
    other = ["r", "--test", str(kaggle_folder), "--allow-leak"]  # its own test set is predicted already
    predict.main(other)
    assert capsys.readouterr().err.count("has an NVIDIA driver") == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    predict.main(other)
    assert "NVIDIA" not in capsys.readouterr().err


@pytest.mark.slow
def test_training_on_jax_shows_no_notes_of_tensorflow(tmp_path):
    pytest.importorskip("jax")
    arguments = ["--model", "linear", *TINY, "--data", "digits", "--run", "r"]
    process = script("train.py", *arguments, cwd=tmp_path, KERAS_BACKEND="jax", TF_CPP_MIN_LOG_LEVEL="3")
    assert process.returncode == 0
    assert process.stderr == ""


def test_a_lack_of_memory_keeps_the_epochs_done_and_names_the_batch_size(tmp_path, monkeypatch, no_pictures):
    monkeypatch.chdir(tmp_path)
    arguments = ["--model", "linear", *TINY, "--batch-size", "40", "--data", "digits"]
    begin = progress.Progress.on_epoch_begin

    def short_in_epoch_2(self, epoch, logs=None):
        begin(self, epoch, logs)
        if epoch == 1:
            bytearray(10**15)

    monkeypatch.setattr(progress.Progress, "on_epoch_begin", short_in_epoch_2)
    with pytest.raises(UserError) as told:
        train.main([*arguments, "--run", "r"])
    monkeypatch.setattr(progress.Progress, "on_epoch_begin", begin)
    assert "python train.py --run r --resume" in str(told.value)
    assert "--batch-size 20 (it is 40)" in str(told.value)
    assert len(str(told.value)) < 280
    assert "\n" not in str(told.value)
    assert len((tmp_path / "runs" / "r" / "net-01.csv").read_text().splitlines()) == 2
    train.main(["--run", "r", "--resume"])
    train.main([*arguments, "--run", "whole"])
    resumed, whole = (load(tmp_path / "runs" / name / "predictions.npz") for name in ("r", "whole"))
    np.testing.assert_array_equal(resumed["test_01"], whole["test_01"])


@pytest.mark.parametrize(
    ("size", "replicas", "told"),
    [(64, 1, "--batch-size 32"), (12, 4, "--batch-size 4"), (4, 4, "a smaller net"), (1, 1, "a smaller net")],
)
def test_half_the_batch_size_is_one_that_the_replicas_can_share(size, replicas, told):
    assert told in memory.smaller_batches({"batch_size": size, "replicas": replicas})


def test_memory_that_is_short_before_there_is_a_run_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trainer, "new_model", lambda *_: np.zeros(10**14))
    with pytest.raises(UserError, match="out of memory: try --batch-size 20"):
        train.main(["--model", "linear", *TINY, "--batch-size", "40", "--data", "digits"])
    assert not (tmp_path / "runs").exists()


def test_a_repetition_elsewhere_names_processor_and_gpu(trained, tmp_path):
    first, second = trained / "runs" / "bag", tmp_path / "other"
    shutil.copytree(first, second)
    config = json.loads((first / "config.json").read_text())
    here = config["versions"]["processor"]

    def told(**changes):
        versions = {key: value for key, value in (config["versions"] | changes).items() if value != "unknown"}
        (second / "config.json").write_text(json.dumps(config | {"versions": versions}))
        return compare.repeated(first, second)[0]

    assert told() == "Different from bag: nothing"
    assert told(processor="M4") == f"Different from bag: processor {here} then, M4 now"
    if not machine.gpus():
        assert told(gpu="Tesla T4") == "Different from bag: gpu none then, Tesla T4 now"
    # Runs made before these were recorded.
    assert told(processor="unknown", gpu="unknown") == "Different from bag: nothing"
