"""Reads array files: IDX (MNIST's format), .npy and .npz. Finds the images and the labels among the arrays."""

import functools
import io
import math
import re
import zipfile
from collections.abc import Iterable

import numpy as np

from recognizer.base.errors import UserError
from recognizer.data import arrays, containers, limits

IMAGES = {"x", "image", "images", "img", "imgs", "data", "pixels", "digits", "features"}
LABELS = {"y", "label", "labels", "target", "targets", "class", "classes"}
PARTS = {"train": "train(ing)?(set)?", "test": "t10k|test(ing)?(set)?", "validation": "val(id(ation)?)?"}


@functools.lru_cache(maxsize=1000)
def words(name: str) -> list[str]:
    """Splits a name into words in lower case: "X_train", "xTrain" and "x-train" all give ["x", "train"]."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", name).lower()
    return re.sub(r"\b([xy])(?=(train|test|val)\b)", r"\1 ", name).split()


def part_of(path: str) -> str:
    """Returns the part of a data set that a file's name gives, or else its folder's.

    It is "train", "test", "validation" or "".
    """
    for level in reversed(path.split("/")):
        for part, pattern in PARTS.items():
            if any(re.fullmatch(pattern, word) for word in words(level)):
                return part
    return ""


def set_of(path: str) -> list[str]:
    """Returns the words of a file's name that identify its set: those that do not name the part, kind or suffix."""
    others = rf"idx\d|ubyte|gz|npy|npz|{'|'.join(PARTS.values())}"
    found = [word for word in words(path.rpartition("/")[2]) if not re.fullmatch(others, word)]
    return [word for word in found if word not in IMAGES | LABELS]


def partner(path: str) -> str:
    """Returns the name that the labels' file should have for an images' file, or "" if it is not clear."""
    name = re.split(r"[/\\]", path)[-1]
    found = re.sub(r"(?i)image|img", "label", name).replace("idx3", "idx1").replace("IDX3", "IDX1")
    found = found if found != name else re.sub(r"^x(?=[\W_t])|(?<=[\W_])x(?=\.npy)", "y", name)
    return found if found != name else ""


def gathered(files: Iterable[containers.File]) -> dict[str, dict[str, np.ndarray]]:
    """Returns the arrays in Files, grouped by the part that `part_of` returns: {part: {location, as text: array}}."""
    parts: dict[str, dict[str, np.ndarray]] = {}
    for file in files:
        for key, array in _arrays(file).items():
            name = f"{file}, {key!r}" if key else f"{file}"
            parts.setdefault(part_of(f"{file.name}/{key}"), {})[name] = _rows_first(array)
    return parts


def _rows_first(array):
    """Returns an array with its examples along axis 0. MATLAB's arrays often have them along the last axis."""
    if array.ndim == 3 and array.shape[:2] == (28, 28) and array.shape[2] != 28:
        return np.moveaxis(array, -1, 0)
    columns = array.ndim == 2 and array.shape[0] in (1, 784) and array.shape[1] not in (1, 10, 784)
    return array.T if columns else array


def images_of(found: dict[str, np.ndarray]) -> arrays.Images:
    """Returns the Images in the arrays of one part. found: {location: array}, from `gathered`."""
    x = _only({name: array for name, array in found.items() if arrays.is_pixels(array)}, IMAGES)
    y = _only({name: array for name, array in found.items() if arrays.is_labels(array)}, LABELS)
    if x is None:
        told = "; ".join(f"{name[-60:]} is {array.dtype} {array.shape}" for name, array in list(found.items())[:2])
        raise UserError(f"{told}, where images, (n, 28, 28) or (n, 784), are needed")
    images, notes = found[x], []
    files = [name.partition(", '")[0] if name else "" for name in (x, y)]  # without the names of arrays inside files
    if y is not None and files[0] != files[1] and partner(files[0]) != re.split(r"[/\\]", files[1])[-1]:
        notes.append(f"its labels are those of {files[1]}")
    if re.search(r"emnist[^/\\]*(idx3|ubyte)[^/\\]*$", x, re.IGNORECASE):
        images = images.reshape(-1, 28, 28).swapaxes(1, 2)
        notes.append(arrays.TURNED)
    return arrays.images(x, images, found.get(y), notes=notes)


def _only(found, usual):
    """Returns the name of the only array, or of the only one with a name in `usual`; None if there is no array."""
    if len(found) > 1:
        found = {name: None for name in found if usual & set(words(re.split(r"[/\\]", name)[-1]))} or found
    if len(found) > 1:
        told = "; ".join(name[-60:] for name in list(found)[:2])
        raise UserError(f"several sets ({told}): name one file, or call the arrays x_train, y_train, x_test, y_test")
    return next(iter(found), None)


def _arrays(file):
    """Returns the arrays in a File, {name: array}, or {"": array} for an IDX or .npy file."""
    with containers.reading(file):
        if file.member is None and containers.kind_of(file.path) == "npz":
            return _npz(file.path, file)
        data = containers.decompressed(file)
        if data.startswith(b"\x93NUMPY"):
            return {"": np.load(io.BytesIO(data), allow_pickle=False)}
        return _npz(io.BytesIO(data), file) if data.startswith(b"PK") else {"": _idx(data, file)}


def _npz(source, file):
    if sum(member.file_size for member in zipfile.ZipFile(source).infolist()) > limits.FILE_BYTES:
        raise UserError(f"{file} unpacks to more than {limits.FILE_BYTES >> 20} MB")
    with np.load(source, allow_pickle=False) as arrays_of:
        return {key: arrays_of[key] for key in arrays_of.files}


def _idx(data, file):
    """Returns the array in an IDX file (http://yann.lecun.com/exdb/mnist/), which has type, sizes, and bytes."""
    if data[:3] != b"\0\0\x08":
        raise UserError(f"{file} is not in IDX format with bytes: it begins with {data[:4].hex(' ')}, not 00 00 08")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", data[3], 4))
    start = 4 + 4 * len(shape)
    if len(data) - start != math.prod(shape):
        raise UserError(f"{file} says that it holds {shape}, but has {len(data) - start:,} bytes: is it cut short?")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
