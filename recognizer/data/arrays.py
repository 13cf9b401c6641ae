"""What every reader returns: images with their labels, and data sets of them. The place that checks arrays."""

import dataclasses
import hashlib

import numpy as np

from recognizer.base.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Some images and, where known, their labels."""

    x: np.ndarray  # uint8 (n, 28, 28), 0 background to 255 ink
    y: np.ndarray | None  # uint8 (n,), 0 to 9
    origin: str  # where they come from, for people
    kaggle: bool = False  # whether they are Kaggle's test rows, by form and number

    def __post_init__(self):
        for array in (self.x, self.y):
            if array is not None:
                array.flags.writeable = False  # all nets of a process share them

    def statistics(self):
        """Returns the mean and the standard deviation of all pixels, in 0..1: two floats."""
        blocks = np.array_split(self.x, 64)  # never a copy of all pixels in a wider type
        counts = sum(np.bincount(block.ravel(), minlength=256) for block in blocks) / self.x.size
        values = np.arange(256) / 255
        mean = float(counts @ values)
        return mean, float(np.sqrt(counts @ (values - mean) ** 2))

    def image_hashes(self):
        """Returns a hash of each image's pixels, uint64 (n,): in effect, images that differ have different hashes."""
        digests = (hashlib.blake2b(image, digest_size=8).digest() for image in np.ascontiguousarray(self.x))
        return np.frombuffer(b"".join(digests), np.uint64)

    def fingerprint(self):
        """Returns 16 hexadecimal digits of the SHA-256 of pixels and labels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.x))
        if self.y is not None:
            digest.update(np.ascontiguousarray(self.y))
        return digest.hexdigest()[:16]


@dataclasses.dataclass(frozen=True, eq=False)
class Digits:
    """A data set: labelled images to train on, and the test set that belongs to them, if any."""

    train: Images
    test: Images | None
    source: str  # gives the same data to `sources.load` again
    hint: str = ""  # how to get the next better data


def checked(arrays, x, y, file, origin):
    """Returns the Images of two arrays that a file of arrays holds. Raises UserError if they are not sound.

    arrays: {name: array}. x, y: the names of the images and of the labels. file: for error lines.
    """
    if x not in arrays or y not in arrays:
        raise UserError(f"{file} lacks {x} or {y}; it holds {', '.join(arrays) or 'nothing'}")
    images, labels = arrays[x], arrays[y]
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28) or not len(images):
        raise UserError(f"{file}: {x} is {images.dtype} {images.shape}, where uint8 (n, 28, 28) is needed")
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "ui":
        raise UserError(f"{file}: {y} is {labels.dtype} {labels.shape}, where {len(images)} integers are needed")
    if labels.min() < 0 or labels.max() > 9:
        row = int(np.flatnonzero((labels < 0) | (labels > 9))[0])
        raise UserError(f"{file}: {y}, row {row + 1}: label {labels[row]} is not one of 0 to 9")
    return Images(images, labels.astype(np.uint8), origin)
