"""Charts of digits, original and augmented."""

import numpy as np
from matplotlib.figure import Figure

from recognizer.base.errors import UserError
from recognizer.config import members
from recognizer.data.arrays import Images
from recognizer.reports import charts


def augmented(name: str, config: dict, images: Images, seed: int) -> Figure:
    """Draws five digits (first column), each with six augmented versions.

    If the recipe has several kinds of nets, the columns show the augmentations of the kinds in turn.


    name, config: the recipe's name and settings. images: the labelled Images.
    Raises UserError if one of the five classes has no digit.
    """
    from recognizer.nn import flip_classes
    from recognizer.training import batches, plan

    of_class = {label: np.flatnonzero(images.y == label) for label in (0, 2, 4, 7, 9)}
    if not all(map(len, of_class.values())):
        raise UserError(f"{images.origin} does not have all of the digits 0, 2, 4, 7 and 9, which this picture shows")
    firsts = [int(rows[seed % min(5, len(rows))]) for rows in of_class.values()]
    kinds, forms = members.kinds(config), []
    for i in range(6):
        settings = kinds[i % len(kinds)]
        augmentation = plan.augmentation(settings)
        form = batches.augmented_images(augmentation, images.x[firsts], seed, i, "preview", mixed=True)
        views = [(), *(flip_classes.FLIPS[flip] for flip in settings["joint_flips"])]  # columns take them in turn
        forms.append(np.flip(form, views[i % len(views)]))
    x = np.stack([images.x[firsts], *forms], axis=1).reshape(-1, 28, 28)
    captions = [f"{label}, original" if i == 0 else "" for label in of_class for i in range(7)]
    shown = config["augmentation"] | {key: config[key] for key in ["joint_flips"] if config[key]}
    told = ", ".join(f"{key} {value}" for key, value in shown.items()) or "no augmentation"
    others = f"; the columns show its {len(kinds)} kinds of nets in turn" if len(kinds) > 1 else ""
    return charts.digit_grid(x, captions, 7, f"{name}: {told}{others}")


def digit(images: Images, row: int) -> Figure:
    """Draws a digit as the 784 numbers of its row in the file, and as an image.

    row: int, from 1. Raises UserError if there is no such row.
    """
    if not 1 <= row <= len(images.x):
        raise UserError(f"--row must be from 1 to {len(images.x):,}, not {row}")
    row -= 1
    figure, (line, image) = charts.new_figure((9, 3), 1, 2, width_ratios=[2, 1])
    line.plot(images.x[row].ravel(), color=charts.BLUE, lw=0.8)
    line.vlines(range(0, 785, 28), 0, 260, color=charts.GREY, lw=0.3, alpha=0.5)
    line.set(xlabel="pixel (a line for each row of 28)", ylabel="value", xlim=(0, 784), ylim=(0, 260))
    line.set_title(f"row {row + 1} of {images.origin}")
    image.imshow(images.x[row], cmap="gray_r", vmin=0, vmax=255)
    image.set(xticks=[0, 14, 27], yticks=[0, 14, 27])
    image.set_title(f"label {images.y[row]}" if images.y is not None else "no label")
    return figure


def samples(images: Images, seed: int) -> Figure:
    """Draws eight random digits of each class."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(images.y == label))[:8] for label in range(10)]
    labels = [str(label) for label, own in enumerate(rows) for _ in own]
    return charts.digit_grid(images.x[np.concatenate(rows)], labels, 16, f"{images.origin}, eight of each class")


def centres(images: Images) -> Figure:
    """Draws histograms of the digits' positions, sizes and slants, and the ranges that cover 95 % of them.

    Positions are the centres of the bounding box, which Deotte measured, and of mass, by which MNIST was centred. Size
    is the side of a square with the area of the box; slant comes from the second moments, as in deskewing. Both are
    relative to the median of their class.
    """
    box, mass, size, slant = shapes(images.x)

    def of_class(values):
        found = {label: np.median(values[images.y == label]) for label in np.unique(images.y)}
        return np.array([found[label] for label in images.y])

    slant, zoom = slant - of_class(slant), size / of_class(size) - 1
    figure, ((a, b), (c, d)) = charts.new_figure((9, 7), 2, 2)
    limit = max(2.0, float(np.abs(np.concatenate([box, mass])).max()))
    for axes, offsets, name in ((a, box, "bounding box"), (b, mass, "mass")):
        counts, *edges = np.histogram2d(offsets[:, 0], offsets[:, 1], bins=np.arange(-limit - 0.25, limit + 0.5, 0.5))
        shown = axes.imshow(np.log10(counts + 1), origin="lower", cmap="Blues", extent=[edges[0][0], edges[0][-1]] * 2)
        figure.colorbar(shown, ax=axes, label="digits, 10ⁿ - 1")
        axes.set(xlabel="right of the middle (pixels)", ylabel="below the middle (pixels)")
        axes.invert_yaxis()
        axes.set_title(f"centre of {name}: 95 % within {covers(offsets):.1f} pixels ({covers(offsets) / 28:.3f})")
    for axes, values, unit, name in ((c, slant, "°", "slant"), (d, zoom, "", "size")):
        axes.hist(values, bins=60, color=charts.BLUE, alpha=0.7)
        half = covers(values)
        for edge in (-half, half):
            axes.axvline(edge, color=charts.ORANGE, ls="--")
        axes.set(ylabel="digits", xlabel=f"{name} relative to the median of its class" + (" (degrees)" if unit else ""))
        axes.set_title(f"{name}: 95 % within ±{half:.2g}{unit}")
    figure.suptitle(f"{len(images.x):,} digits of {images.origin}", fontsize=10)
    return figure


def covers(values: np.ndarray, share: float = 0.95) -> float:
    """Returns the distance from 0 that covers `share` of the values. Of points (n, 2), the larger coordinate counts."""
    distances = np.abs(values)
    return float(np.quantile(distances if distances.ndim == 1 else distances.max(axis=1), share))


def shapes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Measures digits uint8 (n, 28, 28).

    Returns the centres of the bounding box and of mass, (n, 2), as (row, column) from the image's centre in pixels; the
    side of a square with the area of the box, in pixels; the slant in degrees, positive to the right.
    """
    at = np.arange(28) - 13.5
    box, sides = [], []
    for axis in (2, 1):
        ink = x.max(axis=axis) > 0
        first, last = ink.argmax(1), 27 - ink[:, ::-1].argmax(1)
        box.append((first + last) / 2 - 13.5)
        sides.append(last - first + 1)
    weight = x.astype(np.float32)
    total = np.maximum(weight.sum((1, 2)), 1)
    rows, columns = (weight.sum(axis) @ at / total for axis in (2, 1))
    down, right = at[:, None] - rows[:, None, None], at[None] - columns[:, None, None]
    slant = -(weight * down * right).sum((1, 2)) / np.maximum((weight * down**2).sum((1, 2)), 1e-9)
    return np.stack(box, 1), np.stack([rows, columns], 1), np.sqrt(np.prod(sides, axis=0)), np.degrees(np.arctan(slant))
