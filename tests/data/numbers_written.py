"""Pictures of numbers of two to six digits, made from single ones, and how many of them a run reads.

python tests/data/numbers_written.py RUN --data mnist --numbers 300        in a folder that holds runs/RUN
"""

import numpy as np
from PIL import Image
from scipy import ndimage

LIGHTS = ["even light", "uneven light", "shadow", "light on dark", "table", "frame"]


def number(x, rng):
    """Returns (ink 0 to 1, whether neighbours touch) of digits uint8 (n, 28, 28) written side by side.

    0 to 12 pixels lie between their boxes; their sizes vary, and the line is tilted by up to 10 degrees.
    """
    side = rng.uniform(40, 110)
    parts = []
    for digit in x:
        scale = side / 20 * rng.uniform(0.88, 1.12)
        rows, columns = (np.flatnonzero((digit > 40).any(axis=axis)) for axis in (1, 0))
        digit = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        size = [max(2, round(length * scale)) for length in digit.shape[::-1]]
        parts.append(np.asarray(Image.fromarray(digit).resize(size, Image.Resampling.BICUBIC)) / 255)
    gaps = rng.integers(0, 13, len(x))
    margin = round(side * rng.uniform(0.4, 0.9))
    height = 2 * margin + max(part.shape[0] for part in parts)
    layers = np.zeros(
        (len(x), height + round(0.2 * side), 2 * margin + sum(part.shape[1] for part in parts) + gaps.sum())
    )
    left = margin
    for layer, part, gap in zip(layers, parts, gaps, strict=True):
        top = height - margin - part.shape[0] + round(side * rng.uniform(0, 0.12))
        layer[top : top + part.shape[0], left : left + part.shape[1]] = part
        left += part.shape[1] + gap
    angle = rng.uniform(-10, 10)
    layers = np.stack([ndimage.rotate(layer, angle, order=1) for layer in layers])
    near = sum(ndimage.binary_dilation(layer > 0.3, np.ones((3, 3))).astype(int) for layer in layers)
    return layers.max(axis=0).clip(0, 1), bool((near > 1).any())


def pictures(images, n, seed=0):
    """Yields (picture, labels, whether neighbours touch, kind of light) of n numbers made from arrays.Images."""
    from test_handwriting import lit

    for i in range(n):
        rng = np.random.default_rng([seed, i])
        rows = rng.choice(len(images.x), rng.integers(2, 7), replace=False)
        ink, touch = number(images.x[rows], rng)
        kind = LIGHTS[i % len(LIGHTS)]
        yield lit(ink, rng, kind, 0.5), images.y[rows].tolist(), touch, kind
