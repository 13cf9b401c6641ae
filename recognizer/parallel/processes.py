"""Runs tasks in several processes on this machine, to train the nets of a run or the trials of a sweep.

Each process takes another item when it is free. It uses its share of the cores, or one GPU.
"""

import collections
import contextlib
import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import joblib

from recognizer.base import environment, machine
from recognizer.base.errors import UserError
from recognizer.base.words import plural
from recognizer.config import members
from recognizer.data.arrays import Digits
from recognizer.parallel import worker
from recognizer.parallel.overview import Overview
from recognizer.runs import run_folder

MEASURED = 3  # seconds of training to measure the speed
TRIES = 2  # for an item whose process dies


class Process:
    """A process that runs a task of worker.py, with a pipe to it.

    Arguments:
        task: a function of worker.py.
        number: int from 0, which selects the GPU in turn.
        arguments: the arguments of the task after its pipe.

    Attributes:
        item: the current item, or None.
    """

    def __init__(self, task: Callable, number: int, *arguments: Any) -> None:
        self.task, self.arguments = task, arguments
        self.variables = {**environment.for_workers(), **visible_gpu(number)}
        self.item = None
        self.start()

    def start(self) -> None:
        spawned = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawned.Pipe()
        self.process = spawned.Process(target=worker.work, args=(theirs, self.task, self.variables), daemon=True)
        with _ignoring_interrupts():
            self.process.start()
        theirs.close()
        self.answer(self.arguments)  # as arguments of Process, they would block its start()

    def give(self, item: Any) -> None:
        """Sends the process an item to work on; None ends the process."""
        self.item = item
        self.answer(item)

    def answer(self, value: Any) -> None:
        """Sends the process a value."""
        with contextlib.suppress(OSError):  # a dead process is noticed by `received`
            self.pipe.send(value)

    def received(self) -> tuple[str, Any]:
        """Returns a message of the process, (kind, value). Raises its UserError, or EOFError if it is dead."""
        try:
            kind, value = self.pipe.recv()
        except OSError as error:
            raise EOFError from error
        if kind == "error":
            raise UserError(value)
        return kind, value

    def end(self) -> None:
        """Kills the process. Its files stay valid, since all writes are atomic."""
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def renew(self) -> None:
        """Replaces the process by a new one, which inherits no state."""
        self.end()
        self.start()

    def cause(self) -> str:
        """Returns a text that says how this dead process ended."""
        self.process.join()
        code = self.process.exitcode or 0
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


@contextlib.contextmanager
def _ignoring_interrupts():
    """Makes processes that start within the block ignore Ctrl-C, which a terminal also sends to them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _started(task, number, *arguments):
    """Yields `number` Processes, which are ended after the block."""
    processes = []
    try:
        for i in range(number):
            processes.append(Process(task, i, *arguments))
        yield processes
    finally:
        for process in processes:
            process.end()


def visible_gpu(number: int) -> dict[str, str]:
    """Returns the environment variables that show one GPU to process `number`; {} without a GPU.

    CUDA shows a process only the first of several MIG instances. If CUDA_VISIBLE_DEVICES names such instances, each of
    them counts as a GPU.
    """
    count = len(machine.gpus())
    if not count:
        return {}
    visible = [name.strip() for name in (os.environ.get("CUDA_VISIBLE_DEVICES") or "").split(",") if name.strip()]
    if not visible[:1] or not visible[0].startswith("MIG"):
        visible = (visible or [str(i) for i in range(count)])[:count]
    return {"CUDA_VISIBLE_DEVICES": visible[number % len(visible)]}


def choose_jobs(config: dict, digits: Digits, given: int | str | None, left: int) -> int:
    """Returns how many nets to train at once; records in the config the "jobs", and the "threads" of each.

    A resumed or repeated run keeps its threads and, without --jobs, its jobs.

    given: the value of --jobs, or None. digits: for the measurements of "auto". left: the number of untrained nets.
    """
    cores, gpus = joblib.cpu_count(), len(machine.gpus())
    kept_jobs, kept_threads = config.get("jobs"), config.get("threads")
    jobs = fastest(config, digits) if isinstance(given, str) else given or kept_jobs or 1
    config["jobs"], at_once = min(jobs, config["nets"]), min(jobs, max(1, left))
    threads = config.setdefault("threads", environment.recorded_threads(config, config["jobs"]))
    if jobs > left > 0 and given:
        why = f"{left} at once, since there are only {left} nets" if left > 1 else "no effect: there is only 1 net"
        print(f"        --jobs {jobs}: {why} to train")
    nets = f"{plural(at_once, 'net')} at once"
    if gpus and at_once > 1:
        print(f"        {nets}, spread over {plural(gpus, 'GPU')}")
    elif not gpus and (at_once > 1 or (kept_threads and threads != cores)):
        kept = ", as when the run was started" if at_once == kept_jobs else "; a run keeps its number of threads"
        share = f"{nets} on {plural(cores, 'core')}, {plural(threads, 'thread')} each"
        print(f"        {share}{kept if kept_threads else ''}")
    return at_once


def fastest(config: dict, digits: Digits) -> int:
    """Returns the fastest number of nets to train at once, from short measurements. config: see plan.complete."""
    gpus = len(machine.gpus())
    most = min(config["nets"], 4 * gpus if gpus else joblib.cpu_count())
    rates = {}
    for jobs in sorted({min(most, max(1, gpus) * n) for n in (1, 2, 4)}):
        print(f"        {jobs} net{'s' * (jobs > 1)} at once: ", end="", flush=True)
        rates[jobs] = _rate({"threads": environment.recorded_threads(config, jobs)} | config, digits, jobs)
        print(f"{rates[jobs]:,.0f} images/s")
    return max(rates, key=rates.__getitem__)


def _rate(config, digits, jobs):
    """Returns the images per second of `jobs` processes that all train a run's first net; 0 if memory runs out."""
    start = _started(worker.measure, jobs, config, digits, MEASURED)
    with contextlib.suppress(UserError, EOFError), start as processes:
        for process in processes:
            process.give(1)
        for process in processes:
            process.received()  # it is ready
        for process in processes:
            process.give("now")
        return sum(process.received()[1] for process in processes)
    return 0


def each(
    task: Callable,
    take: Callable[[Any], Any],
    jobs: int,
    arguments: Sequence,
    update: Callable,
    named: Callable[[Any], str],
    answer: Callable | None = None,
    fresh: bool = False,
    lost: Callable | None = None,
) -> Iterator[tuple]:
    """Runs a task for each item, in up to `jobs` processes; yields (item, result) as they end.

    An item whose process dies is tried once more.

    task: a function of worker.py. take: function(the last item of a free process, or None) that returns its next item,
    or None if none is left. arguments: the arguments of the task after its pipe. update: function(item, progress),
    called when the task sends its progress. named: function(item) that returns its name for messages. answer:
    function(item, question) that returns the answer to send to the task. fresh: bool, whether each item gets a new
    process. lost: function(item, why) that returns the result of an item whose process has died twice; None: UserError
    is raised.
    """
    deaths: collections.Counter = collections.Counter()
    with _started(task, jobs, *arguments) as processes:
        for process in processes:
            process.give(take(None))
        while at_work := {process.pipe: process for process in processes if process.item is not None}:
            for pipe in wait(list(at_work)):
                process = at_work[pipe]
                item = process.item
                try:
                    kind, value = process.received()
                except EOFError:
                    deaths[item] += 1
                    if not (ended := _ended(process, named(item), deaths[item])):
                        continue
                    if lost is None:
                        raise UserError(f"{ended}; continue with --resume") from None
                    kind, value = "result", lost(item, ended)
                if kind == "progress":
                    update(item, value)
                elif kind == "question":
                    assert answer is not None  # else no task asks
                    process.answer(answer(item, value))
                else:
                    yield item, value
                    _next(process, take(item), fresh)


def _ended(process, named, deaths):
    """Restarts a dead process with its item and returns "". After the last try, returns why it died."""
    told = f"the process of {named} {process.cause()}"
    if deaths < TRIES:
        print(f"{told}: {named} continues in a new process", file=sys.stderr)
        process.start()
        process.give(process.item)
        return ""
    return f"{told} for the second time. If memory ran out, use fewer --jobs"


def _next(process, item, fresh):
    """Sends a process its next item, or None to end it. Replaces the process first if `fresh` or if it is dead."""
    if item is not None and (fresh or not process.process.is_alive()):
        process.renew()
    process.give(item)


def by_kind(nets: list[int], kind: Callable[[int], Any]) -> Callable[[int | None], int | None]:
    """Returns the function `take` of `each` for some nets.

    A process goes on with nets of one kind, since it compiles the training step of each kind anew. When none is left,
    it takes a kind that no process has begun; after that, the kind with the most nets left.
    """
    left, begun = list(nets), []

    def take(last: int | None) -> int | None:
        if not left:
            return None
        same = [net for net in left if last is not None and kind(net) == kind(last)]
        new = [net for net in left if kind(net) not in begun]
        most = max(left, key=lambda net: [kind(other) for other in left].count(kind(net)))
        net = (same or new or [most])[0]
        left.remove(net)
        begun.append(kind(net))
        return net

    return take


def fit_nets(config: dict, folder: Path, digits: Digits, jobs: int, verbose: int | None = None) -> Iterator[dict]:
    """Trains the unfinished nets of a run, `jobs` at a time; yields each net's result as it ends."""
    left, finished = run_folder.unfinished_nets(folder, config)
    yield from finished
    shown = Overview(len(left), verbose)
    jobs, arguments = min(jobs, len(left)), (config, digits, folder)
    with contextlib.closing(shown):
        take = by_kind(left, functools.partial(members.own, config))
        for net, result in each(worker.train, take, jobs, arguments, shown.update, "net {}".format):
            shown.end(net)
            yield result
