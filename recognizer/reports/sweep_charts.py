"""Charts of a sweep: each function takes cells (sweep_report.Cell) or trials, and returns a matplotlib Figure."""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from recognizer.config.sweep_settings import value_text
from recognizer.reports.charts import BLUE, GREY, ORANGE, new_figure

SPREAD = 20  # the least ratio of largest to smallest value for a logarithmic axis


class Trial(Protocol):
    """A sweeps.Trial, which this file cannot import, since recognizer.parallel is a higher layer of the package."""

    run: str
    grid: int
    point: dict
    seed: int
    state: str
    accuracy: float | None
    loss: float | None
    seconds: float | None
    note: str


def heat_map(cells: dict, axes: list[dict], title: str, score: str) -> Figure:
    """Draws the means over two axes as colours and numbers. cells: {(index of the value on each axis): Cell}."""
    (across, down) = axes
    shape = len(down["values"]), len(across["values"])
    means = np.full(shape, np.nan)
    figure, drawn = new_figure((max(5, 1.6 + 1.05 * shape[1]), 1.8 + 0.62 * shape[0]))
    for (i, j), cell in cells.items():
        means[j, i] = cell.mean if cell.n else np.nan
    image = drawn.imshow(means, cmap="viridis", aspect="auto")
    for (i, j), cell in cells.items():
        dark = cell.n and image.norm(cell.mean) < 0.6
        drawn.text(i, j, cell.text(), ha="center", va="center", fontsize=8, color="white" if dark else "black")
    for axis, side in ((across, drawn.xaxis), (down, drawn.yaxis)):
        side.set_ticks(range(len(axis["values"])), [value_text(value) for value in axis["values"]])
        side.set_label_text(axis["name"])
    drawn.spines[:].set_visible(False)
    figure.colorbar(image, ax=drawn, format=PercentFormatter(1), label=f"{score} accuracy, mean")
    told = "mean ± standard error, n runs" if any(cell.n > 1 for cell in cells.values()) else "one run each"
    drawn.set_title(f"{title}\n{told}", wrap=True)
    return figure


def line(cells: dict, axis: dict, title: str, score: str) -> Figure:
    """Draws mean and standard error for each value of an axis, and each run. cells: {(index of the value,): Cell}."""
    numeric = all(is_number(value) for value in axis["values"])
    values = axis["values"] if numeric else list(range(len(axis["values"])))
    order = sorted(range(len(values)), key=values.__getitem__)
    figure, drawn = new_figure((7, 4.2), grid=True)
    kept = [i for i in order if cells[i,].n]
    for i in kept:
        own = cells[i,].scores
        drawn.plot([values[i]] * len(own), own, "o", color=GREY, alpha=0.6, markersize=5, markeredgewidth=0, zorder=3)
    at, means = [values[i] for i in kept], [cells[i,].mean for i in kept]
    errors = [math.nan if cells[i,].n == 1 else cells[i,].error for i in kept]  # NaN draws no bar
    drawn.errorbar(at, means, yerr=errors, fmt="o-" if numeric else "o", color=BLUE, capsize=4, markersize=5, lw=1.4)
    if numeric:
        if is_spread(values):
            drawn.set_xscale("log")
        if len(values) <= 10:
            drawn.set_xticks(values, [value_text(value) for value in values])
            drawn.xaxis.minorticks_off()
    else:
        drawn.set_xticks(values, [value_text(value).replace(", ", ",\n") for value in axis["values"]])
        drawn.margins(x=0.1)
    drawn.set(xlabel=axis["name"], ylabel=f"{score} accuracy")
    drawn.yaxis.set_major_formatter(PercentFormatter(1))
    n = sorted({cells[i,].n for i in kept})
    counts = f"n {' to '.join(map(str, n[:: max(1, len(n) - 1)]))}"
    bars = f"mean ± standard error, {counts}; grey: each run" + "; no error bar: one run" * (1 in n)
    bars = "one run each: no error bars" if n == [1] else bars
    drawn.set_title(f"{title}\n{bars}")
    return figure


def histogram(cells: dict, title: str, score: str) -> Figure:
    """Draws a histogram of accuracies of runs that differ only by their seeds. cells: {(): Cell}, without an axis."""
    cell = cells[()]
    figure, drawn = new_figure((6, 3.8), grid=True)
    drawn.hist(cell.scores, bins=max(3, min(30, round(len(cell.scores) ** 0.5) + 2)), color=BLUE, edgecolor="white")
    drawn.axvline(cell.mean, color=ORANGE, lw=1.6, zorder=3, label=f"mean {cell.mean:.3%}")
    if cell.n > 1:
        low, high = cell.mean - cell.deviation, cell.mean + cell.deviation
        drawn.axvspan(
            low, high, color=ORANGE, alpha=0.15, lw=0, zorder=0, label=f"± standard deviation {cell.deviation:.3%}"
        )
    drawn.set(xlabel=f"{score} accuracy", ylabel="runs")
    drawn.xaxis.set_major_formatter(PercentFormatter(1))
    drawn.yaxis.get_major_locator().set_params(integer=True)
    drawn.set_ylim(top=1.35 * drawn.get_ylim()[1])  # room for the legend
    drawn.legend(frameon=False, fontsize=8, loc="upper left")
    drawn.set_title(f"{title}\n{cell.n} runs, which differ by their seeds")
    return figure


def parallel(trials: Sequence[Trial], scales: dict[str, tuple[list, bool, str]], title: str, score: str) -> Figure:
    """Draws each trial as a line through its values, coloured by its accuracy. Pruned trials are grey.

    trials: objects with `point`, `state` and `accuracy`. scales: {axis: (values, whether it is logarithmic, kind)}.
    kind: "grid" for numbers, "names" for other values, "range" if the values are the two ends of a range.
    """
    figure, drawn = new_figure((2.2 + 1.6 * len(scales), 4.6))
    done = [trial for trial in trials if trial.state == "done"]
    norm = Normalize(*_limits([trial.accuracy for trial in done]))
    colours = ScalarMappable(norm, "viridis")

    def nudge(trial):  # so that trials with the same values do not overlap
        return 0.03 * (norm(trial.accuracy) - 0.5) if trial.state == "done" else 0

    for trial in sorted(trials, key=lambda trial: (trial.state == "done", trial.accuracy or 0)):
        heights = [_height(scale, trial.point[name], nudge(trial)) for name, scale in scales.items()]
        if trial.state == "done" and trial.accuracy is not None:
            heights.append(norm(trial.accuracy))
            drawn.plot(heights, color=colours.cmap(heights[-1]), lw=1.5, alpha=0.85)
        elif trial.state == "pruned":
            drawn.plot(heights, color=GREY, lw=0.7, alpha=0.5)
    for i, scale in enumerate(scales.values()):
        drawn.axvline(i, color="black", lw=0.8)
        for value, label in _marks(scale):
            drawn.annotate(
                label,
                (i, _height(scale, value)),
                (4, 0),
                textcoords="offset points",
                fontsize=7,
                va="center",
                bbox=dict(boxstyle="square,pad=0.1", facecolor="white", edgecolor="none", alpha=0.7),
            )
    drawn.axvline(len(scales), color="black", lw=0.8)
    drawn.set_xticks(range(len(scales) + 1), [*(name.replace(".", ".\n") for name in scales), "accuracy"], fontsize=8)
    drawn.set(yticks=[], ylim=(-0.04, 1.04), xlim=(-0.1, len(scales) + 0.02))
    drawn.spines[:].set_visible(False)
    figure.colorbar(colours, ax=drawn, format=PercentFormatter(1), label=f"{score} accuracy")
    pruned = sum(trial.state == "pruned" for trial in trials)
    drawn.set_title(f"{title}\n{len(done)} trials" + f", and {pruned} pruned, in grey" * bool(pruned))
    return figure


def _limits(values):
    low, high = min(values, default=0), max(values, default=1)
    return (low, high) if high > low else (low - 0.005, high + 0.005)


def _height(scale, value, nudge=0):
    """Returns the position of a value on its axis, 0 to 1. nudge: an offset if other trials may have the same value."""
    values, log, kind = scale
    if kind == "names":
        return (values.index(value) + 0.5) / len(values) + nudge
    low, high = _limits(values)
    low, high, value = np.log([low, high, value]) if log else (low, high, value)
    return (value - low) / (high - low) + nudge * (kind == "grid")


def _marks(scale):
    """Returns the (value, label) pairs of an axis's ticks."""
    values, log, kind = scale
    if kind == "range":
        between = np.geomspace(*values, 4) if log else np.linspace(*values, 4)
        whole = all(isinstance(value, int) for value in values)
        values = [round(value) if whole else float(f"{value:.2g}") for value in between.tolist()]
    return [(value, value_text(value)) for value in values]


def is_number(value: object) -> bool:
    """Returns whether a value of a setting is a number, and not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_spread(values: list[float]) -> bool:
    """Returns whether numbers are so far apart that they need a logarithmic axis."""
    return min(values) > 0 and max(values) / min(values) >= SPREAD
