# PYTHON_ARGCOMPLETE_OK
"""Every picture: of a run after training, of a submission, and of the digits themselves.

    python -m recognizer plot augmented --recipe grenholm     30 digits as that recipe would train on them
    python -m recognizer plot augmented --set augmentation.elastic_alpha=34 --out elastic.png
    python -m recognizer plot digit --row 7                   a digit as a line of numbers, and as an image
    python -m recognizer plot samples                         eight digits of each class
    python -m recognizer plot centres                         where the digits lie, and which augmentation covers that
    python -m recognizer plot layers --recipe deotte          layers and parameters
    python -m recognizer plot spread single-1 deotte-1        the accuracies of the nets of runs

A run leaves the others in its folder: curves, steps, layers, spread, confusion, mistakes, calibration, hardest.
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from recognizer.base.files import whole_file
from recognizer.runs import metrics

matplotlib.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


# Okabe and Ito's palette, told apart by the colour-blind; line styles tell the same in grey.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"


def save(figure, path):
    """Writes a figure, whole or not at all; returns the path."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120, bbox_inches="tight")
    return Path(path)


def curves(logs, title):
    """Loss, accuracy and learning rate by epoch, a line for each net. logs: a list of lists of dicts, as net-NN.csv."""
    figure = Figure(figsize=(7, 7.5), layout="constrained")
    loss, accuracy, rate = figure.subplots(3, sharex=True, height_ratios=[3, 3, 2])
    validated = "val_loss" in logs[0][0]
    kinds = [("", "training", ORANGE, "--")] + [("val_", "validation", BLUE, "-")] * validated
    for net, log in enumerate(logs):
        epochs = [row["epoch"] for row in log]
        style = dict(lw=1.4, alpha=1 if len(logs) == 1 else 0.5, marker="." if len(log) < 3 else None)
        for prefix, label, color, line in kinds:
            for axes, key in ((loss, "loss"), (accuracy, "accuracy")):
                values = [row[prefix + key] for row in log]
                axes.plot(epochs, values, line, color=color, label=None if net else label, **style)
        rate.plot(epochs, [row["learning_rate"] for row in log], color=GREY, **style)
    # The first epochs are far off and would flatten all that follows.
    errors = [1 - row[key] for log in logs for row in log for key in ("accuracy", "val_accuracy") if key in row]
    loss.set(ylabel="loss (log scale)", yscale="log")
    plain_numbers(loss)
    accuracy.set(ylabel="accuracy", ylim=(1 - min(1, 3 * float(np.median(errors)) + 1e-3), 1))
    accuracy.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g}%")
    rate.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axes in (loss, accuracy, rate):
        axes.grid(alpha=0.3)
    loss.legend(frameon=False)
    loss.set_title(title + (f", {len(logs)} nets" if len(logs) > 1 else ""))
    return figure


def confusion_matrix(labels, predicted, title):
    """How often each digit was taken for each; labels, predicted: integers (n,)."""
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, predicted), 1)
    wrong = counts * (1 - np.eye(10))  # only mistakes are shaded: the diagonal would drown them
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(wrong, cmap="Blues", vmin=0, vmax=max(wrong.max(), 1) * 2)
    for label in range(10):
        for guess in range(10):
            if counts[label, guess]:
                bold = "bold" if label == guess else "normal"
                axes.text(guess, label, f"{counts[label, guess]:,}", ha="center", va="center", fontweight=bold)
    axes.set(xticks=range(10), yticks=range(10), xlabel="predicted", ylabel="label")
    axes.spines[:].set_visible(True)
    mistaken = int(wrong.sum())
    axes.set_title(f"{title}\n{mistaken:,} of {len(labels):,} wrong ({mistaken / len(labels):.2%})")
    return figure


def digit_grid(x, captions, columns, title):
    """A grid of digits with a caption under each. x: (n, 28, 28) in 0..255."""
    rows = max(1, -(-len(x) // columns))
    high = (
        28 + 5 + 7 * max([caption.count("\n") + 1 for caption in captions], default=1)
    )  # pixels of a row with captions
    sheet = np.zeros((rows * high, columns * 32), np.float32)
    figure = Figure(figsize=(columns * 0.95, rows * high / 32 + 0.4), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    for i, (image, caption) in enumerate(zip(x, captions, strict=True)):
        top, left = i // columns * high, i % columns * 32 + 2
        sheet[top : top + 28, left : left + 28] = image
        axes.text(left + 14, top + 30, caption, fontsize=8, ha="center", va="top")
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=255)
    figure.suptitle(title, fontsize=10)
    return figure


def mistakes(x, y, probabilities, title, most=40):
    """The misclassified digits, the most confident mistakes first, with label, prediction and its probability."""
    predicted, sure = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != y)
    shown = wrong[np.argsort(-sure[wrong], kind="stable")][:most]
    captions = [f"{y[i]} taken for {predicted[i]}\n{sure[i]:.0%}" for i in shown]
    which = f"{len(wrong)} mistake{'s' * (len(wrong) != 1)}"
    if len(wrong) > most:
        which = f"the {len(shown)} surest of {which}"
    return digit_grid(x[shown], captions, 8, f"{title}: {which} (label, prediction, its probability)")


def plain_numbers(axes):
    """Numbers on a logarithmic axis as people write them; where it spans few powers of ten, between these too."""
    low, high = axes.get_ylim()
    between = LogLocator(subs=[2, 5] if high / low > 4 else [2, 3, 4, 5, 6, 7, 8, 9])
    axes.yaxis.set_minor_locator(between if high / low < 100 else NullLocator())
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(lambda value, _: f"{value:g}")


def steps(logs, title):
    """Loss by step, a line for each net, and the learning rate. logs: a list of lists of dicts, as net-NN.steps.csv."""
    figure = Figure(figsize=(7, 5.5), layout="constrained")
    loss, rate = figure.subplots(2, sharex=True, height_ratios=[3, 1.5])
    for log in logs:
        at = [row["step"] for row in log]
        style = dict(lw=1, alpha=1 if len(logs) == 1 else 0.5, marker="." if len(log) < 3 else None)
        loss.plot(at, [row["loss"] for row in log], color=ORANGE, **style)
        rate.plot(at, [row["learning_rate"] for row in log], color=GREY, **style)
    loss.set(ylabel="training loss (log scale)", yscale="log")
    plain_numbers(loss)
    rate.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
    for axes in (loss, rate):
        axes.grid(alpha=0.3)
    loss.set_title(title + (f", {len(logs)} nets" if len(logs) > 1 else ""))
    return figure


def layers(model, title):
    """A net's layers from input to output: kind, output's shape, parameters, and the parameters as bars."""
    from recognizer.nn.flip_classes import core

    rows = [layer for layer in core(model).layers if layer.__class__.__name__ != "InputLayer"]
    figure = Figure(figsize=(7, 0.8 + 0.24 * len(rows)), layout="constrained")
    axes = figure.subplots()
    counts = [layer.count_params() for layer in rows]
    axes.barh(range(len(rows)), [max(count, 0.5) for count in counts], color=BLUE, alpha=0.6, height=0.75)
    names = [f"{layer.__class__.__name__}  {_size(layer.output.shape[1:])}" for layer in rows]
    axes.set_yticks(range(len(rows)), names)
    for i, count in enumerate(counts):
        axes.annotate(
            f"{count:,}" if count else "-", (max(count, 0.5), i), (4, 0), textcoords="offset points", va="center"
        )
    axes.set(xscale="log", xlabel="parameters (log scale)", xlim=(0.5, 20 * max(*counts, 1)))
    axes.invert_yaxis()
    axes.set_title(f"{title}: {model.count_params():,} parameters")
    return figure


def _size(shape):
    return "x".join(str(size) for size in shape)


def accuracies(name, results):
    """{name and part: [accuracy, ...]} of nets' results, on validation rows or else on the test set; {} of neither."""
    for part in ("validation", "test"):
        key = f"{part}_accuracy"
        if results and key in results[0]:
            return {f"{name}, {part}": [net[key] for net in results]}
    return {}


def spread(groups):
    """The accuracies of many nets, a point each, with mean and standard deviation. groups: {name: [accuracy, ...]}."""
    figure = Figure(figsize=(7, 1.2 + 0.6 * len(groups)), layout="constrained")
    axes = figure.subplots()
    for i, (_, values) in enumerate(groups.items()):
        nudges = np.linspace(-0.15, 0.15, len(values)) if len(values) > 1 else [0]
        axes.plot(values, i + np.array(nudges), "o", color=BLUE, alpha=0.6, markersize=5)
        deviation = np.std(values, ddof=1) if len(values) > 1 else 0
        axes.errorbar(np.mean(values), i + 0.32, xerr=deviation, fmt="D", color=ORANGE, capsize=4, markersize=5)
    told = [
        f"{name}\n{np.mean(values):.2%}"
        + (f" ± {np.std(values, ddof=1):.2%}" if len(values) > 1 else "")
        + f", n {len(values)}"
        for name, values in groups.items()
    ]
    axes.set_yticks(range(len(groups)), told)
    axes.set(ylim=(len(groups) - 0.4, -0.6), xlabel="accuracy of a net (diamonds: mean ± standard deviation)")
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g}%")
    axes.grid(alpha=0.3, axis="x")
    return figure


def calibration(labels, probabilities, title, bins=10):
    """Reliability: how often a net is right beside how sure it is, and how many digits of each sureness there are."""
    error, means, accuracies, counts = metrics.calibration(labels, probabilities, bins)
    figure = Figure(figsize=(5, 5.5), layout="constrained")
    top, below = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    top.plot([0, 1], [0, 1], ":", color=GREY, label="perfectly calibrated")
    top.plot(means, accuracies, "o-", color=BLUE, label="these predictions")
    top.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
    top.legend(frameon=False, loc="upper left")
    below.bar((np.arange(bins) + 0.5) / bins, counts, width=0.9 / bins, color=BLUE, alpha=0.6)
    below.set(yscale="log", ylabel="digits", xlabel="probability of the prediction")
    plain_numbers(below)
    for axes in (top, below):
        axes.grid(alpha=0.3)
    top.set_title(f"{title}\nexpected calibration error {error:.2%}")
    return figure


def hardest(x, y, probabilities, title, most=50):
    """The labelled digits that a net gives the least probability, as a quiz: (figure to guess, figure with answers)."""
    true = probabilities[np.arange(len(y)), y]
    chosen = np.argsort(true, kind="stable")[:most]
    predicted = probabilities[chosen].argmax(1)
    quiz = digit_grid(
        x[chosen], [str(i + 1) for i in range(len(chosen))], 10, f"{title}: what are these? (the {len(chosen)} hardest)"
    )
    answers = [
        f"{i + 1}: {y[row]}" + ("" if label == y[row] else f" (not {label})")
        for i, (row, label) in enumerate(zip(chosen, predicted, strict=True))
    ]
    return quiz, digit_grid(x[chosen], answers, 10, f"{title}: labels (and what the net took them for)")


def preview(x, probabilities, title):
    """The first 40 digits with their predictions and probabilities."""
    captions = [f"{row.argmax()} ({row.max():.0%})" for row in probabilities[:40]]
    return digit_grid(x[:40], captions, 8, title)
