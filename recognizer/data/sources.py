# PYTHON_ARGCOMPLETE_OK
"""Where digits come from, checked: Kaggle's CSVs, MNIST, scikit-learn's digits, image files; splits; random streams.

    python train.py --data SOURCE, where SOURCE is
    auto      the first of: Kaggle's files, MNIST, digits
    kaggle    Kaggle's train.csv and test.csv, plain, gzipped, zipped or inside Kaggle's zip
    mnist     data/mnist.npz, Keras's cache of it, or Keras's download
    digits    the 1,797 digits of 8x8 pixels inside scikit-learn, brought to MNIST's form; a fixed fifth is the test set
    a path    a folder or zip as for kaggle, a labelled CSV, an mnist.npz, or a folder of image files with a
              train.csv of file names and labels (and a test.csv of file names)

Kaggle's files are looked for in data/; then in the folders and zips in it whose name contains "digit-recognizer"
("digit-recognizer (1).zip", or the zip unpacked, also one folder deeper); then where Kaggle mounts the competition:
/kaggle/input/competitions/digit-recognizer, /kaggle/input/digit-recognizer. A folder given as a path is searched like
data/. Where `auto` takes other digits although data/ or /kaggle/input holds data files, it says why each is not used.

Pixels are uint8 (n, 28, 28), 0 background to 255 ink; labels uint8 (n,), 0 to 9.

    python -m recognizer data                  what `auto` finds here
    python -m recognizer data fetch            download Kaggle's files into data/ by Kaggle's own client
"""

import contextlib
import dataclasses
import functools
import io
import os
import socket
import zipfile
from pathlib import Path

import numpy as np

from recognizer.base import environment
from recognizer.base.errors import UserError, refused
from recognizer.base.reasons import reason
from recognizer.data import containers, places, tables
from recognizer.data.arrays import Digits, Images
from recognizer.data.handwriting import mnist_form

SOURCES = ("auto", "kaggle", "mnist", "digits")


@functools.lru_cache(maxsize=2)
def load(source="auto"):
    """Returns the Digits of `source` (see above). Raises UserError where there are none, or they are not sound."""
    if source == "auto":
        return _auto()
    if source == "kaggle":
        if not (place := places.kaggle_place(*places.kaggle_folders())):
            found = "".join(f"; {line}" for line in places.unused_files()[:1])
            raise UserError(
                f"Kaggle's train.csv is neither in {places.DATA} nor mounted by Kaggle: {places.kaggle_advice()}{found}"
            )
        return _from_folder(place)
    if source == "mnist":
        return _mnist() or _mnist_download()
    if source == "digits":
        return _scikit_digits()
    path = Path(source).expanduser()
    if not path.exists():
        known = ", ".join(SOURCES)
        raise UserError(
            f"no data at {source!r}: give by --data (predict.py: --test) a folder, a zip, a CSV, an mnist.npz, "
            f"or one of {known}"
        )
    if not (path.is_file() or path.is_dir()):
        raise UserError(f"{source!r} is neither a file nor a folder")
    if path.is_dir():
        if not places.kaggle_place(path) and (path / "mnist.npz").is_file():
            return _from_npz(path / "mnist.npz")
        return _from_folder(path)
    kind = containers.kind_of(path)
    if kind == "zip" and _is_npz(path):
        return _from_npz(path)
    if kind == "zip":
        return _from_folder(path)
    return Digits(tables.read_table(path, None, "train"), None, str(path.resolve()))


def load_test(source):
    """Returns the Images of a test set: a source's own, or the file that `source` names (a CSV without labels)."""
    path = Path(source).expanduser()
    if source not in SOURCES and (path.is_file() or path.is_dir()):
        kind = "folder" if path.is_dir() else containers.kind_of(path)
        if kind in ("csv", "gzip"):
            return tables.read_table(path, None, "test")
        if kind == "folder" or not _is_npz(path):
            place = places.kaggle_place(path) or places.kaggle_place(path, table="test")
            if place and (found := places.find(place, "test")):
                return tables.read_table(*found, "test")
    test = load(source).test
    if test is None:
        raise UserError(f"{source} has no test set: give one with --test")
    return test


def _auto():
    if place := places.kaggle_place(*places.kaggle_folders()):
        return _from_folder(place)
    hints = [f"for Kaggle's own digits: {places.kaggle_advice()}"]
    digits = _mnist()
    if not digits:
        try:
            digits = _mnist_download()
        except UserError:
            digits = _scikit_digits()
            hints.insert(0, f"for MNIST's 70,000: put mnist.npz into {places.DATA}/")
    return dataclasses.replace(digits, hint="\n".join([*places.unused_files(used=digits.source), *hints]))


def _from_folder(path):
    """A folder or a zip with train.csv and perhaps test.csv."""
    path = places.kaggle_place(path) or path
    train, test = places.find(path, "train"), places.find(path, "test")
    if not train:
        if test:
            raise UserError(f"{path} has a test.csv and no train.csv: training needs labelled rows")
        raise UserError(f"{path} has no train.csv (nor .gz, .zip, digit-recognizer.zip or mnist.npz)")
    return Digits(
        tables.read_table(*train, "train"),
        tables.read_table(*test, "test") if test else None,
        str(Path(path).resolve()),
    )


def _mnist():
    """data/mnist.npz, or the copy that Keras keeps; None if there is neither, or that copy is half a download."""
    if Path("data/mnist.npz").is_file():
        return _from_npz(Path("data/mnist.npz"))
    try:
        return _from_npz(_keras_cache()) if _keras_cache().is_file() else None
    except UserError:  # Keras fetches it again
        return None


def _keras_cache():
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return Path(home) / "datasets" / "mnist.npz"


def _mnist_download():
    environment.import_keras()
    import keras

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)  # seconds; Keras itself would wait for ever
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            keras.datasets.mnist.load_data()
    except Exception as error:
        raise UserError(
            f"MNIST could not be downloaded ({reason(error)}): put mnist.npz into data/, or use --data digits"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return _from_npz(_keras_cache())


def _is_npz(path):
    return any(member.endswith(".npy") for member in containers.zip_members(path))


def _from_npz(path):
    """MNIST in Keras's form: x_train, y_train, x_test, y_test; or x and y alone, without a test set."""
    with refused(f"{path} is damaged or not an mnist.npz"):
        if sum(member.file_size for member in zipfile.ZipFile(path).infolist()) > containers.LARGEST:
            raise UserError(f"{path} unpacks to more than {containers.LARGEST >> 20} MB")
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}

    def part(x, y, origin):
        if x not in arrays or y not in arrays:
            raise UserError(f"{path} lacks {x} or {y}; it holds {', '.join(arrays) or 'nothing'}")
        images, labels = arrays[x], arrays[y]
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28) or not len(images):
            raise UserError(f"{path}: {x} is {images.dtype} {images.shape}, where uint8 (n, 28, 28) is needed")
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "ui":
            raise UserError(f"{path}: {y} is {labels.dtype} {labels.shape}, where {len(images)} integers are needed")
        if labels.min() < 0 or labels.max() > 9:
            row = int(np.flatnonzero((labels < 0) | (labels > 9))[0])
            raise UserError(f"{path}: {y}, row {row + 1}: label {labels[row]} is not one of 0 to 9")
        return Images(images, labels.astype(np.uint8), origin)

    source = str(Path(path).resolve())
    if "x" in arrays and "x_train" not in arrays:
        return Digits(part("x", "y", str(path)), None, source)
    return Digits(
        part("x_train", "y_train", f"MNIST, {path}"),
        part("x_test", "y_test", f"MNIST's test set, {path}"),
        source,
    )


def _scikit_digits():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    small, labels = load_digits(return_X_y=True)
    x = np.stack([mnist_form(image.reshape(8, 8) * (255 / 16)) for image in small])
    y = labels.astype(np.uint8)
    train, test = train_test_split(np.arange(len(y)), test_size=0.2, random_state=0, stratify=y)
    return Digits(
        Images(x[train], y[train], f"scikit-learn's digits ({len(train):,} of {len(y):,})"),
        Images(x[test], y[test], "the fixed fifth of scikit-learn's digits"),
        "digits",
    )
