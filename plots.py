# PYTHON_ARGCOMPLETE_OK
"""Every picture: of a run after training, of a submission, and of the digits themselves.

    python plots.py augmented --recipe grenholm     30 digits as that recipe would train on them
    python plots.py augmented --set augmentation.elastic_alpha=34 --out elastic.png
    python plots.py digit --row 7                   a digit as a line of numbers, and as an image
    python plots.py samples                         eight digits of each class
    python plots.py centres                         where the digits lie, and which augmentation covers that
    python plots.py layers --recipe deotte          layers and parameters
    python plots.py spread single-1 deotte-1        the accuracies of the nets of runs

A run leaves the others in its folder: curves, steps, layers, spread, confusion, mistakes, calibration, hardest.
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

import console
import recipes
import runs
from console import UserError

# Okabe and Ito's palette, told apart by the colour-blind; line styles tell the same in grey.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
matplotlib.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def save(figure, path):
    """Writes a figure, whole or not at all; returns the path."""
    with console.whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120, bbox_inches="tight")
    return Path(path)


def run_pictures(folder, digits):
    """Draws a run's pictures into its folder, when all its nets are finished; returns their paths.

    digits: the run's dataset.Digits. The digits shown are the validation rows (of several nets: each row judged by the
    nets that did not train on it), or the test rows of a run that has no validation split.
    """
    import nets

    config = runs.read_config(folder)
    numbers = range(1, config["nets"] + 1)

    def of_nets(suffix, read):
        return [read(runs.net_file(folder, net, suffix)) for net in numbers]

    figures = {"curves": curves(of_nets(".csv", runs.read_rows), folder.name)}
    figures["steps"] = steps(of_nets(".steps.csv", runs.read_rows), folder.name)
    first = nets.read_net(runs.net_file(folder, 1, ".keras"))
    figures["layers"] = layers(first, folder.name + ", net 1" * bool(config["members"]))
    results = of_nets(".json", runs.read_json)
    if len(results) > 1 and (found := accuracies(folder.name, results)):
        figures["spread"] = spread(found)
    judged = judged_digits(folder, config, digits)
    if judged:
        x, y, probabilities, part = judged
        title = f"{folder.name}: {part} digits"
        figures["confusion"] = confusion_matrix(y, probabilities.argmax(1), title)
        figures["mistakes"] = mistakes(x, y, probabilities, title)
        figures["calibration"] = calibration(y, probabilities, title)
        figures["hardest"], figures["hardest-answers"] = hardest(x, y, probabilities, title)
    return [save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def to_tensorboard(folder, pictures):
    """Writes a run's pictures (paths of PNGs) and its first net's graph where TensorBoard finds its curves.

    On another backend than TensorFlow there is no graph.
    """
    import keras
    import tensorflow as tf

    import nets

    with tf.summary.create_file_writer(str(folder / "tensorboard")).as_default():
        if keras.backend.backend() == "tensorflow":
            net = nets.read_net(runs.net_file(folder, 1, ".keras"))
            tf.summary.graph(tf.function(net).get_concrete_function(tf.TensorSpec((None, 28, 28, 1))).graph)
        for path in pictures:
            tf.summary.image(path.stem, tf.io.decode_png(path.read_bytes(), channels=3)[None], step=0)


def judged_digits(folder, config, digits):
    """(images, labels, mean probabilities, "validation" or "test") of a run; None where it has no labelled ones."""
    train, test, numbers = digits.train, digits.test, range(1, config["nets"] + 1)
    predictions = runs.read_predictions(folder / "predictions.npz", digits)
    rows, probabilities = runs.out_of_bag(predictions, len(train.y), numbers)
    if len(rows):
        return train.x[rows], train.y[rows], probabilities, "validation"
    if test is not None and test.y is not None:
        return test.x, test.y, runs.mean_of_test(predictions, numbers), "test"
    return None


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
    from layers import core

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
    error, means, accuracies, counts = runs.calibration(labels, probabilities, bins)
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


def augmented(augmentations, images, seed, title):
    """Five digits (first column) and six augmented forms of each: 30 in all. images: dataset.Images.

    augmentations: six augment.Augmentation, one for each form; of joint_flips the forms show one after the other.
    """
    import fit
    from augment import FLIPS

    of_class = {label: np.flatnonzero(images.y == label) for label in (0, 2, 4, 7, 9)}
    if not all(map(len, of_class.values())):
        raise UserError(f"{images.origin} has not all of the digits 0, 2, 4, 7 and 9, which this picture shows")
    firsts = [int(rows[seed % min(5, len(rows))]) for rows in of_class.values()]
    forms = []
    for i, augmentation in enumerate(augmentations):
        form = fit.augmented_images(augmentation, images.x[firsts], seed, i, "preview", mixed=True)
        views = [(), *(FLIPS[flip] for flip in augmentation.joint_flips)]
        forms.append(np.flip(form, views[i % len(views)]))
    x = np.stack([images.x[firsts], *forms], axis=1).reshape(-1, 28, 28)
    captions = [f"{label}" if i == 0 else "" for label in images.y[firsts] for i in range(7)]
    return digit_grid(x, captions, 7, title)


def digit(images, row):
    """A digit as the line of 784 numbers that the file holds, and as the image that they are. row: from 0."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    line, image = figure.subplots(1, 2, width_ratios=[2, 1])
    line.plot(images.x[row].ravel(), color=BLUE, lw=0.8)
    for start in range(0, 785, 28):
        line.axvline(start, color=GREY, lw=0.3, alpha=0.5)
    line.set(xlabel="pixel (a line for each row of 28)", ylabel="value", xlim=(0, 784), ylim=(0, 260))
    line.set_title(f"row {row + 1} of {images.origin}")
    image.imshow(images.x[row], cmap="gray_r", vmin=0, vmax=255)
    image.set(xticks=[0, 14, 27], yticks=[0, 14, 27])
    image.set_title(f"label {images.y[row]}" if images.y is not None else "no label")
    return figure


def samples(images, seed):
    """Eight digits of each class, drawn at random."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.permutation(np.flatnonzero(images.y == label))[:8] for label in range(10)])
    return digit_grid(images.x[rows], [str(images.y[row]) for row in rows], 16, f"{images.origin}, eight of each class")


def centres(images):
    """Where the digits lie, how large and how slanted they are, and which augmentation covers 95 % of that.

    Centres of the bounding box, as Deotte measured them, and of the mass, by which MNIST was centred; beside the median
    of a digit's class, the size (of a square as large as the box) and the slant (from the second moments, as deskewing
    takes it).
    """
    box, mass, size, slant = shapes(images.x)

    def of_class(values):
        return np.array([np.median(values[images.y == label]) for label in range(10)])[images.y]

    slant, zoom = slant - of_class(slant), size / of_class(size) - 1
    figure = Figure(figsize=(9, 7), layout="constrained")
    (a, b), (c, d) = figure.subplots(2, 2)
    limit = max(2.0, float(np.abs(np.concatenate([box, mass])).max()))
    for axes, offsets, name in ((a, box, "bounding box"), (b, mass, "mass")):
        counts, *edges = np.histogram2d(*offsets.T, bins=np.arange(-limit - 0.25, limit + 0.5, 0.5))
        shown = axes.imshow(np.log10(counts + 1), origin="lower", cmap="Blues", extent=[edges[0][0], edges[0][-1]] * 2)
        figure.colorbar(shown, ax=axes, label="digits, $10^n - 1$")
        axes.set(xlabel="right of the middle (pixels)", ylabel="below it (pixels)")
        axes.invert_yaxis()
        axes.set_title(f"centre of {name}: 95 % within {covers(offsets):.1f} pixels ({covers(offsets) / 28:.3f})")
    for axes, values, unit, name in ((c, slant, "°", "slant"), (d, zoom, "", "size")):
        axes.hist(values, bins=60, color=BLUE, alpha=0.7)
        low, high = -covers(values), covers(values)
        for edge in (low, high):
            axes.axvline(edge, color=ORANGE, ls="--")
        axes.set(ylabel="digits", xlabel=f"{name} beside the median of its class" + (" (degrees)" if unit else ""))
        axes.set_title(f"{name}: 95 % within ±{high:.2g}{unit}")
    figure.suptitle(f"{len(images.x):,} digits of {images.origin}", fontsize=10)
    return figure


def covers(values, share=0.95):
    """The distance from 0 within which `share` of the values lie; the larger coordinate's, of points (n, 2)."""
    distances = np.abs(values)
    return float(np.quantile(distances if distances.ndim == 1 else distances.max(axis=1), share))


def shapes(x):
    """Of digits uint8 (n, 28, 28): centres of box and of mass (n, 2) as (row, column) from the middle, in pixels; the
    side of a square as large as the box, in pixels; the slant in degrees, to the right positive.
    """
    at = np.arange(28) - 13.5
    box, sides = [], []
    for axis in (2, 1):
        ink = x.any(axis=axis)
        first, last = ink.argmax(1), 27 - ink[:, ::-1].argmax(1)
        box.append((first + last) / 2 - 13.5)
        sides.append(last - first + 1)
    weight = x.astype(np.float32)
    total = np.maximum(weight.sum((1, 2)), 1)
    rows, columns = (weight.sum(axis) @ at / total for axis in (2, 1))
    down, right = at[:, None] - rows[:, None, None], at[None] - columns[:, None, None]
    slant = -(weight * down * right).sum((1, 2)) / np.maximum((weight * down**2).sum((1, 2)), 1e-9)
    return np.stack(box, 1), np.stack([rows, columns], 1), np.sqrt(np.prod(sides, axis=0)), np.degrees(np.arctan(slant))


def parser():
    p = console.Parser(prog="plots.py", description=__doc__)
    p.add_argument("picture", choices=sorted(PICTURES), help="which picture to make")
    names = p.add_argument("runs", nargs="*", metavar="RUN", help="for spread: the runs whose nets are to be shown")
    names.completer = runs.names
    recipe = p.add_argument("--recipe", default="single", help="for augmented and layers: whose (default: single)")
    recipe.completer = lambda **_: recipes.RECIPES
    p.add_argument("--set", action="append", metavar="KEY=VALUE", help="change a setting of it, as in train.py")
    p.add_argument("--data", default="auto", metavar="SOURCE", help="whose digits (default: auto)")
    p.add_argument("--row", type=int, default=1, metavar="N", help="for digit: which labelled row, from 1 (default: 1)")
    p.add_argument("--seed", type=int, default=0, metavar="S", help="for samples and augmented: which digits")
    p.add_argument("--out", type=Path, metavar="PNG", help="default: PICTURE.png")
    return p


def _digit(arguments, config, images):
    if not 1 <= arguments.row <= len(images.x):
        raise UserError(f"--row must be from 1 to {len(images.x):,}, not {arguments.row}")
    return digit(images, arguments.row - 1)


def _augmented(arguments, config, images):
    console.import_keras()
    from augment import Augmentation

    kinds = recipes.kinds(config)
    made = [Augmentation(**kinds[i % len(kinds)]["augmentation"]) for i in range(6)]
    for augmentation in made:
        augmentation.fit(images.x)
    told = ", ".join(f"{key} {value}" for key, value in config["augmentation"].items()) or "no augmentation"
    others = f"; columns as its {len(kinds)} kinds of nets in turn" if len(kinds) > 1 else ""
    return augmented(made, images, arguments.seed, f"{arguments.recipe}: {told}{others}")


def _layers(arguments, config, images):
    console.import_keras()
    import models

    first = recipes.member(config, 1)
    title = first["model"] + f", net 1 of {arguments.recipe}" * bool(config["members"])
    return layers(models.build(first["model"], **first["model_config"]), title)


def _spread(arguments, config, images):
    if not arguments.runs:
        raise UserError("spread needs the names of runs: python plots.py spread single-1 single-2")
    groups = {}
    for folder in map(runs.find, arguments.runs):
        found = accuracies(folder.name, [runs.read_result(path) for path in sorted(folder.glob("net-*.json"))])
        if not found:
            raise UserError(f"run {folder.name!r} has no net with an accuracy")
        groups |= found
    return spread(groups)


PICTURES = {
    "digit": _digit,
    "samples": lambda arguments, config, images: samples(images, arguments.seed),
    "centres": lambda arguments, config, images: centres(images),
    "augmented": _augmented,
    "layers": _layers,
    "spread": _spread,
}


def main(argv=None):
    arguments = parser().parse_args(argv)
    out = arguments.out or Path(f"{arguments.picture}.png")
    if out.suffix.lower() != ".png":
        raise UserError(f"--out must name a .png file, not {out}")
    if arguments.seed < 0:
        raise UserError(f"--seed must be 0 or more, not {arguments.seed}")
    if arguments.runs and arguments.picture != "spread":
        raise UserError(f"{arguments.picture} is of no run (see --help), so {arguments.runs[0]!r} has no place here")
    config = recipes.resolve(arguments.recipe, map(recipes.parse_override, arguments.set or []))
    images = None
    if arguments.picture not in ("layers", "spread"):
        import dataset

        images = dataset.load(arguments.data).train
    figure = PICTURES[arguments.picture](arguments, config, images)
    out.parent.mkdir(parents=True, exist_ok=True)
    print(save(figure, out))


if __name__ == "__main__":
    console.run(main)
