"""Writes the results of a sweep to its folder: trials.csv, table.html and pictures, with means and standard errors.

In all functions, `trials` is a list of objects with the attributes of sweeps.Trial, and `asked` is the content of
sweep.json.
"""

import base64
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from recognizer.base.files import write_rows, write_text
from recognizer.base.words import plural
from recognizer.config.sweep_settings import point, told, value_text
from recognizer.reports import charts, report_page, sweep_charts
from recognizer.reports.sweep_charts import Trial

UNSEEN = "not seen"
BIASED = "biased upward: each run's best epoch was chosen on the same rows"
FINE = 5e-4  # a smaller standard error is shown to thousandths of a percent


class Cell(NamedTuple):
    """The accuracies of runs with the same settings."""

    scores: list[float]

    @property
    def n(self) -> int:
        return len(self.scores)

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores))

    @property
    def deviation(self) -> float | None:
        return float(np.std(self.scores, ddof=1)) if self.n > 1 else None

    @property
    def error(self) -> float | None:
        """The standard error of the mean, None for a single run."""
        return self.deviation / self.n**0.5 if self.n > 1 else None

    def text(self) -> str:
        """Returns mean, standard error and n in separate lines."""
        if not self.n:
            return "-"
        if self.error is None:
            return f"{self.mean:.2%}\nn 1"
        form = ".3%" if self.error < FINE else ".2%"
        return f"{self.mean:{form}}\n± {self.error:{form}}\nn {self.n}"

    def line(self) -> str:
        """Returns mean, standard error, standard deviation and n in one line."""
        if self.n < 2:
            return self.text().replace("\n", ", ")
        return f"{self.mean:.3%}, standard error {self.error:.3%}, standard deviation {self.deviation:.3%}, n {self.n}"


def cells(grid: list[dict], trials: Sequence[Trial]) -> dict[tuple[int, ...], Cell]:
    """Returns {(index of the value on each axis): Cell}. trials: the trials of this grid."""
    found = {chosen: Cell([]) for chosen in itertools.product(*(range(len(axis["values"])) for axis in grid))}
    for trial in trials:
        if trial.state == "done" and trial.accuracy is not None:
            chosen = tuple(axis["values"].index(trial.point[axis["name"]]) for axis in grid)
            found[chosen].scores.append(trial.accuracy)
    return found


def compared(cell: Cell, best: Cell | None) -> str:
    """Returns a text that compares a cell with the best one of its grid.

    A difference of up to two standard errors is called "not seen".
    """
    if not cell.n or best is None:
        return ""
    if cell is best:
        return "best mean"
    if cell.error is None or best.error is None:
        return "one run: no standard error"
    difference, error = best.mean - cell.mean, (cell.error**2 + best.error**2) ** 0.5
    if difference <= 2 * error or not error:  # equal accuracies give no estimate of the spread
        return f"difference from the best {UNSEEN}"
    return f"{difference:.2%} below the best ({difference / error:.1f} standard errors)"


def write_table(folder: Path, asked: dict, trials: Sequence[Trial]) -> list[dict]:
    """Writes trials.csv, with a row for each trial so far; returns the rows."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.point))
    accuracy = f"{asked['score']}_accuracy"
    rows = [
        {"trial": i, "run": trial.run}
        | {name: _cell_text(trial.point.get(name, "")) for name in names}
        | {"seed": trial.seed, accuracy: trial.accuracy, f"{asked['score']}_loss": trial.loss}
        | {"seconds": trial.seconds, "state": trial.state or "unfinished", "note": trial.note}
        for i, trial in enumerate(trials, 1)
    ]
    write_rows(folder / "trials.csv", rows)
    return rows


def _cell_text(value):
    return value if isinstance(value, str) or sweep_charts.is_number(value) else json.dumps(value)


def write(folder: Path, asked: dict, trials: Sequence[Trial]) -> list[Path]:
    """Writes the tables and the pictures of a sweep after all trials have ended; returns their paths."""
    rows = write_table(folder, asked, trials)
    drawn = [charts.save(figure, folder / f"{name}.png") for name, figure in pictures(folder.name, asked, trials)]
    page = report_page.render(
        "sweep.html",
        title=folder.name,
        summary=[*_about(asked), *summary(asked, trials)],
        pictures=[(path.stem, base64.b64encode(path.read_bytes()).decode()) for path in drawn],
        tables=[*_cell_tables(asked, trials), ("Trials", _trial_table(rows))],
    )
    write_text(folder / "table.html", page)
    return [folder / "trials.csv", folder / "table.html", *drawn]


def _about(asked):
    where = "the labelled test set, as in the original experiment" if asked["score"] == "test" else "validation rows"
    settings = told(dict(map(tuple, [*asked["settings"], *asked["own"]])))
    lines = [f"{asked['study'] or asked['recipe']} on {asked['data']['origin']}; accuracies are measured on {where}."]
    lines += [f"In all trials: {settings}."] * bool(settings)
    lines += [BIASED.capitalize() + "."] * asked["biased"]
    return lines + [f"{asked['note']}."] * bool(asked["note"])


def summary(asked: dict, trials: Sequence[Trial]) -> list[str]:
    """Returns lines about the best settings of a sweep, and about the significance of differences."""
    done = [trial for trial in trials if trial.state == "done"]
    counts = [f"{sum(trial.state == state for trial in trials)} {state}" for state in ("done", "pruned", "failed")]
    lines = [f"Trials: {', '.join(count for count in counts if not count.startswith('0 ')) or 'none'}"]
    if asked["ranges"] and done:
        top = max(done, key=lambda trial: trial.accuracy or 0)
        lines.append(f"Best:   {top.run}, {told(top.point)}: {asked['score']} {top.accuracy:.2%}")
        lines.append(f"        biased upward, as the best of {len(done)}: train it with other seeds, too")
    for i, grid in enumerate([] if asked["ranges"] else asked["grids"]):
        found = cells(grid, [trial for trial in trials if trial.grid == i])
        if not (some := {chosen: cell for chosen, cell in found.items() if cell.n}):
            continue
        chosen, best = max(some.items(), key=lambda item: item[1].mean)
        lines.append(f"{'Best:' if grid else 'Mean:'}   {_told(grid, chosen)}{best.line()}")
        lines += _seen([cell for cell in some.values() if cell is not best], best)
    return lines + [f"        {BIASED}"] * asked["biased"]


def _seen(others, best):
    """Returns a list with a line that counts the cells within two standard errors of the best one."""
    if not others:
        return []
    if any(cell.error is None for cell in [*others, best]):
        return ["        a setting with a single run cannot be compared with others: add --seeds 3 or more"]
    alike = sum(UNSEEN in compared(cell, best) for cell in others)
    told = f"{alike} of {plural(len(others), 'other setting')} may be as good: at most two standard errors lower"
    return [f"        {told}" if alike else "        all other settings are more than two standard errors lower"]


def _told(grid, chosen):
    values, _ = point(grid, chosen)
    return told(values) + ": " * bool(values)


def _cell_tables(asked, trials):
    """Returns a (heading, table) pair with the means of each grid; [] for a search."""
    tables = []
    for i, grid in enumerate([] if asked["ranges"] else asked["grids"]):
        found = cells(grid, [trial for trial in trials if trial.grid == i])
        names = [axis["name"] for axis in grid]
        best = max((cell for cell in found.values() if cell.n), key=lambda cell: cell.mean, default=None)
        rows = [
            [
                *(value_text(axis["values"][j]) for axis, j in zip(grid, chosen, strict=True)),
                f"{cell.mean:.3%}" if cell.n else "",
                f"{cell.error:.3%}" if cell.n > 1 else "",
                cell.n,
                compared(cell, best),
            ]
            for chosen, cell in found.items()
        ]
        columns = [*names, "mean", "standard error", "n", "compared"]
        heading = "Means" + f" by {', '.join(names)}" * bool(names)
        tables.append((heading, {"columns": columns, "numbers": {*columns[:-1]}, "rows": rows}))
    return tables


def _trial_table(rows):
    columns = [key for key in rows[0] if any(row[key] not in ("", None) for row in rows)]
    form = {"seconds": ",.0f"} | {key: ".2%" for key in columns if key.endswith("_accuracy")}
    form |= {key: ".4f" for key in columns if key.endswith("_loss")}
    shown = [
        [
            "" if row[key] is None else format(row[key], form[key]) if key in form else value_text(row[key])
            for key in columns
        ]
        for row in rows
    ]
    return {"columns": columns, "numbers": set(columns) - {"run", "state", "note"}, "rows": shown}


def pictures(name: str, asked: dict, trials: Sequence[Trial]) -> Iterator[tuple[str, Figure]]:
    """Yields (file name without suffix, figure) of a sweep's pictures."""
    title = f"{name}, on {asked['data']['origin']}" + f"\n{asked['note']}" * bool(asked["note"])
    if asked["ranges"]:
        if any(trial.state == "done" for trial in trials):
            yield "parallel", sweep_charts.parallel(trials, _scales(asked), title, asked["score"])
        return
    for i, grid in enumerate(asked["grids"]):
        own = [trial for trial in trials if trial.grid == i]
        if not any(trial.state == "done" for trial in own):
            continue
        suffix = f"-{i + 1}" * (len(asked["grids"]) > 1)
        found = cells(grid, own)
        if not grid:
            yield f"histogram{suffix}", sweep_charts.histogram(found, title, asked["score"])
        elif len(grid) == 1:
            yield f"line{suffix}", sweep_charts.line(found, grid[0], title, asked["score"])
        elif len(grid) == 2:
            yield f"heat-map{suffix}", sweep_charts.heat_map(found, grid, title, asked["score"])
        else:
            yield f"parallel{suffix}", sweep_charts.parallel(own, _scales(asked, i), title, asked["score"])


def _scales(asked, i=0):
    """Returns the scales of a grid's axes and of all ranges, for `sweep_charts.parallel`."""
    scales = {}
    for axis in asked["grids"][i]:
        values = axis["values"]
        measured = all(map(sweep_charts.is_number, values))
        scales[axis["name"]] = values, measured and sweep_charts.is_spread(values), "grid" if measured else "names"
    return scales | {entry["key"]: ([entry["low"], entry["high"]], entry["log"], "range") for entry in asked["ranges"]}
