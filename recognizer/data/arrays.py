import dataclasses
import hashlib

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Some images and, where known, their labels."""

    x: np.ndarray  # uint8 (n, 28, 28)
    y: np.ndarray | None  # uint8 (n,)
    origin: str  # where they come from, for people
    kaggle: bool = False  # rows of Kaggle's test set, by form and number

    def __post_init__(self):
        for array in (self.x, self.y):
            if array is not None:
                array.flags.writeable = False  # they are shared by every net of a process

    def statistics(self):
        """Mean and standard deviation of all pixels, in 0..1: two floats."""
        blocks = np.array_split(self.x, 64)  # never a copy of all pixels in a wider type
        counts = sum(np.bincount(block.ravel(), minlength=256) for block in blocks) / self.x.size
        values = np.arange(256) / 255
        mean = float(counts @ values)
        return mean, float(np.sqrt(counts @ (values - mean) ** 2))

    def image_hashes(self):
        """A number for each image, from its exact pixels: uint64 (n,). Images that differ have, in effect, others."""
        digests = (hashlib.blake2b(image, digest_size=8).digest() for image in np.ascontiguousarray(self.x))
        return np.frombuffer(b"".join(digests), np.uint64)

    def fingerprint(self):
        """16 hexadecimal digits of the SHA-256 of pixels and labels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.x))
        if self.y is not None:
            digest.update(np.ascontiguousarray(self.y))
        return digest.hexdigest()[:16]


@dataclasses.dataclass(frozen=True, eq=False)
class Digits:
    """A data set: labelled images to train on, and the test set that belongs to them, if any."""

    train: Images
    test: Images | None
    source: str  # gives the same data to `load` again
    hint: str = ""  # how to get the next better data
