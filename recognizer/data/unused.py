"""Says why --data auto does not use the files in data/ and /kaggle/input that look like digits."""

import itertools
import os
import re
from pathlib import Path

from recognizer.base.errors import UserError
from recognizer.data import containers, csv_rows, forms, limits, places, tables

SUFFIXES = {".csv", ".gz", ".zip", ".npz", ".npy", ".parquet", ".arff", ".7z", ".rar", ".tar", ".tgz"}


def lines(used: str = "") -> list[str]:
    """Returns at most four lines that say why `auto` does not use the data files in data/ and /kaggle/input.

    used: the path of the file that `auto` uses.
    """
    files = itertools.islice(itertools.chain(_files_in(places.DATA), _files_in(places.KAGGLE_INPUT)), limits.FILES)
    like = [path for path in files if _is_like_digits(path)]
    like = [path for path in like if str(path.resolve()) != used]
    told = [f"not used: {path} {_why(path)}" for path in like[:3]]
    return told + [f"not used: {len(like) - 3} more files"] * (len(like) > 3)


def _is_like_digits(path):
    return path.suffix.lower() in SUFFIXES or "-ubyte" in path.name or places.is_half_download(path)


def _files_in(folder, depth=4):
    """Yields the files in a folder and its subfolders, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            some = itertools.islice(entries, limits.FOLDER_ENTRIES)
            paths = sorted(Path(entry) for entry in some if entry.name[0] not in "._")
    except OSError:  # the folder is missing or cannot be read
        return
    for path in paths:
        if path.is_file() or places.is_half_download(path):
            yield path
        elif depth:
            yield from _files_in(path, depth - 1)


def _why(path):
    """Returns why `auto` does not use a file, and what to do, as text."""
    suffix = path.suffix.lower()
    by_path = f"is not where Kaggle's files are looked for: use --data {path.parent if path.stem == 'train' else path}"
    if places.is_half_download(path):
        return "is half a download: let it finish, or download it again"
    if suffix == ".npz":
        return f"is not Kaggle's: use --data {path}"
    try:
        kind = containers.kind_of(path)
        if kind in ("zip", "tar"):
            forms.found_in(containers.listing(path, kind), path)
        if kind == "packed":
            return "is an archive of another kind than zip or tar: unpack it"
        if kind in forms.CONVERSIONS:
            return f"is {forms.CONVERSIONS[kind][0]}: --data {path} says how to convert it"
        if kind != "csv":
            return by_path
        with containers.reading(path), containers.opened(path) as stream:
            head = csv_rows.read_header(stream.read(limits.HEADER_BYTES), path)
        _, label = tables.layout(head.columns, head.named, path)
    except UserError as error:
        return re.sub(r"^: |^ ", "", str(error).removeprefix(f"{path}"))
    labelled = label is not None or len(head.columns) == 785
    return by_path if labelled else "has no labels, so nothing can be trained on it"
