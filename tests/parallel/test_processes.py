"""Nets trained side by side are the same as nets trained one after another, whatever happens to a process."""

import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_one_line_error, begun, copied, load, script

from recognizer.base import environment

OPTIONS = ["codeastar", "--data", "digits", "--nets", 3, "--epochs", 4, "--set=steps_per_epoch=20", "--seed", 3]
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1"}  # as each of two nets has on two cores
AS_STARTED, KEPT = ", as when the run was started", "; a run keeps its number of threads"
linux = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc, to find the processes")


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    """The folder of a run whose nets were trained one after another."""
    folder = tmp_path_factory.mktemp("one")
    process = script("train.py", *OPTIONS, "--run", "one", cwd=folder, **ONE_THREAD)
    assert process.returncode == 0, process.stderr
    return folder / "runs" / "one"


def assert_same(run, other):
    """Two runs have the same predictions, weights and logs, bit for bit."""
    one, two = (load(folder / "predictions.npz") for folder in (run, other))
    assert one.keys() == two.keys()
    for key, values in one.items():
        np.testing.assert_array_equal(values, two[key], key)
    for net in (1, 2, 3):
        rows = [
            [line.rsplit(",", 1)[0] for line in (folder / f"net-{net:02d}.csv").read_text().splitlines()]
            for folder in (run, other)
        ]
        assert rows[0] == rows[1]


def started(folder, *options):
    """Starts train.py with two jobs, and waits until a net has finished an epoch; returns the process."""
    process = begun(folder, *options, "--jobs", 2, "--run", "two", **ONE_THREAD)
    end = time.monotonic() + 120
    while not list((folder / "runs").glob("two/net-*.csv")) and time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return process


def workers(process):
    """The ids of the processes that train nets for a process."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def resumed(folder):
    process = script("train.py", "--run", "two", "--resume", cwd=folder, **ONE_THREAD)
    assert process.returncode == 0, process.stderr
    assert "        2 nets at once on" in process.stdout
    assert "Data:   " in process.stdout
    assert re.search(r"^Recipe: codeastar, [123] of 3 nets left to train$", process.stdout, re.MULTILINE)
    return folder / "runs" / "two"


@pytest.mark.slow
def test_two_at_a_time_are_as_one_after_another(one_by_one, tmp_path):
    process = script("train.py", *OPTIONS, "--run", "two", "--jobs", 2, cwd=tmp_path, **ONE_THREAD)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert_same(one_by_one, tmp_path / "runs" / "two")
    for net in (1, 2, 3):
        assert f"Net {net}/3:  validation" in process.stdout
        assert f"net {net}/3  epoch 4/4  loss" in process.stdout
        assert f"net {net}/3  predicting 115 validation and 360 test images" in process.stdout


@pytest.mark.slow
@linux
def test_the_net_of_a_process_that_dies_goes_on_in_a_new_one(one_by_one, tmp_path):
    process = started(tmp_path, *OPTIONS)
    os.kill(workers(process)[0], signal.SIGKILL)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert told.count("\n") == 1
    assert "was killed by SIGKILL: net" in told
    assert "continues in a new process" in told
    assert_same(one_by_one, tmp_path / "runs" / "two")


@pytest.mark.slow
@linux
@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGINT, marks=pytest.mark.by_hand), signal.SIGTERM, signal.SIGKILL],
    ids=lambda n: n.name,
)
def test_a_stopped_run_ends_with_its_processes_and_goes_on_exactly(number, one_by_one, tmp_path):
    process = started(tmp_path, *OPTIONS)
    children = workers(process)
    process.send_signal(number)
    begun = time.monotonic()
    _, told = process.communicate(timeout=60)
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() - begun < 5
        time.sleep(0.05)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    if number != signal.SIGKILL:
        assert told == "\ntrain.py: stopped; go on with: python train.py --run two --resume\n"
    assert_same(one_by_one, resumed(tmp_path))


@pytest.mark.slow
def test_a_net_that_fails_ends_the_run_in_a_line(tmp_path):
    options = [*OPTIONS, "--learning-rate", 1e6, "--set=optimizer=sgd"]
    process = script("train.py", *options, "--jobs", 2, "--run", "wild", cwd=tmp_path)
    assert_one_line_error(process, "--learning-rate")


@pytest.mark.parametrize("jobs", ["0", "-1", "two", "1.5"])
def test_a_number_of_jobs_that_cannot_be_is_refused(jobs, tmp_path):
    assert_one_line_error(script("train.py", "--jobs", jobs, cwd=tmp_path), "--jobs", "auto")


@pytest.mark.parametrize(
    ("given", "gpus", "seen"),
    [
        (None, 2, ["0", "1", "0"]),
        ("3", 1, ["3", "3", "3"]),
        ("2, 5", 2, ["2", "5", "2"]),
        (None, 1, ["0", "0", "0"]),
        ("", 0, None),
        ("MIG-a,MIG-b", 1, ["MIG-a", "MIG-b", "MIG-a"]),  # a process sees one of them
        ("GPU-a,GPU-b", 2, ["GPU-a", "GPU-b", "GPU-a"]),
    ],
)
def test_processes_take_the_visible_gpus_in_turn(given, gpus, seen, monkeypatch):
    from recognizer.base import machine
    from recognizer.parallel import processes

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.setattr(machine, "gpus", lambda: [machine.Gpu("T4", (7, 5))] * gpus)
    found = [processes.visible_gpu(i) for i in range(3)]
    assert found == ([{"CUDA_VISIBLE_DEVICES": one} for one in seen] if seen else [{}] * 3)


@pytest.mark.parametrize(
    ("gpus", "nets", "cores", "tried"),
    [
        (0, 8, 2, [1, 2]),
        (0, 3, 8, [1, 2, 3]),
        (0, 1, 8, [1]),
        (4, 3, 8, [3]),
        (4, 15, 8, [4, 8, 15]),
        (1, 15, 2, [1, 2, 4]),
    ],
)
def test_auto_measures_numbers_that_the_nets_and_the_machine_allow(gpus, nets, cores, tried, monkeypatch, capsys):
    from recognizer.base import machine
    from recognizer.parallel import processes

    monkeypatch.setattr(machine, "gpus", lambda: [machine.Gpu("T4", (7, 5))] * gpus)
    monkeypatch.setattr(processes.joblib, "cpu_count", lambda: cores)
    measured = []
    monkeypatch.setattr(processes, "_rate", lambda config, digits, jobs: measured.append(jobs) or 100 - jobs)
    config = {"nets": nets, "replicas": 1, "batch_size": 64}
    assert processes.fastest(config, None) == tried[0]
    assert measured == tried
    assert "threads" not in config


@pytest.mark.parametrize(
    ("kinds", "jobs", "expected"),
    [
        ("aaaabbcc", 2, ["aaaa", "bbcc"]),
        ("aaaa", 2, ["aa", "aa"]),
        ("aaaaaaab", 2, ["aaaa", "baaa"]),
        ("abc", 2, ["ac", "b"]),
        ("aabb", 3, ["ab", "b", "a"]),  # no process is left without a net
        ("aaaabb", 3, ["aa", "bb", "aa"]),
        ("abab", 2, ["aa", "bb"]),
        ("aabb", 1, ["aabb"]),
        ("a", 4, ["a", "", "", ""]),
    ],
    ids=str,
)
def test_a_process_trains_nets_of_as_few_kinds_as_possible(kinds, jobs, expected):
    from recognizer.parallel import processes

    nets = list(range(3, 3 + len(kinds)))  # of a resumed run
    taken, last, rounds = [[] for _ in range(jobs)], [None] * jobs, 0
    take = processes.by_kind(nets, lambda net: kinds[net - 3])
    while rounds == 0 or any(net is not None for net in last):
        for i in range(jobs):  # each takes as long as the others
            if rounds == 0 or last[i] is not None:
                last[i] = take(last[i])
            if last[i] is not None:
                taken[i].append(last[i])
        rounds += 1
    assert sorted(net for some in taken for net in some) == nets
    assert ["".join(kinds[net - 3] for net in some) for some in taken] == expected


@pytest.mark.parametrize(
    ("recorded", "given", "cores", "jobs", "told"),
    [
        ({}, None, 8, 1, ""),
        ({}, 4, 8, 4, "4 nets at once on 8 cores, 2 threads each"),
        ({}, 5, 8, 5, "5 nets at once on 8 cores, 1 thread each"),  # the run has five nets
        ({"jobs": 4, "threads": 2}, None, 8, 4, "4 nets at once on 8 cores, 2 threads each" + AS_STARTED),
        ({"jobs": 4, "threads": 2}, 4, 2, 4, "4 nets at once on 2 cores, 2 threads each" + AS_STARTED),
        ({"jobs": 4, "threads": 2}, None, 1, 4, "4 nets at once on 1 core, 2 threads each" + AS_STARTED),
        ({"jobs": 4, "threads": 2}, 1, 8, 1, "1 net at once on 8 cores, 2 threads each" + KEPT),
        ({"jobs": 1, "threads": 8}, 2, 8, 2, "2 nets at once on 8 cores, 8 threads each" + KEPT),
        ({"jobs": 1, "threads": 8}, None, 8, 1, ""),
        ({"threads": 2}, None, 8, 1, "1 net at once on 8 cores, 2 threads each" + KEPT),  # started with --ray
    ],
)
def test_a_resumed_run_keeps_its_jobs_and_threads(recorded, given, cores, jobs, told, monkeypatch, capsys):
    from recognizer.parallel import processes

    monkeypatch.setattr(processes.joblib, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setitem(environment.GIVEN, "TF_NUM_INTRAOP_THREADS", None)
    config = {"replicas": 2, "batch_size": 64, "nets": 5} | recorded
    assert processes.choose_jobs(config, None, given, 5) == config["jobs"] == jobs
    assert config["threads"] == recorded.get("threads", max(1, cores // jobs))
    assert capsys.readouterr().out == (f"        {told}\n" if told else "")


def test_a_number_of_threads_that_the_user_sets_is_recorded(monkeypatch):
    config = {"replicas": 2, "batch_size": 64}
    monkeypatch.setitem(environment.GIVEN, "TF_NUM_INTRAOP_THREADS", "3")
    assert environment.recorded_threads(config, 4) == 6  # of which each replica has three
    for key in ("NPROC", "TF_NUM_INTRAOP_THREADS"):
        monkeypatch.setenv(key, "none")
        monkeypatch.delenv(key)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    environment.choose_threads(config | {"threads": 2})
    assert (os.environ["TF_NUM_INTRAOP_THREADS"], os.environ["NPROC"]) == ("1", "2")


@pytest.mark.parametrize(
    ("jobs", "nets", "told"),
    [
        (2, 1, "--jobs 2: no effect: there is only 1 net to train"),
        (8, 1, "--jobs 8: no effect: there is only 1 net to train"),
        (4, 3, "--jobs 4: 3 at once, since there are only 3 nets to train"),
        (3, 3, ""),
        (2, 3, ""),
        (1, 1, ""),
        (None, 1, ""),
    ],
    ids=str,
)
def test_more_jobs_than_nets_are_said_to_be_too_many(jobs, nets, told, capsys):
    import train

    arguments = train.parser().parse_args(["--jobs", str(jobs)] if jobs else [])
    train.how_to_fit(arguments, {"nets": nets, "replicas": 1, "batch_size": 64}, None, nets)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if "--jobs" in line] == [told] * bool(told)


@pytest.mark.slow
def test_jobs_are_compared_with_the_nets_that_a_resumed_run_has_left(trained, tmp_path, monkeypatch, capsys):
    import train

    monkeypatch.chdir(tmp_path)
    (folder,) = copied(trained, tmp_path, "bag")
    for name in ("result.json", "net-02.json"):
        (folder / name).unlink()
    train.main(["--resume", "--run", "bag", "--jobs", "2"])
    assert "--jobs 2: no effect: there is only 1 net to train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("backend", "given", "threads"),
    [
        ("tensorflow", {}, 4),
        ("tensorflow", {"TF_NUM_INTRAOP_THREADS": "3"}, 6),  # three for each replica
        ("tensorflow", {"NPROC": "3"}, 4),
        ("jax", {}, 4),
        ("jax", {"TF_NUM_INTRAOP_THREADS": "1"}, 4),  # not read by JAX
        ("jax", {"NPROC": "3"}, 3),
        ("jax", {"NPROC": "0"}, 4),
    ],
    ids=str,
)
def test_the_threads_that_a_run_records_are_those_that_its_backend_uses(backend, given, threads, monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    monkeypatch.setattr(environment, "backend", lambda: backend)
    for name in ("NPROC", "TF_NUM_INTRAOP_THREADS"):
        monkeypatch.setitem(environment.GIVEN, name, given.get(name))
    assert environment.recorded_threads({"replicas": 2, "batch_size": 64}, jobs=2) == threads


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--cpus", 2], "--cpus is for --ray"),
        (["--gpus", 0.5, "--jobs", 2], "--gpus is for --ray"),
        (["--ray", "local", "--jobs", 2], "give one of them"),
    ],
    ids=str,
)
@pytest.mark.parametrize("command", [["train.py"], ["sweep", "linear", "--seeds", 2]], ids=str)
def test_options_that_do_not_go_together_are_refused(command, options, told, tmp_path):
    assert_one_line_error(script(*command, *options, cwd=tmp_path), told)
