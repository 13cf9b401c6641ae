"""Reads image files of digits: those that a CSV names, with their labels, and those in folders."""

import functools
import io
import os
import re
import sys
import zipfile
from pathlib import Path

import numpy as np

from recognizer.base.errors import UserError, refused
from recognizer.data import containers, csv_rows, handwriting, limits, segments

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
SUFFIXES |= {".avif", ".heic", ".heif"}  # where Pillow or pillow-heif can read them
HIDDEN = re.compile(r"(^|/)(\.|__MACOSX/|Thumbs\.db$|desktop\.ini$)")  # files that systems leave in folders
LABELS = ("label", "class", "digit")  # names of the column of labels


def read_pictures(paths):
    """Returns (Pictures of image files, lines about those that cannot be read, the names of files that are no images).

    paths: of image files, and of folders and zips, which are searched to their ends. Raises UserError if there is no
    picture among them.
    """
    from rich.progress import track

    files, skipped = [], []
    for path in paths:
        some, others = _at(Path(path))
        files += some
        skipped += others
    pictures, faults = [], []
    few = len(files) < 50 or not sys.stdout.isatty()
    for name, opened in files if few else track(files, f"Reading {len(files):,} pictures", transient=True):
        try:
            with refused(f"{name} cannot be read"), opened() as stream:
                pictures.append(segments.read_picture(stream, name))
        except UserError as error:
            faults.append(str(error))
    if not pictures:
        raise UserError(f"none of {len(faults):,} image files can be read: {faults[0]}" if faults[1:] else faults[0])
    return pictures, faults, skipped


def _at(path):
    """Returns (image files at a path, the names of other files there). An image file is (its name, what opens it)."""
    if path.is_dir():
        below = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
        found = {file.relative_to(path).as_posix(): (str(file), functools.partial(open, file, "rb")) for file in below}
    elif path.is_file() and path.suffix.lower() not in SUFFIXES and zipfile.is_zipfile(path):
        members = [member for member in containers.zip_members(path) if not member.endswith("/")]
        found = {member: (f"{path}/{member}", functools.partial(_unpacked, path, member)) for member in members}
    elif path.is_file():
        return [(str(path), functools.partial(open, path, "rb"))], []
    else:
        raise UserError(f"there is no image at {path}")
    images, others = [], []
    for name, file in sorted(found.items()):
        if Path(name).suffix.lower() in SUFFIXES and not HIDDEN.search(name):
            images.append(file)
        elif not HIDDEN.search(name):
            others.append(file[0])
    if not images:
        raise UserError(f"{path} holds no image files ({', '.join(sorted(SUFFIXES))})")
    return images, others


def _unpacked(path, member):
    """Returns a stream of the bytes of a zip's member, which must not be more than the limits allow."""
    with zipfile.ZipFile(path) as archive, archive.open(member) as file:
        data = file.read(limits.FILE_BYTES + 1)
    if len(data) > limits.FILE_BYTES:
        raise UserError(f"{path}/{member} is larger than {limits.FILE_BYTES >> 20} MB")
    return io.BytesIO(data)


def read_table(data, header, file, member, name, part):
    """Returns (x, y) as in Images of a CSV of file names (and labels) that lies beside the image files.

    data: the CSV's bytes. file, member: where it is. name: of it, for error lines. part: "train", or "test" without
    labels. Raises UserError, with row and column, for a file or a label that is not sound.
    """
    if member is not None:
        raise UserError(f"{name} lists image files: unpack the zip and give the folder")
    column, label = _columns(header, name, part)
    table = _strings(data, header, name)
    below = functools.cache(lambda: _files_below(file.parent))  # looked for once, where it is needed
    x = np.empty((len(table), 28, 28), np.uint8)
    for i, image in enumerate(table[column]):
        path, fault = _find(file.parent, image, below)
        if fault:
            raise UserError(f"{name}: row {i + 1} (line {i + 2}), column {column}: {image[:80]!r} {fault}")
        x[i] = handwriting.read_image(path)
    if label is None:
        return x, None
    for i, found in enumerate(table[label]):
        if not re.fullmatch(r"[0-9]", found):
            csv_rows.bad_cell(name, i + 1, "label", found)
    return x, table[label].astype(np.uint8).to_numpy(copy=True)


def _columns(header, name, part):
    """Returns the names of the column of file names and of that of labels, or None of part "test"."""
    labels = [column for column in header if column.lower() in LABELS]
    if len(header) != (2 if part == "train" else 1) or len(labels) != (part == "train"):
        pixels, needed = "pixel0,...,pixel783", "one column of file names"
        if part == "train":
            pixels, needed = f"label,{pixels}", "a column of file names and a column 'label'"
        raise UserError(f"{name}: line 1: columns {csv_rows.few(header)}: needed are {pixels}, or {needed}")
    return next(column for column in header if column not in labels), labels[0] if labels else None


def _strings(data, header, name):
    """Returns the rows of a CSV as a pandas.DataFrame of strings."""
    import pandas as pd

    with refused(f"{name} cannot be read"):
        kept = dict(dtype=str, keep_default_na=False, encoding="utf-8-sig")
        table = pd.read_csv(io.BytesIO(data), header=0, names=header, **kept)  # pandas renames a column without a name
    if table.empty:
        raise UserError(f"{name} has a header and no rows")
    return table


def _files_below(folder):
    """Returns the files in a folder and all below it, by name: {name: [path, ...]}."""
    files = {}
    for path in folder.rglob("*"):
        files.setdefault(path.name, []).append(path)
    return files


def _find(folder, image, below):
    """Returns (path, None) of the image file that a CSV in `folder` names, or (None, what is wrong).

    below: gives the files below the folder by name. One of them may be named without its folder.
    """
    path = folder / image
    if not image or ".." in Path(image).parts or Path(image).is_absolute():
        return None, "is not a file beside this CSV"
    if path.is_file():
        return path, None
    found = below().get(path.name, [])
    if len(found) > 1:
        return None, f"is in {len(found)} folders: give each file's path from this CSV's folder"
    return (found[0], None) if found else (None, "is not there")
