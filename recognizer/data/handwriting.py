"""Converts photographs, scans and drawings of a digit to MNIST's form.

Ink is what differs from the paper around it, whatever the lighting. A grey-scale closing wider than any stroke
estimates the paper (Sternberg's background subtraction). Frames, edges and specks are left out.
"""

import contextlib
import functools
import math
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np

from recognizer.base.errors import UserError, refused
from recognizer.data import limits, ruled_lines

Source = Path | str | BinaryIO  # an image file
Inked = tuple[np.ndarray, np.ndarray, tuple[int, int]]  # the result of `inked`

# Pillow's other formats may start programs, as EPS does. pillow-heif reads HEIF.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "HEIF")
SIDE = 400  # pixels: larger images are scaled down to this; a digit needs 20
FAINT = 0.3  # share of the ink's full contrast: anything fainter is not a stroke


def read_image(source: Source, name: str | None = None) -> np.ndarray:
    """Returns the digit in an image file of any size and polarity, as uint8 (28, 28) in MNIST's form.

    source, name: see `read_gray`. Raises UserError if the file is not an image, or shows nothing.
    """
    found = digit(read_gray(source, name=name)[0])
    if found is None:
        raise UserError(f"{name or source} shows no digit: nothing on it is darker or lighter than the paper around it")
    return found


def pages(stream: BinaryIO) -> int:
    """Returns the number of pages in an image file. Only a TIFF, as from a scanner, can have more than one.

    stream: the file's binary stream. Returns 1 for an unreadable file.
    """
    from PIL import Image

    with contextlib.suppress(Exception), Image.open(stream, formats=["TIFF"]) as image:
        return image.n_frames
    return 1


def read_gray(
    source: Source, side: int = SIDE, name: str | None = None, page: int = 0
) -> tuple[np.ndarray, tuple[int, int]]:
    """Reads an image file and turns it upright. Returns (pixels, (width, height) of the upright original).

    The pixels are uint8 (height, width), at most `side` high and wide. Transparent ones become white, or black if all
    visible ones are light. source: a path or a binary stream. name: for messages if `source` is a stream. page: the
    page of a TIFF, from 0. Raises UserError if the file is not an image.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # Pillow would count a JPEG's pixels before scaling; checked below
    with refused(f"{name or source} is not an image that can be read"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # on damaged files that can still be read
        try:
            image = Image.open(source, formats=formats())
        except UnidentifiedImageError as error:
            raise ValueError(_missing(source)) from error
        with image:
            image.seek(page)
            own, deep = image.size, image.mode == "F" or image.mode.startswith("I")
            image.draft("L", (side, side))  # decoding a JPEG at a smaller size takes less time
            if math.prod(own) > limits.JPEG_PIXELS or math.prod(image.size) > limits.IMAGE_PIXELS // (1 + deep):
                raise ValueError(f"{own[0]} x {own[1]} pixels are too many: make it smaller")
            if deep:
                image = _of_8_bits(image)
            image.thumbnail((2000, 2000))
            image = ImageOps.exif_transpose(image)
            if image.has_transparency_data:
                image = _on_paper(image.convert("RGBA"))
            image = image.convert("L")
            if (image.width > image.height) != (own[0] > own[1]):
                own = own[::-1]  # a camera that was held upright
            image.thumbnail((side, side), Image.Resampling.BOX)
            return np.asarray(image), own


@functools.cache
def formats() -> list[str]:
    """Returns the FORMATS that the installed packages can read."""
    from PIL import Image

    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _missing(source):
    """Returns why Pillow cannot read a file, as text. The first bytes of HEIC and AVIF files name their formats."""
    with open(source, "rb") if isinstance(source, (str, Path)) else contextlib.nullcontext(source) as file:
        file.seek(0)
        start = file.read(12)
    kind = start[4:]
    if kind == b"ftypavif":
        return "it is AVIF, which Pillow 11.3 and later can read: save it as JPEG, or pip install -U pillow"
    if kind.startswith(b"ftyp") and "HEIF" not in formats():
        return "it is HEIC, or a video: save it as JPEG, or pip install pillow-heif"
    return "its first bytes are those of no image" if start else "it is empty"


def _on_paper(image):
    """Returns an RGBA image on white, or on black if all visible pixels are light, such as white ink."""
    from PIL import Image

    seen = np.asarray(image.convert("L"))[np.asarray(image)[..., 3] > 127]
    light = seen.size and np.quantile(seen, 0.02) > 127
    return Image.alpha_composite(Image.new("RGBA", image.size, "black" if light else "white"), image)


def _of_8_bits(image):
    """Converts a grey image of more bits, or of floats, to 8 bits.

    White is the least power of two that no value exceeds.
    """
    from PIL import Image

    values = np.nan_to_num(np.asarray(image, np.float32)).clip(0)
    white = 2.0 ** math.ceil(math.log2(max(values.max(), 1e-30)))
    return Image.fromarray(np.uint8(values * np.float32(255 / white)))


def digit(gray: np.ndarray) -> np.ndarray | None:
    """Returns the digit in an image uint8 (height, width), as uint8 (28, 28) in MNIST's form; None if there is none.

    An image of 28x28 pixels, light on dark, is already in that form, and is returned unchanged.
    """
    if is_ready(gray):
        return gray
    ink = written(gray)
    return None if ink is None else mnist_form(ink)


def is_ready(gray: np.ndarray) -> bool:
    """Returns whether an image is already a digit in MNIST's form."""
    return gray.shape == (28, 28) and bool(gray.any() and np.median(_border(gray)) < 64)


def written(gray: np.ndarray) -> np.ndarray | None:
    """Returns the ink on an image (height, width), or None if there is none.

    It is float32, 0 paper to 255 ink. If the image has a frame, it is only the part inside. The array is padded if a
    fine pen's strokes are widened.
    """
    found = inked(gray)
    if found is None:
        return None
    return pen(*main_digit(*found[:2]))


def inked(gray: np.ndarray, size: int | None = None) -> Inked | None:
    """Returns (contrast, labels, (top, left)) of an image (height, width), or None if nothing is written on it.

    contrast: float32, each pixel's difference from the paper, for the part of the image that begins at (top, left).
    labels: the connected parts of the ink, from 1. size: side in pixels of a digit with the paper around it; None: the
    image's shorter side.
    """
    from scipy import ndimage

    size = size or min(gray.shape)
    smooth = ndimage.gaussian_filter(gray.astype(np.float32), size / 200)
    edge = _border(smooth)
    paper = np.median(edge)
    even = np.mean(np.abs(edge - paper) < 12) > 0.6  # a drawing or a scan: the paper has one shade
    if even and (found := _inked_sheet(smooth, paper, size)) is not None:
        return found
    if (smooth.mean() > paper) if even else _is_light_on_dark(smooth, size):
        smooth, paper = 255 - smooth, 255 - paper
    framed = _within_frame(smooth)
    if framed is not None and (found := _inked_part(smooth, framed, size)) is not None:
        return found
    smooth = np.pad(smooth, 2, mode="edge")
    contrast = np.maximum(paper - smooth, 0) if even else _thinner(smooth, size // 3)
    noise = np.median(contrast)  # most of an image is paper
    contrast = _without_lines(contrast, max(12, 3 * noise))
    labels, n = labelled(contrast > max(12, 3 * noise))
    return (contrast, labels, (-2, -2)) if n else None


def _inked_part(image, part, size):
    """Returns the result of `inked` for a part of an image. part: slices of rows and columns."""
    found = inked(image[part], min(size, *(each.stop - each.start for each in part)))
    if found is None:
        return None
    contrast, labels, corner = found
    return contrast, labels, tuple(each.start + at for each, at in zip(part, corner, strict=True))


def _inked_sheet(image, desk, size):
    """Returns the result of `inked` for a sheet of paper on a desk of one shade; None if there is no sheet."""
    from PIL import Image, ImageDraw
    from scipy import ndimage, spatial

    labels, n = labelled(np.abs(image - desk) > 12)
    seen = (np.append(0, np.bincount(labels.ravel(), minlength=n + 1)[1:]) > 0.002 * image.size)[labels]
    points = np.argwhere(seen)[:, ::-1]
    if _border(seen).any() or len(points) < 0.1 * image.size or np.ptp(points, axis=0).min() < 20:
        return None
    hull = Image.new("1", image.shape[::-1])
    ImageDraw.Draw(hull).polygon([tuple(map(int, at)) for at in points[spatial.ConvexHull(points).vertices]], fill=1)
    hull = np.asarray(hull)
    part = ndimage.find_objects(hull.astype(int))[0]
    rim = hull & ~ndimage.binary_erosion(hull, np.ones((3, 3)), 2 + min(hull[part].shape) // 50)
    if seen[rim].mean() < 0.85 or hull[part].mean() < 0.8:  # a sheet is a rectangle, a digit is not convex
        return None
    inner = hull & ~rim
    if not inner.any() or abs(np.median(image[inner]) - desk) < 5:
        return None  # paper of the desk's shade: the outline is a frame, or a row of boxes
    nearest = ndimage.distance_transform_edt(~inner, return_distances=False, return_indices=True)
    found = _inked_part(image[tuple(nearest)], part, size)
    if found is None or np.quantile(found[0][found[0] > 12], 0.9) < 0.3 * abs(np.median(image[inner]) - desk):
        return None  # not a sheet, but a stroke of a broad pen with several shades
    return found


def _without_lines(contrast, least):
    """Returns contrast that is 0 at ruled lines. least: the contrast above which a pixel is ink."""
    from scipy import ndimage

    mask = contrast > least
    if not mask.any():
        return contrast
    mask = contrast > max(least, FAINT * np.quantile(contrast[mask], 0.9))
    lines = ruled_lines.ruled(mask)
    if lines.any() and not (mask & ~lines).any():
        return np.zeros_like(contrast)
    rim = ndimage.binary_dilation(lines, np.ones((3, 3)), 2) & ~mask  # the blurred edges of lines
    return np.where(lines | rim, 0, contrast)


def main_digit(contrast: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (ink, about 0 to 1; bool mask of the main digit) from the contrast and labels of `inked`."""
    kept = _of_the_digit(contrast, labels)
    full = np.quantile(contrast[kept], 0.9)
    # Repeat without faint pixels, which may have joined a shadow's edge to the digit.
    again, _ = labelled(kept & (contrast > FAINT * full))
    return contrast / full, _of_the_digit(contrast, again)


def pen(ink: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Returns the ink inside the mask `kept`, float32, 0 to 255, with the strokes of a fine pen widened.

    A shape more than 500 pixels high or wide is returned as a smaller copy, which saves seconds.
    """
    every = 1 + max(np.ptp(where) for where in np.nonzero(kept)) // 500
    ink, kept = ink[::every, ::every], kept[::every, ::every]
    return (255 * _widened(np.where(kept, np.minimum(ink, 1), 0), kept)).astype(np.float32)


def labelled(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns (labels of a mask's connected parts, their number). Pixels that touch at a corner are connected."""
    from scipy import ndimage

    return ndimage.label(mask, np.ones((3, 3)))


def boxes_of(labels: np.ndarray) -> np.ndarray:
    """Returns the bounding boxes of labels, int (n, 2, 2): begin and end of the rows, begin and end of the columns."""
    from scipy import ndimage

    return np.array([[(part.start, part.stop) for part in box] for box in ndimage.find_objects(labels)])


def _widened(ink, kept):
    """Returns ink, 0 to 1, with a fine pen's strokes widened, since MNIST's are at least two pixels wide.

    kept: bool mask of the digit.
    """
    from scipy import ndimage

    side = max(np.ptp(where) + 1 for where in np.nonzero(kept))
    width = 4 * ndimage.distance_transform_edt(kept)[kept].mean()  # a band's width is 4 times its mean depth
    lacking = round(0.11 * side - width)
    if lacking <= 0:
        return ink
    disk = np.hypot(*np.ogrid[-lacking : lacking + 1, -lacking : lacking + 1]) <= (lacking + 1) / 2
    return ndimage.grey_dilation(np.pad(ink, lacking), footprint=disk)


def _border(image):
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def _is_light_on_dark(image, size):
    """Returns whether ink is lighter than paper, by comparing the contrast of thin light and thin dark strokes.

    Filters of five widths measure it. The narrowest filter that measures at least a fifth of the maximum decides.
    On a page with far more paper than ink, the skewness of the image's detail decides instead.
    """
    from scipy import ndimage

    found = []
    for part in (24, 16, 12, 8, 5):
        thin = [_thinner(shade, size // part) for shade in (image, 255 - image)]
        found.append([(np.maximum(contrast - 3 * np.median(contrast), 0) ** 2).sum() for contrast in thin])
    most = np.max(found, axis=1)
    dark, light = found[np.argmax(most >= most.max() / 5)]
    detail = image - ndimage.gaussian_filter(image, size / 8)
    skewness = (detail**3).mean() / max(1e-9, (detail**2).mean() ** 1.5)
    if abs(skewness) > 2.5:  # a page: far more paper than ink, and gaps between digits as thin as strokes
        return skewness > 0
    return light > dark


def _thinner(image, width):
    """Returns by how much each pixel is darker than the paper around it, for strokes thinner than `width`."""
    from scipy import ndimage

    return ndimage.grey_closing(image, (max(5, width),) * 2, mode="nearest") - image


def _within_frame(image):
    """Returns the part of an image inside a dark frame, as slices of rows and columns; None if there is no frame."""
    from scipy import ndimage

    contrast = _thinner(image, min(image.shape) // 8)
    labels, _ = labelled(contrast > max(12, 5 * np.median(contrast)))
    for i, box in enumerate(ndimage.find_objects(labels), 1):
        if any(2 * (part.stop - part.start) < size for part, size in zip(box, image.shape, strict=True)):
            continue  # too small for a frame
        inside = ndimage.binary_fill_holes(labels[box] == i) & (labels[box] != i)
        if inside.mean() < 0.7:  # the ink is a digit 0, not a box
            continue
        holes, _ = ndimage.label(inside)
        if 2 * np.bincount(holes.ravel())[1:].max() < inside.sum():
            continue  # several boxes side by side
        rows, columns = ndimage.find_objects(holes)[np.bincount(holes.ravel())[1:].argmax()]
        edge = 2 + min(inside.shape) // 50
        if min(rows.stop - rows.start, columns.stop - columns.start) < 4 * edge:
            continue
        return tuple(
            slice(outer.start + inner.start + edge, outer.start + inner.stop - edge)
            for outer, inner in zip(box, (rows, columns), strict=True)
        )
    return None


def _of_the_digit(contrast, labels):
    """Returns the digit's bool mask, of the shape of `labels`: the strongest connected part and those near it."""
    from scipy import ndimage

    numbers = np.arange(1, labels.max() + 1)
    strength = ndimage.sum_labels(contrast, labels, numbers)
    boxes = boxes_of(labels)
    size = np.array(labels.shape)
    sides = (boxes[:, :, 1] - boxes[:, :, 0]).max(axis=1)
    at_edge = ((boxes[:, :, 0] <= 2) | (boxes[:, :, 1] >= size - 2)).any(axis=1)
    usual = sides >= 0.1 * sides.max()  # not specks
    inner = usual & ~at_edge
    choice = inner if inner.any() else usual
    main = np.flatnonzero(choice)[strength[choice].argmax()]
    gap = np.maximum(boxes[:, :, 0] - boxes[main, :, 1], boxes[main, :, 0] - boxes[:, :, 1]).max(axis=1)
    near = (gap <= sides[main] / 4) & (strength >= 0.03 * strength[main]) & (at_edge <= at_edge[main])
    near[main] = True
    return np.isin(labels, numbers[near])


def mnist_form(ink: np.ndarray) -> np.ndarray:
    """Returns a digit in MNIST's form: its box scaled to fit 20x20 pixels, its centre of mass in the middle of 28x28.

    ink: (height, width), 0 background to 255, with some ink. Returns uint8 (28, 28).
    Source: http://yann.lecun.com/exdb/mnist/.
    """
    from PIL import Image

    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    ink = np.asarray(ink, np.float32)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = 20 / max(ink.shape)
    size = [max(1, round(side * scale)) for side in ink.shape[::-1]]
    resampling = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX
    box = np.asarray(Image.fromarray(ink).resize(size, resampling)).clip(0, 255)
    margins = []
    for axis, length in enumerate(box.shape):
        centre = (box.sum(axis=1 - axis) * np.arange(length)).sum() / box.sum()
        before = int(np.clip(round(13.5 - centre), 0, 28 - length))
        margins.append((before, 28 - length - before))
    return np.pad(box, margins).round().astype(np.uint8)
