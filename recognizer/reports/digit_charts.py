import numpy as np
from matplotlib.figure import Figure

from recognizer.base.errors import UserError
from recognizer.reports import charts


def augmented(kinds, images, seed, title):
    """Five digits (first column) and six augmented forms of each: 30 in all. images: dataset.Images.

    kinds: six (augment.Augmentation, joint_flips), one for each form; the forms show the image and its flips in turn.
    """
    from recognizer.nn.flip_classes import FLIPS
    from recognizer.training import batches

    of_class = {label: np.flatnonzero(images.y == label) for label in (0, 2, 4, 7, 9)}
    if not all(map(len, of_class.values())):
        raise UserError(f"{images.origin} has not all of the digits 0, 2, 4, 7 and 9, which this picture shows")
    firsts = [int(rows[seed % min(5, len(rows))]) for rows in of_class.values()]
    forms = []
    for i, (augmentation, flips) in enumerate(kinds):
        form = batches.augmented_images(augmentation, images.x[firsts], seed, i, "preview", mixed=True)
        views = [(), *(FLIPS[flip] for flip in flips)]
        forms.append(np.flip(form, views[i % len(views)]))
    x = np.stack([images.x[firsts], *forms], axis=1).reshape(-1, 28, 28)
    captions = [f"{label}" if i == 0 else "" for label in images.y[firsts] for i in range(7)]
    return charts.digit_grid(x, captions, 7, title)


def digit(images, row):
    """A digit as the line of 784 numbers that the file holds, and as the image that they are. row: from 0."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    line, image = figure.subplots(1, 2, width_ratios=[2, 1])
    line.plot(images.x[row].ravel(), color=charts.BLUE, lw=0.8)
    for start in range(0, 785, 28):
        line.axvline(start, color=charts.GREY, lw=0.3, alpha=0.5)
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
    return charts.digit_grid(
        images.x[rows], [str(images.y[row]) for row in rows], 16, f"{images.origin}, eight of each class"
    )


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
        axes.hist(values, bins=60, color=charts.BLUE, alpha=0.7)
        low, high = -covers(values), covers(values)
        for edge in (low, high):
            axes.axvline(edge, color=charts.ORANGE, ls="--")
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
