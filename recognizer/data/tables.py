"""Reads a table of digits, with or without labels: pixels (a CSV is parsed once, then cached), or image files."""

import hashlib
import io
import itertools
import re
from collections.abc import Sequence

import numpy as np

from recognizer.base import environment
from recognizer.base.errors import UserError
from recognizer.data import arrays, containers, csv_cache, csv_rows, image_files, limits
from recognizer.data.csv_rows import IDS, LABELS


def read_table(file: containers.File) -> arrays.Images:
    """Returns the Images of a CSV. Raises UserError, with row and column, if it is not valid."""
    with containers.reading(file), open(file.path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest() + f":{file.member}:2{'t' * _is_emnist(file)}"
    images = arrays.kept_images(csv_cache.read(file, digest), f"{file}")
    if images is None:
        data = containers.decompressed(file)
        if b"\n" not in data[: limits.HEADER_BYTES]:
            data = data.replace(b"\r", b"\n")  # line ends of old Macs, and of Excel's "CSV (Macintosh)"
        head = csv_rows.read_header(data, file)
        if head.named and len(head.columns) < 9 and image_files.names_files(data, head):
            return image_files.read_list(data, head, file)
        images = _read_pixels(data, head, file)
        csv_cache.write(file, digest, images.kept())
    return images


def _are_like_labels(values):
    """Returns whether a column holds only 0 to 9, each in more than 3 % of the rows, as labels do."""
    counts = np.bincount(values, minlength=10) if values.dtype == np.uint8 else np.zeros(10)
    return len(counts) == 10 and (counts > 0.03 * len(values)).all()


def _is_emnist(file):
    return "emnist" in file.name.rpartition("/")[2].lower()


def _read_pixels(data, head, file):
    """Returns the Images of a CSV of pixels."""
    ids, label = layout(head.columns, head.named, file)
    unnamed = label is None and len(head.columns) - ids == 785
    values, found = csv_rows.parse(data, head, ids, set() if label is None else {label}, file)
    notes = []
    if unnamed:
        label = _likely_labels(values, file)
        notes = [f"no column is called label: its {'last' if label else 'first'} one is read as the labels"]
    elif label is None and not head.named and _are_like_labels(values[:, 0]):
        raise UserError(
            f"{file}: the first of its 784 columns seems to hold labels: 784 columns of pixels are needed, too"
        )
    y = None if label is None else values[:, label].copy()
    x = values if label is None else values[:, 1:] if label == 0 else values[:, :-1]
    first, last = head.columns[0] if ids else "", "label" if label is None or unnamed else head.columns[ids + label]
    if first == "ImageId":  # in Kaggle's own form
        last = "Label" if label is None else last
        found = found if found != [str(i + 1) for i in range(len(x))] else None
    found = None if found is None else np.array(found)
    if _is_emnist(file):
        x = x.reshape(-1, 28, 28).swapaxes(1, 2)
        notes.append(arrays.TURNED)
    return arrays.images(f"{file}", x, y, found, (first, last), notes)


def layout(columns: Sequence[str], named: bool, name: containers.Named) -> tuple[int, int | None]:
    """Returns (1 if the first column holds ids, else 0; which column after the ids holds labels, or None).

    columns: their names. named: whether the names are from a header. Raises UserError if the others are not 784 pixels.
    """
    lower = [column.lower() for column in columns]
    ids = int(named and lower[0] in IDS)
    numbers = lower[ids:]
    labels = [i for i, column in enumerate(numbers) if column in LABELS and named]
    if len(numbers) - len(labels) == 784 and labels in ([], [0], [784]):
        pixels = [column for i, column in enumerate(numbers) if i not in labels]
        expected = _closest_scheme(pixels)
        wrong = next((i for i in range(784) if named and pixels[i] != expected[i]), None)
        if wrong is None:
            return ids, labels[0] if labels else None
        at = ids + wrong + (labels == [0])
        raise UserError(f"{name}: line 1: column {at + 1} is {columns[at][:40]!r} where {expected[wrong]!r} is needed")
    if len(numbers) == 785 and not labels and (not named or csv_rows.counts(numbers)):
        return ids, None
    raise UserError(f"{name}: line 1: {_counted(columns, named, ids, labels)}")


def _closest_scheme(pixels):
    """Returns the 784 usual names of pixel columns, in order, that have most in common with the names `pixels`."""
    prefix = re.sub(r"\d.*", "", pixels[0])
    schemes = [[f"{some}{i + first}" for i in range(784)] for some in {"pixel", prefix} for first in (0, 1)]
    schemes += [[f"{prefix}{i // 28 + first}x{i % 28 + first}" for i in range(784)] for first in (0, 1)]
    return max(schemes, key=lambda scheme: sum(a == b for a, b in zip(scheme, pixels, strict=False)))


def _counted(columns, named, ids, labels):
    """Returns a text that says which columns a table has and which it needs."""
    needed = "784 columns of pixels are needed, with or without a column of labels before or after them"
    pixels = [column.lower() for i, column in enumerate(columns[ids:]) if i not in labels]
    if not named:
        return f"{len(columns)} columns without a header, where {needed}"
    what = [f"{len(labels)} of labels"] * bool(labels) + ["one of ids"] * ids + [f"{len(pixels)} others"]
    told = f"{len(columns)} columns ({', '.join(what)}), where {needed}"
    pairs = itertools.zip_longest(pixels, _closest_scheme(pixels or [""]), fillvalue="")
    found, expected = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
    if len(pixels) < 300 or found == expected:
        return told
    if len(pixels) == 785 and not labels:
        return f"{told}: if {found[:40]!r} holds labels, call it 'label'"
    return f"{told}: {found[:40]!r} is one too many" if not expected else f"{told}: {expected!r} is missing"


def _likely_labels(values, name):
    """Returns which of 785 columns without names holds the labels: 0 (the first, also if both could) or 784."""
    ends = [(i, values[:, i]) for i in (0, 784)]
    could = [(i, column) for i, column in ends if np.isin(column, range(10)).all()]
    varied = [i for i, column in could if len(column) < 20 or (column != column[0]).any()]
    if not varied:
        found = " nor ".join(
            f"the {what} ({c.min():g} to {c.max():g})" for what, (_, c) in zip(("first", "last"), ends, strict=True)
        )
        raise UserError(f"{name}: 785 columns, none named label: neither {found} holds labels, 0 to 9")
    return varied[0]


def read_parquet(files: Sequence[containers.File], name: str) -> arrays.Images:
    """Returns the Images of Parquet files: a column of image files' bytes, as Hugging Face's, or 784 of pixels."""
    contents = list(containers.contents(files))
    digest = hashlib.sha256(b"".join(contents)).hexdigest()
    images = arrays.kept_images(csv_cache.read(files[0], digest), name)
    if images is None:
        images = _of_parquet(contents, name)
        csv_cache.write(files[0], digest, images.kept())
    return images


def _of_parquet(contents, name):
    """Returns the Images in the bytes of Parquet files."""
    environment.need("pyarrow", "python -m pip install pyarrow (to read Parquet), or save it as CSV")
    import pandas as pd

    with containers.reading(name):
        table = pd.concat([pd.read_parquet(io.BytesIO(data), engine="pyarrow") for data in contents], ignore_index=True)
        columns = [str(column) for column in table.columns]
    label = next((i for i, column in enumerate(columns) if column.lower() in LABELS), None)
    y = None if label is None else table.iloc[:, label].to_numpy()
    if len(columns) > 8:
        ids, _ = layout(columns, True, name)
        x = table.drop(columns=table.columns[[i for i in (0,) * ids + (label,) if i is not None]]).to_numpy()
        return arrays.images(name, x, y)
    images = [i for i, column in enumerate(columns) if column.lower() in ("image", "img", "images")]
    if not images or not len(table):
        raise UserError(f"{name}: {len(table)} rows of columns {csv_rows.few(columns)}: 'image' and 'label' are needed")
    cells = [cell.get("bytes") if isinstance(cell, dict) else cell for cell in table.iloc[:, images[0]]]
    if not all(isinstance(cell, bytes) for cell in cells):
        raise UserError(f"{name}: the column {columns[images[0]]!r} does not hold the bytes of image files")
    x, notes = image_files.decoded(cells, [f"{name}, row {i + 1}" for i in range(len(cells))])
    return arrays.images(name, x, y, notes=notes)
