"""Finds and reads the data set that --data names, and checks it.

SOURCE is one of
    auto      the first of: Kaggle's files, MNIST, digits
    kaggle    Kaggle's train.csv and test.csv, plain, gzipped, zipped or inside Kaggle's zip
    mnist     data/mnist.npz, Keras's copy of it, or Keras's download
    digits    the 1,797 digits of 8x8 pixels inside scikit-learn, brought to MNIST's form; a fixed fifth is the test set
    a path    a file, folder, zip or tar of digits in one of these forms:
                CSV      784 columns of pixels in order, a column of labels first or last, perhaps ids; .csv.gz
                         or .arff, with a header or without one
                IDX      train-images-idx3-ubyte(.gz) and so on, MNIST's own form; EMNIST's digits
                arrays   .npz, .npy: x_train, y_train, x_test, y_test or the like; .parquet, as on Hugging Face
                images   a folder for each class, 0 to 9, in train/ and test/; or CSVs of file names and labels
              Names with train and test in them say which part is which.

Kaggle's files are looked for first in data/; then in its folders and zips whose name contains "digit-recognizer", such
as "digit-recognizer (1).zip", and in the subfolders of such folders; then where Kaggle mounts the competition:
/kaggle/input/competitions/digit-recognizer, /kaggle/input/digit-recognizer. A folder given as a path is searched like
data/. If `auto` does not find Kaggle's files, it says why it does not use other data files in data/ and /kaggle/input.

Pixels are uint8 (n, 28, 28), 0 background to 255 ink; labels uint8 (n,), 0 to 9.
"""

import contextlib
import dataclasses
import functools
from pathlib import Path

from recognizer.base.errors import UserError
from recognizer.base.words import closest
from recognizer.data import array_files, forms, mnist, places, small_digits, tables, unused
from recognizer.data.arrays import Digits, Images


@functools.lru_cache(maxsize=2)
def load(source: str = "auto") -> Digits:
    """Returns the Digits of `source` (see above). Raises UserError if there are none, or if they are not valid."""
    if source in SOURCES:
        return SOURCES[source]()
    path = _near(source)
    if not (path.is_file() or path.is_dir()):
        names = ", ".join(SOURCES)
        do = f"give a folder, zip, CSV, mnist.npz, or {names} with --data or --test"
        raise UserError(f"no data at {source!r}{_similar(source)}: {do}")
    place = places.kaggle_place(path)
    if place and (place != path or places.find(place, "test")):
        return _kaggles(place)
    return _digits(forms.read(path), path)


def _near(source):
    """Returns the path of a source, relative to the current folder if it is inside: a run stores its absolute path."""
    path = Path(source).expanduser()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _similar(source):
    """Returns " (did you mean ...?)" with the source, or the file beside a missing one, whose name is most similar."""
    path = Path(source).expanduser()
    beside = [other.name for other in path.parent.glob("*")] if path.parent.is_dir() else []
    if close := closest(source, SOURCES):
        return f" (did you mean {close}?)"
    close = closest(path.name, beside, cutoff=0.75)
    return f" (did you mean {path.with_name(close)}?)" if close else ""


def is_gone(source: str) -> bool:
    """Returns whether `source` is a path that does not exist."""
    return source not in SOURCES and not Path(source).expanduser().exists()


def load_test(source: str) -> Images:
    """Returns the Images of a test set, with or without labels. source: one of SOURCES, or a path to the images."""
    path = _near(source)
    if source in SOURCES or not (path.is_file() or path.is_dir()):
        test = load(source).test
    elif (place := places.kaggle_place(path, part="test")) and (table := places.find(place, "test")):
        test = tables.read_table(table)
    else:
        test = forms.read(path, wanted=("test",)).get("test")
    if test is None:
        raise UserError(f"{source} has no test set: name the file of the images to predict")
    with contextlib.suppress(UserError):  # raised if there are no labelled images
        if test.ids is not None and test.y is None:
            return _called_alike(test, load(source).train)
    return test


def _auto():
    if place := places.kaggle_place():
        return _kaggles(place)
    hints = [f"for Kaggle's own digits: {places.kaggle_advice()}"]
    digits = mnist.on_this_machine()
    if not digits:
        try:
            digits = mnist.downloaded()
        except UserError:
            digits = small_digits.read()
            hints.insert(0, f"for MNIST's 70,000, which could not be downloaded: put mnist.npz into {places.DATA}/")
    return dataclasses.replace(digits, hint="\n".join([*unused.lines(used=digits.source), *hints]))


def _kaggle():
    if place := places.kaggle_place():
        return _kaggles(place)
    found = "".join(f"; {line}" for line in unused.lines()[:1])
    raise UserError(f"there is no train.csv of Kaggle's: {places.kaggle_advice()}{found}")


def _kaggles(place):
    """Returns the Digits of a folder or zip with Kaggle's files."""
    found = {part: places.find(place, part) for part in ("train", "test")}
    return _digits({part: tables.read_table(file) for part, file in found.items() if file}, place)


def _digits(parts, path):
    """Returns the Digits from {"train": Images, "test": Images}, where "test" may be missing."""
    train, test = parts.get("train"), parts.get("test")
    if train is None:
        raise UserError(f"{path} has a test set only ({test.origin}): predict it with predict.py --test")
    if train.y is None:
        partner = array_files.partner(train.origin)
        beside = f"put {partner} beside it, or " if partner else ""
        todo = f"{beside}predict it with predict.py --test"
        raise UserError(f"{train.origin} has no labels, so nothing can be trained on it: {todo}")
    notes = (f"{images.origin}: {note}" for images in (train, test) if images for note in images.notes)
    return Digits(train, _called_alike(test, train), str(Path(path).resolve()), "\n".join(dict.fromkeys(notes)))


def _called_alike(test, train):
    """Returns a test set. If it has ids but no labels, its submission names the labels' column as `train` does."""
    if test is None or test.ids is None or test.y is not None or test.columns[0] == "ImageId":
        return test
    return dataclasses.replace(test, columns=(test.columns[0], train.columns[1]))


# The names that --data takes.
SOURCES = {
    "auto": _auto,
    "kaggle": _kaggle,
    "mnist": lambda: mnist.on_this_machine() or mnist.downloaded(),
    "digits": small_digits.read,
}
