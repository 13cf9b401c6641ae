"""Separates the digits in a picture: several digits, in lines, even if strokes are broken or digits touch.

A shape is ink that is connected, or that has only small gaps. It consists of pieces: its connected parts, cut where a
thin bridge of ink may join two digits. Each run of neighbouring pieces is a candidate for a digit. The nets predict all
candidates, and their probabilities decide which candidates make up the shape.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable

import numpy as np

from recognizer.base.errors import UserError
from recognizer.data import handwriting, ruled_lines

Box = tuple[int, int, int, int]  # left, top, right, bottom: pixels of the picture

MOST = 300  # at most this many shapes in a picture; small print has more
DETAIL = 50  # pixels: a picture with digits of less height is read again at a larger scale
LARGE = 2000  # pixels: at most this for the longer side at the larger scale
GAP = 0.2  # of a digit's height: a gap within a digit is smaller
LOWEST, HIGHEST = 0.4, 2.5  # times the usual height: the limits of a digit's height
WIDE = 1.1  # width / height: a wider shape may be several digits
WIDEST = 1.5  # width / height: a wider shape is surely several digits
SEAM = 0.9  # factor of a digit's prior for each end that was cut from its neighbour
ALONE = 1.5  # factor: a picture that may show one digit is more likely to show one than two close ones
DOUBT = 0.9  # a digit is not read if several digits in its place have more than this share of its likelihood
SURE = 0.5  # a digit among several is not read if its probability is below this
SURE_CUT = 0.88  # the same for a digit that was cut from its neighbour
# The average number of strokes that a row crosses, for the digits 0 to 9: mean and standard deviation in MNIST (the
# latter a little higher for 1), and a maximum, which 3 in 1000 exceed. For 0 and 1 the maximum is above MNIST's 2.2
# and 1.35, since a 0 may be slashed, and a 1 may have a long upstroke.
STROKES = (
    (1.67, 0.14, 2.4),
    (1.01, 0.05, 1.6),
    (1.31, 0.18, 1.9),
    (1.21, 0.13, 1.65),
    (1.43, 0.13, 1.9),
    (1.19, 0.13, 1.65),
    (1.40, 0.21, 2.1),
    (1.15, 0.13, 1.6),
    (1.52, 0.16, 1.95),
    (1.35, 0.15, 1.9),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """A possible digit: the pieces `first` to `end` - 1 of a shape."""

    image: np.ndarray  # uint8 (28, 28)
    box: Box
    first: int
    end: int
    prior: float = 1.0  # lower if it looks unlike one digit
    ready: bool = False  # whether the picture was already in MNIST's form: one digit
    odd: bool = False  # whether its height is far below or above that of the other digits

    @property
    def ratio(self) -> float:
        left, top, right, bottom = self.box
        return (right - left) / max(1, bottom - top)

    @functools.cached_property
    def strokes(self) -> float:
        """The number of strokes that a row of the image crosses, on average."""
        on = np.pad(self.image > 100, ((0, 0), (1, 0)))
        return (on[:, 1:] & ~on[:, :-1]).sum() / max(1, on.any(axis=1).sum())

    def likely(self, row: np.ndarray) -> float:
        """Returns how likely it is that this is one digit. row: the probabilities predicted for it, (10,)."""
        mean, deviation, _ = STROKES[row.argmax()]
        unusual = max(0, ((self.strokes - mean) / deviation) ** 2 - 4)
        return max(row.max() * self.prior * max(np.exp(-0.1 * unusual), 0.2) * (0.05 if self.unlike(row) else 1), 1e-9)

    def unlike(self, row: np.ndarray) -> bool:
        """Returns whether this is odd, or has more strokes side by side than the predicted digit. row: see `likely`."""
        return self.odd or (not self.ready and self.strokes > STROKES[row.argmax()][2])


@dataclasses.dataclass(frozen=True, eq=False)
class Shape:
    """One digit, or several with small gaps or none between them."""

    candidates: list[Candidate]  # in order of their first piece, then of their number of pieces
    first: tuple[int, int]  # top and bottom of its first body (see `_bodies`), in pixels
    last: tuple[int, int]  # the same of its last body
    seams: frozenset[int] = frozenset()  # indices of the pieces that were cut off the piece before

    @property
    def box(self) -> Box:
        corners = np.array([candidate.box for candidate in self.candidates])
        return (*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0))


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A picture and the shapes in it."""

    name: str
    gray: np.ndarray  # uint8 (height, width)
    size: tuple[int, int]  # width and height of the image file
    lines: list[list[Shape]]
    whole: Candidate | None = None  # the whole picture, if it may be one digit in several pieces


@dataclasses.dataclass(frozen=True, eq=False)
class Digit:
    """A digit found in a picture. Its label is None if it cannot be read: digits touch, or no label is likely."""

    label: int | None
    probabilities: np.ndarray  # (10,)
    image: np.ndarray  # uint8 (28, 28)
    box: Box
    place: tuple[int, int, int]  # (line, number in the line, digit in the number), from 1


def read_picture(source: handwriting.Source, name: str | None = None, page: int = 0) -> Picture:
    """Returns the Picture of an image file. Raises UserError if it shows no digit.

    source, name, page: see handwriting.read_gray.
    """
    name = str(name or source)
    picture = picture_of(*handwriting.read_gray(source, name=name, page=page), name)
    if picture.lines:
        picture = _at_scale(picture, source, page)
    if not picture.lines:
        raise UserError(f"{name} shows no digit: nothing on it is darker or lighter than the paper around it")
    return picture


def _at_scale(picture, source, page):
    """Returns a picture. If its digits are small, reads it again at a larger scale."""
    factor = max(picture.size) / max(picture.gray.shape)
    height = _height(picture.lines) / factor
    if sum(map(len, picture.lines)) > 1 and height < DETAIL and factor > 1.2:
        side = min(LARGE, round(max(picture.gray.shape) * 1.5 * DETAIL / height))
        gray, size = handwriting.read_gray(source, side, picture.name, page)
        return picture_of(gray, size, picture.name, round(2 * height * max(gray.shape) / max(picture.gray.shape)))
    return picture


def _height(lines):
    """Returns the median height of the candidates in lines of shapes."""
    boxes = [candidate.box for line in lines for shape in line for candidate in shape.candidates]
    return np.median([bottom - top for _, top, _, bottom in boxes])


def picture_of(gray: np.ndarray, size: tuple[int, int], name: str = "", room: int | None = None) -> Picture:
    """Returns the Picture of an image. gray: uint8 (height, width), perhaps smaller than the original.

    size: (width, height) of the original. name: for messages. room: the `size` of handwriting.inked.
    """
    factor = max(size) / max(gray.shape)
    if handwriting.is_ready(gray):
        box = tuple(round(factor * side) for side in (0, 0, 28, 28))
        return Picture(name, gray, size, [[Shape([Candidate(gray, box, 0, 1, ready=True)], (0, 28), (0, 28))]])
    found = handwriting.inked(gray, room)
    if found is None:
        return Picture(name, gray, size, [])
    contrast, labels, corner = found
    ink, main = handwriting.main_digit(contrast, labels)
    bodies, groups, gaps = _groups(_bodies(ink, main, name))
    usual = ruled_lines.usual_height(bodies)
    shapes = [_shape(ink, bodies, group, gaps, corner, factor, usual) for group in groups]
    whole = None
    if main[bodies > 0].all():  # all parts are close enough to each other to be one digit
        whole = _candidate(ink, main, corner, factor, prior=_prior_of_all(bodies))
        if bodies.max() == 1 and whole.ratio <= WIDE:
            return Picture(name, gray, size, [[Shape([whole], (0, 1), (0, 1))]])
    return Picture(name, gray, size, _lines(shapes), whole)


def _bodies(ink, main, name):
    """Returns labels, from 1, of bodies: the parts that may be digits. Small parts get the nearest body's label.

    A large part that is too low or too faint for a body, and does not join one, gets its own label. So nothing as large
    as a digit is left out, except at the image's edge.
    main: bool mask of the main digit. name: the picture's, for messages.
    """
    from scipy import ndimage

    labels, n = handwriting.labelled(ink > handwriting.FAINT)
    numbers = np.arange(1, n + 1)
    boxes = handwriting.boxes_of(labels)
    sides = boxes[:, :, 1] - boxes[:, :, 0]
    strength, mean = (function(ink, labels, numbers) for function in (ndimage.sum_labels, ndimage.mean))
    at_edge = ((boxes[:, :, 0] <= 2) | (boxes[:, :, 1] >= np.array(ink.shape) - 2)).any(axis=1)
    of_main = np.unique(labels[main]) - 1
    first = of_main[strength[of_main].argmax()]
    allowed = at_edge <= at_edge[first]
    height = sides[first, 0]
    heights = np.sort(sides[allowed & (sides[:, 0] >= 0.15 * height) & (mean >= 0.5 * mean[first]), 0])
    if height > HIGHEST * heights[len(heights) // 2]:  # the main part is not a digit
        height = heights[len(heights) // 2]
    is_body = allowed & (sides[:, 0] >= 0.4 * height) & (mean >= 0.5 * mean[first])
    is_body[first] = True
    if is_body.sum() > MOST:
        raise UserError(f"{name} shows more than {MOST} shapes: cut out the part with the digits")
    owner = np.where(is_body, is_body.cumsum(), 0)
    bodies = np.append(0, owner)[labels]
    distance, nearest = ndimage.distance_transform_edt(bodies == 0, return_indices=True)
    at = [tuple(place) for place in ndimage.minimum_position(distance, labels, numbers)]
    near = np.array([bodies[nearest[0][place], nearest[1][place]] for place in at])
    body = np.flatnonzero(is_body)[near - 1]
    reach = np.minimum(sides[body].max(axis=1), 1.5 * sides[body, 0]) / 4
    joins = allowed & ([distance[place] for place in at] <= reach) & (strength >= 0.03 * strength[body])
    is_stray = allowed & ~is_body & ~joins & (sides.max(axis=1) >= 0.4 * height) & (sides.min(axis=1) >= 0.15 * height)
    return np.append(0, np.where(is_body | joins, near, is_stray * (is_body.sum() + is_stray.cumsum())))[labels]


def _groups(bodies):
    """Returns (bodies, groups, gaps). A group is a list of bodies with small gaps between them, from left to right.

    bodies: the labels, after merging parts above each other that must be one digit. gaps: {(a, b): the gap between two
    bodies of a group, as a share of a digit's height}.
    """
    boxes = handwriting.boxes_of(bodies)
    height = np.median(boxes[:, 0, 1] - boxes[:, 0, 0])
    above, beside = [], {}
    for a, b, gap in _gaps(bodies):
        pair = boxes[[a - 1, b - 1]]
        common = pair[:, :, 1].min(axis=0) - pair[:, :, 0].max(axis=0)  # rows, columns
        rows, columns = pair[:, :, 1].max(axis=0) - pair[:, :, 0].min(axis=0)
        least = (pair[:, :, 1] - pair[:, :, 0]).min(axis=0)
        if common[0] <= 0.3 * least[0]:
            if common[1] >= 0.4 * least[1] and gap <= (0.15 if rows <= 2.2 * columns else 0.1) * rows:
                above.append((a, b))
        elif gap <= GAP * max(height, least[0]):
            beside[a, b] = gap / max(height, least[0])
    one = _joined(len(boxes), above)
    group = _joined(len(boxes), [*above, *beside])
    merged = np.append(0, one + 1)[bodies]
    boxes = handwriting.boxes_of(merged)
    members = [np.unique(one[group == each]) for each in range(group.max() + 1)]
    groups = [sorted(each + 1, key=lambda body: boxes[body - 1, 1].sum()) for each in members]
    gaps = {}
    for (a, b), gap in beside.items():
        pair = tuple(sorted((one[a - 1] + 1, one[b - 1] + 1)))
        gaps[pair] = min(gap, gaps.get(pair, GAP))
    return merged, groups, gaps


def _joined(n, pairs):
    """Returns the number, from 0, of each body's group, int (n,). pairs: the bodies, numbered from 1, to join."""
    from scipy import sparse

    first, second = np.array(pairs, int).reshape(-1, 2).T - 1
    return sparse.csgraph.connected_components(sparse.coo_array((np.ones(len(first)), (first, second)), (n, n)))[1]


def _gaps(bodies):
    """Returns the gaps between bodies that have no other body between them: [(a, b, pixels), ...]."""
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


def _shape(ink, bodies, group, gaps, corner, factor, usual):
    """Returns the Shape of a group of bodies, with its candidates. usual: the usual height of a digit."""
    bodies = np.where(np.isin(bodies, group), bodies, 0)
    window = tuple(
        slice(max(0, begin - 2), end + 2) for begin, end in handwriting.boxes_of((bodies > 0).astype(int))[0]
    )
    corner = [at + part.start for at, part in zip(corner, window, strict=True)]
    ink, bodies = ink[window], bodies[window]
    ink = ink / np.quantile(ink[bodies > 0], 0.9)  # in dark places ink has less contrast
    pieces, joins, seams = [], [], set()  # joins: the gap between each piece and the one before, 0 where it was cut
    for before, body in zip([None, *group], group, strict=False):
        some = _pieces(ink, bodies == body)
        joins += [gaps.get(tuple(sorted((before or body, body))), GAP), *[0.0] * (len(some) - 1)]
        seams |= set(range(len(pieces) + 1, len(pieces) + len(some)))
        pieces += some
    rows = [handwriting.boxes_of((bodies == body).astype(int))[0, 0] for body in group]
    tallest = max(end - begin for begin, end in rows)
    heights = [bottom - top for top, bottom, _, _ in map(_box, pieces)]
    candidates = []
    for first in range(len(pieces)):
        for end in range(first + 1, len(pieces) + 1):
            kept = np.any(pieces[first:end], axis=0)
            top, bottom, left, right = _box(kept)
            ratio = (right - left) / (bottom - top)
            if right - left > WIDEST * tallest and end > first + 1:
                break
            if ratio <= WIDEST or end == first + 1:
                tall = sum(
                    heights[i] > 0.75 * (bottom - top) for i in range(first, end) if i == first or i not in seams
                )
                cut = (first in seams) + (end in seams)
                prior = _prior(ratio, (bottom - top) / tallest, tall, joins[first + 1 : end], cut)
                found = _candidate(ink, kept, corner, factor, first, end, prior)
                odd = not LOWEST * usual <= bottom - top <= HIGHEST * usual
                candidates.append(dataclasses.replace(found, odd=odd))
    return Shape(candidates, *(tuple(each + corner[0]) for each in (rows[0], rows[-1])), frozenset(seams))


def _prior_of_all(bodies):
    """Returns how likely it is that all bodies are one digit; see `_prior`."""
    top, bottom, left, right = _box(bodies > 0)
    tall = (np.diff(handwriting.boxes_of(bodies)[:, 0]) > 0.75 * (bottom - top)).sum()
    return ALONE * _prior((right - left) / (bottom - top), 1, tall, [0], 0)


def _candidate(ink, kept, corner, factor, first=0, end=1, prior=1.0):
    """Returns the Candidate for the ink in the mask `kept`. corner: (top, left) of the ink in the image."""
    top, bottom, left, right = _box(kept)
    box = factor * np.array([left + corner[1], top + corner[0], right + corner[1], bottom + corner[0]])
    image = handwriting.mnist_form(handwriting.pen(ink, kept))
    return Candidate(image, tuple(box.round().astype(int).tolist()), first, end, prior)


def _prior(ratio, height, tall, gaps, seams):
    """Returns how likely it is that some pieces are one digit, before a net predicts them.

    ratio: width / height. height: relative to that of the highest body. tall: how many pieces are nearly as high as all
    together; one digit rarely has more than one. gaps: between the pieces, as in `_groups`. seams: how many of the two
    ends were cut off another piece.
    """
    narrow = np.clip(1.9 - ratio, 0.3 if gaps or seams else 0.6, 1)
    prior = narrow * np.clip(2.5 * height - 0.5, 0.05, 1) * SEAM**seams * (0.3 if tall > 1 else 1)
    return float(prior * np.prod([max(1 - 4 * gap, 0.05) for gap in gaps]))


def _box(kept):
    rows, columns = (np.flatnonzero(kept.any(axis=axis)) for axis in (1, 0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def _pieces(ink, kept):
    """Returns the pieces of a body from left to right, as bool masks."""
    top, bottom, left, right = _box(kept)
    height = bottom - top
    pieces, rest = [], kept
    columns = np.arange(ink.shape[1])
    for seam in _seams(ink[top:bottom], kept[top:bottom], height) if right - left > 0.5 * height else []:
        before = np.zeros_like(kept)
        before[top:bottom] = columns < seam[:, None]
        piece = rest & before
        if piece.sum() > 0.05 * kept.sum() and (rest & ~before).sum() > 0.05 * kept.sum():
            pieces.append(piece)
            rest = rest & ~before
    return [*pieces, rest]


def _seams(ink, kept, height):
    """Returns paths from top to bottom that cross little ink, ordered from left to right, as int arrays (rows,).

    For each row, a path holds the first column to the right of the cut. A path stays in a band, and crosses one stroke.
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
    """Groups shapes into lines, from top to bottom. Each joins the line whose last shape is at its height."""
    lines = []
    for shape in sorted(shapes, key=lambda shape: shape.box[0]):
        top, bottom = shape.first
        overlaps = []
        for line in lines:
            before, after = line[-1].last  # the last shape only, since lines may be tilted
            overlaps.append((min(bottom, after) - max(top, before)) / min(bottom - top, after - before))
        if overlaps and max(overlaps) > 0.35:
            lines[int(np.argmax(overlaps))].append(shape)
        else:
            lines.append([shape])
    return sorted(lines, key=lambda line: np.mean([shape.box[1::2] for shape in line]))


def images(pictures: Iterable[Picture]) -> np.ndarray:
    """Returns the images of all candidates in Pictures, uint8 (n, 28, 28), for the nets to predict."""
    return np.stack([candidate.image for picture in pictures for candidate in _candidates(picture)])


def _candidates(picture):
    own = [candidate for line in picture.lines for shape in line for candidate in shape.candidates]
    return [*([picture.whole] if picture.whole else []), *own]


def digits(
    pictures: Iterable[Picture], probabilities: np.ndarray, shown: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> list[list[Digit]]:
    """Returns a list with the list of Digits in each Picture.

    probabilities: (n, 10), of `images`. shown: a function from the probabilities of a picture's digits, (m, 10),
    to those that the Digits get.
    """
    rows, found = iter(probabilities), []
    for picture in pictures:
        read = _digits(picture, rows)
        sharp = shown(np.stack([digit.probabilities for digit in read]))
        found.append([dataclasses.replace(digit, probabilities=row) for digit, row in zip(read, sharp, strict=True)])
    return found


def _digits(picture, rows):
    """Returns the Digits in a Picture. rows: an iterator over the candidates' probabilities."""
    whole = picture.whole
    alone = whole and next(rows)
    found, space, joint = [], 0.8 * _height(picture.lines), 1
    for i, line in enumerate(picture.lines, 1):
        number, digit, right = 1, 0, None
        for shape in line:
            left, _, end, _ = shape.box
            if right is not None and left - right > space:
                number, digit = number + 1, 0
            right = end
            likely, read = _read(shape, [next(rows) for _ in shape.candidates])
            joint *= likely
            for known, row, image, box in read:
                digit += 1
                found.append(Digit(int(row.argmax()) if known else None, row, image, box, (i, number, digit)))
    if whole and whole.likely(alone) >= joint:
        ((known, row, image, box),) = _known([(whole, alone)])
        return [Digit(int(row.argmax()) if known else None, row, image, box, (1, 1, 1))]
    if len(found) == 1:
        return found
    return [each if each.probabilities.max() >= SURE else dataclasses.replace(each, label=None) for each in found]


def text(digits: Iterable[Digit]) -> str:
    """Returns Digits as text, with a space between numbers, a slash between lines, and "?" for each unread digit."""
    told, before = "", None
    for digit in digits:
        if before:
            told += " / " * (digit.place[0] != before[0]) or " " * (digit.place[1] != before[1])
        told += "?" if digit.label is None else str(digit.label)
        before = digit.place
    return told


def _read(shape, rows):
    """Returns (joint probability, digits) of the candidates that are most likely to make up a shape.

    A digit is (whether it was read, probabilities, image, box). Digits that were cut apart are read if all are sure.
    """
    parts = list(zip(shape.candidates, rows, strict=True))
    joint, read = _best(parts, 0, max(candidate.end for candidate in shape.candidates))
    touching = []
    for candidate, row in read:
        if candidate.first not in shape.seams:
            touching.append([])
        touching[-1].append((candidate, row))
    return joint, [digit for some in touching for digit in _known(some, parts, shape.seams)]


def _best(parts, first, end):
    """Returns (joint probability, parts) of the candidates that are most likely to make up pieces `first` to `end` - 1.

    parts: [(candidate, probabilities), ...], in order of their first pieces.
    """
    best = {first: (1.0, [])}
    for candidate, row in parts:
        if candidate.first in best and candidate.end <= end:
            joint, before = best[candidate.first]
            joint *= candidate.likely(row)
            if joint > best.get(candidate.end, (0, None))[0]:
                best[candidate.end] = joint, [*before, (candidate, row)]
    return best.get(end, (0, []))


def _known(touching, parts=(), seams=()):
    """Returns the digits, as `_read` does, of touching candidates, [(candidate, probabilities), ...].

    parts, seams: the shape's, to check whether a candidate is as likely to be several digits.
    """
    lacking = []
    for i, (candidate, row) in enumerate(touching):
        if candidate.unlike(row):
            return [_unknown(touching, i)]
        lacking.append(row.max() - _needed(candidate.ratio, SURE_CUT if len(touching) > 1 else SURE))
        if any(piece in seams for piece in range(candidate.first + 1, candidate.end)):
            others = [part for part in parts if part[0] is not candidate]
            if _best(others, candidate.first, candidate.end)[0] > DOUBT * candidate.likely(row):
                return [_unknown(touching, i)]
    if min(lacking) >= 0 or (len(touching) == 1 and touching[0][0].ratio <= WIDE):
        return [(True, row, candidate.image, candidate.box) for candidate, row in touching]
    return [_unknown(touching, int(np.argmin(lacking)))]


def _unknown(touching, i):
    """Returns one unread digit for touching candidates that cannot be separated. i: index of the least sure one."""
    corners = np.array([candidate.box for candidate, _ in touching])
    box = (*corners[:, :2].min(axis=0).tolist(), *corners[:, 2:].max(axis=0).tolist())
    return False, touching[i][1], touching[i][0].image, box


def _needed(ratio, least):
    """Returns the probability that a digit needs. ratio: its width / height; if it is high, digits may touch."""
    return min(least + max(0, ratio - WIDE), SURE_CUT) if ratio <= WIDEST else 1
