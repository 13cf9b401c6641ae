"""Nothing is lost when a run dies, nothing leaks from test to training, and no file can do harm."""

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY, assert_one_line_error, load, read_submission, script, write_csv
from hypothesis import given, settings
from hypothesis import strategies as st

import predict
import train
from recognizer.base import cli, environment, files
from recognizer.base.errors import Terminated, UserError
from recognizer.base.files import _sync, read_json, write_arrays, write_json
from recognizer.commands import runs
from recognizer.data import sources, tables
from recognizer.data.arrays import Images
from recognizer.nn import saved_net
from recognizer.reports import submission
from recognizer.runs import checkpoints, compare, run_folder
from recognizer.runs.predictions import identical, read_test_predictions
from recognizer.training import checkpoint, plan, predicting

resource = pytest.importorskip("resource")  # limits of Unix

# Every kind of memory that a run has between epochs: a schedule's, the best epoch's, averaged weights', bags, members.
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
    for path in first.glob("*.keras"):
        weights = [saved_net.read_weights(folder / path.name) for folder in (first, second)]
        assert identical(*weights)
    assert {path.name for path in first.iterdir()} == {path.name for path in second.iterdir()}


@pytest.mark.parametrize("kind", RUNS)
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
        if not killed and len(synced) >= deadline and path.is_file():  # where a disk is found to be full
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


@pytest.mark.parametrize("damage", ["flipped", "cut short", "both"])
def test_a_damaged_checkpoint_is_told_of_and_the_one_before_is_used(damage, tmp_path, monkeypatch, capsys, no_pictures):
    monkeypatch.chdir(tmp_path)
    arguments = [*RUNS["plateau"], *SHORT]
    train.main([*arguments, "--run", "whole"])
    ends, rows = [], files.write_rows

    def write_rows(path, table):
        rows(path, table)
        ends.append(path)
        if len(ends) == 4:  # after two epochs, each with a row of its own and its steps
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


def test_a_second_process_on_a_run_is_refused(trained):
    folder = trained / "runs" / "bag"
    told = "'bag' is being trained by another process"
    with run_folder.locked(folder), pytest.raises(UserError, match=told), run_folder.locked(folder):
        pass
    with run_folder.locked(folder):
        pass


def test_a_run_that_another_process_trains_is_neither_trained_nor_changed_until_that_process_is_dead(tmp_path):
    long = ["grenholm", "--data", "digits", "--epochs", 1000, "--set", "steps_per_epoch=10", "--run", "r"]
    command = [sys.executable, str(ROOT / "train.py"), *map(str, long)]
    folder = tmp_path / "runs" / "r"
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: (folder / "net-01.csv").is_file(), process)
            before = (folder / "config.json").stat()
            for resume in (["--run", "r"], ["--data", "digits"], ["--data", "digits"]):  # the second after the first
                refused = script("train.py", "--resume", *resume, cwd=tmp_path, timeout=60)
                assert_one_line_error(refused, "run 'r' is being trained by another process")
            after = (folder / "config.json").stat()
            assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
            assert "(unfinished)" in script("runs", cwd=tmp_path).stdout  # it can be looked at
            assert_one_line_error(script("predict.py", "r", cwd=tmp_path), "run 'r' is not finished")
            assert process.poll() is None
        finally:
            process.kill()
    with run_folder.locked(folder):  # freed by the system, though the file is still there
        assert (folder / ".lock").is_file()


def wait_for(happened, process, seconds=120):
    """Waits until a condition holds while a process runs."""
    end = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_run_of_before_there_were_lock_files_is_locked_too(trained, tmp_path):
    (folder,) = copied(trained, tmp_path, "bag")
    (folder / ".lock").unlink()
    with run_folder.locked(folder), pytest.raises(UserError, match="by another process"), run_folder.locked(folder):
        pass


def test_a_folder_that_cannot_be_locked_is_told_in_one_line_and_never_made(tmp_path):
    with pytest.raises(UserError, match="gone no longer exists"), run_folder.locked(tmp_path / "gone"):
        pass
    assert not (tmp_path / "gone").exists()
    (tmp_path / ".lock").mkdir()
    with pytest.raises(UserError, match=r"\.lock cannot be locked \("), run_folder.locked(tmp_path):
        pass


def test_a_machine_without_filelock_is_told_before_a_run_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(environment, "installed", lambda package: package != "filelock")
    with pytest.raises(UserError, match=r"filelock is not installed: python -m pip install -r requirements\.txt"):
        run_folder.create(None, "mine", {}, np.arange(3))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_run_is_told_in_one_line(tmp_path):
    tmp_path.chmod(0o555)
    try:
        with (
            pytest.raises(UserError, match=r"\.lock cannot be locked \(Permission denied\)"),
            run_folder.locked(tmp_path),
        ):
            pass
    finally:
        tmp_path.chmod(0o755)


def test_a_name_that_two_processes_take_at_once_is_one_process_s(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write = write_json

    def meanwhile(path, content):
        write(path, content)
        monkeypatch.setattr(run_folder, "write_json", write)
        run_folder.create("same", "mine", {"seed": 2}, np.arange(3))

    monkeypatch.setattr(run_folder.os, "getpid", iter(range(4242, 5000)).__next__)  # each process has its own
    monkeypatch.setattr(run_folder, "write_json", meanwhile)
    with pytest.raises(UserError, match="run 'same' exists: another process has just started it"):
        run_folder.create("same", "mine", {"seed": 1}, np.arange(3))
    assert read_json(tmp_path / "runs" / "same" / "config.json") == {"seed": 2}
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["same"]


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
        *("config.json", "seen.npy", "net-01.steps.csv", ".lock")
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
    arguments = ["grenholm", *SHORT, "--set", 'schedule={"name": "phases", "learning_rates": [[2, 0.001], [1, 1e30]]}']
    with pytest.raises(UserError, match=r"loss became (nan|inf) in epoch 3.*weights after epoch 2 are in"):
        train.main([*arguments, "--run", "r"])
    net = saved_net.read_net(tmp_path / "runs" / "r" / "net-01.keras", 814_970)
    assert all(np.isfinite(weight).all() for weight in net.get_weights())
    assert not (tmp_path / "runs" / "r" / "net-01.json").exists()
    # The loss is that before the last update, which may be what ruins the weights.
    one = ["linear", "--epochs", "1", "--set", "steps_per_epoch=1", "--data", "digits", "--learning-rate", "1e39"]
    with pytest.raises(UserError, match="weights became infinite or no number in epoch 1"):
        train.main(one)
    with pytest.raises(UserError, match="no epoch was finished before it"):
        train.main(["grenholm", *TINY, "--data", "digits", "--learning-rate", "1e30"])


# Leaks


def test_test_images_whose_labels_the_run_has_seen_are_refused_and_marked_when_allowed(
    trained, digits, monkeypatch, capsys
):
    monkeypatch.chdir(trained)
    mixed = np.concatenate([digits.test.x[:20], digits.train.x[[3, 700, 1400]]])
    write_csv(trained / "mixed.csv", mixed)
    process = script("predict.py", "bag", "--test", "mixed.csv", "--out", "submissions/mixed.csv", cwd=trained)
    assert_one_line_error(process, "3 of these 23 test images", "among the labelled ones that bag had", "--allow-leak")
    assert not (trained / "submissions" / "mixed.csv").exists()
    predict.main(["bag", "--test", "mixed.csv", "--allow-leak", "--out", "submissions/mixed.csv"])
    assert "3 of its images were trained on with their labels" in capsys.readouterr().out
    assert len(read_submission(trained / "submissions" / "mixed-leak.csv")) == 23
    assert not (trained / "submissions" / "mixed.csv").exists()
    # One pixel another, and it is another image.
    mixed[20:, 0, 0] += 1
    write_csv(trained / "near.csv", mixed)
    predict.main(["bag", "--test", "near.csv"])
    assert len(read_submission(trained / "submissions" / "bag-near.csv")) == 23


def test_mnists_training_images_in_kaggles_test_set_are_found(shared, tmp_path, monkeypatch):
    mnist = sources.load(str(shared / "mnist.npz"))
    kaggle = sources.load(str(shared / "digit-recognizer.zip"))
    folder = run_folder.RUNS / "r"
    monkeypatch.chdir(tmp_path)
    folder.mkdir(parents=True)
    np.save(folder / "seen.npy", np.unique(mnist.train.image_hashes()))
    assert os.path.getsize(folder / "seen.npy") < 2e6
    leaked = run_folder.leaks([folder], kaggle.test)
    rows = {image.tobytes() for image in mnist.train.x}
    assert leaked == sum(image.tobytes() in rows for image in kaggle.test.x)
    assert leaked > 20_000
    assert run_folder.leaks([folder], mnist.test) == 0


def test_images_that_stand_twice_are_told_of(digits, capsys):
    x = digits.train.x[[0, 1, 2, 1, 4, 5]]
    hashes = Images(x.copy(), None, "").image_hashes()
    plan.print_copies(hashes, np.array([0, 1, 2, 4, 5]), np.array([3]))
    told = capsys.readouterr().out
    assert "1 labelled images are copies of others (rows 2 and 4)" in told
    assert "1 of net 1's 1 validation images are also among its training images" in told
    plan.print_copies(Images(digits.train.x[:5].copy(), None, "").image_hashes(), np.arange(4), np.array([4]))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda config: config.pop("seed"), "seed is missing"),
        (lambda config: config.update(nets=0), "nets must be"),
        (lambda config: config.update(seed=-1), "seed must be"),
        (lambda config: config.update(data="digits"), "data is missing or no dict"),
        (lambda config: config["data"].pop("source"), "data.source"),
        (lambda config: config.update(schedule={"name": "evil"}), "no schedule"),
        (lambda config: config.update(schedule={"name": []}), "no schedule"),
        (lambda config: config.update(members=[{"schedule.decay": "slow"}]), "schedule.decay must be"),
    ],
    ids=["seed", "nets", "negative", "data", "source", "schedule", "no text", "members"],
)
def test_a_config_that_is_no_runs_is_told_in_one_line(change, told, trained, tmp_path):
    shutil.copytree(trained / "runs" / "bag", tmp_path / "runs" / "bag")
    path = tmp_path / "runs" / "bag" / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=told):
        run_folder.read_config(path.parent)


def copied(trained, tmp_path, *names):
    """Copies of the run in `trained`, in runs/ of the working folder; their folders."""
    return [Path(shutil.copytree(trained / "runs" / "bag", tmp_path / "runs" / name)) for name in names]


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


def test_a_damaged_run_is_left_out_of_the_table_and_told_of(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder, name in zip(copied(trained, tmp_path, "a", "b", "c"), ("config", "result", "net-01"), strict=True):
        (folder / f"{name}.json").write_text('{"ensemble_validation": 3}')
    copied(trained, tmp_path, "bag")
    runs.main([])
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines()] == ["run", "bag"]
    assert told.err.count("left out") == 3
    assert len(told.err.splitlines()) == 3
    assert run_folder.newest(finished=True).name != "a"  # whose settings are lost
    assert capsys.readouterr().err.count("left out") == 1


def test_a_run_whose_test_set_has_changed_is_not_gone_on_with(trained, digits):
    config = run_folder.read_config(trained / "runs" / "bag")
    run_folder.check_data(trained, config, digits)
    other = Images(digits.test.x[::-1].copy(), digits.test.y, "reversed")
    for test in (other, None):
        with pytest.raises(UserError, match=r"test set .* has changed"):
            run_folder.check_data(trained, config, dataclasses.replace(digits, test=test))


def test_a_signal_whose_exception_a_library_swallowed_stops_the_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "_received", [])
    for number, raised in ((signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)):
        with pytest.raises(raised):
            cli._stop(number, None)
        with pytest.raises(raised, match=r"go on with: python train\.py --run linear"):
            train.main(["linear", *TINY, "--data", "digits"])


def test_a_run_goes_on_where_its_data_is_now(trained, digits, tmp_path, monkeypatch, no_pictures):
    monkeypatch.chdir(tmp_path)
    (folder,) = copied(trained, tmp_path, "bag")
    (folder / "result.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    config["data"]["source"] = str(tmp_path / "gone")
    write_json(folder / "config.json", config)
    with pytest.raises(UserError, match=r"no data at .*gone': give by --data"):
        train.main(["--resume"])
    (tmp_path / "moved").mkdir()
    write_csv(tmp_path / "moved" / "train.csv", digits.train.x[:50], digits.train.y[:50])
    with pytest.raises(UserError, match=r"run 'bag' was started on .*, which moved/train.csv is not"):
        train.main(["--resume", "--data", "moved"])
    arrays = {"x_train": digits.train.x, "y_train": digits.train.y, "x_test": digits.test.x, "y_test": digits.test.y}
    np.savez(tmp_path / "mnist.npz", **arrays)
    result = (folder / "net-02.json").read_text()
    (folder / "net-02.json").write_text("{}")
    with pytest.raises(UserError, match=r"net-02\.json is no run's"):
        train.main(["--resume", "--data", "mnist.npz"])
    (folder / "net-02.json").write_text(result)
    train.main(["--resume", "--data", "mnist.npz"])
    assert (folder / "result.json").is_file()
    assert json.loads((folder / "config.json").read_text()) == config | {
        "data": config["data"] | {"source": str(tmp_path / "mnist.npz")}
    }


def test_the_newest_run_is_the_one_that_ended_last(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i, folder in enumerate(copied(trained, tmp_path, "b", "a", "c")):
        config = json.loads((folder / "config.json").read_text())
        write_json(folder / "config.json", config | {"created": f"2026-01-0{3 - i}"})
        os.utime(folder / "result.json", (i % 2, i % 2))
    assert run_folder.newest(finished=True).name == "a"
    for name in "abc":
        (tmp_path / "runs" / name / "result.json").unlink()
    assert run_folder.newest(finished=False).name == "b"


@pytest.mark.parametrize("result", [{"accuracy": 0.9}, {"accuracy": "high", "rows": 3}], ids=["rows", "text"])
def test_a_result_that_is_no_runs_is_told_in_one_line(result, trained, tmp_path):
    (folder,) = copied(trained, tmp_path, "bag")
    (folder / "result.json").write_text(json.dumps({"ensemble_validation": result}))
    with pytest.raises(UserError, match=r"result\.json is no run's"):
        predict.print_validation(folder, run_folder.read_config(folder))


def test_what_a_process_left_that_died_while_it_made_a_run_is_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    left = tmp_path / "runs" / ".mine-1.4242"
    left.mkdir(parents=True)
    assert run_folder.create(None, "mine", {}, np.arange(3)).name == "mine-1"
    assert left.exists()
    os.utime(left, (0, 0))
    assert run_folder.create(None, "mine", {}, np.arange(3)).name == "mine-2"
    assert not left.exists()


def test_runs_that_are_started_together_have_a_number_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write, other = write_json, tmp_path / "runs" / "mine-1"

    def meanwhile(path, content):
        write(path, content)
        other.mkdir(exist_ok=True)
        (other / "config.json").write_text("another's")

    monkeypatch.setattr(run_folder, "write_json", meanwhile)
    assert run_folder.create(None, "mine", {"seed": 1}, np.arange(3)).name == "mine-2"
    assert (other / "config.json").read_text() == "another's"
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["mine-1", "mine-2"]
    with pytest.raises(UserError, match="none of the 2 runs in runs/ can be read"):
        runs.main([])


def test_a_file_is_written_where_folders_cannot_be_synced(tmp_path, monkeypatch):
    sync = _sync

    def unable(path):
        if path.is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(path)

    monkeypatch.setattr(files, "_sync", unable)
    write_json(tmp_path / "a.json", {"seed": 1})
    assert read_json(tmp_path / "a.json") == {"seed": 1}


# Predictions that training left


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
    """Makes a run one of before checksums were recorded."""
    for path in folder.glob("net-*.json"):
        result = json.loads(path.read_text())
        del result["checksums"]
        path.write_text(json.dumps(result))


def test_a_finished_runs_own_test_set_is_predicted_at_once_as_training_did_and_without_keras(trained, tmp_path):
    (folder,) = copied(trained, tmp_path, "bag")
    at_once, process = predicted(tmp_path)
    assert process.returncode == 0, process.stderr
    assert "Already predicted when trained: bag\n" in process.stdout
    arrays = load(folder / "predictions.npz")
    mean = (np.float64(arrays["test_01"]) + arrays["test_02"]) / 2
    rows = at_once[1].decode().splitlines()[1:]
    assert [row.split(",", 1)[1] for row in rows] == [",".join(f"{p:.6f}" for p in row) for row in mean]
    forget(folder)
    anew, process = predicted(tmp_path)
    assert "Already predicted" not in process.stdout
    assert "imported" in process.stderr
    assert at_once == anew


def replaced_net(folder):
    shutil.copy(folder / "net-01.keras", folder / "net-02.keras")


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
        (replaced_net, "net-02.keras has changed since it was trained"),
        (flipped, "predictions.npz"),
        (swapped, "predictions.npz has changed since net 1 was trained"),
        (changed, "predictions.npz has changed since net 2 was trained"),
        (lacking, "predictions.npz has changed since net 1 was trained"),
        (lambda folder: (folder / "predictions.npz").unlink(), "predictions.npz"),
        (lambda folder: (folder / "predictions.npz").write_bytes(b""), "predictions.npz"),
    ],
    ids=["net", "flipped", "swapped", "changed", "lacking", "gone", "empty"],
)
def test_predictions_that_are_not_those_of_the_saved_nets_are_computed_anew(
    damage, told, trained, digits, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (folder,) = copied(trained, tmp_path, "bag")
    damage(folder)
    predict.main(["bag"])
    error = capsys.readouterr().err
    assert told in error
    assert error.endswith(": predicting anew\n")
    assert error.count("\n") == 1
    arrays = load(trained / "runs" / "bag" / "predictions.npz")
    used = ["test_01"] * 2 if damage is replaced_net else ["test_01", "test_02"]
    expected = (np.float64(arrays[used[0]]) + arrays[used[1]]).argmax(1)
    np.testing.assert_array_equal(read_submission(tmp_path / "submissions" / "bag.csv"), expected)


def test_other_test_sets_are_computed_and_so_are_results_of_strangers(trained, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (folder,) = copied(trained, tmp_path, "bag")
    write_csv(tmp_path / "some.csv", digits.test.x[::-1][:30])
    predict.main(["bag", "--test", "some.csv"])
    assert "Already predicted" not in capsys.readouterr().out
    whole = load(folder / "predictions.npz")
    expected = (np.float64(whole["test_01"]) + whole["test_02"])[::-1][:30].argmax(1)
    np.testing.assert_array_equal(read_submission(tmp_path / "submissions" / "bag-some.csv"), expected)
    for strange in ("x", {}, {"net": 3}, {"net": [], "test": {}}):
        result = json.loads((folder / "net-01.json").read_text())
        (folder / "net-01.json").write_text(json.dumps(result | {"checksums": strange}))
        config = run_folder.read_config(folder)
        assert read_test_predictions(folder, config, digits.test) is None


def test_predicting_shows_how_far_it_is(trained, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    copied(trained, tmp_path, "bag")
    write_csv(tmp_path / "some.csv", digits.test.x[:30])
    monkeypatch.setattr(predicting, "SLOW", 60)
    predict.main(["bag", "--test", "some.csv"])
    assert "Predicting 30 images" not in capsys.readouterr().out  # it is done within seconds
    monkeypatch.setattr(predicting, "SLOW", 0)
    predict.main(["bag", "--test", "some.csv"])
    assert "Predicting 30 images with 2 nets ...\n" in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    predict.main(["bag", "--test", "some.csv"])
    shown = [line.strip() for line in capsys.readouterr().out.split("\r")]
    assert "Predicting 30 images with 2 nets: net 1/2" in shown
    second = next(line for line in shown if line.startswith("Predicting 30 images with 2 nets: net 2/2, "))
    assert second.endswith(" left")


# Submissions


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=3000), st.from_regex(r"[\w][\w .+-]{0,30}", fullmatch=True))
def test_a_submission_has_every_row_once_in_order_under_any_name(labels, name):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.csv")
        for some in (labels[:1], labels):  # the second time over the first
            submission.check_out(path)
            submission.write_submission(path, np.array(some))
            np.testing.assert_array_equal(read_submission(path), some)
        assert [p.name for p in Path(folder).iterdir()] == [path.name]


def test_any_set_of_runs_predicts_by_the_mean_of_all_their_nets(trained, monkeypatch, no_pictures):
    monkeypatch.chdir(trained)
    for name in ("linear", "codeastar"):
        train.main([name, *TINY, "--data", "digits", "--run", name])
    every = {}
    for name in ("bag", "linear", "codeastar"):
        arrays = load(trained / "runs" / name / "predictions.npz")
        every[name] = [value for key, value in arrays.items() if key.startswith("test_")]
    assert run_folder.chosen(["bag", "runs/bag/", "bag"]) == [run_folder.RUNS / "bag"]
    for chosen in (["linear"], ["linear", "bag", "linear"], ["bag", "codeastar", "linear"]):
        predict.main([*chosen, "--out", "submissions/set.csv", "--probabilities"])
        found = np.loadtxt(trained / "submissions" / "set-probabilities.csv", delimiter=",", skiprows=1)[:, 1:]
        mean = np.mean([p for name in dict.fromkeys(chosen) for p in every[name]], axis=0)
        np.testing.assert_allclose(found, mean, atol=1e-5)
        np.testing.assert_array_equal(read_submission(trained / "submissions" / "set.csv"), found.argmax(1))
    for name in ("linear", "codeastar"):
        shutil.rmtree(trained / "runs" / name)


def test_on_kaggle_the_submission_is_also_where_kaggle_expects_it(trained, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    copied(trained, tmp_path, "bag")
    write_csv(tmp_path / "kaggle.csv", digits.test.x[:30])
    monkeypatch.setattr(tables, "KAGGLE_TEST_ROWS", 30)
    working = tmp_path / "working"
    monkeypatch.setattr(submission, "WORKING", working)
    monkeypatch.setattr(
        predicting, "mean_probabilities", lambda folders, configs, test: np.eye(10)[np.arange(len(test.x)) % 10]
    )
    told, kaggles = f"Submission: {working / 'submission.csv'}", working / "submission.csv"

    def predicted(*arguments):
        predict.main(["bag", *map(str, arguments)])
        return capsys.readouterr()

    assert told not in predicted("--test", "kaggle.csv").out  # not on Kaggle
    assert not working.exists()
    working.mkdir()
    assert told not in predicted().out  # other rows than Kaggle's
    assert list(working.iterdir()) == []
    for _ in range(2):  # the second time over the first
        assert told in predicted("--test", "kaggle.csv").out
        assert kaggles.read_bytes() == (tmp_path / "submissions" / "bag-kaggle.csv").read_bytes()
        assert [path.name for path in working.iterdir()] == ["submission.csv"]
    kaggles.write_text("precious")
    said = predicted("--test", "kaggle.csv")
    assert said.err == f"{kaggles} is not a submission, so it was not overwritten\n"
    assert kaggles.read_text() == "precious"
    kaggles.unlink()
    assert predicted("--test", "kaggle.csv", "--out", kaggles).out.count(str(kaggles)) == 1
    assert len(read_submission(kaggles)) == 30
    kaggles.unlink()
    write_csv(tmp_path / "kaggle.csv", digits.train.x[:30])
    assert told not in predicted("--test", "kaggle.csv", "--allow-leak").out
    assert not kaggles.exists()


@pytest.mark.parametrize("step", range(1, 4))
def test_a_submission_that_cannot_be_written_leaves_the_one_before_whole(step, tmp_path, monkeypatch):
    path = tmp_path / "s.csv"
    submission.write_submission(path, np.array([1, 2, 3]))
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*[(np, "loadtxt"), (os, "fsync"), (os, "replace")][step - 1], full)
    with pytest.raises(
        UserError, match=r"s\.csv cannot be written \(No space left on device\): what was there is as it was"
    ):
        submission.write_submission(path, np.array([4, 5, 6, 7]))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.csv"]
