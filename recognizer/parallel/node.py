"""Runs tasks on the nodes of a Ray cluster, each in a temporary folder whose files are sent to the head.

The head is the process that the user started. It sets a node's environment variables for Keras's backend, threads and
GPUs. A node must have the head's versions of Python and of the packages in SAME.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import tempfile
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recognizer.base import environment, machine
from recognizer.base.errors import UserError, enough_memory
from recognizer.base.files import write_bytes, write_json
from recognizer.config import members, sweep_settings
from recognizer.data.arrays import Digits
from recognizer.parallel import worker
from recognizer.runs import run_folder

if TYPE_CHECKING:
    from ray.util.queue import Queue

SAME = ("python", "keras", "tensorflow", "jax", "numpy")  # must have the same versions as on the head
Files = dict[str, bytes]  # {path in a folder: content}
# The order of writing: config.json makes a folder a run, and the files of LAST mark something as complete.
FIRST = ("seen.npy", "architectures.json", "config.json")
LAST = ("*.checkpoint-?.npz", "net-*.json", "result.json", "pruned.json")


def read_files(folder: Path, patterns: Iterable[str] = ("**/*",)) -> Files:
    """Returns {name: bytes} of the files in a folder that match one of the patterns, without hidden files."""
    paths = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file() and path.name[0] != "."}
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write_files(folder: Path, files: Files) -> None:
    """Writes files, {name: bytes}, in an order that leaves a valid run even if the process is killed."""
    for name in sorted(files, key=_place):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / name, files[name])


def _place(name):
    """Returns the place of a file in the order of writing, a sort key."""
    name = name.rpartition("/")[2]
    if name in FIRST:
        return FIRST.index(name) - len(FIRST)
    return next((i for i, pattern in enumerate(LAST, 1) if fnmatch(name, pattern)), 0)


class Pipe:
    """How a task on a node sends progress, files and questions. It replaces the pipe of a worker process.

    Arguments:
        number: int, the task's number.
        mail, answers: Ray's queues to and from the head.
        files: {name: bytes}, the item's files so far.

    Attributes:
        folder: the folder on the node, set by `open`.
    """

    folder: Path

    def __init__(self, number: int, mail: Queue, answers: Queue | None, files: Files) -> None:
        self.number, self.mail, self.answers, self.sent = number, mail, answers, files

    def open(self, folder: Path) -> None:
        """Writes the files to a folder. After each epoch, its changed files are sent."""
        self.folder = folder
        write_files(folder, self.sent)

    def send(self, told: tuple) -> None:
        kind, value = told
        changed = {}
        if kind == "progress" and value[2] is not None:  # an epoch has ended
            now = read_files(self.folder)
            changed = {name: content for name, content in now.items() if self.sent.get(name) != content}
            self.sent = now
        self.mail.put((self.number, kind, value, changed))

    def recv(self) -> Any:
        assert self.answers is not None  # else no task asks
        return self.answers.get()


def run(task: Callable, head: tuple[dict, dict], pipe: Pipe, item: Any, *arguments: Any) -> tuple[Any, Files]:
    """Runs task(pipe, item, versions, *arguments) on a node; returns (result, {name: bytes} of its files).

    head: (environment variables to set, versions on the head).
    """
    variables, versions = head
    environment.set_variables(variables)
    with tempfile.TemporaryDirectory() as name:
        pipe.open(Path(name))
        result = task(pipe, item, versions, *arguments)
        return result, read_files(pipe.folder)


def check(head: tuple[dict, dict]) -> None:
    """Raises UserError if this node cannot import Keras or has other versions. head: see `run`."""
    variables, versions = head
    environment.set_variables(variables | {"CUDA_VISIBLE_DEVICES": "-1"})  # keeps GPU memory free
    import_keras(versions)


def import_keras(versions: dict, config: dict | None = None) -> dict:
    """Imports Keras on a node, with the number of threads of a run's config; returns the node's versions.

    Raises UserError if Keras cannot be imported, or if its versions differ from `versions`.
    """
    node = f"Ray's node {socket.gethostname()}"
    try:
        worker.import_keras(config) if config else environment.import_keras()
    except UserError as error:
        raise UserError(f"{node}: {error}") from error
    here = machine.versions()
    for package in SAME:
        if here.get(package) != versions.get(package):
            told = f"{node} has {package} {here.get(package)}, and this machine {versions.get(package)}"
            raise UserError(f"{told}: install the same version on both")
    return here


def train_net(pipe: Pipe, net: int, versions: dict, config: dict, digits: Digits, run: str) -> dict:
    """Trains a net on a node; returns its result. run: the name of its run."""
    here = import_keras(versions, config)
    from recognizer.training.memory import smaller_batches
    from recognizer.training.progress import Reports
    from recognizer.training.trainer import Trainer

    settings = members.member(config, net)
    progress = functools.partial(Reports, lambda told: pipe.send(("progress", told)))
    advice = f"on Ray's node {socket.gethostname()}: {smaller_batches(settings, Path(run))}"
    with enough_memory(advice):
        result = Trainer(settings, digits, progress).fit(net, pipe.folder, config["nets"])
    result |= {"host": socket.gethostname(), "processor": here["processor"], "gpu": here["gpu"]}
    write_json(run_folder.net_file(pipe.folder, net, ".json"), result)
    return result


def train_trial(pipe: Pipe, trial: worker.Trial, versions: dict, asked: dict, digits: Digits) -> tuple[str, str]:
    """Trains or resumes the run of a sweeps.Trial on a node; returns (state, note)."""
    try:
        config = sweep_settings.config(asked, trial.settings, trial.seed)
    except UserError as error:
        return "failed", str(error)
    import_keras(versions, config)
    with contextlib.chdir(pipe.folder):  # which contains runs/
        return worker.one_trial(pipe=pipe, asked=asked, one=trial, digits=digits)
