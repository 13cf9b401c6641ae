"""Images and Digits, which all readers return. Every array from a file is checked here."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from recognizer.base.errors import UserError

KAGGLE_TEST_ROWS = 28_000
TURNED = "EMNIST's rows and columns are exchanged: its images were transposed to MNIST's form"
PIXEL_SHAPES = ((28, 28), (784,), (28, 28, 1), (1, 28, 28))


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Some images and, where known, their labels."""

    x: np.ndarray  # uint8 (n, 28, 28), 0 background to 255 ink
    y: np.ndarray | None  # uint8 (n,), 0 to 9
    origin: str  # where they come from, for messages
    ids: np.ndarray | None = None  # the names of the images, for a submission; None for 1, 2, ...
    columns: tuple[str, str] = ("", "label")  # the file's names for the columns of ids and labels
    notes: tuple[str, ...] = ()  # lines about how they were read

    @property
    def kaggle(self) -> bool:
        """Whether these are Kaggle's test rows: without labels or ids, and 28,000 of them."""
        return self.y is None and self.ids is None and len(self.x) == KAGGLE_TEST_ROWS

    def __post_init__(self):
        for array in (self.x, self.y):
            if array is not None:
                array.flags.writeable = False  # all nets of a process share them

    def named(self) -> tuple[tuple[str, str], Sequence]:
        """Returns (names of a submission's two columns, ids for the first).

        If the images have no ids, names and ids are Kaggle's.
        """
        if self.ids is None:
            return ("ImageId", "Label"), range(1, len(self.x) + 1)
        return self.columns, self.ids.tolist()

    def kept(self) -> dict[str, np.ndarray]:
        """Returns a dict of arrays from which `kept_images` restores these Images."""
        found = dict(x=self.x, y=self.y, ids=self.ids, columns=np.array(self.columns), notes=np.array(self.notes, str))
        return {key: array for key, array in found.items() if array is not None}

    def statistics(self) -> tuple[float, float]:
        """Returns (mean, standard deviation) of all pixels, scaled to 0..1, as floats."""
        blocks = np.array_split(self.x, 64)  # avoids a copy of all pixels in a wider dtype
        counts = sum(np.bincount(block.ravel(), minlength=256) for block in blocks) / self.x.size
        values = np.arange(256) / 255
        mean = float(counts @ values)
        return mean, float(np.sqrt(counts @ (values - mean) ** 2))

    def image_hashes(self) -> np.ndarray:
        """Returns a hash of each image's pixels, uint64 (n,). In practice, different images have different hashes."""
        digests = (hashlib.blake2b(image, digest_size=8).digest() for image in np.ascontiguousarray(self.x))
        return np.frombuffer(b"".join(digests), np.uint64)

    def fingerprint(self) -> str:
        """Returns 16 hexadecimal digits of the SHA-256 of pixels and labels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.x).data)
        if self.y is not None:
            digest.update(np.ascontiguousarray(self.y).data)
        return digest.hexdigest()[:16]


@dataclasses.dataclass(frozen=True, eq=False)
class Digits:
    """A data set: labelled images to train on, and their test set, if there is one."""

    train: Images
    test: Images | None
    source: str  # `sources.load(source)` returns the same data
    hint: str = ""  # how to get better data


def kept_images(kept: dict[str, np.ndarray] | None, name: str) -> Images | None:
    """Returns the Images that `Images.kept` stored, or None for None. name: their origin."""
    if kept is None:
        return None
    first, second = map(str, kept["columns"])
    return Images(kept["x"], kept.get("y"), name, kept.get("ids"), (first, second), tuple(map(str, kept["notes"])))


def images(
    name: str,
    x: np.ndarray,
    y: np.ndarray | None = None,
    ids: np.ndarray | None = None,
    columns: tuple[str, str] = Images.columns,
    notes: Iterable[str] = (),
) -> Images:
    """Returns Images from the arrays of a reader. Raises UserError if they are not valid.

    name: their origin, for messages. x, y: see `pixels` and `labels`; y may be None. ids: the names of the images.
    columns: the names of the ids' and the labels' columns. notes: lines about how they were read.
    """
    x, note = pixels(x, f"{name}: the images")
    y = None if y is None else labels(y, f"{name}: the labels")
    if y is not None and len(y) != len(x):
        raise UserError(f"{name} holds {len(x):,} images and {len(y):,} labels: there must be one label for each image")
    notes = [*notes, *([note] if note else []), *_lying(x, y)]
    return Images(x, y, name, ids=ids, columns=columns, notes=tuple(notes))


def is_pixels(array: np.ndarray) -> bool:
    """Returns whether an array has the shape of images."""
    return array.shape[1:] in PIXEL_SHAPES


def is_labels(array: np.ndarray) -> bool:
    """Returns whether an array has the shape of labels: (n,), (n, 1), or one-hot (n, 10)."""
    return array.ndim > 0 and array.shape[1:] in ((), (1,), (10,))


def pixels(values: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    """Returns (images as uint8 (n, 28, 28), 0 background to 255 ink; a line about how they were read, or "").

    values: (n, 784), (n, 28, 28), (n, 28, 28, 1) or (n, 1, 28, 28); whole numbers 0 to 255, or 0 to 1 of any dtype.
    """
    found = f"{name} are {values.dtype} {values.shape}"
    if not is_pixels(values) or not len(values) or values.dtype.kind not in "buif":
        raise UserError(f"{found}, where numbers of shape (n, 28, 28) or (n, 784) are needed")
    values = values.reshape(-1, 28, 28)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):  # NaN fails too
        raise UserError(f"{name} have values from {low:g} to {high:g}, where 0 to 255, or 0 to 1, are needed")
    if 1 < high < 64:
        raise UserError(f"{name} have values up to {high:g}: scale them to 0 to 255, or 0 to 1")
    note, x = "", values
    if 0 < high <= 1:
        note = "its pixels are 0 or 1: read as paper and ink" * (values.dtype.kind != "f")
        x = np.concatenate([np.rint(part * np.float32(255)).astype(np.uint8) for part in _parts(values)])
    elif values.dtype != np.uint8:
        x = np.concatenate([part.astype(np.uint8) for part in _parts(values)])
        if (different := np.flatnonzero((x != values).any((1, 2)))).size:
            raise UserError(
                f"{name}: image {different[0] + 1} has pixel values with fractions: all values must then be from 0 to 1"
            )
    some = x[:: max(1, len(x) // 1000)]
    # The corners must be light, too, since light clothes in Fashion-MNIST can fill an image.
    if some.mean() > 127 and some[:, ::27, ::27].mean() > 127:
        note, x = "its images are dark on white: inverted to light on dark, like MNIST's", 255 - x
    return x, note


def _parts(values):
    """Returns views of an array that are so small that converting one to a wider dtype takes little memory."""
    return np.array_split(values, max(1, values.size >> 22))


def labels(values: np.ndarray, name: str) -> np.ndarray:
    """Returns labels as uint8 (n,). Raises UserError for a label that is not 0 to 9, with its row.

    values: (n,) or (n, 1), of any dtype, or one-hot (n, 10).
    """
    values = np.asarray(values)
    if values.shape[1:] == (10,) and (np.isin(values, (0, 1)).all(1) & (values.sum(1) == 1)).all():
        values = values.argmax(1)
    if values.shape[1:] not in ((), (1,)) or values.dtype.kind not in "buifOSUT":
        raise UserError(f"{name} are {values.dtype} {values.shape}, where n whole numbers are needed")
    values = values.reshape(-1)
    known: list = list(range(10))
    if values.dtype.kind in "OSUT":
        values = np.char.strip([v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values])
        known = [f"{i}{end}" for i in range(10) for end in ("", ".0")]
    good = np.isin(values, known)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        kinds = np.unique(values[:100_000])
        among = f" (there are {len(kinds)} different labels, {str(kinds[0])[:20]} to {str(kinds[-1])[:20]})"
        raise UserError(f"{name}, row {row + 1}: label {str(values[row])[:40]} is not one of 0 to 9{among}")
    return values.astype(np.float32).astype(np.uint8)


def _lying(x, y):
    """Yields a line if the ones are wider than high, a sign that rows and columns are exchanged."""
    ones = x[y == 1][:500] if y is not None else x[:0]
    if len(ones) >= 5 and ones.any(1).sum() > 1.5 * ones.any(2).sum():
        yield "its digits 1 are wider than high: are rows and columns exchanged, as in EMNIST?"
