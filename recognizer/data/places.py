import gzip
import itertools
import os
import re
from pathlib import Path

from recognizer.base.errors import UserError
from recognizer.data import containers, csv_rows

DATA = Path("data")


KAGGLE_INPUT = Path("/kaggle/input")  # where Kaggle mounts the data that a notebook has added


KAGGLE_MOUNTS = ("competitions/digit-recognizer", "digit-recognizer")


KAGGLE_NAME = re.compile("digit[-_ ]recognizer", re.IGNORECASE)  # the zip, copies of it, and its unpacked folder


DATA_FILES = {".csv", ".gz", ".zip", ".npz", ".7z", ".rar", ".tar", ".tgz"}


HALF_DOWNLOADS = {".crdownload", ".part", ".partial", ".download", ".opdownload"}


def kaggle_folders():
    """The folders that Kaggle's files are looked for in, in order."""
    return [DATA, *(KAGGLE_INPUT / mount for mount in KAGGLE_MOUNTS)]


def kaggle_advice():
    if KAGGLE_INPUT.is_dir():
        return "in a Kaggle notebook, add it by Add Input, Competitions, Digit Recognizer"
    return f"put digit-recognizer.zip from {csv_rows.KAGGLE_PAGE} into {DATA}/"


def kaggle_place(*paths, table="train"):
    """Returns the first of all `_places` in some paths that holds a table ("train" or "test"); None if none does."""
    places = itertools.chain.from_iterable(map(_places, paths))
    return next((place for place in places if find(place, table)), None)


def _places(path):
    """Yields a path, then the folders and zips in it that have Kaggle's name, the shortest names first."""
    path = Path(path)
    yield path
    if not path.is_dir():
        return
    named = [inner for inner in path.iterdir() if KAGGLE_NAME.search(inner.name) and not _is_half_download(inner)]
    for inner in sorted(named, key=lambda inner: (inner.is_file(), len(inner.name), inner.name)):
        if inner.is_dir():
            yield inner
            yield from sorted(deeper for deeper in inner.iterdir() if deeper.is_dir())
        elif inner.suffix.lower() == ".zip":
            yield inner


def find(path, name):
    """Where table `name` ("train" or "test") is at `path`: (file, member of a zip or None), or None."""
    if Path(path).is_dir():
        # Windows unpacks train.csv.zip to a folder train.csv with train.csv in it.
        for file in (f"{name}.csv", f"{name}.csv/{name}.csv", f"{name}.csv.gz"):
            if (file := Path(path) / file).is_file():
                return file, None
        zips = [Path(path) / f"{name}.csv.zip", Path(path) / "digit-recognizer.zip"]
    else:
        zips = [Path(path)]
    for file in zips:
        if file.is_file():
            members = [
                member
                for member in containers.zip_members(file)
                if Path(member).name == f"{name}.csv" and not member.startswith("__MACOSX/")
            ]
            if len(members) > 1:
                raise UserError(f"{file} holds {len(members)} files {name}.csv: {', '.join(members)}")
            if members:
                return file, members[0]
    return None


def unused_files(used=""):
    """Returns at most four lines that say why `auto` does not use the data files in data/ and /kaggle/input.

    used: the path of a file that it does use.
    """
    files = itertools.islice(itertools.chain(_files_in(DATA), _files_in(KAGGLE_INPUT)), 10_000)
    like = [path for path in files if path.suffix.lower() in DATA_FILES or _is_half_download(path)]
    like = [path for path in like if str(path.resolve()) != used]
    lines = [f"not used: {path} {_why_unused(path)}" for path in like[:3]]
    return lines + [f"not used: {len(like) - 3} more files"] * (len(like) > 3)


def _files_in(folder, depth=4):
    """Yields the files in a folder and its subfolders, without hidden ones; of a folder, a thousand at most."""
    try:
        with os.scandir(folder) as entries:
            paths = sorted(Path(entry) for entry in itertools.islice(entries, 1000) if entry.name[0] not in "._")
    except OSError:  # no such folder, or not to be read
        return
    for path in paths:
        if path.is_file() or _is_half_download(path):
            yield path
        elif depth:
            yield from _files_in(path, depth - 1)


def _is_half_download(path):
    return path.suffix.lower() in HALF_DOWNLOADS  # Safari's .download is a folder


def _why_unused(path):
    """Says why `auto` does not use a file, and what to do."""
    suffix = path.suffix.lower()
    by_path = f"is not where Kaggle's files are looked for: use --data {path.parent if path.stem == 'train' else path}"
    if _is_half_download(path):
        return "is half a download: let it finish, or download it again"
    if suffix == ".npz":
        return f"is not {DATA / 'mnist.npz'}: use --data {path}"
    if suffix not in (".csv", ".gz", ".zip"):
        return "is an archive of another kind than zip: unpack it"
    try:
        if suffix == ".zip":
            return by_path if find(path, "train") else "holds no train.csv"
        with (
            containers.reading(path),
            gzip.open(path) if containers.kind_of(path) == "gzip" else open(path, "rb") as file,
        ):
            header, _ = csv_rows.read_header(file.read(2**16), path)
    except UserError as error:
        return str(error).removeprefix(f"{path} ")
    if header == ["label", *csv_rows.PIXELS]:
        return by_path
    if header == csv_rows.PIXELS:
        return "has no labels, so nothing can be trained on it"
    return f"has other columns than label,pixel0,...,pixel783: {csv_rows.few(header)}"
