import io
import re
from pathlib import Path

import numpy as np

from recognizer.base.errors import UserError, refused
from recognizer.data import csv_rows, handwriting
from recognizer.data.handwriting import read_image


def read_image_table(data, header, start, file, member, name, part):
    """A CSV of file names (and labels) beside image files: Returns x, y as in Images."""
    import pandas as pd

    if member is not None:
        raise UserError(f"{name} lists image files: unpack the zip and give the folder")
    labels = [column for column in header if column.lower() in ("label", "class", "digit")]
    if len(header) != (2 if part == "train" else 1) or len(labels) != (part == "train"):
        needed = "a column of file names and a column 'label'" if part == "train" else "one column of file names"
        raise UserError(
            f"{name}: line 1: columns {csv_rows.few(header)}: needed are label,pixel0,...,pixel783"
            f"{'' if part == 'train' else ' without label'}, or {needed}"
        )
    column = next(column for column in header if column not in labels)
    with refused(f"{name} cannot be read"):
        # By our own reading of the header: pandas renames a column without a name.
        kept = dict(dtype=str, keep_default_na=False, encoding="utf-8-sig")
        table = pd.read_csv(io.BytesIO(data), header=0, names=header, **kept)
    if table.empty:
        raise UserError(f"{name} has a header and no rows")
    inside = None  # {name: paths} of the files in the folders below, where they are needed
    x = np.empty((len(table), 28, 28), np.uint8)
    for i, image in enumerate(table[column]):
        path = file.parent / image
        if not image or ".." in Path(image).parts or Path(image).is_absolute():
            _bad_image(name, i + 1, column, image, "is not a file beside this CSV")
        if not path.is_file():
            if inside is None:
                inside = {}
                for other in file.parent.rglob("*"):
                    inside.setdefault(other.name, []).append(other)
            found = inside.get(path.name, [])
            if len(found) > 1:
                what = f"is in {len(found)} folders: give each file's path from this CSV's folder"
                _bad_image(name, i + 1, column, image, what)
            if not found:
                _bad_image(name, i + 1, column, image, "is not there")
            path = found[0]
        x[i] = read_image(path)
    if part == "test":
        return x, None
    for i, label in enumerate(table[labels[0]]):
        if not re.fullmatch(r"[0-9]", label):
            csv_rows.bad_cell(name, i + 1, "label", label)
    return x, table[labels[0]].astype(np.uint8).to_numpy(copy=True)


def _bad_image(name, row, column, image, what):
    raise UserError(f"{name}: row {row} (line {row + 1}), column {column}: {image[:80]!r} {what}")


SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


def read_images(paths):
    """Returns (file names, uint8 (n, 28, 28)) of image files and folders of them, in order."""
    files = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not found:
                raise UserError(f"{path} holds no image files ({', '.join(sorted(SUFFIXES))})")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f"there is no image at {path}")
    return files, np.stack([handwriting.read_image(file) for file in files])
