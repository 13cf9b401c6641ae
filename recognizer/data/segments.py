"""Finds the digits in a picture apart: several of them, in lines, though strokes are broken or digits touch.

A shape is what is connected, or has tiny gaps only. It consists of pieces: its connected parts, cut where a thin bridge
of ink may join two digits. Each run of neighbouring pieces may be a digit, and is a candidate: the nets predict all
candidates, and their probabilities say which of them the shape is made of.
"""

import dataclasses

import numpy as np

from recognizer.base.errors import UserError
from recognizer.data import handwriting

MOST = 300  # shapes of a picture: small print has more
DETAIL = 50  # pixels: a picture whose digits are lower is read again at a larger scale
LARGE = 2000  # pixels: that scale's longer side at most
GAP = 0.06  # of a digit's height: a smaller gap may be within a digit
WIDE = 1.1  # times its height: what is wider may be several digits,
WIDEST = 1.5  # and this must be
SURE = 0.5  # probability: what may be several digits is not read with less


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """What may be a digit: pieces first to end - 1 of a shape."""

    image: np.ndarray  # uint8 (28, 28)
    box: tuple  # left, top, right, bottom: pixels of the picture
    first: int
    end: int


@dataclasses.dataclass(frozen=True, eq=False)
class Shape:
    """A digit, or several that touch or nearly touch."""

    candidates: list
    pieces: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A picture and the shapes in it."""

    name: str
    gray: np.ndarray  # uint8 (height, width)
    size: tuple  # width and height of the image file
    lines: list  # of lists of Shapes


@dataclasses.dataclass(frozen=True, eq=False)
class Digit:
    """A digit that was read. Its label is None where digits touch and cannot be told apart."""

    label: int | None
    probabilities: np.ndarray  # (10,)
    image: np.ndarray  # uint8 (28, 28)
    box: tuple  # left, top, right, bottom
    place: tuple  # the line, the number within it, the digit within that, from 1


def read_picture(source, name=None):
    """Returns the Picture of an image file. Raises UserError if it shows no digit.

    source, name: as for handwriting.read_gray.
    """
    name = str(name or source)
    gray, size = handwriting.read_gray(source, name=name)
    try:
        picture = Picture(name, gray, size, lines_of(gray, size))
        factor = max(size) / max(gray.shape)
        height = _height(picture.lines) / factor if picture.lines else DETAIL
        if sum(map(len, picture.lines)) > 1 and height < DETAIL and factor > 1.2:
            gray, size = handwriting.read_gray(source, min(LARGE, round(max(gray.shape) * 1.5 * DETAIL / height)), name)
            picture = Picture(name, gray, size, lines_of(gray, size))
    except UserError as error:
        raise UserError(f"{name} {error}") from error
    if not picture.lines:
        raise UserError(f"{name} shows no digit: it is of one shade")
    return picture


def _height(lines):
    """Returns the usual height of the shapes in lines."""
    boxes = [shape.candidates[0].box for line in lines for shape in line]
    return np.median([bottom - top for _, top, _, bottom in boxes])


def lines_of(gray, size=None):
    """Returns the Shapes of an image uint8 (height, width), as lists: one for each line, from left to right.

    size: the width and height of the picture of which the image is a smaller copy.
    """
    factor = max(size or gray.shape) / max(gray.shape)
    if handwriting.is_ready(gray):
        box = tuple(round(factor * side) for side in (0, 0, 28, 28))
        return [[Shape([Candidate(gray, box, 0, 1)])]]
    found = handwriting.inked(gray)
    if found is None:
        return []
    contrast, labels, corner = found
    ink, main = handwriting.main_digit(contrast, labels)
    bodies, groups = _groups(_bodies(ink, main))
    alone = len(groups) == 1
    if len(groups[0]) == 1 and alone:
        bodies = np.where(main, groups[0][0], 0)
    shapes = [_shape(ink, bodies, group, corner, factor, alone) for group in groups]
    return _lines(shapes)


def _bodies(ink, main):
    """Returns which parts of an image may be digits by themselves: labels from 1. Small parts get the nearest's label.

    main: bool, where the main digit is.
    """
    from scipy import ndimage

    labels, n = handwriting.labelled(ink > handwriting.FAINT)
    numbers = np.arange(1, n + 1)
    boxes = _boxes(labels)
    sides = boxes[:, :, 1] - boxes[:, :, 0]
    strength, mean = (function(ink, labels, numbers) for function in (ndimage.sum_labels, ndimage.mean))
    at_edge = ((boxes[:, :, 0] <= 2) | (boxes[:, :, 1] >= np.array(ink.shape) - 2)).any(axis=1)
    of_main = np.unique(labels[main]) - 1
    first = of_main[strength[of_main].argmax()]
    allowed = at_edge <= at_edge[first]
    height = sides[first, 0]
    is_body = allowed & (sides[:, 0] >= 0.4 * height) & (sides[:, 0] <= 2.5 * height) & (mean >= 0.5 * mean[first])
    is_body[first] = True
    if is_body.sum() > MOST:
        raise UserError(f"shows more than {MOST} shapes: cut out the part with the digits")
    owner = np.where(is_body, is_body.cumsum(), 0)
    bodies = np.append(0, owner)[labels]
    distance, nearest = ndimage.distance_transform_edt(bodies == 0, return_indices=True)
    at = [tuple(place) for place in ndimage.minimum_position(distance, labels, numbers)]
    near = np.array([bodies[nearest[0][place], nearest[1][place]] for place in at])
    body = np.flatnonzero(is_body)[near - 1]
    reach = np.minimum(sides[body].max(axis=1), 1.5 * sides[body, 0]) / 4
    joins = allowed & ([distance[place] for place in at] <= reach) & (strength >= 0.03 * strength[body])
    return np.append(0, np.where(is_body | joins, near, 0))[labels]


def _boxes(labels):
    """Returns the boxes of what is labelled, int (n, 2, 2): rows and columns, their beginnings and ends."""
    from scipy import ndimage

    return np.array([[(part.start, part.stop) for part in box] for box in ndimage.find_objects(labels)])


def _groups(bodies):
    """Returns (bodies, groups of them): those in a group have tiny gaps between them, and are lists from left to right.

    In the bodies that are returned, parts above each other are one where they must be one digit.
    """
    boxes = _boxes(bodies)
    height = np.median(boxes[:, 0, 1] - boxes[:, 0, 0])
    above, beside = [], []
    for a, b, gap in _gaps(bodies):
        pair = boxes[[a - 1, b - 1]]
        common = pair[:, :, 1].min(axis=0) - pair[:, :, 0].max(axis=0)  # rows, columns
        rows, columns = pair[:, :, 1].max(axis=0) - pair[:, :, 0].min(axis=0)
        least = (pair[:, :, 1] - pair[:, :, 0]).min(axis=0)
        if common[0] <= 0.3 * least[0]:
            if common[1] >= 0.4 * least[1] and gap <= (0.15 if rows <= 2.2 * columns else GAP) * rows:
                above.append((a, b))
        elif gap <= GAP * max(height, least[0]):
            beside.append((a, b))
    one = _joined(len(boxes), above)
    group = _joined(len(boxes), above + beside)
    merged = np.append(0, one + 1)[bodies]
    boxes = _boxes(merged)
    members = [np.unique(one[group == each]) for each in range(group.max() + 1)]
    return merged, [sorted(each + 1, key=lambda body: boxes[body - 1, 1].sum()) for each in members]


def _joined(n, pairs):
    """Returns for each of n bodies, numbered from 1, the number of the group (from 0) that pairs join it to."""
    from scipy import sparse

    first, second = np.array(pairs, int).reshape(-1, 2).T - 1
    return sparse.csgraph.connected_components(sparse.coo_array((np.ones(len(first)), (first, second)), (n, n)))[1]


def _gaps(bodies):
    """Returns the pairs of bodies that nothing lies between, and the gaps: [(a, b, pixels), ...]."""
    from scipy import ndimage

    distance, nearest = ndimage.distance_transform_edt(bodies == 0, return_indices=True)
    owner = bodies[tuple(nearest)]
    found = {}
    for one, other in (np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:]):
        meets = owner[one] != owner[other]
        a, b = np.sort([owner[one][meets], owner[other][meets]], axis=0)
        for pair, gap in zip(zip(a, b, strict=True), (distance[one] + distance[other])[meets], strict=True):
            found[pair] = min(gap, found.get(pair, np.inf))
    return [(*pair, gap) for pair, gap in found.items()]


def _shape(ink, bodies, group, corner, factor, alone):
    """Returns the Shape of a group of bodies, with its candidates."""
    window = np.s_[:, :]
    if not alone:
        boxes = _boxes(np.isin(bodies, group).astype(int))[0]
        window = tuple(slice(max(0, begin - 2), end + 2) for begin, end in boxes)
    ink, bodies = ink[window], bodies[window]
    corner = [at + (part.start or 0) for at, part in zip(corner, window, strict=True)]
    pieces = [piece for body in group for piece in _pieces(ink, bodies == body, WIDE if alone else 0.5)]
    candidates = []
    whole = _box(np.any(pieces, axis=0))
    full = 1 if alone else np.quantile(ink[np.any(pieces, axis=0)], 0.9)  # where it is dark, ink has less contrast
    for first in range(len(pieces)):
        for end in range(first + 1, len(pieces) + 1):
            kept = np.any(pieces[first:end], axis=0)
            top, bottom, left, right = _box(kept)
            low = bottom - top < 0.4 * (whole[1] - whole[0])
            if end - first < len(pieces) and (low or right - left > WIDEST * (bottom - top)):
                continue
            image = handwriting.mnist_form(handwriting.pen(ink / full, kept))
            box = left + corner[1], top + corner[0], right + corner[1], bottom + corner[0]
            candidates.append(Candidate(image, tuple(round(factor * side) for side in box), first, end))
    candidates.sort(key=lambda candidate: candidate.first - candidate.end)  # the whole is the first
    return Shape(candidates, len(pieces))


def _box(kept):
    rows, columns = (np.flatnonzero(kept.any(axis=axis)) for axis in (1, 0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def _pieces(ink, kept, wide):
    """Returns the pieces of a body, bool arrays from left to right. It is cut if it is wider than `wide` heights."""
    top, bottom, left, right = _box(kept)
    height = bottom - top
    pieces, rest = [], kept
    columns = np.arange(ink.shape[1])
    for seam in _seams(ink[top:bottom], kept[top:bottom], height) if right - left > wide * height else []:
        before = np.zeros_like(kept)
        before[top:bottom] = columns < seam[:, None]
        piece = rest & before
        if piece.sum() > 0.05 * kept.sum() and (rest & ~before).sum() > 0.05 * kept.sum():
            pieces.append(piece)
            rest = rest & ~before
    return [*pieces, rest]


def _seams(ink, kept, height):
    """Returns paths from top to bottom that cross little ink, from left to right: for each row the first column right.

    Each stays within a band of columns, and crosses no more ink than a stroke is wide.
    """
    from scipy import ndimage

    stroke = 4 * ndimage.distance_transform_edt(kept)[kept].mean()
    cost = np.where(kept, ink.clip(0, 1), 0) + 1e-3
    half, step = max(1, round(0.15 * height)), max(1, round(0.05 * height))
    _, _, left, right = _box(kept)
    centres = np.arange(left + half, right - half + 1, step)
    if not len(centres):
        return []
    bands = np.pad(cost, ((0, 0), (half, half)))[:, centres[:, None] + np.arange(2 * half + 1)]  # (row, band, column)
    total, back = bands[0], []
    for row in bands[1:]:
        near = np.lib.stride_tricks.sliding_window_view(np.pad(total, ((0, 0), (1, 1)), constant_values=np.inf), 3, 1)
        back.append(near.argmin(axis=2) - 1)
        total = row + near.min(axis=2)
    at = total.argmin(axis=1)
    crossed = total.min(axis=1)
    paths = [at]
    for step_back in reversed(back):
        paths.append(paths[-1] + step_back[np.arange(len(centres)), paths[-1]])
    paths = np.array(paths[::-1]).T + centres[:, None] - half  # (band, row)
    on_ink = kept[np.arange(len(kept)), paths.clip(0, kept.shape[1] - 1)]
    times = on_ink[:, 0] + (on_ink[:, 1:] & ~on_ink[:, :-1]).sum(axis=1)
    chosen = []
    for band in np.argsort(crossed, kind="stable"):
        apart = all(np.abs(paths[band] - other).mean() >= 0.15 * height for other in chosen)
        if times[band] == 1 and crossed[band] <= 1.3 * stroke and apart:
            chosen.append(paths[band])
    return sorted(chosen, key=np.mean)


def _lines(shapes):
    """Returns shapes as lines, from top to bottom: each goes on, from left to right, with what lies at its height."""
    lines = []
    for shape in sorted(shapes, key=lambda shape: shape.candidates[0].box[0]):
        _, top, _, bottom = shape.candidates[0].box
        overlaps = []
        for line in lines:
            _, before, _, after = line[-1].candidates[0].box
            overlaps.append((min(bottom, after) - max(top, before)) / min(bottom - top, after - before))
        if overlaps and max(overlaps) > 0.35:
            lines[int(np.argmax(overlaps))].append(shape)
        else:
            lines.append([shape])
    return sorted(lines, key=lambda line: np.mean([shape.candidates[0].box[1::2] for shape in line]))


def images(pictures):
    """Returns the images of all candidates in Pictures, uint8 (n, 28, 28): what a net is to predict."""
    shapes = [shape for picture in pictures for line in picture.lines for shape in line]
    return np.stack([candidate.image for shape in shapes for candidate in shape.candidates])


def digits(pictures, probabilities):
    """Returns the Digits of each of some Pictures, a list of lists. probabilities: (n, 10), of `images`."""
    rows = iter(probabilities)
    return [_digits(picture.lines, rows) for picture in pictures]


def _digits(lines, rows):
    """Returns the Digits in lines of Shapes. rows: an iterator over the probabilities."""
    found, space = [], 0.8 * _height(lines)
    for i, line in enumerate(lines, 1):
        number, digit, right = 1, 0, None
        for shape in line:
            left, _, end, _ = shape.candidates[0].box
            if right is not None and left - right > space:
                number, digit = number + 1, 0
            right = end
            for candidate, row, known in _read(shape, [next(rows) for _ in shape.candidates]):
                digit += 1
                label = int(row.argmax()) if known else None
                found.append(Digit(label, row, candidate.image, candidate.box, (i, number, digit)))
    return found


def text(digits):
    """Returns what Digits say: a space between two numbers, a slash between two lines, "?" for what was not read."""
    told, before = "", None
    for digit in digits:
        if before:
            told += " / " * (digit.place[0] != before[0]) or " " * (digit.place[1] != before[1])
        told += "?" if digit.label is None else str(digit.label)
        before = digit.place
    return told


def _read(shape, rows):
    """Returns the digits that a shape consists of: tuples (Candidate, its probabilities, whether it was read)."""
    best = {0: (1.0, [])}  # for so many pieces: the least probability of the digits, and these
    parts = list(zip(shape.candidates, rows, strict=True))
    for candidate, row in sorted(parts[1:], key=lambda part: part[0].first):
        if candidate.first in best:
            least, before = best[candidate.first]
            least = min(least, row.max())
            if least > best.get(candidate.end, (0, None))[0]:
                best[candidate.end] = least, [*before, (candidate, row, True)]
    least, read = best.get(shape.pieces, (0, []))
    whole, row = parts[0]
    left, top, right, bottom = whole.box
    ratio = (right - left) / max(1, bottom - top)
    # The wider a shape is, the surer the whole must be than its parts are.
    if ratio <= WIDEST and row.max() + np.clip(1.5 * (1 - ratio), -0.3, 0.15) >= least:
        least, read = row.max(), [(whole, row, True)]
    if least < SURE and (ratio > WIDE or len(read) > 1):
        return [(whole, row, False)]
    return read
