"""A search for good settings: Optuna's TPE sampler proposes trials, and its median pruner ends poor trials early.

Optuna's storage is in memory, and is rebuilt from the sweep's trials when the sweep is resumed. So a search that is
killed loses no trial.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from recognizer.base import environment
from recognizer.base.files import read_rows
from recognizer.parallel.worker import Trial
from recognizer.runs import run_folder

if TYPE_CHECKING:
    import optuna


def needed() -> None:
    """Raises UserError if Optuna is not installed."""
    environment.need("optuna", environment.INSTALL_CLUSTER)


class Search:
    """Asks Optuna for the settings of trials, and tells it their results.

    Arguments:
        asked: dict, the content of sweep.json, with ranges. Optuna also chooses among the values of the grid.
        trials: list of the ended trials, (point {axis: value}, state, accuracy or None, {epoch: validation accuracy}).
        drawn: int, the number of trials proposed before.
    """

    def __init__(self, asked: dict, trials: list[tuple], drawn: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        (self.grid,), self.optuna = asked["grids"], optuna
        self.distributions = {entry["key"]: self._distribution(entry) for entry in asked["ranges"]}
        for axis in self.grid:  # by index, since a value may be a list
            numbers = list(range(len(axis["values"])))
            self.distributions[axis["name"]] = optuna.distributions.CategoricalDistribution(numbers)
        # The seed changes, so that a resumed search does not propose the same settings again.
        sampler = optuna.samplers.TPESampler(seed=(asked["seed"] + drawn) % 2**32)
        pruner = optuna.pruners.MedianPruner()
        self.study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
        for trial in trials:
            self._add(*trial)

    def _distribution(self, entry):
        low, high, step, kinds = entry["low"], entry["high"], entry.get("step"), self.optuna.distributions
        if all(isinstance(number, int) for number in (low, high, step or 1)):
            return kinds.IntDistribution(low, high, log=entry["log"], step=step or 1)
        return kinds.FloatDistribution(low, high, log=entry["log"], step=step)

    def _add(self, point, state, accuracy, by_epoch):
        """Adds a trial that has ended."""
        states = self.optuna.trial.TrialState
        state = {"done": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[state]
        self.study.add_trial(
            self.optuna.trial.create_trial(
                state=state,
                value=accuracy if state == states.COMPLETE else None,
                params=self._parameters(point),
                distributions=self.distributions,
                intermediate_values=by_epoch,
            )
        )

    def _parameters(self, point):
        numbers = {axis["name"]: axis["values"].index(point[axis["name"]]) for axis in self.grid}
        return point | numbers

    def propose(self) -> tuple[optuna.trial.Trial, dict]:
        """Returns (Optuna's trial, its point {axis: value})."""
        trial = self.study.ask(self.distributions)
        chosen = {axis["name"]: axis["values"][trial.params[axis["name"]]] for axis in self.grid}
        return trial, chosen | {key: trial.params[key] for key in self.distributions if key not in chosen}

    def again(self, point: dict, by_epoch: dict[int, float]) -> optuna.trial.Trial:
        """Returns Optuna's trial for an unfinished point. by_epoch: {epoch: validation accuracy} so far."""
        self.study.enqueue_trial(self._parameters(point))
        trial = self.study.ask(self.distributions)
        for epoch, accuracy in by_epoch.items():
            trial.report(accuracy, epoch)
        return trial

    def continues(self, trial: optuna.trial.Trial, epoch: int, accuracy: float) -> bool:
        """Reports the validation accuracy of an epoch; returns whether the trial should continue."""
        trial.report(accuracy, epoch)
        return not trial.should_prune()

    def tell(self, trial: optuna.trial.Trial, state: str, accuracy: float | None) -> None:
        """Reports the end of a trial."""
        states = self.optuna.trial.TrialState
        if state == "done":
            self.study.tell(trial, accuracy)
        else:
            self.study.tell(trial, state=states.PRUNED if state == "pruned" else states.FAIL)


class Sweep(Protocol):
    """A sweeps.Sweep, which cannot be imported here, since sweeps.py imports this file."""

    asked: dict
    trials: list

    @property
    def number(self) -> int: ...

    def add(self, grid: int, point: dict, settings: dict, seed: int) -> Trial: ...

    def write(self) -> None: ...


class Proposals:
    """The trials of a sweep to train next, from its grids or from a search.

    Arguments:
        sweep: sweeps.Sweep.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.search: Search | None = None
        self.proposed: dict[str, optuna.trial.Trial] = {}
        if sweep.asked["ranges"]:
            ended = [trial for trial in sweep.trials if trial.state]
            before = [(trial.point, trial.state, trial.accuracy, self._by_epoch(trial)) for trial in ended]
            self.search = Search(sweep.asked, before, len(sweep.trials))

    def trials(self) -> Iterator[Trial]:
        """Yields the trials to train. A proposed trial is first saved in the sweep's folder."""
        for trial in [trial for trial in self.sweep.trials if not trial.state]:
            if self.search:
                self.proposed[trial.run] = self.search.again(trial.point, self._by_epoch(trial))
            yield trial
        while self.search and len(self.sweep.trials) < self.sweep.number:
            proposed, point = self.search.propose()
            trial = self.sweep.add(0, point, self._settings(point), self.sweep.asked["seed"])
            self.proposed[trial.run] = proposed
            self.sweep.write()
            yield trial

    def _settings(self, point):
        (grid,), settings = self.sweep.asked["grids"], dict(point)
        for axis in grid:
            settings |= axis["settings"][axis["values"].index(settings.pop(axis["name"]))]
        return settings

    def _by_epoch(self, trial):
        """Returns the {epoch: validation accuracy} of a trial's first net that were reported to the search."""
        path = run_folder.net_file(trial.folder, 1, ".csv")
        if self.sweep.asked["late"] or not path.is_file():
            return {}
        return {int(row["epoch"]): row["val_accuracy"] for row in read_rows(path, "epoch") if "val_accuracy" in row}

    def continues(self, trial: Trial, told: tuple[int, float]) -> bool:
        """Returns whether a trial should continue. told: (epoch, validation accuracy)."""
        return self.search is None or self.search.continues(self.proposed[trial.run], *told)

    def tell(self, trial: Trial) -> None:
        """Reports the end of a trial to the search, if there is one."""
        if self.search:
            self.search.tell(self.proposed.pop(trial.run), trial.state, trial.accuracy)
