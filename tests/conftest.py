"""What the tests share: the scripts run as a user runs them, in a folder of their own, on real digits."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import joblib
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # divide the cores among the processes; otherwise each would use all
    share = max(1, joblib.cpu_count() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(share))

# Real MNIST, and its 70,000 images in the form of Kaggle's download (42,000 labelled); not part of the project.
SHARED = ROOT.parent / "shared" / "data"
needs_mnist = pytest.mark.skipif(
    not (SHARED / "mnist.npz").is_file(),
    reason=f"needs MNIST, ../{SHARED.parent.name}/{SHARED.name}/mnist.npz, for a net that reads well",
)
TINY = ["--epochs", "2", "--set", "steps_per_epoch=5", "--set", "min_steps_per_epoch=1"]


def script(name, *arguments, cwd, timeout=300, **environment):
    """Runs a script, or a command of `python -m recognizer`; returns the finished process with its output as text."""
    what = [str(ROOT / name)] if str(name).endswith(".py") else ["-m", "recognizer", name]
    command = [sys.executable, *what, *map(str, arguments)]
    environment = os.environ | environment
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, env=environment)


def begun(folder, *arguments, **environment):
    """Starts train.py in a folder, as a shell's foreground job; returns the process."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *map(str, arguments)],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts its background jobs with SIGINT ignored, which is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def interrupted(folder, name, number, epochs, *arguments, **environment):
    """Trains until `epochs` epochs are done, and sends signal `number`; returns (exit code, stderr)."""
    process = begun(folder, *arguments, "--run", name, **environment)
    log = folder / "runs" / name / "net-01.csv"
    end = time.monotonic() + 120
    while not (log.is_file() and log.read_text().count("\n") > epochs) and time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    started = time.monotonic()
    _, told = process.communicate(timeout=60)
    assert time.monotonic() - started < 5
    return process.returncode, told


def assert_one_line_error(process, *parts):
    """The process ended with code 2 and one line on stderr that holds all of `parts`."""
    assert process.returncode == 2, process.stdout + process.stderr
    assert process.stderr.count("\n") == 1, process.stderr
    for part in parts:
        assert part in process.stderr


def write_csv(path, x, y=None):
    """Writes images uint8 (n, 28, 28), and labels, in Kaggle's form."""
    rows = x.reshape(len(x), -1)
    header = [f"pixel{i}" for i in range(784)]
    if y is not None:
        rows, header = np.column_stack([y, rows]), ["label", *header]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows.tolist())
    return path


def read_submission(path):
    """Labels of a CSV in Kaggle's form, which is checked."""
    rows = path.read_text().split("\n")
    assert rows[0] == "ImageId,Label"
    assert rows[-1] == ""
    table = [row.split(",") for row in rows[1:-1]]
    assert [int(i) for i, _ in table] == list(range(1, len(table) + 1))
    labels = np.array([int(label) for _, label in table])
    assert set(labels) <= set(range(10))
    return labels


def load(path):
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def copied(trained, folder, *names):
    """Copies the run in `trained` into runs/ of a folder under other names; returns their folders."""
    return [Path(shutil.copytree(trained / "runs" / "bag", folder / "runs" / name)) for name in names]


def check_resumed(options, epochs, folder, monkeypatch):
    """A run that is stopped after some epochs and resumed ends exactly as run "whole", of the same options."""
    import train
    from recognizer.runs import checkpoints

    write = checkpoints.write

    def stop(run, number, arrays, state):
        write(run, number, arrays, state)
        if state["epoch"] == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        train.main([*options, "--run", "broken"])
    monkeypatch.setattr(checkpoints, "write", write)
    train.main(["--resume", "--run", "broken"])
    one, other = (load(folder / "runs" / name / "predictions.npz") for name in ("whole", "broken"))
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])


@pytest.fixture(autouse=True)
def same_environment():
    """A script run in this process chooses its threads by an environment variable, which later ones would inherit."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's digits in MNIST's form: arrays.Digits."""
    from recognizer.data import sources

    return sources.load("digits")


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A test in a folder of its own, without the user's caches and Kaggle's mounts."""
    from recognizer.data import places, sources

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(places, "KAGGLE_INPUT", tmp_path / "input")
    sources.load.cache_clear()
    yield
    sources.load.cache_clear()


@pytest.fixture
def offline(monkeypatch):
    """MNIST cannot be downloaded."""
    from recognizer.base.errors import UserError
    from recognizer.data import mnist

    def no_network():
        raise UserError("no network")

    monkeypatch.setattr(mnist, "downloaded", no_network)


@pytest.fixture
def kaggle_folder(tmp_path, digits):
    """A folder with a train.csv of 40 rows and a test.csv of 10."""
    folder = tmp_path / "kaggle"
    folder.mkdir()
    write_csv(folder / "train.csv", digits.train.x[:40], digits.train.y[:40])
    write_csv(folder / "test.csv", digits.test.x[:10])
    return folder


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """made_once(name, make): a folder that `make(folder)` fills once. Each of xdist's processes gets a copy."""
    own = tmp_path_factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def copied(name, make):
        folder, done = common / f"once-{name}", common / f"once-{name}.done"
        with filelock.FileLock(common / f"once-{name}.lock"):
            if not done.exists():
                folder.mkdir()
                make(folder)
                done.touch()
        return own / name if (own / name).exists() else shutil.copytree(folder, own / name)

    return copied


@pytest.fixture(scope="session")
def trained(made_once):
    """A folder in which two small nets of the bagging recipe `deotte` have been trained: runs/bag/."""
    ends = ["--set", "update_bn=2", "--set", "test_shift=1"]

    def train(folder):
        what = ["deotte", "--nets", 2, *TINY, *ends, "--data", "digits", "--run", "bag"]
        process = script("train.py", *what, cwd=folder)
        assert process.returncode == 0, process.stderr
        (folder / "train.out").write_text(process.stdout)

    return made_once("trained", train)


@pytest.fixture(scope="session")
def reader(made_once):
    """A folder with a run that reads digits well, of the best data that there is: runs/reader/."""
    recipe = ["quick", "--data", SHARED / "mnist.npz"]
    if not (SHARED / "mnist.npz").is_file():
        recipe = ["quick", "--epochs", 2, "--data", "digits"]

    def train(folder):
        process = script("train.py", *recipe, "--run", "reader", cwd=folder)
        assert process.returncode == 0, process.stderr

    return made_once("reader", train)


@pytest.fixture
def no_pictures(monkeypatch):
    """Runs trained in this process draw no pictures, since drawing takes seconds."""
    from recognizer.reports import report_page, run_pictures

    monkeypatch.setattr(run_pictures, "run_pictures", lambda *_: [])
    monkeypatch.setattr(report_page, "write", lambda *_: "none")


@pytest.fixture(scope="session")
def shared():
    if not (SHARED / "mnist.npz").is_file():
        pytest.skip(f"needs {SHARED.parent.name}/{SHARED.name}/mnist.npz and digit-recognizer.zip")
    return SHARED
