"""Photographs, scans and drawings of a digit, brought to MNIST's form.

Ink is what differs from the paper around it, however that is lit: the paper is found by closing what is narrower than
a stroke can be (Sternberg's background subtraction, by grey-scale morphology). Frames, edges and specks are left out.
"""

import warnings

import numpy as np

from console import UserError, refused

LARGEST_SIDE = 400  # pixels that are looked at; a digit needs 20


def read_image(path):
    """Reads an image file of any size and polarity, as uint8 (28, 28) in MNIST's form.

    Raises UserError for a file that is no image, or shows nothing.
    """
    from PIL import Image, ImageOps

    with refused(f"{path} is not an image that can be read"), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # more than a hundred million pixels
        warnings.filterwarnings("ignore", module="PIL")  # of a file that is damaged, and can be read all the same
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            image.thumbnail((2000, 2000))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("L")
            image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BOX)
            gray = np.asarray(image)
    found = digit(gray)
    if found is None:
        raise UserError(f"{path} shows no digit: it is of one shade")
    return found


def digit(gray):
    """The digit on an image uint8 (height, width), as uint8 (28, 28) in MNIST's form; None if there is none.

    An image of 28x28 pixels, light on dark, is in that form already, and is returned as it is.
    """
    border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    if gray.shape == (28, 28) and np.median(border) < 64:
        return gray
    ink = written(gray)
    return None if ink is None else mnist_form(ink)


def written(gray):
    """What is written on an image (height, width): float32, as high and wide or more, 0 paper to 255 ink; or None."""
    from scipy import ndimage

    gray = gray.astype(np.float32)
    if _is_light_on_dark(gray):
        gray = 255 - gray
    gray = np.pad(gray, 2, mode="edge")
    smooth = ndimage.gaussian_filter(gray, min(gray.shape) / 200)
    widest = max(5, min(gray.shape) // 3)  # that a stroke can be
    contrast = ndimage.grey_closing(smooth, (widest, widest), mode="nearest") - smooth
    noise = np.median(contrast)  # the larger part of an image is paper
    labels, n = ndimage.label(contrast > max(12, 3 * noise), np.ones((3, 3)))
    if not n:
        return None
    kept = np.isin(labels, _of_the_digit(contrast, labels))
    full = np.quantile(contrast[kept], 0.9)
    kept &= contrast > 0.3 * full
    # MNIST's strokes are two pixels wide and more: a fine pen's would vanish when they are scaled.
    side = max(np.ptp(where) + 1 for where in np.nonzero(kept))
    width = 4 * ndimage.distance_transform_edt(kept)[kept].mean()  # of a band: four times its mean depth
    ink = np.where(kept, np.minimum(contrast / full, 1), 0)
    lacking = round(0.11 * side - width)
    if lacking > 0:
        disk = np.hypot(*np.ogrid[-lacking : lacking + 1, -lacking : lacking + 1]) <= (lacking + 1) / 2
        ink = ndimage.grey_dilation(np.pad(ink, lacking), footprint=disk)
    return (255 * ink).astype(np.float32)


def _is_light_on_dark(gray):
    """Whether what stands out from a smoothly lit paper, a quadratic surface, is lighter than it."""
    rows, columns = (np.linspace(-1, 1, size) for size in gray.shape)
    y, x = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=1)
    values, weights = gray.ravel(), np.ones(gray.size)
    for _ in range(5):  # the further from the surface, the less a pixel counts
        scaled = terms * weights[:, None]
        surface = terms @ np.linalg.lstsq(scaled.T @ terms, scaled.T @ values, rcond=None)[0]
        off = values - surface
        weights = 1 / (1 + (off / (1 + 2 * np.median(np.abs(off)))) ** 2)
    return (np.clip(off, -255, 255) ** 3).sum() > 0


def _of_the_digit(contrast, labels):
    """The numbers of the connected parts that are the digit's: the strongest one and what is near it."""
    from scipy import ndimage

    numbers = np.arange(1, labels.max() + 1)
    strength = ndimage.sum_labels(contrast, labels, numbers)
    boxes = np.array([[(s.start, s.stop) for s in box] for box in ndimage.find_objects(labels)])  # (n, 2, 2)
    size = np.array(labels.shape)
    sides = (boxes[:, :, 1] - boxes[:, :, 0]).max(axis=1)
    at_edge = ((boxes[:, :, 0] <= 2) | (boxes[:, :, 1] >= size - 2)).any(axis=1)
    usual = sides >= 0.1 * sides.max()  # of what is not a speck

    def surrounds(i):
        within = (boxes[:, :, 0] > boxes[i, :, 0]).all(axis=1) & (boxes[:, :, 1] < boxes[i, :, 1]).all(axis=1)
        return (within & (sides > sides[i] / 4)).any()

    frame = np.array([usual[i] and surrounds(i) for i in range(len(numbers))])
    inner = usual & ~at_edge & ~frame
    choice = inner if inner.any() else usual
    main = np.flatnonzero(choice)[strength[choice].argmax()]
    gap = np.maximum(boxes[:, :, 0] - boxes[main, :, 1], boxes[main, :, 0] - boxes[:, :, 1]).max(axis=1)
    near = (gap <= sides[main] / 4) & (strength >= 0.03 * strength[main]) & ~frame & (at_edge <= at_edge[main])
    near[main] = True
    return numbers[near]


def mnist_form(ink):
    """Brings a digit to MNIST's form: its box scaled to fit 20x20 pixels, its centre of mass in the middle of 28x28.

    ink: (height, width), 0 background to 255. Returns uint8 (28, 28).
    After http://yann.lecun.com/exdb/mnist/.
    """
    from PIL import Image

    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros((28, 28), np.uint8)
    ink = np.asarray(ink, np.float32)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = 20 / max(ink.shape)
    size = [max(1, round(side * scale)) for side in ink.shape[::-1]]
    resampling = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX
    box = np.asarray(Image.fromarray(ink).resize(size, resampling)).clip(0, 255)
    form = np.zeros((28, 28), np.float32)
    total = max(box.sum(), 1e-6)
    corner = []
    for axis, length in enumerate(box.shape):
        centre = (box.sum(axis=1 - axis) * np.arange(length)).sum() / total
        corner.append(int(np.clip(round(13.5 - centre), 0, 28 - length)))
    form[corner[0] : corner[0] + box.shape[0], corner[1] : corner[1] + box.shape[1]] = box
    return form.round().astype(np.uint8)
