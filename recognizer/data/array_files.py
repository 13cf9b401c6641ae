"""Reads files of arrays: IDX, MNIST's own form, and NumPy's .npy and .npz. Decides which array holds what."""

import io
import math
import re
import zipfile

import numpy as np

from recognizer.base.errors import UserError
from recognizer.data import arrays, containers, limits

IMAGES = {"x", "image", "images", "img", "imgs", "data", "pixels", "digits", "features", "arr0"}
LABELS = {"y", "label", "labels", "target", "targets", "class", "classes", "arr1"}
PARTS = {"train": "train(ing)?(set)?", "test": "t10k|test(ing)?(set)?", "validation": "val(id(ation)?)?"}


def words(name):
    """Returns the words of a name in lower case: "X_train", "trainX" and "x-train" have the same."""
    name = re.sub(r"arr_(?=\d)", "arr", name)
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", name).lower()
    return re.sub(r"\b([xy])(?=(train|test|val)\b)", r"\1 ", name).split()


def part_of(path):
    """Returns the part of a set that a path's name, or else a folder's, says: "train", "test", "validation" or ""."""
    for level in reversed(path.split("/")):
        for part, pattern in PARTS.items():
            if any(re.fullmatch(pattern, word) for word in words(level)):
                return part
    return ""


def set_of(path):
    """Returns what the names of a set's files have in common, without the part and what says images or labels."""
    others = rf"idx\d|ubyte|gz|npy|npz|{'|'.join(PARTS.values())}"
    found = [word for word in words(path.rpartition("/")[2]) if not re.fullmatch(others, word)]
    return [word for word in found if word not in IMAGES | LABELS]


def read(files, name):
    """Returns {part: Images} of Files of arrays; part: as `part_of`, of the names of files and arrays.

    name: of all the files, for error lines.
    """
    parts = {}
    for file in files:
        for key, array in _arrays(file).items():
            key = f"{file.name}/{key}".removesuffix("/")
            parts.setdefault(part_of(key), {})[key] = array
    return {part: _images(part, found, name) for part, found in parts.items()}


def _images(part, found, name):
    """Returns the Images of the arrays of one part, {name: array}."""
    x = _only({key: array for key, array in found.items() if arrays.is_pixels(array)}, IMAGES, name)
    y = _only({key: array for key, array in found.items() if arrays.is_labels(array)}, LABELS, name)
    if x is None:
        told = "; ".join(f"{key[-40:]} is {array.dtype} {array.shape}" for key, array in list(found.items())[:3])
        raise UserError(f"{name}: {told}, where images, (n, 28, 28) or (n, 784), are needed")
    images, notes = found[x], []
    if "emnist" in x.lower():
        images, notes = images.reshape(-1, 28, 28).swapaxes(1, 2), ["EMNIST's rows and columns are exchanged: turned"]
    return arrays.images(f"{name}, {part}" if part else name, images, found.get(y), notes=notes)


def _only(found, usual, name):
    """Returns the name of the only array of those of one shape, or of the only one with a usual name; None of none."""
    if len(found) > 1:
        found = {key: None for key in found if usual & set(words("/".join(key.split("/")[-2:])))} or found
    if len(found) > 1:
        told = ", ".join(key[-40:] for key in list(found)[:3])
        raise UserError(
            f"{name} holds several sets ({told}): name one file, or the arrays x_train, y_train, x_test, y_test"
        )
    return next(iter(found), None)


def _arrays(file):
    """Returns the arrays in a File, {name: array}; of an IDX or .npy file, {"": array}."""
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
    """Returns the array of a file in http://yann.lecun.com/exdb/mnist/'s format: a type, the sizes, the bytes."""
    if data[:3] != b"\0\0\x08":
        raise UserError(f"{file} is not in IDX format with bytes: it begins with {data[:4].hex(' ')}, not 00 00 08")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", data[3], 4))
    start = 4 + 4 * len(shape)
    if len(data) - start != math.prod(shape):
        raise UserError(f"{file} says that it holds {shape}, but has {len(data) - start:,} bytes: is it cut short?")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
