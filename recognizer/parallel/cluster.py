"""Runs tasks on a Ray cluster, without a shared file system.

Data are sent to each node once. The files of an item (a net or a trial) come back as bytes after each epoch. If its
node dies, the item resumes from them on another node. Only the user's process writes to the run's folder.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import itertools
import logging
import math
import operator
import re
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from recognizer.base import environment, machine
from recognizer.base.errors import UserError
from recognizer.base.reasons import reason
from recognizer.data.arrays import Digits
from recognizer.parallel import node
from recognizer.parallel.overview import Overview
from recognizer.parallel.worker import Trial
from recognizer.runs import run_folder

if TYPE_CHECKING:
    from ray import ObjectRef

ROOT = Path(__file__).parents[2]
# In .gitignore's syntax: only recognizer/ and the .py files beside it are sent to the nodes. No pattern may match ".",
# which is the root itself.
EXCLUDED = ["/[!.]*", "/.?*", "!/recognizer", "!/recognizer/**", "!/*.py", "__pycache__"]
TRIES = 4  # for an item whose node or process dies
SMALLEST = 1e-4  # the smallest share of a core or a GPU that Ray can reserve
CHECKED_WITHIN = 300  # seconds in which a node must answer the check of its versions
LOOK = 5  # seconds between checks of the nodes, after one has died


@dataclasses.dataclass
class Cluster:
    """A Ray cluster.

    Attributes:
        ray: the module.
        share: {"num_cpus": ..., "num_gpus": ...}, which Ray reserves for each item.
        head: (environment variables, versions) for the nodes.
    """

    ray: ModuleType
    share: dict[str, float]
    head: tuple[dict, dict]

    def nodes(self) -> list[dict]:
        """Returns the nodes that are alive, from ray.nodes()."""
        return [found for found in self.ray.nodes() if found["Alive"]]

    def at_once(self) -> int:
        """Returns how many items can train at once."""
        return max(1, sum(_fits(found["Resources"], self.share) for found in self.nodes()))


@dataclasses.dataclass
class Work:
    """The task for each item, and its callbacks.

    Attributes:
        task: a function of (node.Pipe, item, versions, *arguments) that runs on a node.
        arguments: list, sent to each node once.
        names: a function of an item that returns patterns of its file names in the folder.
        update, named, answer, lost: see processes.each.
    """

    task: Callable
    arguments: list
    names: Callable[[Any], list[str]]
    update: Callable
    named: Callable[[Any], str]
    answer: Callable | None = None
    lost: Callable | None = None


# Connecting


def joined(address: str, config: dict, number: int, cpus: float | None = None, gpus: float | None = None) -> Cluster:
    """Connects to Ray to train `number` items; returns a Cluster. Sets config["threads"] if it is missing.

    address: "local", "auto" or "ray://host:port". cpus, gpus: what Ray reserves for each item; None: chosen here.
    Raises UserError if no node has enough cores and GPUs, or if a node's versions differ from this machine's.
    """
    _check_share("--cpus", cpus, SMALLEST)
    _check_share("--gpus", gpus, 0)
    import keras

    ray = connected(address)
    share = resources(ray.nodes(), number, cpus, gpus, config.get("threads"))
    config.setdefault("threads", _threads(config, share))
    variables = environment.for_workers() | {"KERAS_BACKEND": keras.backend.backend()}
    if not share["num_gpus"]:
        variables["CUDA_VISIBLE_DEVICES"] = "-1"  # else Ray shows all GPUs to a task that reserves none
    cluster = Cluster(ray, share, (variables, machine.versions()))
    if address != "local":
        _check_nodes(cluster)
    hosts = [found["NodeManagerHostname"] for found in cluster.nodes()]
    told = f"{len(hosts)} node{'s' * (len(hosts) > 1)} ({', '.join(sorted(set(hosts)))})"
    print(f"        Ray: {told:.60}, {_told(share)} for each net or trial")
    return cluster


def _check_share(option, value, least):
    """Raises UserError if Ray cannot reserve `value` cores or GPUs."""
    if value is None or value == least or SMALLEST <= value <= 1 or (1 < value < math.inf and value % 1 == 0):
        return
    raise UserError(f"{option} must be a whole number, or a share between {SMALLEST} and 1, not {value:g}")


def connected(address: str) -> ModuleType:
    """Connects to Ray until the program ends; returns the module."""
    ray = environment.import_ray()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    scripts = {"working_dir": str(ROOT), "excludes": EXCLUDED}
    quiet = dict(log_to_driver=False, logging_level=logging.ERROR)
    local = dict(include_dashboard=False) if address == "local" else {}
    try:
        if found := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address):  # Ray would wait for minutes
            socket.create_connection((found[1], int(found[2])), timeout=5).close()
        with warnings.catch_warnings(action="ignore"):  # Ray warns before it raises
            ray.init(address=address, runtime_env=scripts, **quiet, **local)
    except Exception as error:
        token = " (if it asks for a token, set RAY_AUTH_MODE=token here)" * address.startswith("ray://")
        told = f"cannot connect to Ray at {address} ({reason(error, 100)})"
        raise UserError(f"{told}; check it with `ray status` on that machine{token}") from error
    for number, handler in handlers.items():  # Ray has replaced them
        signal.signal(number, handler)
    return ray


def resources(
    nodes: list[dict], nets: int, cpus: float | None = None, gpus: float | None = None, threads: int | None = None
) -> dict[str, float]:
    """Returns what Ray reserves for each net, {"num_cpus": ..., "num_gpus": ...}. Both may be fractions.

    By default, a net gets a GPU if any node has one. It gets one core for each recorded thread, up to the size of a
    node. Without recorded threads, it gets one core if it has a GPU, else the most cores with which all nets can
    train at once.

    nodes: from ray.nodes(). threads: int, the recorded threads, or None. Raises UserError if no node has enough.
    """
    found = [one["Resources"] for one in nodes if one["Alive"]]
    if gpus is None:
        gpus = int(any(one.get("GPU", 0) for one in found))
    if cpus is None:
        cores = [int(one.get("CPU", 0)) for one in found if one.get("GPU", 0) >= gpus]
        wanted = threads or (1 if gpus else _equal_share(cores, nets))
        cpus = max(1, min(wanted, max(cores, default=0)))
    share = {"num_cpus": cpus, "num_gpus": gpus}
    if not any(_fits(one, share) for one in found):
        kinds = list(dict.fromkeys(f"{one.get('CPU', 0):g} cores and {one.get('GPU', 0):g} GPUs" for one in found))
        told = f"no node of Ray has {_told(share)} for a net: its nodes have {', '.join(kinds[:4]) or 'nothing'}"
        raise UserError(told + "; --gpus 0 trains without GPUs" * bool(gpus))
    return share


def _equal_share(cores, nets):
    """Returns how many cores each net can have if all train at once; 1 if there are too few cores."""
    shares = range(max(cores, default=1), 1, -1)
    return next((share for share in shares if sum(count // share for count in cores) >= nets), 1)


def _fits(resources, share):
    """Returns how many items a node with these resources can train at once."""
    needed = {"CPU": share["num_cpus"], "GPU": share["num_gpus"]}
    return min(int(resources.get(key, 0) / need + 1e-9) for key, need in needed.items() if need)


def _told(share):
    return f"{share['num_cpus']:g} cores and {share['num_gpus']:g} GPUs"


def _threads(config, share):
    """Returns the number of threads to record: the user's setting, else the cores that Ray reserves."""
    if environment.GIVEN["TF_NUM_INTRAOP_THREADS"] and "replicas" in config:
        return environment.recorded_threads(config)
    return max(1, int(share["num_cpus"]))


def _check_nodes(cluster):
    """Raises UserError if a node cannot import Keras, or has other versions of its packages.

    A node that does not answer in time is checked when it trains, like nodes that join later.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    checks = []
    for found in cluster.nodes():
        there = NodeAffinitySchedulingStrategy(found["NodeID"], soft=False)
        check = cluster.ray.remote(num_cpus=0, max_calls=1, max_retries=0, scheduling_strategy=there)(node.check)
        checks.append(check.remote(cluster.head))
    end = time.monotonic() + CHECKED_WITHIN
    for check in checks:
        try:
            cluster.ray.get(check, timeout=max(1, end - time.monotonic()))
        except cluster.ray.exceptions.RayError as error:
            if not _is_lost(error):
                raise _failure("the check of a node", error) from error


# Running tasks


def each(cluster: Cluster, work: Work, items: Iterator, folder: Path, most: int | None = None) -> Iterator[tuple]:
    """Runs the task of a Work for each item of an iterator on a cluster; yields (item, result) as the tasks end.

    An item whose node or process dies is started again from its files.

    folder: Path, the folder of the items' files. most: int, how many items to start at once; None: all, so that nodes
    which join later are used.
    """
    running = Running(cluster, work, folder)
    while True:
        while (most is None or len(running.tasks) < most) and (item := next(items, None)) is not None:
            running.start(item)
        if not running.tasks:
            return
        ended, _ = cluster.ray.wait(list(running.tasks), timeout=0.2)
        running.take_mail()
        for task in ended:
            yield from running.end(task)
        if not ended:
            running.look_at_nodes()


class Running:
    """The tasks that run on a cluster.

    Arguments:
        cluster, work, folder: see `each`.

    Attributes:
        tasks: {Ray's task: (number, item, queue of answers to the task)}.
    """

    def __init__(self, cluster: Cluster, work: Work, folder: Path) -> None:
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        ray = cluster.ray
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)  # others may die
        self.cluster, self.work, self.folder = cluster, work, folder
        self.queue = functools.partial(Queue, actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self.mail, self.numbers = self.queue(), itertools.count()
        self.tasks: dict[ObjectRef, tuple] = {}
        self.remote = ray.remote(max_calls=1, max_retries=0, **cluster.share)(node.run)
        self.arguments = [ray.put(argument) for argument in work.arguments]
        self.deaths: collections.Counter = collections.Counter()
        self.looked, self.waits = 0.0, False

    def start(self, item: Any) -> None:
        """Starts the task of an item."""
        number, answers = next(self.numbers), self.queue() if self.work.answer else None
        pipe = node.Pipe(number, self.mail, answers, node.read_files(self.folder, self.work.names(item)))
        task = self.remote.remote(self.work.task, self.cluster.head, pipe, item, *self.arguments)
        self.tasks[task] = number, item, answers

    def take_mail(self) -> None:
        """Handles the messages of the nodes: files, progress and questions."""
        at_work = {number: (item, answers) for number, item, answers in self.tasks.values()}
        while not self.mail.empty():
            number, kind, value, files = self.mail.get()
            if number not in at_work:  # its node has died
                continue
            item, answers = at_work[number]
            node.write_files(self.folder, files)
            if kind == "progress":
                self.work.update(item, value)
            else:
                assert self.work.answer is not None  # else no task asks
                answers.put(self.work.answer(item, value))

    def end(self, task: ObjectRef) -> Iterator[tuple]:
        """Handles the end of a task: yields (item, result), or starts the item again if its node has died."""
        _, item, _ = self.tasks.pop(task)
        named = self.work.named(item)
        try:
            result, files = self.cluster.ray.get(task)
        except self.cluster.ray.exceptions.RayError as error:
            if not _is_lost(error):
                raise _failure(named, error) from error
            yield from self._lost(item, named, error)
            return
        self._replace(item, files)
        yield item, result

    def _replace(self, item, files):
        """Writes the files of a finished item, and removes its files that no longer exist on the node."""
        node.write_files(self.folder, files)
        for name in node.read_files(self.folder, self.work.names(item)).keys() - files.keys():
            (self.folder / name).unlink()

    def _lost(self, item, named, error):
        """Restarts an item whose node or process has died.

        After the last try, yields (item, the result of work.lost). Raises UserError if work.lost is None.
        """
        self.deaths[named] += 1
        told = f"{named} was lost with its node or process ({reason(error)})"
        if self.deaths[named] < TRIES:
            print(f"{told}: it continues elsewhere", file=sys.stderr)
            self.start(item)
        elif self.work.lost:
            yield item, self.work.lost(item, f"{told}, {TRIES} times")
        else:
            raise UserError(f"{told}, {TRIES} times: continue with --resume") from error

    def look_at_nodes(self) -> None:
        """Prints once that no node can train an item, after a node has died."""
        if not self.deaths or time.monotonic() < self.looked + LOOK:
            return
        self.looked, share = time.monotonic(), self.cluster.share
        waits = not any(_fits(found["Resources"], share) for found in self.cluster.nodes())
        if waits and not self.waits:
            print(f"no node of Ray has {_told(share)} any more: waiting for one to join", file=sys.stderr)
        self.waits = waits


def _is_lost(error):
    """Returns whether an error from Ray means that a node or process has died, rather than that a task has failed."""
    from ray.exceptions import RayError, RayTaskError, UnserializableException

    if isinstance(error, RayTaskError):  # a cause that Ray cannot pickle becomes a RayError
        return isinstance(error.cause, RayError) and type(error.cause) is not RayError and _is_lost(error.cause)
    return not isinstance(error, UnserializableException)


def _failure(named, error):
    """Returns the error to raise for a failed task: its UserError, or a RuntimeError with the reason."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, UserError):
        return cause
    told = reason(cause) if cause else str(error).strip().splitlines()[-1]  # the last line of its traceback
    return RuntimeError(f"{named} failed on a node of Ray: {told}")


# Nets and trials


def trials(
    cluster: Cluster, asked: dict, digits: Digits, some: Iterator[Trial], update: Callable, answer: Callable | None
) -> Iterator[tuple]:
    """Trains trials of a sweep; yields (trial, (state, note)) as they end.

    A search starts only as many trials as can train at once, since earlier results decide its next trials.

    asked: dict, the content of sweep.json. some: iterator of sweeps.Trials. update, answer: see processes.each.
    """
    work = Work(
        node.train_trial,
        [asked, digits],
        lambda trial: [f"runs/{trial.run}/*"],
        update,
        operator.attrgetter("run"),
        answer,
        lambda trial, why: ("failed", why),
    )
    return each(cluster, work, some, Path(), cluster.at_once() if asked["ranges"] else None)


def fit_nets(
    config: dict, folder: Path, digits: Digits, cluster: Cluster, verbose: int | None = None
) -> Iterator[dict]:
    """Trains the unfinished nets of a run; yields each net's result as it ends."""
    left, finished = run_folder.unfinished_nets(folder, config)
    yield from finished
    with contextlib.closing(Overview(len(left), verbose)) as shown:
        work = Work(
            node.train_net,
            [config, digits, folder.name],
            lambda net: [f"net-{net:02d}.*"],
            shown.update,
            "net {}".format,
        )
        for net, result in each(cluster, work, iter(left), folder):
            shown.end(net)
            yield result
