"""Reads image files of digits, listed in a CSV or sorted into folders."""

import contextlib
import csv
import functools
import hashlib
import io
import itertools
import os
import posixpath
import re
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from recognizer.base.errors import UserError, refused
from recognizer.data import arrays, containers, csv_cache, csv_rows, handwriting, segments

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
SUFFIXES |= {".avif", ".heic", ".heif"}  # if Pillow or pillow-heif can read them
CLASS = re.compile(r"(?:digit|class|label)?[-_ ]?([0-9])", re.IGNORECASE)  # a class's folder


def read_pictures(paths: Iterable[Path | str]) -> tuple[list[segments.Picture], list[str], list[str]]:
    """Returns (Pictures of image files, messages about unreadable ones, names of files that are not images).

    paths: of image files, and of folders and archives, which are searched with all subfolders. Raises UserError if
    there is no picture among them.
    """
    from rich.progress import track

    found = [_at(Path(path)) for path in paths]
    files, skipped = ([file for pair in found for file in pair[i]] for i in (0, 1))
    steps: Iterable[tuple[containers.File, bytes | UserError]] = containers.contents_or_errors(files)
    if len(files) >= 50 and sys.stdout.isatty():
        steps = track(steps, f"Reading {len(files):,} pictures", len(files), transient=True)
    read = {file: _pages(file, content) for file, content in steps}
    pictures, faults = ([one for file in files for one in read[file][i]] for i in (0, 1))
    if not pictures:
        told = f"none of {len(faults):,} image files can be read: " * (len(faults) > 1)
        raise UserError(f"{told}{faults[0]:.230}")
    return pictures, faults, [_called(file) for file in skipped]


def _pages(file, content):
    """Returns (Pictures of an image File, messages about unreadable pages). content: its bytes, or a UserError."""
    pictures = []
    try:
        if isinstance(content, UserError):
            raise content
        stream, name = io.BytesIO(content), _called(file)
        for page in range(handwriting.pages(stream)):
            pictures.append(segments.read_picture(stream, f"{name}, page {page + 1}" if page else name, page))
    except UserError as error:
        return pictures, [str(error)]
    return pictures, []


def _at(path):
    """Returns (the image Files at a path, the other Files there)."""
    if not path.exists():
        raise UserError(f"there is no image at {path}")
    if path.suffix.lower() in SUFFIXES or (kind := containers.kind_of(path)) not in ("folder", "zip", "tar"):
        return [containers.File(path)], []
    files = containers.listing(path, kind)
    images, others = [], []
    for file in files:
        (images if Path(file.name).suffix.lower() in SUFFIXES else others).append(file)
    if not images:
        raise UserError(f"{path} holds no image files ({', '.join(sorted(SUFFIXES))})")
    return images, others


def _called(file):
    """Returns an image File's name for the predictions."""
    return f"{file.path}" if file.member is None else f"{file.path}/{file.name}"


def names_files(data: bytes, head: csv_rows.Head) -> bool:
    """Returns whether the first rows of a CSV name image files."""
    rows = data[head.start : head.start + 4096].lower()
    return any(suffix.encode() in rows for suffix in SUFFIXES)


def read_list(data: bytes, head: csv_rows.Head, file: containers.File) -> arrays.Images:
    """Returns the Images listed in a CSV of file names (and labels). The files are beside the CSV, or in the same zip.

    data: the bytes of the CSV `file`. head: its header.
    Raises UserError, with row and column, for a missing file or an invalid label.
    """
    column, label, ids = _columns(head.columns, file)
    rows = _strings(data, head, file)
    find, files = _finder(file), []
    for i, row in enumerate(rows):
        found, fault = find(row[column].replace("\\", "/"))
        if fault:
            raise UserError(
                f"{file}: row {i + 1} (line {i + 2}), column {head.columns[column]}: {row[column][:80]!r} {fault}"
            )
        if label is not None and not re.fullmatch(r"[0-9](\.0*)?", row[label]):
            csv_rows.bad_cell(file, i + 1, i + 2, head.columns[label], row[label], True)
        files.append(found)
    y = None if label is None else np.array([row[label] for row in rows])
    columns = head.columns[ids], head.columns[label] if label is not None else "label"
    return _cached(files, file, f"{file}{data!r}", y, np.array([row[ids] for row in rows]), columns)


def read_classes(files: list[containers.File], root: containers.File) -> arrays.Images:
    """Returns the Images of image files in a folder for each class, "0" to "9".

    root: the folder or archive, as a File whose `member` is the part: "train", or "test", which needs no folders for
    classes.
    """
    files = sorted(files, key=lambda file: (_natural(file.name.rpartition("/")[2]), file.name))
    folders = [file.name.split("/")[-2] if "/" in file.name else "" for file in files]
    classes = [CLASS.fullmatch(folder) for folder in folders]
    if any(classes) or root.member == "train":
        others = sorted({folder for folder, found in zip(folders, classes, strict=True) if not found})
        if others:
            what = csv_rows.few(others)
            where = f"in folders {what}" if any(others) else "that are in no folder"
            raise UserError(f"{root}: image files {where}: each class needs a folder, named 0 to 9")
    y = np.array([found[1] for found in classes if found]) if any(classes) else None
    names = [file.name.rpartition("/")[2] for file in files]
    ids = np.array(names if len(set(names)) == len(names) else [file.name for file in files])
    return _cached(files, root, "".join(file.name for file in files), y, ids, ("filename", "label"))


def _natural(name):
    """Returns a key that sorts names by the numbers in them: 2.png before 10.png."""
    return [int(part[:18]) if i % 2 else part.lower() for i, part in enumerate(re.split(r"(\d+)", name))]


def _cached(files, file, digest, y, ids, columns):
    """Returns the Images of image files, from the cache if possible.

    file: the CSV, folder or archive that the cache is for. digest: text that identifies the list of files.
    """
    for path in sorted({one.path for one in files}):
        state = os.stat(path)
        digest += f"{path}{state.st_size}{state.st_mtime_ns}"
    digest = hashlib.sha256(digest.encode("utf-8", "replace")).hexdigest()
    images = arrays.kept_images(csv_cache.read(file, digest), f"{file}")
    if images is None:
        x, notes = decoded(containers.contents(files), files)
        images = arrays.images(f"{file}", x, y, ids, columns, notes)
        csv_cache.write(file, digest, images.kept())
    return images


def decoded(contents: Iterable[bytes], names: Sequence[containers.Named]) -> tuple[np.ndarray, list[str]]:
    """Decodes the bytes of image files. Returns (images uint8 (n, 28, 28), lines about how they were read).

    Images of 28x28 grey pixels stay as they are; photographs are converted to MNIST's form. names: for messages.
    """
    import joblib
    from rich.progress import track

    contents, n = iter(contents), len(names)
    x, own = np.empty((n, 28, 28), np.uint8), np.empty(n, bool)
    steps: Iterable[int] = range(0, n, 256)
    if n > 5000 and sys.stdout.isatty():
        steps = track(steps, f"Reading {n:,} image files", transient=True)
    elif n > 5000:
        print(f"Reading {n:,} image files ...", flush=True)
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:
        for at in steps:
            some = list(zip(itertools.islice(contents, 256), names[at : at + 256], strict=True))
            parts = pool.map(_decoded, (some[i : i + 64] for i in range(0, len(some), 64)))
            for i, (image, whole) in enumerate(itertools.chain.from_iterable(parts), at):
                x[i], own[i] = image, whole
    notes = []
    if own.any():
        x[own], note = arrays.pixels(x[own], "the image files")
        notes = [note] * bool(note)
    if others := n - own.sum():
        told = f"{others:,} of its {n:,} images are not 28x28 grey pixels"
        notes.append(f"{told}: the one digit in each is brought to MNIST's form (predict.py --images reads several)")
    return x, notes


def _decoded(some):
    """Returns the results of `_decoded_one` for several files: a thread call for each small image would take longer."""
    return [_decoded_one(data, name) for data, name in some]


def _decoded_one(data, name):
    """Returns (an image file's digit, uint8 (28, 28); whether these are the file's own pixels). data: the bytes."""
    from PIL import Image

    stream = io.BytesIO(data)
    with contextlib.suppress(Exception), Image.open(stream, formats=handwriting.formats()) as image:
        if image.size == (28, 28) and image.mode in ("L", "1", "P", "RGB") and not image.has_transparency_data:
            return np.asarray(image.convert("L")), True
    stream.seek(0)
    return handwriting.read_image(stream, name), False


def _columns(header, name):
    """Returns the indices of the columns of file names, of labels (or None), and of ids for a submission."""
    lower = [column.lower() for column in header]
    label = next((i for i, column in enumerate(lower) if column in csv_rows.LABELS), None)
    others = [i for i in range(len(header)) if i != label]
    ids = [i for i in others if lower[i] in csv_rows.IDS]
    files = [i for i in others if re.search("file|path|image|img|name", lower[i]) and i not in ids]
    files = files or [i for i in others if i not in ids] or ids
    if len(files) != 1:
        needed = "784 columns of pixels, or one column of file names, with or without a column 'label'"
        raise UserError(f"{name}: line 1: columns {csv_rows.few(header)}: a table needs {needed}")
    return files[0], label, next((i for i in ids if header[i]), files[0])


def _strings(data, head, name):
    """Returns the rows of a CSV as lists of strings."""
    with refused(f"{name} cannot be read"):
        text = io.StringIO(data[head.start :].decode("utf-8"), newline="")
        rows = [row for row in csv.reader(text, strict=True, delimiter=head.separator) if row]
    for i, row in enumerate(rows):
        if len(row) != len(head.columns):
            raise UserError(f"{name}: row {i + 1} (line {i + 2}) has {len(row)} columns, not {len(head.columns)}")
    if not rows:
        raise UserError(f"{name} has a header and no rows")
    return rows


def _finder(file):
    """Returns a function that finds an image file by its name in a CSV, and returns (File, None) or (None, error).

    file: the CSV's containers.File. An image in a subfolder may be named without its folder.
    """
    root = file.path.parent if file.member is None else file.path
    base = "" if file.member is None else file.name.rpartition("/")[0]

    @functools.cache
    def below():
        files = containers.listing(root, containers.kind_of(root))
        by_name = {}
        for one in files:
            by_name.setdefault(one.name.rpartition("/")[2], []).append(one)
        return {one.name: one for one in files}, by_name

    def find(image):
        if not image or "\0" in image or ".." in image.split("/") or Path(image).is_absolute():
            return None, "is not a file beside this CSV"
        if file.member is None and (root / image).is_file():
            return containers.File(root / image, None, image), None
        exact, by_name = below()
        if found := exact.get(posixpath.normpath(posixpath.join(base, image))) or exact.get(posixpath.normpath(image)):
            return found, None
        found = by_name.get(image.rpartition("/")[2], [])
        if len(found) > 1:
            return None, f"is in {len(found)} folders: give each file's path from this CSV's folder"
        return (found[0], None) if found else (None, "is not there")

    return find
