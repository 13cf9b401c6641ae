"""A run loses nothing if it dies, the disk is full, its data moves or its loss becomes NaN; copies are reported."""

import errno
import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, TINY, assert_one_line_error, copied, load, script, write_csv

import train
from recognizer.base import files, program
from recognizer.base.errors import Terminated, UserError
from recognizer.base.files import _sync, read_json, write_json
from recognizer.data.arrays import Images
from recognizer.nn import saved_net
from recognizer.runs import checkpoints, run_folder
from recognizer.runs.predictions import identical
from recognizer.training import callbacks, checkpoint, plan

resource = pytest.importorskip("resource")  # limits of Unix

# Every kind of state that a run keeps between epochs: a schedule's, the best epoch's, averaged weights', bags, members.
RUNS = {
    "plateau": ["codeastar", "--set", "schedule.patience=1"],
    "best": ["vgg-bn-dropout", "--weights", "best", "--validation-split", "0.2", "--batch-size", "32"],
    "phases": ["linear-phases", "--set", "schedule.learning_rates=[[1, 0.01], [2, 0.1]]"],
    "averaged": ["deotte", "--nets", "1", "--weights", "averaged", "--set", "update_bn=2"],
    "bagged": ["grenholm", "--nets", "2", "--set", "bagging=true", "--set", 'members=[{}, {"epochs": 2}]'],
}
SHORT = ["--epochs", "3", "--set", "steps_per_epoch=6", "--set", "min_steps_per_epoch=1", "--data", "digits"]


class Killed(BaseException):
    """As kill -9, but for the temporary file, which `whole_file` takes away."""


def without_times(text):
    return [row.rsplit(",", 1)[0] for row in text.splitlines()]


def assert_same_run(first, second):
    """Weights, predictions and log of two runs are identical, but for the log's times."""
    a, b = (load(folder / "predictions.npz") for folder in (first, second))
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])
    assert without_times((first / "log.csv").read_text()) == without_times((second / "log.csv").read_text())
    assert (first / "mistakes.csv").read_bytes() == (second / "mistakes.csv").read_bytes()
    for path in first.glob("*.keras"):
        weights = [saved_net.read_weights(folder / path.name) for folder in (first, second)]
        assert identical(*weights)
    assert {path.name for path in first.iterdir()} == {path.name for path in second.iterdir()}


LONG = {"bagged", "plateau", "averaged", "best"}
BY_HAND = {True: [pytest.mark.slow, pytest.mark.by_hand], False: []}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=BY_HAND[kind in LONG]) for kind in RUNS])
def test_a_run_that_dies_at_any_write_goes_on_and_ends_as_if_it_had_not(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [*RUNS[kind], *SHORT]
    synced, sync = [], _sync
    monkeypatch.setattr(files, "_sync", lambda path: (synced.append(path), sync(path)))
    train.main([*arguments, "--run", "whole"])
    assert len(synced) > 20
    rng = np.random.default_rng(len(kind))

    def dying(path):
        synced.append(path)
        if killed and len(synced) == deadline:
            raise Killed
        if not killed and len(synced) >= deadline and path.is_file():  # a full disk refuses files, not folders
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(path)

    # Once while the run is made, then again and again until the run ends.
    synced, deadline, killed = [], 3, True
    monkeypatch.setattr(files, "_sync", dying)
    with pytest.raises(Killed):
        train.main([*arguments, "--run", "broken"])
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == ["whole"]
    what, deaths, told = arguments, 0, []
    while not run_folder.is_finished(tmp_path / "runs" / "broken"):
        synced, deadline, killed = [], int(rng.integers(6, 11)) * (1 + deaths // 2), deaths % 2 == 1
        try:
            train.main([*what, "--run", "broken"])
        except (Killed, UserError) as error:
            deaths += 1
            if isinstance(error, UserError):
                told.append(str(error))
            if run_folder.RUNS.joinpath("broken", "config.json").exists():
                what = ["--resume"]
    assert 0 < len(told) < deaths
    assert all("No space left on device" in line for line in told)
    assert_same_run(tmp_path / "runs" / "whole", tmp_path / "runs" / "broken")


@pytest.mark.parametrize(
    "damage", ["both", *(pytest.param(d, marks=pytest.mark.slow) for d in ("flipped", "cut short"))]
)
def test_a_damaged_checkpoint_is_told_of_and_the_one_before_is_used(damage, tmp_path, monkeypatch, capsys, no_pictures):
    monkeypatch.chdir(tmp_path)
    arguments = [*RUNS["plateau"], *SHORT]
    train.main([*arguments, "--run", "whole"])
    ends, rows = [], files.write_rows

    def write_rows(path, table):
        rows(path, table)
        ends.append(path)
        if len(ends) == 4:  # after two epochs: each writes net-01.csv and net-01.steps.csv
            raise Killed

    for module in (checkpoint, files):
        monkeypatch.setattr(module, "write_rows", write_rows)
    with pytest.raises(Killed):
        train.main([*arguments, "--run", "broken"])
    before, newest = (tmp_path / "runs" / "broken" / f"net-01.checkpoint-{part}.npz" for part in (1, 0))
    for path in [newest, before] if damage == "both" else [newest]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content[: len(content) // 2] if damage == "cut short" else content)
    capsys.readouterr()
    train.main(["--resume"])
    told = capsys.readouterr().err
    assert "net-01.checkpoint-0.npz is damaged" in told
    assert ("net-01.checkpoint-1.npz is damaged" in told) == (damage == "both")
    assert_same_run(tmp_path / "runs" / "whole", tmp_path / "runs" / "broken")


@pytest.mark.slow
def test_a_repeated_run_is_identical_and_says_what_is_different(trained):
    process = script("train.py", "--repeat", "bag", cwd=trained)
    assert process.returncode == 0, process.stderr
    assert process.stdout.endswith(
        "Different from bag: nothing\n"
        "Net 1: weights and predictions identical, bit for bit\n"
        "Net 2: weights and predictions identical, bit for bit\n"
    )
    shutil.rmtree(trained / "runs" / "bag-repeat-1")
    process = script("train.py", "--repeat", "bag", "--epochs", 3, cwd=trained)
    assert_one_line_error(process, "leave out epochs")


def test_a_disk_that_is_full_is_one_line_and_the_run_can_go_on(tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), "grenholm", *TINY, "--data", "digits"]
    process = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        # Enough for the net, which the trial saves, and too little for a checkpoint.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6 * 2**20, 6 * 2**20)),
    )
    assert_one_line_error(process, "net-01.checkpoint-1.npz cannot be written (File too large)")
    assert {path.name for path in (tmp_path / "runs" / "grenholm-1").iterdir()} == {
        *("config.json", "architectures.json", "seen.npy", "net-01.steps.csv", ".lock")
    }


def test_a_run_whose_folder_disappears_ends_in_a_line_and_makes_no_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def vanish(*_):
        shutil.rmtree("runs")

    monkeypatch.setattr(checkpoints, "read", vanish)
    with pytest.raises(UserError, match=r"net-01.\S+ cannot be written \(No such file or directory\)"):
        train.main(["linear", *TINY, "--data", "digits"])
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "runs").write_text("a file, where a folder is needed")
    assert_one_line_error(script("train.py", "linear", *TINY, "--data", "digits", cwd=tmp_path), "cannot be made")
    assert (tmp_path / "runs").read_text() == "a file, where a folder is needed"


def test_a_loss_that_is_no_number_stops_the_net_and_keeps_its_last_good_weights(tmp_path, monkeypatch, no_pictures):
    monkeypatch.chdir(tmp_path)
    arguments = ["grenholm", *SHORT, "--set", 'schedule={"name": "phases", "learning_rates": [[2, 0.001], [1, 1e29]]}']
    with pytest.raises(UserError, match=r"loss became (nan|inf) in epoch 3.*weights after epoch 2 are in"):
        train.main([*arguments, "--run", "r"])
    net = saved_net.read_net(tmp_path / "runs" / "r" / "net-01.keras", 814_970)
    assert all(np.isfinite(weight).all() for weight in net.get_weights())
    assert not (tmp_path / "runs" / "r" / "net-01.json").exists()
    with pytest.raises(UserError, match="no epoch had finished"):
        train.main(["grenholm", *TINY, "--data", "digits", "--learning-rate", "1e29"])
    # The loss is computed before the last update. This update may make weights infinite although the loss is finite.
    end = callbacks.Schedule.on_epoch_end

    def ruined(self, epoch, logs=None):
        end(self, epoch, logs)
        self.model.weights[0].assign(np.full(self.model.weights[0].shape, np.inf))

    monkeypatch.setattr(callbacks.Schedule, "on_epoch_end", ruined)
    with pytest.raises(UserError, match="weights became infinite or NaN in epoch 1"):
        train.main(["linear", *TINY, "--data", "digits"])


def test_copies_of_images_are_reported(digits, capsys):
    x = digits.train.x[[0, 1, 2, 1, 4, 5]]
    hashes = Images(x.copy(), None, "").image_hashes()
    plan.print_copies(hashes, np.array([0, 1, 2, 4, 5]), np.array([3]))
    told = capsys.readouterr().out
    assert "1 labelled images are copies of others (e.g. rows 2 and 4)" in told
    assert "1 of net 1's 1 validation images are also in its training images" in told
    plan.print_copies(Images(digits.train.x[:5].copy(), None, "").image_hashes(), np.arange(4), np.array([4]))
    assert capsys.readouterr().out == ""


def test_a_signal_whose_exception_a_library_swallowed_stops_the_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(program, "_received", [])
    for number, raised in ((signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)):
        with pytest.raises(raised):
            program._stop(number, None)
        with pytest.raises(raised, match=r"go on with: python train\.py --run linear"):
            train.main(["linear", *TINY, "--data", "digits"])


def test_a_run_whose_data_was_moved_is_resumed_with_the_new_path(trained, digits, tmp_path, monkeypatch, no_pictures):
    monkeypatch.chdir(tmp_path)
    (folder,) = copied(trained, tmp_path, "bag")
    (folder / "result.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    config["data"]["source"] = str(tmp_path / "gone")
    write_json(folder / "config.json", config)
    with pytest.raises(UserError, match=r"no data at .*gone': give a folder"):
        train.main(["--resume"])
    (tmp_path / "moved").mkdir()
    write_csv(tmp_path / "moved" / "train.csv", digits.train.x[:50], digits.train.y[:50])
    with pytest.raises(UserError, match=r"run 'bag' was started on .*, not on moved/train.csv"):
        train.main(["--resume", "--data", "moved"])
    arrays = {"x_train": digits.train.x, "y_train": digits.train.y, "x_test": digits.test.x, "y_test": digits.test.y}
    np.savez(tmp_path / "mnist.npz", **arrays)
    result = (folder / "net-02.json").read_text()
    (folder / "net-02.json").write_text("{}")
    with pytest.raises(UserError, match=r"net-02\.json is not a result of a run"):
        train.main(["--resume", "--data", "mnist.npz"])
    (folder / "net-02.json").write_text(result)
    train.main(["--resume", "--data", "mnist.npz"])
    assert (folder / "result.json").is_file()
    assert json.loads((folder / "config.json").read_text()) == config | {
        "data": config["data"] | {"source": str(tmp_path / "mnist.npz")}
    }


def test_a_file_is_written_where_folders_cannot_be_synced(tmp_path, monkeypatch):
    sync = _sync

    def unable(path):
        if path.is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(path)

    monkeypatch.setattr(files, "_sync", unable)
    write_json(tmp_path / "a.json", {"seed": 1})
    assert read_json(tmp_path / "a.json") == {"seed": 1}
