"""Finds ruled lines: long, straight, vertical or horizontal lines, as in ruled paper, boxes and underlines."""

import dataclasses

import numpy as np

Pixels = tuple[np.ndarray, np.ndarray]  # rows, columns
TILT = 0.08  # the slope of a horizontal line is less than this
LONG = 2  # times the usual height of other parts: no horizontal stroke of a digit is longer
THIN = 10  # a line is at least this many times as long as wide


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
    """A straight line. at: the rows and columns of its pixels. free: those of the pixels that nothing crosses."""

    at: Pixels
    free: Pixels
    length: int
    width: float

    def ends(self) -> Pixels:
        """Returns (rows, columns) of its first and its last pixel, along its longer side."""
        along = self.at[np.argmax([np.ptp(each) for each in self.at])]
        two = [along.argmin(), along.argmax()]
        rows, columns = self.at
        return rows[two], columns[two]


def ruled(mask: np.ndarray) -> np.ndarray:
    """Returns the mask of ruled lines in a mask of ink, both bool (height, width), with gaps where digits cross."""
    from scipy import ndimage

    none = np.zeros_like(mask)
    stroke = 2 * np.quantile(ndimage.distance_transform_edt(mask)[mask], 0.9)
    least = 2 * round(max(7, 2 * stroke)) + 1
    level = _level(mask, least)
    upright = [Line(line.at[::-1], line.free[::-1], line.length, line.width) for line in _level(mask.T, least)]
    edge = ~np.pad(np.ones(np.maximum(np.subtract(mask.shape, 8), 0), bool), 4)[: mask.shape[0], : mask.shape[1]]
    if min(len(_between(lines, edge)) for lines in (level, upright)) > 1:
        return none  # squared paper: its lines overlap strokes, which would be lost
    # The sides of a box meet at its corners. A digit's strokes have loose ends, or are round.
    sides = _between(upright, _drawn(level, none))
    corners = none.copy()
    for side in sides:
        corners[side.ends()] = True
    chosen = _between(level, corners)
    rest = mask & ~_drawn([*sides, *chosen], none)
    long = [line for line in level if line not in chosen and line.length >= 2 * THIN * line.width]
    long = [line for line in long if 2 * line.length > max(other.length for other in long)]
    least = LONG * usual_height(ndimage.label(rest & ~_drawn(long, none), np.ones((3, 3)))[0])
    long = [line for line in long if line.length >= least]
    chosen += long
    if not chosen:
        return none
    width = 1.5 * np.median([line.width for line in chosen]) + 1
    ends = _drawn(chosen, none)
    posts = _between([line for line in sides if line.width <= width], ends)
    lines = _drawn([*chosen, *posts], none, free=True) | (ends & _drawn(posts, none))
    # The limit min(mask.shape) / 6 keeps digits beside a very thick line.
    return lines | _crumbs(mask & ~lines, min(2 * width, min(mask.shape) / 6))


def _level(mask, least):
    """Returns the horizontal Lines in a mask that have straight parts of `least` pixels or more."""
    from scipy import ndimage

    room = round(TILT * mask.shape[1]) + 1
    gap = 3  # closes gaps in a faint line; more would join the feet of neighbouring digits
    closed = ndimage.minimum_filter1d(ndimage.maximum_filter1d(mask.astype(np.uint8), gap), gap)
    thick = np.pad(ndimage.maximum_filter1d(closed, 3, axis=0), ((room, room), (0, 0)))
    columns = np.arange(mask.shape[1])
    straight = np.zeros(thick.shape, bool)
    for slope in np.linspace(-TILT, TILT, 5):
        tilted = (np.arange(len(thick))[:, None] + (slope * columns).round().astype(int)) % len(thick), columns
        straight[tilted] |= ndimage.maximum_filter1d(ndimage.minimum_filter1d(thick[tilted], least), least) > 0
    runs, _ = ndimage.label(mask, [[0, 1, 0]] * 3)
    runs = np.bincount(runs.ravel())[runs]
    labels, _ = ndimage.label(straight[room:-room] & closed.astype(bool), np.ones((3, 3)))
    labels[~mask] = 0
    lines = []
    for i, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        at = tuple(each + part.start for each, part in zip(np.nonzero(labels[box] == i), box, strict=True))
        width = np.quantile(runs[at], 0.3)
        free = runs[at] <= 1.25 * width + 1
        if (length := np.ptp(at[1]) + 1) >= max(least, THIN * width):
            lines.append(Line(at, tuple(each[free] for each in at), length, width))
    return lines


def _drawn(lines, image, free=False):
    """Returns a copy of a bool image with lines drawn on it. free: whether to draw only the lines' free pixels."""
    image = image.copy()
    for line in lines:
        image[line.free if free else line.at] = True
    return image


def _between(lines, others):
    """Returns the lines that have both ends near pixels of `others`, bool (height, width)."""
    from scipy import ndimage

    far = ndimage.distance_transform_edt(~others) if others.any() else np.full(others.shape, np.inf)
    return [line for line in lines if (far[line.ends()] <= 3 + 2 * line.width).all()]


def _crumbs(rest, side):
    """Returns a mask of the connected parts of `rest` that are less than `side` high and wide."""
    from scipy import ndimage

    labels, _ = ndimage.label(rest, np.ones((3, 3)))
    small = [max(part.stop - part.start for part in box) < side for box in ndimage.find_objects(labels)]
    return np.array([False, *small])[labels]


def usual_height(labels: np.ndarray) -> int:
    """Returns the median height of parts, weighted by their ink. labels: int (height, width), the parts from 1."""
    from scipy import ndimage

    if not labels.any():
        return 0
    heights = np.array([rows.stop - rows.start for rows, _ in ndimage.find_objects(labels)])
    order = heights.argsort()
    ink = np.bincount(labels.ravel())[1:][order].cumsum()
    return heights[order][np.searchsorted(ink, ink[-1] / 2)]
