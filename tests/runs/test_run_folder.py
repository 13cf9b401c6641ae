"""A run's folder is made once, locked while it is trained, found again, and checked when it is read."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, assert_one_line_error, copied, script

from recognizer.base import environment
from recognizer.base.errors import UserError
from recognizer.base.files import read_json, write_json
from recognizer.commands import runs
from recognizer.data import sources
from recognizer.data.arrays import Images
from recognizer.runs import run_folder


def test_a_second_process_on_a_run_is_refused(trained):
    folder = trained / "runs" / "bag"
    told = "'bag' is being trained by another process"
    with run_folder.locked(folder), pytest.raises(UserError, match=told), run_folder.locked(folder):
        pass
    with run_folder.locked(folder):
        pass


@pytest.mark.slow
def test_a_run_that_another_process_trains_is_neither_trained_nor_changed_until_that_process_is_dead(tmp_path):
    long = ["grenholm", "--data", "digits", "--epochs", 1000, "--set", "steps_per_epoch=10", "--run", "r"]
    command = [sys.executable, str(ROOT / "train.py"), *map(str, long)]
    folder = tmp_path / "runs" / "r"
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: (folder / "net-01.csv").is_file(), process)
            before = (folder / "config.json").stat()
            for resume in (["--run", "r"], ["--data", "digits"], ["--data", "digits"]):  # twice, each refused
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


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
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
    with pytest.raises(UserError, match="run 'same' exists: continue it with --resume"):
        run_folder.create("same", "mine", {"seed": 1}, np.arange(3))
    assert read_json(tmp_path / "runs" / "same" / "config.json") == {"seed": 2}
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["same"]


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


def test_a_run_made_between_the_choice_of_a_name_and_its_use_keeps_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    choose, other = run_folder.next_name, tmp_path / "runs" / "mine-1"

    def meanwhile(parent, base):
        chosen = choose(parent, base)
        other.mkdir(parents=True, exist_ok=True)
        (other / "config.json").write_text("another's")
        return chosen

    monkeypatch.setattr(run_folder, "next_name", meanwhile)
    assert run_folder.create(None, "mine", {}, np.arange(3)).name == "mine-2"
    assert (other / "config.json").read_text() == "another's"


def test_names_that_differ_by_case_have_numbers_of_their_own(tmp_path):
    (tmp_path / "Mine-4").mkdir()
    assert run_folder.next_name(tmp_path, "mine") == "mine-5"


def test_what_a_process_left_that_died_while_it_made_a_run_is_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    left = tmp_path / "runs" / ".mine-1.4242"
    left.mkdir(parents=True)
    assert run_folder.create(None, "mine", {}, np.arange(3)).name == "mine-1"
    assert left.exists()
    os.utime(left, (0, 0))
    assert run_folder.create(None, "mine", {}, np.arange(3)).name == "mine-2"
    assert not left.exists()


@pytest.mark.parametrize("name", [".mine-1.old", ".backup.2024-05-01", ".mine-1.4242.tar", ".a.b"])
def test_other_hidden_folders_in_runs_are_kept(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "runs" / name
    own.mkdir(parents=True)
    os.utime(own, (0, 0))
    run_folder.create("mine", "mine", {}, np.arange(3))
    assert own.is_dir()


def test_a_folder_that_two_processes_remove_at_once_is_in_no_ones_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / ".mine-1.4242").mkdir(parents=True)
    listed = [*Path("runs").glob(".*.*/")]
    listed[0].rmdir()
    monkeypatch.setattr(run_folder.Path, "glob", lambda *_: listed)
    assert run_folder.create("mine", "mine", {}, np.arange(3)).name == "mine"


@pytest.mark.parametrize("form", ["bag", "runs/bag", "runs/bag/", "./runs/bag", "../{}/runs/bag/", "{}/runs/bag"])
def test_a_run_is_named_by_its_name_or_by_any_path_of_its_folder(form, trained, monkeypatch):
    monkeypatch.chdir(trained)
    path = form.format(trained.name if form.startswith("..") else trained)
    assert run_folder.find(path) == Path("runs/bag")
    assert run_folder.named(path) == Path("runs/bag")


@pytest.mark.parametrize(
    ("recipe", "name"), [("mine", "mine-1"), ("my recipe", "my-recipe-1"), ("a/b: c", "a-b-c-1"), (".x", "x-1")]
)
def test_a_run_of_a_recipe_with_any_name_can_be_named(recipe, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (name, f"{name[:-1]}2"):
        folder = run_folder.create(None, recipe, {}, np.arange(3))
        assert folder == run_folder.find(number) == Path("runs", number)


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


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda config: config.pop("seed"), "seed is missing"),
        (lambda config: config.update(nets=0), "nets must be"),
        (lambda config: config.update(seed=-1), "seed must be"),
        (lambda config: config.update(data="digits"), "data must be an object"),
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


def test_a_run_whose_test_set_has_changed_is_not_gone_on_with(trained, digits):
    config = run_folder.read_config(trained / "runs" / "bag")
    run_folder.check_data(trained, config, digits)
    other = Images(digits.test.x[::-1].copy(), digits.test.y, "reversed")
    for test in (other, None):
        with pytest.raises(UserError, match=r"test set .* has changed"):
            run_folder.check_data(trained, config, dataclasses.replace(digits, test=test))


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


@pytest.mark.parametrize(("weights", "averages", "kept"), [("last", True, "averaged"), ("averaged", False, "last")])
def test_an_earlier_run_whose_weights_contradict_its_optimizer_is_read(weights, averages, kept, trained, tmp_path):
    (folder,) = copied(trained, tmp_path, "earlier")
    config = json.loads((folder / "config.json").read_text())
    config |= {"weights": weights, "optimizer_config": {"use_ema": averages}}
    (folder / "config.json").write_text(json.dumps(config))
    assert run_folder.read_config(folder)["weights"] == kept
