"""Pictures of numbers of two to six digits, made from single digits, and how many of them a run reads.

python tests/data/numbers_written.py RUN mnist 300 0      a run, a source of digits, how many numbers, a seed
"""

import io
import sys
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[2]
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


def readings(folder, images, n, seed=0):
    """Returns (labels, what a run reads, whether neighbours touch, kind of light) of n numbers.

    folder: of the run. What it reads is a list of labels, with None for digits that touch.
    """
    from recognizer.data import segments
    from recognizer.data.arrays import Images
    from recognizer.runs import run_folder
    from recognizer.training import predicting

    made, found = list(pictures(images, n, seed)), []
    for i, (picture, *_) in enumerate(made):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=85)
        found.append(segments.read_picture(file, f"number {i}"))
    x = Images(segments.images(found), None, "")
    probabilities = predicting.mean_probabilities([folder], [run_folder.read_config(folder)], x)
    read = [[digit.label for digit in digits] for digits in segments.digits(found, probabilities)]
    return [(labels, told, touch, kind) for (_, labels, touch, kind), told in zip(made, read, strict=True)]


def in_order(labels, told):
    """Returns how many digits of a number are read right and in order."""
    if len(labels) == len(told):
        return sum(label == each for label, each in zip(labels, told, strict=True))
    return sum(block.size for block in SequenceMatcher(None, labels, told, autojunk=False).get_matching_blocks())


def main(run, source, n, seed):
    from recognizer.base import environment
    from recognizer.data import sources
    from recognizer.runs import run_folder

    environment.import_keras()
    read = readings(run_folder.find(run), sources.load(source).test, int(n), int(seed))
    for touching in (False, True):
        some = [(labels, told) for labels, told, touch, _ in read if touch == touching]
        digits, right = sum(len(labels) for labels, _ in some), sum(in_order(*each) for each in some)
        whole, refused = sum(labels == told for labels, told in some), sum(None in told for _, told in some)
        print(
            f"{'some touch' if touching else 'all apart'}: {len(some)} numbers of {digits} digits, of which {right} "
            f"({right / digits:.2%}) are right and in order; {whole} numbers are right, {refused} refused in part, "
            f"{len(some) - whole - refused} wrong"
        )
    for labels, told, touch, kind in read:
        if labels != told:
            print("".join(map(str, labels)), "read as", "".join("?" if t is None else str(t) for t in told), end="; ")
            print(f"{kind}{', touching' * touch}")


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    main(*sys.argv[1:])
