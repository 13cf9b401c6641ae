"""Ray trains the same nets as worker processes do, on nodes that share no folder, whichever node dies."""

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, assert_one_line_error, interrupted, script
from test_processes import ONE_THREAD, OPTIONS, assert_same

from recognizer.base import environment
from recognizer.base.errors import UserError
from recognizer.parallel import cluster, node

needs_ray = pytest.mark.skipif(not environment.installed("ray"), reason="needs ray: requirements/cluster.txt")
NETS = [1, 2, 3]


def by_ray(function):
    """Marks a test that starts Ray."""
    return needs_ray(pytest.mark.slow(function))


def nodes(*resources):
    """Nodes as Ray describes them, of (cores, GPUs) each."""
    return [{"Alive": True, "Resources": {"CPU": cpu, "GPU": gpu}} for cpu, gpu in resources]


@pytest.mark.parametrize(
    ("found", "nets", "asked", "share"),
    [
        ([(8, 0), (4, 0)], 2, {}, (4, 0)),
        ([(8, 0), (8, 0)], 2, {}, (8, 0)),
        ([(8, 0), (4, 0)], 3, {}, (4, 0)),
        ([(7, 0), (4, 0)], 4, {}, (2, 0)),
        ([(8, 0)], 100, {}, (1, 0)),
        ([(4, 0)], 2, {"cpus": 0.5}, (0.5, 0)),
        ([(4, 0), (8, 2)], 4, {}, (1, 1)),
        ([(4, 0), (8, 2)], 4, {"cpus": 2}, (2, 1)),
        ([(4, 0), (8, 2)], 4, {"threads": 2}, (2, 1)),  # of a run that is resumed or repeated
        ([(16, 0), (4, 1)], 4, {"threads": 8}, (4, 1)),
        ([(4, 0)], 4, {"threads": 8}, (4, 0)),
        ([(4, 0), (8, 2)], 4, {"gpus": 0.25}, (1, 0.25)),
        ([(4, 0), (8, 2)], 2, {"gpus": 0}, (4, 0)),
    ],
    ids=str,
)
def test_what_a_net_has_of_a_cluster(found, nets, asked, share):
    assert cluster.resources(nodes(*found), nets, **asked) == {"num_cpus": share[0], "num_gpus": share[1]}


@pytest.mark.parametrize(
    ("found", "asked", "told"),
    [
        ([(4, 0)], {"gpus": 1}, "no node of Ray has 1 cores and 1 GPUs for a net: its nodes have 4 cores and 0 GPUs"),
        ([(4, 1), (8, 0)], {"cpus": 8}, "4 cores and 1 GPUs, 8 cores and 0 GPUs; --gpus 0 trains without GPUs"),
        ([(0.5, 0)], {}, "no node of Ray has 1 cores"),
        ([(4, 0)] * 100, {"cpus": 8}, "have 4 cores and 0 GPUs$"),
        ([], {}, "nothing"),
    ],
    ids=str,
)
def test_a_net_that_no_node_can_train_is_refused(found, asked, told):
    with pytest.raises(UserError, match=told):
        cluster.resources(nodes(*found), 2, **asked)


@pytest.mark.parametrize("share", [-1, 1.5, 1e-5, float("nan"), float("inf")])
@pytest.mark.parametrize("option", ["cpus", "gpus"])
def test_a_share_that_ray_cannot_reserve_is_refused(option, share):
    with pytest.raises(UserError, match=f"--{option} must be a whole number, or a share"):
        cluster.joined("local", {}, 2, **{option: share})


def test_how_many_items_a_cluster_trains_at_once():
    class Ray:
        @staticmethod
        def nodes():
            return [*nodes((7, 0), (4, 1)), {"Alive": False, "Resources": {"CPU": 9}}]

    shares = {(2, 0): 5, (0.1, 0): 110, (2, 0.25): 2, (1, 1): 1, (8, 0): 1}
    for (cpus, gpus), most in shares.items():
        assert cluster.Cluster(Ray, {"num_cpus": cpus, "num_gpus": gpus}, ()).at_once() == most


def test_files_of_a_node_are_written_in_an_order_that_leaves_a_sound_run(tmp_path, monkeypatch):
    names = ["config.json", "seen.npy", "architectures.json", "net-01.csv", "net-01.steps.csv", "net-01.keras"]
    names += ["net-01.checkpoint-0.npz", "net-01.predictions.npz", "net-01.json", "net-10.json", "result.json"]
    written = []
    monkeypatch.setattr(node, "write_bytes", lambda path, content: written.append(path.name))
    for _ in range(20):
        random.shuffle(names)
        node.write_files(tmp_path, {f"runs/one/{name}": b"" for name in names})
        at = {name: i for i, name in enumerate(written)}
        assert max(at["seen.npy"], at["architectures.json"]) < at["config.json"] == 2
        assert at["net-01.steps.csv"] < at["net-01.checkpoint-0.npz"]
        others = [i for name, i in at.items() if not name.startswith("net-") or not name.endswith(".json")]
        assert max(i for i in others if i != at["result.json"]) < at["net-01.json"] < at["result.json"]
        written.clear()


def test_a_task_on_a_node_has_the_variables_that_the_user_has_set(monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")  # as chosen by the process that started the node
    monkeypatch.setenv("NPROC", "7")
    variables = {"TF_NUM_INTRAOP_THREADS": None, "NPROC": "3", "KERAS_BACKEND": "jax"}

    def told(pipe, item, versions):
        return [os.environ.get(name) for name in variables]

    result, files = node.run(told, (variables, {}), node.Pipe(0, None, None, {"net-01.csv": b"x"}), 1)
    assert result == [None, "3", "jax"]
    assert files == {"net-01.csv": b"x"}


@needs_ray
def test_only_the_scripts_are_sent_to_the_nodes(tmp_path):
    from ray._private.runtime_env import packaging

    names = ["recognizer/nn/new.py", "recognizer/reports/templates/base.html", "models.py", "mine.py"]
    left = ["data/train.csv", "mine/big.bin", ".venv/lib/a.py", "big.bin", ".git/x", "recognizer/nn/__pycache__/a.pyc"]
    for name in names + left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    sent = []
    exclude = packaging._get_excludes(tmp_path, cluster.EXCLUDED)
    packaging._dir_travel(tmp_path, [exclude], sent.append, include_gitignore=True)
    assert sorted(str(path.relative_to(tmp_path)) for path in sent if path.is_file()) == sorted(names)


@pytest.fixture(scope="module")
def by_processes(tmp_path_factory):
    """The folder of a run whose nets were trained two at a time, each by one thread."""
    folder = tmp_path_factory.mktemp("processes")
    process = script("train.py", *OPTIONS, "--jobs", 2, "--run", "one", cwd=folder, **ONE_THREAD)
    assert process.returncode == 0, process.stderr
    return folder / "runs" / "one"


@pytest.fixture(scope="module")
def ray_cluster(tmp_path_factory):
    """A cluster whose head has two cores, and which the tests add nodes to."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(tmp_path_factory.mktemp("head")):
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        yield made
        made.shutdown()


@by_ray
@pytest.mark.by_hand
def test_a_run_that_is_stopped_resumes_on_another_cluster(by_processes, ray_cluster, tmp_path):
    options = ["--ray", "local", "--cpus", 1]
    code, told = interrupted(tmp_path, "ray", signal.SIGINT, 1, *OPTIONS, *options)
    assert code == 130, told
    resumed = script("train.py", "--run", "ray", "--resume", "--ray", ray_cluster.address, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stderr == ""
    assert "net 3/3  epoch 4/4  loss" in resumed.stdout
    assert_same(by_processes, tmp_path / "runs" / "ray")
    assert not list((tmp_path / "runs" / "ray").glob("*checkpoint*"))


def wait_for(process, lines, path):
    """Waits until a CSV that a process writes has so many rows."""
    end = time.monotonic() + 120
    while not (path.is_file() and path.read_text().count("\n") > lines) and time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@by_ray
def test_the_nets_of_a_node_that_dies_continue_on_one_that_joins(by_processes, ray_cluster, tmp_path):
    (tmp_path / "node").mkdir()
    with contextlib.chdir(tmp_path / "node"):
        first = ray_cluster.add_node(num_cpus=3)
        command = [sys.executable, str(ROOT / "train.py"), *map(str, OPTIONS), "--ray", ray_cluster.address]
        with subprocess.Popen(
            [*command, "--cpus", "3", "--run", "ray"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | ONE_THREAD,
        ) as process:
            wait_for(process, 1, tmp_path / "runs" / "ray" / "net-01.csv")
            ray_cluster.remove_node(first, allow_graceful=False)
            lines = list(itertools.takewhile(lambda line: "waiting" not in line, process.stderr))
            second = ray_cluster.add_node(num_cpus=3)
            lines += process.stderr.readlines()
        ray_cluster.remove_node(second)
    assert process.returncode == 0, lines
    assert lines
    assert all("was lost with its node or process" in line for line in lines)
    assert_same(by_processes, tmp_path / "runs" / "ray")


@by_ray
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--ray", "127.0.0.1:1"], "cannot connect to Ray at 127.0.0.1:1 (Connection refused); check it with `ray sta"),
        (["--cpus", 1000], "no node of Ray has 1000 cores"),
        (["--gpus", 1], "no node of Ray has 1 cores and 1 GPUs"),
    ],
    ids=str,
)
def test_a_cluster_that_cannot_do_it_is_refused_in_a_line(options, told, ray_cluster, tmp_path):
    options = options if "--ray" in options else ["--ray", ray_cluster.address, *options]
    assert_one_line_error(script("train.py", *OPTIONS, *options, cwd=tmp_path), told)
    assert not list((tmp_path / "runs").glob("*"))


FAILURES = """
import os, sys, pathlib
sys.path.insert(0, sys.argv[1])
from recognizer.base import environment, machine
environment.import_keras()
from recognizer.parallel import cluster

versions = machine.versions()
machine.versions = lambda: versions | {"keras": "9.9"}
try:
    cluster.joined(sys.argv[2], {}, 2)
except Exception as error:
    print(repr(error))
cluster.environment.import_ray().shutdown()
machine.versions = lambda: versions
joined = cluster.joined(sys.argv[2], {}, 2)

class Odd(Exception):
    def __init__(self, one, two):
        super().__init__("odd")

def task(pipe, item, versions):
    if item == "dies":
        os._exit(1)
    if item == "odd":
        raise Odd(1, 2)
    return os.environ["CUDA_VISIBLE_DEVICES"] if item == "gpu" else 1 / 0

for item in ("gpu", "fault", "odd", "dies"):
    lost = lambda item, why: ("failed", why)
    work = cluster.Work(task, [], lambda item: ["*.none"], print, "trial {}".format, lost=lost)
    try:
        print(*cluster.each(joined, work, iter([item]), pathlib.Path()))
    except Exception as error:
        print(repr(error))
"""


@by_ray
def test_what_fails_on_a_node_is_told_as_what_it_is(ray_cluster, tmp_path):
    command = [sys.executable, "-c", FAILURES, str(ROOT), ray_cluster.address]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    own = ("(raylet)", "        Ray:")  # lines of Ray about dead workers, and our line about its nodes
    lines = [line for line in process.stdout.splitlines() if not any(mark in line for mark in own)]
    assert len(lines) == 5, process
    assert lines[0].startswith("""UserError("Ray's node """)
    assert ", and this machine 9.9: install the same version on both" in lines[0]
    assert lines[1] == "('gpu', '-1')"
    assert lines[2] == "RuntimeError('trial fault failed on a node of Ray: ZeroDivisionError: division by zero')"
    assert lines[3].startswith("RuntimeError('trial odd failed on a node of Ray: ")
    assert lines[3].endswith("Odd: odd')")
    assert lines[4].startswith("('dies', ('failed', 'trial dies was lost with its node or process (")
    assert process.stderr.count("trial dies was lost") == cluster.TRIES - 1
    assert "trial odd" not in process.stderr


@by_ray
@pytest.mark.by_hand
@pytest.mark.parametrize(
    "what",
    [
        ["--grid", "batch_size=16,32", "--grid", "learning_rate=.01,.02"],
        ["--range", "batch_size=8..32", "--trials", 4],
    ],
)
def test_a_sweep_by_ray_is_as_one_by_processes(what, ray_cluster, tmp_path):
    if "--range" in what:
        pytest.importorskip("optuna")
    options = ["linear", *what, "--data", "digits", "--epochs", 2, "--set=steps_per_epoch=3", "--validation-split", 0.2]
    tables = []
    for name, where in (("here", ["--jobs", 2]), ("ray", ["--ray", ray_cluster.address, "--cpus", 1])):
        folder = tmp_path / name
        folder.mkdir()
        process = script("sweep", *options, "--sweep", "s", *where, cwd=folder, **ONE_THREAD)
        assert process.returncode == 0, process.stderr
        assert process.stderr == ""
        rows = (folder / "sweeps" / "s" / "trials.csv").read_text().splitlines()
        tables.append([line.split(",")[:-3] for line in rows])
        assert len(list((folder / "runs").glob("s-*/result.json"))) == 4
        assert (folder / "sweeps" / "s" / "table.html").is_file()
    if "--grid" in what:
        assert tables[0] == tables[1]
