"""Finds and reads the data set that --data names, and checks it.

SOURCE is one of
    auto      the first of: Kaggle's files, MNIST, digits
    kaggle    Kaggle's train.csv and test.csv, plain, gzipped, zipped or inside Kaggle's zip
    mnist     data/mnist.npz, Keras's copy of it, or Keras's download
    digits    the 1,797 digits of 8x8 pixels inside scikit-learn, brought to MNIST's form; a fixed fifth is the test set
    a path    a folder or zip with Kaggle's files, a labelled CSV, an mnist.npz, or a folder of image files with a
              train.csv of file names and labels (and a test.csv of file names)

Kaggle's files are looked for in data/; then in the folders and zips in it whose name contains "digit-recognizer"
("digit-recognizer (1).zip", or the zip unpacked, also one folder deeper); then where Kaggle mounts the competition:
/kaggle/input/competitions/digit-recognizer, /kaggle/input/digit-recognizer. A folder given as a path is searched like
data/. If `auto` takes other digits although data/ or /kaggle/input holds data files, it says why it does not use each.

Pixels are uint8 (n, 28, 28), 0 background to 255 ink; labels uint8 (n,), 0 to 9.
"""

import dataclasses
import functools
from pathlib import Path

from recognizer.base.errors import UserError
from recognizer.data import containers, mnist, places, small_digits, tables, unused
from recognizer.data.arrays import Digits


@functools.lru_cache(maxsize=2)
def load(source="auto"):
    """Returns the Digits of `source` (see above). Raises UserError if there are none, or they are not sound."""
    if source in SOURCES:
        return SOURCES[source]()
    path = Path(source).expanduser()
    if not (path.is_file() or path.is_dir()):
        names = ", ".join(SOURCES)
        raise UserError(f"no data at {source!r}: give by --data or --test a folder, zip, CSV, mnist.npz, or {names}")
    return READERS[containers.kind_of(path)](path)


def is_gone(source):
    """Whether `source` is a path at which there is nothing."""
    return source not in SOURCES and not Path(source).expanduser().exists()


def load_test(source):
    """Returns the Images of a test set: a source's own, or the file that `source` names (a CSV without labels)."""
    path = Path(source).expanduser()
    if source not in SOURCES and (path.is_file() or path.is_dir()):
        kind = containers.kind_of(path)
        if kind in ("csv", "gzip"):
            return tables.read_table(path, None, "test")
        if kind in ("folder", "zip"):
            place = places.kaggle_place(path) or places.kaggle_place(path, part="test")
            if place and (found := places.find(place, "test")):
                return tables.read_table(*found, "test")
    test = load(source).test
    if test is None:
        raise UserError(f"{source} has no test set: give one with --test")
    return test


def _auto():
    if place := places.kaggle_place():
        return _read_folder(place)
    hints = [f"for Kaggle's own digits: {places.kaggle_advice()}"]
    digits = mnist.on_this_machine()
    if not digits:
        try:
            digits = mnist.downloaded()
        except UserError:
            digits = small_digits.read()
            hints.insert(0, f"for MNIST's 70,000: put mnist.npz into {places.DATA}/")
    return dataclasses.replace(digits, hint="\n".join([*unused.lines(used=digits.source), *hints]))


def _kaggle():
    if place := places.kaggle_place():
        return _read_folder(place)
    found = "".join(f"; {line}" for line in unused.lines()[:1])
    raise UserError(f"there is no train.csv of Kaggle's: {places.kaggle_advice()}{found}")


def _read_folder(path):
    """A folder or a zip with train.csv and perhaps test.csv, or a folder with mnist.npz."""
    place = places.kaggle_place(path)
    if not place and (npz := Path(path) / "mnist.npz").is_file():
        return mnist.read_npz(npz)
    path = place or path
    train, test = places.find(path, "train"), places.find(path, "test")
    if not train:
        raise UserError(f"{path} has no train.csv (nor .gz, .zip, digit-recognizer.zip or mnist.npz)")
    test = tables.read_table(*test, "test") if test else None
    return Digits(tables.read_table(*train, "train"), test, str(Path(path).resolve()))


def _read_csv(path):
    return Digits(tables.read_table(path, None, "train"), None, str(path.resolve()))


# What --data names, and what reads the file or folder that it points at, by containers.kind_of.
SOURCES = {
    "auto": _auto,
    "kaggle": _kaggle,
    "mnist": lambda: mnist.on_this_machine() or mnist.downloaded(),
    "digits": small_digits.read,
}
READERS = {"folder": _read_folder, "zip": _read_folder, "npz": mnist.read_npz, "gzip": _read_csv, "csv": _read_csv}
