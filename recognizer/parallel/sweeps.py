"""Sweeps: many runs of a recipe that differ in some settings. The folder sweeps/NAME/ contains:

    trials.json     the trials: their settings, and how they ended
    sweep.json      everything the user asked for; marks the folder as a sweep, since it is written after trials.json
    trials.csv      the trials as a table
    table.html      the table as a page, with means and pictures; written once all trials have ended
    *.png           the pictures, written with table.html

Each trial is a run of its own, runs/NAME-001 and so on. A search saves a trial before it trains it.
"""

import argparse
import contextlib
import copy
import dataclasses
import datetime
import operator
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recognizer.base import environment, gpu_advice, machine
from recognizer.base.errors import UserError, refused
from recognizer.base.files import read_json, write_json
from recognizer.base.words import choose, duration
from recognizer.config import sweep_settings
from recognizer.data import sources
from recognizer.data.arrays import Digits
from recognizer.parallel import cluster, processes, search, worker
from recognizer.parallel.cluster import Cluster
from recognizer.parallel.overview import Overview
from recognizer.runs import run_folder

SWEEPS = Path("sweeps")
NEEDED = {"recipe", "study", "settings", "grids", "ranges", "trials", "seeds", "seed", "score", "note", "sweep", "data"}
NEEDED |= {"base", "own", "architectures", "late", "biased", "threads", "created", "command"}  # keys of sweep.json


@dataclasses.dataclass(eq=False)
class Trial:
    """A run of a sweep.

    Attributes:
        run: the run's name.
        grid: int, the index of its grid in the sweep.
        point: {axis: value}, its place in the grid or search.
        settings: {key: value}, the settings of that point, in addition to the sweep's.
        seed: int.
        state: "" until it has ended, then "done", "pruned" or "failed".
        accuracy, loss, seconds: the results of a done run; of a pruned run only the last accuracy.
        note: why it ended early.
    """

    run: str
    grid: int
    point: dict
    settings: dict
    seed: int
    state: str = ""
    accuracy: float | None = None
    loss: float | None = None
    seconds: float | None = None
    note: str = ""

    @property
    def folder(self) -> Path:
        return run_folder.named(self.run)


@dataclasses.dataclass
class Sweep:
    """A sweep: its folder, the content of sweep.json, its trials so far, and for training its Digits and cluster."""

    folder: Path
    asked: dict
    trials: list[Trial]
    digits: Digits | None = None
    cluster: Cluster | None = None

    @property
    def number(self) -> int:
        """The total number of trials."""
        return self.asked["trials"] or len(self.trials)

    @property
    def left(self) -> int:
        """The number of trials that have not ended."""
        return self.number - sum(bool(trial.state) for trial in self.trials)

    def add(self, grid: int, point: dict, settings: dict, seed: int) -> Trial:
        """Adds a trial, and returns it."""
        trial = Trial(f"{self.folder.name}-{len(self.trials) + 1:03d}", grid, point, settings, seed)
        self.trials.append(trial)
        return trial

    def read_trials(self) -> None:
        """Reads trials.json again. Failed trials become unfinished, so that they train again."""
        self.trials = [Trial(**trial) for trial in read_json(self.folder / "trials.json")]
        for trial in self.trials:
            if trial.state == "failed":
                trial.state, trial.note = "", ""

    def write(self) -> None:
        write_json(self.folder / "trials.json", [dataclasses.asdict(trial) for trial in self.trials])


# Making and finding sweeps


def started(arguments: argparse.Namespace) -> Sweep:
    """Checks all settings of a new sweep, makes it, and returns it. arguments: the parsed command line."""
    asked = sweep_settings.asked(arguments)
    numbered = asked["study"] or f"{asked['recipe']}-sweep"
    name = run_folder.named(arguments.sweep or run_folder.next_name(SWEEPS, numbered)).name
    folder = SWEEPS / name
    if (folder / "sweep.json").exists():
        raise UserError(f"sweep {name!r} exists: go on with it by --resume, or choose another name with --sweep")
    if folder.exists():
        raise UserError(f"{folder} exists and is not a sweep: choose another name with --sweep, or delete it")
    if taken := sorted(path.name for path in run_folder.RUNS.glob(f"{name}-[0-9]*")):
        raise UserError(f"run {taken[0]!r} exists, which is a name for a trial of this sweep: choose another --sweep")
    if asked["ranges"]:
        search.needed()
    asked["sweep"] = name
    configs = list(_samples(asked))
    digits = _checked(asked, configs, arguments.data or "auto")
    if asked["late"] and asked["ranges"]:
        print("        trials are not pruned: this recipe's validation is meaningful only at the end, after batch-norm")
        print("        statistics are recomputed")
    asked["data"] = {"source": digits.source, "fingerprint": digits.train.fingerprint()}
    asked["data"]["origin"] = digits.train.origin
    asked["created"] = datetime.datetime.now(datetime.UTC).isoformat()
    asked["command"] = ["-m", "recognizer", "sweep", *sys.argv[2:]]
    sweep = Sweep(folder, asked, [], digits)
    for point in [] if asked["ranges"] else sweep_settings.points(asked):
        sweep.add(*point)
    _choose_where(sweep, arguments, configs[0])
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UserError(f"{folder} was made by another process meanwhile: choose another --sweep") from None
    sweep.write()
    write_json(folder / "sweep.json", asked)
    return sweep


def _samples(asked):
    """Yields configs of trials to check. Together they have every value of each grid, and some values of each range."""
    for settings in sweep_settings.samples(asked):
        yield sweep_settings.config(asked, settings, asked["seed"])


def _checked(asked, configs, source):
    """Loads the data and checks all settings without training; returns the Digits.

    Adds to `asked` the architectures, whether validation is meaningful only at the end, and whether accuracies are
    biased upward.
    Raises UserError if settings cannot be used, or if there are no labelled images to score on.
    """
    if asked["score"] == "validation" and not all(config["validation_split"] for config in configs):
        told = f"recipe {asked['recipe']!r} has" if not configs[0]["validation_split"] else "some trials have"
        raise UserError(f"a sweep compares validation accuracies, and {told} no validation rows: --validation-split .1")
    digits = _data(source)
    if asked["score"] == "test" and (digits.test is None or digits.test.y is None):
        told = f"study {asked['study']!r} is scored on a labelled test set, like the original experiment"
        raise UserError(f"{told}; {digits.train.origin} has none: give --data mnist")
    from recognizer.training import plan

    asked["architectures"] = {}
    asked["late"] = any([plan.check(config, digits, asked["architectures"]) for config in configs])
    asked["biased"] = asked["score"] == "validation" and any(config["weights"] == "best" for config in configs)
    return digits


def _data(source):
    from recognizer.training import plan

    digits = sources.load(source)
    plan.print_data(digits)
    environment.import_keras()
    gpu_advice.print_advice()
    return digits


def _choose_where(sweep, arguments, config):
    """Chooses the cluster, or the number of processes on this machine, and the number of threads for each trial.

    config: the config of any trial. A resumed sweep keeps its number of threads, since its trials are compared.
    """
    asked = sweep.asked
    if arguments.ray:
        if environment.GIVEN["TF_NUM_INTRAOP_THREADS"]:
            asked.setdefault("threads", environment.recorded_threads(config))
        sweep.cluster = cluster.joined(arguments.ray, asked, sweep.number, arguments.cpus, arguments.gpus)
    elif arguments.jobs or "jobs" not in asked:
        asked["jobs"] = _jobs(arguments.jobs, config, sweep)
        asked.setdefault("threads", environment.recorded_threads(config, asked["jobs"]))
    asked |= {"ray": arguments.ray, "commit": machine.commit()}


def _jobs(jobs, config, sweep):
    """Returns how many trials to train at once. jobs: the value of --jobs."""
    if jobs == "auto":
        from recognizer.training import plan

        config = copy.deepcopy(config)
        plan.complete(config, sweep.digits)
        jobs = processes.fastest(config | {"nets": max(config["nets"], sweep.number)}, sweep.digits)
    return min(jobs or 1, sweep.number)


def resumed(arguments: argparse.Namespace) -> Sweep:
    """Returns the sweep to resume: the named one, or the unfinished one that was started last."""
    kept = ("sweep", "data", "jobs", "ray", "cpus", "gpus", "debug", "resume")
    if given := [key for key, value in vars(arguments).items() if value not in (None, False) and key not in kept]:
        by_name = "; give the sweep's name with --sweep" if arguments.recipe else ""
        raise UserError(
            f"--resume continues a sweep with the sweep's own settings: leave out {', '.join(given)}{by_name}"
        )
    sweep = _named(arguments.sweep) if arguments.sweep else _newest()
    data = sweep.asked["data"]
    sweep.digits = _data(arguments.data or data["source"])
    origin = sweep.digits.train.origin
    if sweep.digits.train.fingerprint() != data["fingerprint"]:
        raise UserError(
            f"sweep {sweep.folder.name!r} was started on other data than {origin}: give the sweep's data with --data"
        )
    data["source"] = sweep.digits.source
    if sweep.asked["ranges"]:
        search.needed()
    sweep.read_trials()
    _choose_where(sweep, arguments, next(_samples(sweep.asked)))
    return sweep


def _named(name):
    names = [path.parent.name for path in SWEEPS.glob("*/sweep.json")]
    return read(SWEEPS / choose("sweep", run_folder.named(name).name, names))


def _newest():
    """Returns the unfinished sweep that was started last. A damaged one is skipped with a warning on stderr."""
    unfinished = []
    for path in SWEEPS.glob("*/sweep.json"):
        try:
            sweep = read(path.parent)
            unfinished += [sweep] * (sweep.left > 0)
        except UserError as error:
            print(f"{error}: skipped", file=sys.stderr)
    if not unfinished:
        raise UserError(f"there is no unfinished sweep in {SWEEPS}/")
    return max(unfinished, key=lambda sweep: sweep.asked["created"])


def read(folder: Path) -> Sweep:
    """Returns the sweep in a folder. Raises UserError if its files are damaged."""
    with refused(f"{folder} is not a sweep that can be read"):
        asked, trials = (read_json(folder / name) for name in ("sweep.json", "trials.json"))
        if lacking := NEEDED - asked.keys():
            raise ValueError(f"sweep.json lacks {', '.join(sorted(lacking))}")
        list(_samples(asked))  # checks the settings
        return Sweep(folder, asked, [Trial(**trial) for trial in trials])


# Training


def train(sweep: Sweep) -> Iterator[tuple[Trial, str]]:
    """Trains the trials that have not ended; yields (trial, time left as text) as each ends.

    The sweep must be locked. Trials are read again, since another process may have trained some before the lock.
    """
    assert sweep.digits is not None  # set by `started` and `resumed`
    sweep.read_trials()
    write_json(sweep.folder / "sweep.json", sweep.asked)  # records where it trains now
    for trial in sweep.trials:  # finished, but not recorded, since an earlier process was killed
        if not trial.state and (state := worker.state_of(trial.run)):
            _end(sweep, trial, state)
            yield trial, ""
    proposals = search.Proposals(sweep)
    shown = Overview(sweep.left, int(sys.stdout.isatty()), "trials", time.perf_counter())
    answer = proposals.continues if sweep.asked["ranges"] else None
    if sweep.cluster:
        ended = cluster.trials(sweep.cluster, sweep.asked, sweep.digits, proposals.trials(), shown.update, answer)
    else:
        jobs, arguments = min(sweep.asked["jobs"], max(1, sweep.left)), [sweep.asked, sweep.digits]
        ways: dict[str, Any] = dict(answer=answer, fresh=True, lost=lambda trial, why: ("failed", why))
        named, trials = operator.attrgetter("run"), proposals.trials()
        ended = processes.each(worker.trial, lambda _: next(trials, None), jobs, arguments, shown.update, named, **ways)
    with contextlib.closing(shown):
        for trial, (state, note) in ended:
            _end(sweep, trial, state, note)
            proposals.tell(trial)
            shown.end(trial)
            yield trial, shown.left() if sweep.left else ""


def _end(sweep, trial, state, note=""):
    """Records how a trial ended. state: "done", "pruned" or "failed"."""
    trial.note = note
    if state == "done":
        result = run_folder.read_result(trial.folder / "result.json", "seconds", f"ensemble_{sweep.asked['score']}")
        part = result[f"ensemble_{sweep.asked['score']}"]
        trial.accuracy, trial.loss, trial.seconds = part["accuracy"], part["loss"], result["seconds"]
    elif state == "pruned":
        pruned = run_folder.read_result(trial.folder / "pruned.json", "epoch", "val_accuracy")
        trial.accuracy, trial.note = pruned["val_accuracy"], f"after epoch {pruned['epoch']}"
    trial.state = state
    sweep.write()


def line(sweep: Sweep, trial: Trial, left: str) -> str:
    """Returns the line to print about an ended trial. left: the time left as text."""
    seed = f", seed {trial.seed}" * (sweep.asked["seeds"] > 1)
    what = f"{sweep_settings.told(trial.point)}{seed}".removeprefix(", ")
    ended = f"{trial.state}: {trial.note}"
    if trial.state == "done":
        ended = f"{sweep.asked['score']} {trial.accuracy:.2%}, {duration(trial.seconds or 0)}"
    number = sweep.number - sweep.left
    return f"Trial {number}/{sweep.number}:  {trial.run}  {what}:  {ended}" + f", about {left} left" * bool(left)
