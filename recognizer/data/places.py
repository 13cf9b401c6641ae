"""Finds Kaggle's files: in data/, in folders and zips there named "digit-recognizer", and where Kaggle mounts them."""

import itertools
import re
from pathlib import Path

from recognizer.base.errors import UserError
from recognizer.data import competition, containers

DATA = Path("data")
KAGGLE_INPUT = Path("/kaggle/input")  # where Kaggle mounts the data that a notebook has added
KAGGLE_MOUNTS = ("competitions/digit-recognizer", "digit-recognizer")
KAGGLE_NAME = re.compile("digit[-_ ]recognizer", re.IGNORECASE)  # the zip, copies of it, and its unpacked folder
HALF_DOWNLOADS = {".crdownload", ".part", ".partial", ".download", ".opdownload"}


def kaggle_advice() -> str:
    """Returns advice on where to put Kaggle's files."""
    if KAGGLE_INPUT.is_dir():
        return "in a Kaggle notebook, choose Add Input, Competitions, Digit Recognizer"
    return f"put digit-recognizer.zip from {competition.PAGE}/data into {DATA}/"


def kaggle_place(path: Path | str | None = None, part: str = "train") -> Path | None:
    """Returns the first of the `_places` in a path that holds a part ("train" or "test"); None if none does.

    path: None for data/ and then the places where Kaggle mounts its files.
    """
    paths = [path] if path else [DATA, *(KAGGLE_INPUT / mount for mount in KAGGLE_MOUNTS)]
    places = itertools.chain.from_iterable(map(_places, paths))
    return next((place for place in places if find(place, part)), None)


def _places(path):
    """Yields a path, then the folders in it that have Kaggle's name, with their subfolders, then the zips in it.

    Only zips that have Kaggle's name are included. Short names come first.
    """
    path = Path(path)
    yield path
    if not path.is_dir():
        return
    named = [inner for inner in path.iterdir() if KAGGLE_NAME.search(inner.name) and not is_half_download(inner)]
    for inner in sorted(named, key=lambda inner: (inner.is_file(), len(inner.name), inner.name)):
        if inner.is_dir():
            yield inner
            yield from sorted(deeper for deeper in inner.iterdir() if deeper.is_dir())
        elif inner.suffix.lower() == ".zip":
            yield inner


def find(path: Path | str, part: str) -> containers.File | None:
    """Returns the containers.File of a part's table at a path, or None. part: "train" or "test"."""
    path, name = Path(path), f"{part}.csv"
    if not path.is_dir():
        return _member(path, name)
    # Windows unpacks train.csv.zip to a folder train.csv with train.csv in it.
    for file in (path / name, path / name / name, path / f"{name}.gz"):
        if file.is_file():
            return containers.File(file, None, file.name)
    return _member(path / f"{name}.zip", name) or _member(path / "digit-recognizer.zip", name)


def _member(file, name):
    """Returns the only File called `name` in a zip, or None. Raises UserError if there are several."""
    if not file.is_file() or containers.start_of(file) != "zip":
        return None
    members = [member for member in containers.zip_members(file) if Path(member).name == name]
    members = [member for member in members if not member.startswith("__MACOSX/")]
    if len(members) > 1:
        raise UserError(f"{file} holds {len(members)} files {name}: {', '.join(members)}")
    return containers.File(file, members[0], members[0]) if members else None


def is_half_download(path: Path) -> bool:
    """Returns whether a path has the suffix that a browser gives an unfinished download."""
    return path.suffix.lower() in HALF_DOWNLOADS  # Safari's .download is a folder
