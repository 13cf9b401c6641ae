"""Charts: each function takes numbers and returns a matplotlib Figure."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

from recognizer.base.files import whole_file
from recognizer.data import segments
from recognizer.runs import metrics

if TYPE_CHECKING:
    import keras

matplotlib.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


Rows = list[dict]  # of a CSV

# Okabe and Ito's palette, which colour-blind people can distinguish. Line styles differ, too, for grey prints.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"


def new_figure(size: tuple[float, float], *rows: int, grid: bool = False, **options: Any) -> tuple[Figure, Any]:
    """Returns a Figure and its axes. size: (width, height) in inches. grid: bool, whether to draw a grid.

    rows, options: arguments for Figure.subplots.
    """
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(*rows, **options)
    for each in figure.axes if grid else []:
        each.grid(alpha=0.3)
    return figure, axes


def save(figure: Figure, path: Path | str) -> Path:
    """Writes a figure atomically, and returns its path.

    Its texts are drawn as they are: matplotlib would read a formula between the dollar signs of a file's name, and
    refuses surrogates, which stand for bytes that are not UTF-8.
    """
    for text in figure.findobj(Text):  # the numbers at an axis, which may be formulas, are set anew when it is drawn
        text.set_text(text.get_text().encode(errors="replace").decode().replace("$", r"\$"))
    with whole_file(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box is drawn instead
        figure.savefig(temporary, dpi=120, bbox_inches="tight")
    return Path(path)


def curves(
    logs: list[Rows], steps: list[Rows], finals: list[tuple[int, float]], title: str, validation: str = "validation"
) -> Figure:
    """Draws loss, accuracy and learning rate by epoch, a line for each net.

    logs, steps: for each net the rows of net-NN.csv and net-NN.steps.csv, lists of dicts. finals: for each net (the
    epoch whose weights were saved, the saved net's validation accuracy); [] without validation. validation: the label
    of the validation during training.
    """
    figure, (loss, accuracy, rate) = new_figure((7, 7.5), 3, grid=True, sharex=True, height_ratios=[3, 3, 2])
    kinds = [("", "training", ORANGE, "--")]
    if "val_loss" in logs[0][0]:
        kinds.append(("val_", validation, BLUE, "-" if validation == "validation" else ":"))
    style = dict(lw=1.4, alpha=1 if len(logs) == 1 else 0.5)
    for net, (log, by_step) in enumerate(zip(logs, steps, strict=True)):
        epochs = [row["epoch"] for row in log]
        marker = "." if len(log) < 3 else None
        at = np.array([row["step"] for row in by_step]) / math.ceil(by_step[-1]["step"] / len(log))
        means = running_mean([row["loss"] for row in by_step])
        loss.plot(at, means, color=ORANGE, lw=0.8, alpha=0.5, label=None if net else "training, by step")
        rate.plot(at, [row["learning_rate"] for row in by_step], color=GREY, **style)
        for prefix, label, color, line in kinds:
            for axes, key in ((loss, "loss"), (accuracy, "accuracy")):
                values = [row[prefix + key] for row in log]
                axes.plot(epochs, values, line, color=color, label=None if net else label, marker=marker, **style)
    if finals:
        label = f"validation, the saved net: {finals[0][1]:.2%}" if len(finals) == 1 else "validation, the saved nets"
        accuracy.plot(*zip(*finals, strict=True), "D", color=BLUE, markersize=6, label=label, clip_on=False)
    loss.set(ylabel="loss (log scale)", yscale="log")
    plain_numbers(loss)
    # The first epochs may be below the axis, and so may validation before batch-norm statistics are recomputed or
    # weights are averaged: they would flatten the rest.
    keys = ["accuracy", *["val_accuracy"] * (validation == "validation")]
    errors = [1 - row[key] for log in logs for row in log for key in keys if key in row]
    saved = [1 - share for _, share in finals]
    last = [*saved, *(1 - log[-1][key] for log in logs for key in keys if key in log[-1])]  # always visible
    lowest = 1 - min(1, max(3 * float(np.median(errors + saved)) + 1e-3, 1.1 * max(last)))
    accuracy.set(ylabel="accuracy", ylim=(lowest, 1))
    for line in accuracy.lines:
        if max(line.get_ydata()) < lowest and not line.get_label().startswith("_"):
            line.set_label(f"{line.get_label()} (below {100 * lowest:.3g}%)")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1))
    rate.set(xlabel="epoch", ylabel="learning rate", xlim=(0, None), ylim=(0, None))
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in (loss, accuracy):
        axes.legend(framealpha=0.8, edgecolor="none")  # a line may pass behind it
    loss.set_title(title + (f", {len(logs)} nets" if len(logs) > 1 else ""))
    return figure


def steps(logs: list[Rows], title: str) -> Figure:
    """Draws the loss by step with its running mean, a line for each net, and the learning rate.

    logs: for each net the rows of net-NN.steps.csv, a list of dicts.
    """
    figure, (loss, rate) = new_figure((7, 5.5), 2, grid=True, sharex=True, height_ratios=[3, 1.5])
    style = dict(lw=1.4, alpha=1 if len(logs) == 1 else 0.5)
    for net, log in enumerate(logs):
        at, losses = [row["step"] for row in log], [row["loss"] for row in log]
        label = None if net else "of a step"
        loss.plot(at, losses, color=ORANGE, lw=0.6, alpha=max(0.05, 0.35 / len(logs)), zorder=1, label=label)
        label = None if net else f"running mean of {window(losses):,} steps"
        loss.plot(at, running_mean(losses), color=ORANGE, marker="." if len(log) < 3 else None, label=label, **style)
        rate.plot(at, [row["learning_rate"] for row in log], color=GREY, **style)
    loss.set(ylabel="training loss (log scale)", yscale="log")
    plain_numbers(loss)
    rate.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
    if window(losses) > 1:
        loss.legend(framealpha=0.8, edgecolor="none")
    loss.set_title(title + (f", {len(logs)} nets" if len(logs) > 1 else ""))
    return figure


def losses_by_rate(
    rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, marked: dict[str, float], title: str
) -> Figure:
    """Draws the raw and the smoothed loss by learning rate, with some rates marked.

    marked: {label: rate}, with the recipe's own rate last.
    """
    figure, axes = new_figure((7, 4.4), grid=True)
    axes.plot(rates, losses, color=ORANGE, lw=0.6, alpha=0.5, zorder=1, label="of a step")
    axes.plot(rates, smoothed, color=ORANGE, lw=1.4, label="smoothed")
    for (label, rate), line in zip(reversed(marked.items()), ("--", ":", "-"), strict=False):
        color = GREY if line == "--" else BLUE
        axes.axvline(rate, color=color, ls=line, lw=1.2, zorder=1, label=f"{label}: {rate:.2g}")
    low, high = losses.min(), smoothed[: smoothed.argmin() + 1].max()  # a diverging loss would flatten the rest
    axes.set(xscale="log", xlabel="learning rate (log scale)", ylabel="training loss", title=title)
    axes.set(xlim=(rates[0], max(rates[-1], *marked.values())), ylim=(low - (high - low) / 20, high + (high - low) / 2))
    figure.legend(frameon=False, loc="outside lower center", ncols=3)  # below the axes, where it hides no line
    return figure


def window(values: Sequence[float]) -> int:
    """Returns the window length of the running mean: a fiftieth of the number of values, at least 1."""
    return max(1, len(values) // 50)


def running_mean(values: Sequence[float]) -> np.ndarray:
    """Returns the running mean of the values; at both ends over fewer values."""
    ones = np.ones(window(values))
    return np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")


def plain_numbers(axes: Axes) -> None:
    """Labels a logarithmic axis with plain numbers, and with more of them if it spans few powers of ten."""
    low, high = axes.get_ylim()
    between = LogLocator(subs=[2, 5] if high / low > 4 else [2, 3, 4, 5, 6, 7, 8, 9])
    axes.yaxis.set_minor_locator(between if high / low < 100 else NullLocator())
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(lambda value, _: f"{value:g}")


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, title: str, in_percent: bool = False) -> Figure:
    """Draws the confusion matrix, as counts or in percent of each label (row).

    labels, predicted: integers (n,).
    """
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, predicted), 1)
    wrong = counts * (1 - np.eye(10))  # shades only mistakes: the diagonal would hide them
    figure, axes = new_figure((6, 6))
    shade = wrong / np.maximum(counts.sum(axis=1, keepdims=True), 1) if in_percent else wrong
    axes.imshow(shade, cmap="Blues", vmin=0, vmax=2 * (shade.max() or 1))
    for label, guess in zip(*np.nonzero(counts), strict=True):
        count = counts[label, guess]
        cell = f"{100 * count / counts[label].sum():.1f}" if in_percent else f"{count:,}"
        weight = "bold" if label == guess else "normal"
        axes.text(guess, label, cell, ha="center", va="center", fontweight=weight)
    axes.set(xticks=range(10), yticks=range(10), xlabel="predicted", ylabel="label")
    axes.spines[:].set_visible(True)
    mistaken = int(wrong.sum())
    unit = "; in percent of each label" if in_percent else ""
    axes.set_title(f"{title}\n{mistaken:,} of {len(labels):,} wrong ({mistaken / len(labels):.2%}){unit}")
    return figure


def digit_grid(x: np.ndarray, captions: list[str], columns: int, title: str) -> Figure:
    """Draws a grid of digits with a caption under each. x: (n, 28, 28) in 0..255. captions: list of str."""
    columns = min(columns, max(3, len(x)))  # the title needs some width
    rows = max(1, -(-len(x) // columns))
    lines = max([caption.count("\n") + 1 for caption in captions], default=1)
    high = 28 + 5 + 7 * lines  # pixels, the height of a row with its captions
    sheet = np.zeros((rows * high, columns * 32), np.float32)
    figure, axes = new_figure((columns * 0.95, rows * high / 32 + 0.4))
    axes.set_axis_off()
    for i, (image, caption) in enumerate(zip(x, captions, strict=True)):
        top, left = i // columns * high, i % columns * 32 + 2
        sheet[top : top + 28, left : left + 28] = image
        axes.text(left + 14, top + 30, caption, fontsize=8, ha="center", va="top")
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=255)
    figure.suptitle(title, fontsize=10)
    return figure


def mistakes(
    x: np.ndarray, y: np.ndarray, probabilities: np.ndarray, rows: np.ndarray, title: str, most: int = 40
) -> Figure:
    """Draws misclassified digits, the most confident mistakes first. rows: int (n,), from 0, the digits' rows.

    Under each are its label, its prediction, the probability of that, and its row, from 1.
    """
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != y)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    captions = [f"{y[i]} taken for {predicted[i]}\n{confidence[i]:.0%}\nrow {rows[i] + 1}" for i in shown]
    which = f"{len(wrong)} mistake{'s' * (len(wrong) != 1)}"
    if len(wrong) > most:
        which = f"the {len(shown)} most confident of {which}"
    return digit_grid(x[shown], captions, 8, f"{title}: {which} (label, prediction, its probability, row from 1)")


def hardest(
    x: np.ndarray, y: np.ndarray, probabilities: np.ndarray, title: str, answers: bool = False, most: int = 50
) -> Figure:
    """Draws the digits whose label has the lowest probability, numbered as a quiz, or with their labels."""
    rows = np.argsort(probabilities[np.arange(len(y)), y], kind="stable")[:most]
    if not answers:
        numbers = [str(i) for i in range(1, len(rows) + 1)]
        return digit_grid(x[rows], numbers, 10, f"{title}: what are these? (the {len(rows)} hardest)")
    predicted = probabilities[rows].argmax(1)
    captions = [
        f"{i}: {y[row]}" + ("" if label == y[row] else f" (not {label})")
        for i, (row, label) in enumerate(zip(rows, predicted, strict=True), 1)
    ]
    return digit_grid(x[rows], captions, 10, f"{title}: labels (and what the net took them for)")


def preview(x: np.ndarray, probabilities: np.ndarray, title: str) -> Figure:
    """Draws the first 40 digits with their predictions and probabilities."""
    captions = [f"{row.argmax()} ({row.max():.0%})" for row in probabilities[:40]]
    return digit_grid(x[:40], captions, 8, title)


def readings(pairs: list[tuple[segments.Picture, list[segments.Digit]]], title: str, most: int = 12) -> Figure:
    """Draws the first `most` pictures with a box and a label for each digit. pairs: (segments.Picture, its Digits)."""
    pairs = pairs[:most]
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    wide = 9 if columns == 1 else 4.3  # inches, the width of a picture
    high = wide * max(picture.size[1] / picture.size[0] for picture, _ in pairs)
    figure, axes = new_figure((wide * columns, min(high, 1.2 * wide) * rows + 0.6), rows, columns, squeeze=False)
    for each in axes.flat:
        each.set_axis_off()
    for (picture, digits), each in zip(pairs, axes.flat, strict=False):
        width, height = picture.size
        each.imshow(picture.gray, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
        for digit in digits:
            left, top, right, bottom = digit.box
            color = ORANGE if digit.label is None else BLUE
            each.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color=color, lw=1))
            label = "?" if digit.label is None else str(digit.label)
            frame = dict(boxstyle="square,pad=0.1", facecolor=color, edgecolor="none")
            each.text(left, top, label, color="white", fontsize=8, ha="left", va="bottom", bbox=frame)
        each.set_title(f"{Path(picture.name).name[-40:]}: {segments.text(digits)[:40]}", fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def layers(model: keras.Model, title: str) -> Figure:
    """Draws the layers of a keras.Model from input to output: class, output shape, and parameters as bars."""
    from recognizer.nn.flip_classes import core

    rows = [layer for layer in core(model).layers if layer.__class__.__name__ != "InputLayer"]
    figure, axes = new_figure((7, 0.8 + 0.24 * len(rows)))
    counts = [layer.count_params() for layer in rows]
    bars = axes.barh(range(len(rows)), [max(count, 0.5) for count in counts], color=BLUE, alpha=0.6, height=0.75)
    axes.bar_label(bars, [f"{count:,}" if count else "-" for count in counts], padding=4)
    names = [f"{layer.__class__.__name__}  {_output_shapes(layer)}" for layer in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set(xscale="log", xlabel="parameters (log scale)", xlim=(0.5, 20 * max(*counts, 1)))
    axes.invert_yaxis()
    axes.set_title(f"{title}: {model.count_params():,} parameters")
    return figure


def _output_shapes(layer):
    """Returns the shapes of a layer's outputs without the batch axis, as text: "26x26x32"."""
    import keras

    return ", ".join("x".join(map(str, tensor.shape[1:])) for tensor in keras.tree.flatten(layer.output))


def spread(groups: dict[str, list[float]]) -> Figure:
    """Draws accuracies as points, with mean and standard deviation of each group. groups: {name: [accuracy, ...]}."""
    figure, axes = new_figure((7, 1.2 + 0.6 * len(groups)))
    names = []
    for i, (name, values) in enumerate(groups.items()):
        several = len(values) > 1
        deviation = np.std(values, ddof=1) if several else math.nan  # NaN draws no bar
        nudges = np.linspace(-0.15, 0.15, len(values)) if several else np.zeros(1)
        axes.plot(values, i + nudges, "o", color=BLUE, alpha=0.6, markersize=5)
        axes.errorbar(np.mean(values), i + 0.32, xerr=deviation, fmt="D", color=ORANGE, capsize=4, markersize=5)
        names.append(f"{name}\n{np.mean(values):.2%}" + f" ± {deviation:.2%}" * several + f", n {len(values)}")
    axes.set_yticks(range(len(groups)), names)
    axes.set(ylim=(len(groups) - 0.4, -0.6), xlabel="accuracy of a net (diamonds: mean ± standard deviation)")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3, axis="x")
    return figure


def calibration(labels: np.ndarray, probabilities: np.ndarray, title: str, bins: int = 10) -> Figure:
    """Draws a reliability diagram: the accuracy of predictions by their probability, and their number."""
    error, means, accuracies, counts = metrics.calibration(labels, probabilities, bins)
    figure, (top, below) = new_figure((5, 5.5), 2, grid=True, sharex=True, height_ratios=[3, 1])
    top.plot([0, 1], [0, 1], ":", color=GREY, label="perfectly calibrated")
    top.plot(means, accuracies, "o-", color=BLUE, label="these predictions")
    top.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
    top.legend(frameon=False, loc="upper left")
    below.bar((np.arange(bins) + 0.5) / bins, counts, width=0.9 / bins, color=BLUE, alpha=0.6)
    below.set(yscale="log", ylabel="digits", xlabel="probability of the prediction")
    plain_numbers(below)
    top.set_title(f"{title}\nexpected calibration error {error:.2%}")
    return figure
