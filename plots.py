"""Every picture: of a run after training, of a submission, and of what augmentation does to digits.

python plots.py augmented --recipe grenholm              30 digits as that recipe would train on them
python plots.py augmented --set augmentation.elastic_alpha=34 --out elastic.png
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import console
import recipes
import runs

# Okabe and Ito's palette, told apart by the colour-blind; line styles tell the same in grey.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
matplotlib.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def save(figure, path):
    """Writes a figure, whole or not at all; returns the path."""
    with console.whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120, bbox_inches="tight")
    return Path(path)


def run_pictures(folder, train, test):
    """Draws a finished run's pictures into its folder; returns their paths.

    train, test: dataset.Images (test may be None). The digits shown are the validation rows (of several nets: each
    row judged by the nets that did not train on it), or the test rows of a run that has no validation split.
    """
    config = runs.read_config(folder)
    nets = range(1, config["nets"] + 1)
    logs = [runs.read_rows(runs.net_file(folder, net, ".csv")) for net in nets]
    pictures = [save(curves(logs, folder.name), folder / "curves.png")]
    predictions = runs.read_arrays(folder / "predictions.npz")
    rows, probabilities = runs.out_of_bag(predictions, len(train.y), nets)
    if len(rows):
        x, y, part = train.x[rows], train.y[rows], "validation"
    elif test is not None and test.y is not None:
        x, y, part = test.x, test.y, "test"
        probabilities = np.mean([predictions[f"test_{net:02d}"] for net in nets], axis=0)
    else:
        return pictures
    title = f"{folder.name}: {part} digits"
    pictures.append(save(confusion_matrix(y, probabilities.argmax(1), title), folder / "confusion.png"))
    pictures.append(save(mistakes(x, y, probabilities, title), folder / "mistakes.png"))
    return pictures


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
    accuracy.set(ylabel="accuracy", ylim=(1 - min(1, 3 * float(np.median(errors)) + 1e-3), 1))
    accuracy.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g}%")
    rate.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    rate.xaxis.set_major_locator(MaxNLocator(integer=True))
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


def digit_grid(x, captions, columns, title, x_label=""):
    """A grid of digits with a caption under each. x: (n, 28, 28) in 0..255."""
    rows = max(1, -(-len(x) // columns))
    figure = Figure(figsize=(columns * 0.95, rows * 1.25 + 0.6), layout="constrained")
    for axes in np.ravel(figure.subplots(rows, columns)):
        axes.set_axis_off()
    for axes, image, caption in zip(figure.axes, x, captions, strict=False):
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=255)
        axes.set_title(caption, fontsize=8, y=-0.02, va="top")
    figure.suptitle(title, fontsize=10)
    return figure


def mistakes(x, y, probabilities, title, most=40):
    """The misclassified digits, the most confident mistakes first, with label, prediction and its probability."""
    predicted, sure = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != y)
    shown = wrong[np.argsort(-sure[wrong], kind="stable")][:most]
    captions = [f"{y[i]} taken for {predicted[i]}\n{sure[i]:.0%}" for i in shown]
    which = f"the {len(shown)} surest of {len(wrong)} mistakes" if len(wrong) > most else f"{len(wrong)} mistakes"
    return digit_grid(x[shown], captions, 8, f"{title}: {which} (label, prediction, its probability)")


def preview(x, probabilities, title):
    """The first 40 digits with their predictions and probabilities."""
    captions = [f"{row.argmax()}  ({row.max():.0%})" for row in probabilities[:40]]
    return digit_grid(x[:40], captions, 8, title)


def augmented(augmentation, images, seed, title):
    """Five digits (first column) and six augmented forms of each: 30 in all. images: dataset.Images."""
    import fit

    firsts = [int(np.flatnonzero(images.y == label)[seed % 5]) for label in (0, 2, 4, 7, 9)]
    copies = np.repeat(images.x[firsts], 6, axis=0)
    changed = fit.augmented_images(augmentation, copies, seed, purpose="preview").reshape(5, 6, 28, 28)
    x = np.concatenate([images.x[firsts][:, None], changed], axis=1).reshape(-1, 28, 28)
    captions = [f"{label}" if i == 0 else "" for label in images.y[firsts] for i in range(7)]
    return digit_grid(x, captions, 7, title)


def main(argv=None):
    p = console.Parser(prog="plots.py", description=__doc__)
    p.add_argument("picture", choices=("augmented",), help="which picture to make")
    p.add_argument("--recipe", default="single", help="whose augmentation (default: single)")
    p.add_argument("--set", action="append", metavar="KEY=VALUE", help="change a setting, as in train.py")
    p.add_argument("--data", default="auto", metavar="SOURCE", help="whose digits (default: auto)")
    p.add_argument("--seed", type=int, default=0, metavar="S")
    p.add_argument("--out", default="augmented.png", metavar="PNG", help="default: augmented.png")
    arguments = p.parse_args(argv)
    config = recipes.resolve(arguments.recipe, map(recipes.parse_override, arguments.set or []))

    import dataset

    digits = dataset.load(arguments.data)
    console.import_keras()
    from augment import Augmentation

    settings = config["augmentation"]
    told = ", ".join(f"{key} {value}" for key, value in settings.items()) or "no augmentation"
    figure = augmented(Augmentation(**settings), digits.train, arguments.seed, f"{arguments.recipe}: {told}")
    Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
    print(save(figure, arguments.out))


if __name__ == "__main__":
    console.run(main)
