"""The tasks of a worker process. It receives items through a pipe, and sends back progress and results."""

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from recognizer.base import environment
from recognizer.base.errors import UserError, enough_memory
from recognizer.base.reasons import reason
from recognizer.config import members, sweep_settings
from recognizer.data.arrays import Digits


class Pipe(Protocol):
    """The pipe to the process that the user started, or a node.Pipe to it."""

    def send(self, told: tuple, /) -> None: ...

    def recv(self) -> Any: ...


class Trial(Protocol):
    """A sweeps.Trial. The files that sweeps.py imports cannot import it."""

    run: str
    point: dict
    settings: dict
    seed: int
    state: str
    accuracy: float | None

    @property
    def folder(self) -> Path: ...


def work(pipe: Pipe, task: Callable, variables: dict[str, str | None]) -> None:
    """Runs task(pipe, *arguments) in a new process, which ends when its parent process ends.

    It receives the arguments through the pipe. Output of the task is dropped, since the parent shows the progress. A
    UserError is sent back as ("error", message).

    variables: {name: value}, environment variables to set before Keras is imported; None removes a variable.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends this process
    environment.set_variables(variables)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            task(pipe, *pipe.recv())
        except UserError as error:
            pipe.send(("error", str(error)))


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


def train(pipe: Pipe, config: dict, digits: Digits, folder: Path) -> None:
    """Receives net numbers until None, trains these nets, and sends ("result", the net's result) for each."""
    import_keras(config)
    from recognizer.training.memory import smaller_batches
    from recognizer.training.progress import Reports
    from recognizer.training.trainer import Trainer

    trainer, progress = None, functools.partial(Reports, lambda told: pipe.send(("progress", told)))
    while (net := pipe.recv()) is not None:
        settings = members.member(config, net)
        if trainer is None or trainer.settings != settings:
            trainer = Trainer(settings, digits, progress)
        with enough_memory(f"fewer --jobs need less memory; {smaller_batches(settings, folder)}"):
            pipe.send(("result", trainer.fit(net, folder, config["nets"])))


def measure(pipe: Pipe, config: dict, digits: Digits, seconds: float) -> None:
    """Receives a net number, builds the net, and sends ("ready", None). At the next message, measures its speed.

    It trains for `seconds` seconds, and sends ("rate", images per second).
    """
    net = pipe.recv()
    import_keras(config)
    from recognizer.training.trainer import Trainer

    trainer = Trainer(members.member(config, net), digits)
    trainer.begin(net)
    pipe.send(("ready", None))
    pipe.recv()
    pipe.send(("rate", trainer.images_per_second(seconds)))


def import_keras(config: dict) -> None:
    """Imports Keras with the number of threads of a run's config."""
    environment.choose_threads(config)
    environment.import_keras(config["deterministic"])


class Pruned(Exception):
    """The search ends a trial early. Its arguments: epoch, validation accuracy."""


def trial(pipe: Pipe, asked: dict, digits: Digits) -> None:
    """Receives sweeps.Trials until None, and trains or resumes their runs.

    For each it sends ("result", (state, note)), where state is "done", "pruned" or "failed". In a search, it sends
    ("question", (epoch, validation accuracy)) after each epoch, and receives whether to continue.

    asked: dict, the content of sweep.json.
    """
    while (one := pipe.recv()) is not None:
        pipe.send(("result", one_trial(pipe, asked, digits, one)))


def one_trial(pipe: Pipe, asked: dict, digits: Digits, one: Trial) -> tuple[str, str]:
    """Trains or resumes the run of a sweeps.Trial; returns (state, note).

    Any error makes only this trial fail, since trials do not depend on one another.
    """
    try:
        if not (state := state_of(one.run)):
            _make_run(pipe, one, asked, digits)
            state = "done"
        return state, ""
    except Pruned:
        return "pruned", ""
    except Exception as error:
        return "failed", str(error) if isinstance(error, UserError) else reason(error)


def state_of(name: str) -> str:
    """Returns "done" or "pruned" if the run of a trial has ended according to its folder, else ""."""
    from recognizer.runs import run_folder

    folder = run_folder.named(name)
    if run_folder.is_finished(folder):
        return "done"
    return "pruned" if run_folder.is_pruned(folder) else ""


def _make_run(pipe, one, asked, digits):
    """Trains the nets of a run, and gathers their results, without drawing pictures."""
    from recognizer.base.files import write_json
    from recognizer.runs import gathered, run_folder
    from recognizer.training import plan

    if run_folder.named(one.run).exists():
        config, folder, digits = plan.resumed(one.run, asked["data"]["source"], digits)
        trainers = None
    else:
        config = sweep_settings.config(asked, one.settings, one.seed)
        made = plan.prepared(config, asked["data"]["source"], digits)
        for each in made.trainers:
            _check_unedited(asked, each)
        folder = plan.create(made, one.run, one.run, asked["command"], asked["commit"])
        trainers = made.trainers
    from recognizer.training import trainer  # imports Keras, after plan has set the threads

    trainers = trainers or [trainer.Trainer(settings, digits) for settings in members.kinds(config)]
    for each in trainers:
        each.progress = functools.partial(_reports, pipe, bool(asked["ranges"]))
    with run_folder.locked(folder):
        try:
            for _ in trainer.fit_nets(config, folder, digits, trainers):
                pass
        except Pruned as pruned:
            epoch, accuracy = pruned.args
            write_json(folder / "pruned.json", {"epoch": epoch, "val_accuracy": accuracy})
            raise
        gathered.finish(folder, config, gathered.gather(folder, config, digits))


def _check_unedited(asked, trainer):
    """Raises UserError if the architecture of a Trainer was edited since the sweep was started."""
    from recognizer.nn import edits
    from recognizer.training import plan

    settings = trainer.settings
    before = asked["architectures"].get(plan.architecture_key(settings))
    if before and (told := edits.difference(before, trainer.architecture)):
        name = settings["model"]
        raise UserError(
            f"architecture {name!r} was edited since the sweep was started: {told}; undo that, and --resume"
        )


def _reports(pipe, prunes, net, nets, *others):
    """Returns the progress.Reports for a net of a trial. In a search, the first net asks whether to continue."""
    from recognizer.training.progress import Reports

    def send(told):
        done, total, line = told
        pipe.send(("progress", ((net - 1) * total + done, nets * total, line)))

    def ask(epoch, accuracy):
        pipe.send(("question", (epoch, accuracy)))
        if not pipe.recv():
            raise Pruned(epoch, accuracy)

    return Reports(send, net, nets, *others, ask=ask if prunes and net == 1 else None)
