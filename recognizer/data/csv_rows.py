"""Reads a CSV of pixels in Kaggle's form: its header, then its rows, with the row and the column of every fault."""

import csv
import itertools
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from recognizer.base.errors import UserError
from recognizer.data import competition, limits

PIXELS = [f"pixel{i}" for i in range(784)]
COLUMNS = {"train": ["label", *PIXELS], "test": PIXELS}
BLOCK = 2**21  # bytes that are parsed at once, on a thread


def read_header(data, name):
    """Returns (column names, where the first row starts) of a CSV. Raises UserError for what is no CSV."""
    if not data or data.isspace():
        raise UserError(f"{name} is empty")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{name} is in UTF-16: save it as CSV in UTF-8")
    start = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    if data[start : start + 512].lstrip().startswith(b"<"):
        raise UserError(f"{name} is a web page, not a CSV: download the file from {competition.PAGE}/data")
    end = data.find(b"\n")
    line = data[start : end if end >= 0 else len(data)][: limits.HEADER_BYTES].rstrip(b"\r")
    try:
        text = line.decode("utf-8")
        if re.search(r"[\x00-\x08\x0e-\x1f]", text):
            raise ValueError("control characters")
        columns = next(csv.reader([text], strict=True), [])
    except (ValueError, csv.Error) as error:
        raise UserError(f"{name} is not a CSV: its first line is not text") from error
    return columns, end + 1 if end >= 0 else len(data)


def _check_header(header, name, part):
    """Raises UserError, with what is wrong first, if a header is not that of a part, "train" or "test"."""
    expected, other = COLUMNS[part], "test" if part == "train" else "train"
    if header == expected:
        return
    if header == COLUMNS[other]:
        has = "no" if part == "train" else "a"
        raise UserError(f"{name} is a {other}.csv (has {has} label column), where a {part}.csv is needed")
    if all(re.fullmatch(r"-?\d+(\.\d+)?", column) for column in header):
        raise UserError(f"{name} has no header: its first line must be {expected[0]},{expected[1]},...")
    pairs = itertools.zip_longest(header, expected, fillvalue="")
    i, (found, needed) = next((i, pair) for i, pair in enumerate(pairs, 1) if pair[0] != pair[1])
    count = f"{len(header)} columns where {len(expected)} are needed; " * (len(header) != len(expected))
    raise UserError(f"{name}: line 1: {count}column {i} is {found[:40]!r} where {needed!r} is needed")


def few(names):
    """Returns the first three names, for a line, and how many more there are."""
    shown = ", ".join(repr(name[:40]) for name in names[:3])
    return shown + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def parse(data, header, start, name, part):
    """Returns (pixels uint8 (n, 784), labels uint8 (n,), or None of part "test") of a CSV whose rows begin at `start`.

    Raises UserError, with row and column, if a header or a cell is not as it should be.
    Blocks of lines are parsed as arrays of bytes on all cores, faster than by a CSV reader. A block with anything but
    digits, commas and line ends is first cleaned line by line, which finds the line at fault.
    """
    import joblib

    _check_header(header, name, part)
    columns, spans = COLUMNS[part], _blocks(data, start)
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:
        parsed = list(pool.map(lambda span: _parse_block(data[span] + b"\n", len(columns)), spans))
    blocks, row = [], 1
    for span, values in zip(spans, parsed, strict=True):
        if values is None:
            values = _parse_block(_cleaned(data[span] + b"\n", columns, row, name), len(columns))
        _check_range(values, columns, row, name)
        blocks.append(values.astype(np.uint8))
        row += len(values)
    if not blocks:
        raise UserError(f"{name} has a header and no rows")
    values = np.concatenate(blocks)
    return (values, None) if part == "test" else (values[:, 1:], values[:, 0])


def _blocks(data, start):
    """Returns slices of whole lines, from `start` on, without blank lines at the end."""
    end = len(data)
    while end > start and data[end - 1] in b"\r\n":
        end -= 1
    spans = []
    while start < end:
        stop = data.find(b"\n", start + BLOCK, end)
        stop = end if stop < 0 else stop
        spans.append(slice(start, stop))
        start = stop + 1
    return spans


def _check_range(values, columns, row, name):
    """Raises UserError at the first value that is too large. row: the number of the first row."""
    largest = np.array([9 if column == "label" else 255 for column in columns])
    if (values > largest).any():
        i, j = np.argwhere(values > largest)[0]
        bad_cell(name, row + i, columns[j], str(values[i, j]))


def _parse_block(block, columns):
    """Returns whole lines as uint16 (rows, columns); None if they hold anything but numbers of one to three digits."""
    text = np.frombuffer(block, np.uint8)
    at = np.flatnonzero(text < ord("0"))  # commas and line ends
    if len(at) % columns or text.max() > ord("9"):
        return None
    ends = text[at].reshape(-1, columns)
    if (ends[:, :-1] != ord(",")).any() or (ends[:, -1] != ord("\n")).any():
        return None
    length = np.diff(at, prepend=-1) - 1
    if length.min() < 1 or length.max() > 3:
        return None
    values = text[at - 1].astype(np.uint16) - ord("0")
    for place in (1, 2):  # tens, then hundreds
        more = np.flatnonzero(length > place)
        values[more] += (text[at[more] - 1 - place].astype(np.uint16) - ord("0")) * 10**place
    return values.reshape(-1, columns)


def _cleaned(block, columns, row, name):
    """Returns a block's lines without quotes and carriage returns. Raises UserError at the first that is no row."""
    lines = []
    for line in block[:-1].split(b"\n"):
        text = line.rstrip(b"\r").decode("utf-8", "replace")
        try:
            cells = next(csv.reader([text], strict=True), []) if '"' in text else text.split(",")
        except csv.Error:
            raise UserError(f"{name}: row {row} (line {row + 1}): a quotation mark is not closed") from None
        if text == "":
            raise UserError(f"{name}: row {row} (line {row + 1}) is blank: remove it")
        if len(cells) != len(columns):
            cut = " (cut short?)" * (len(cells) < len(columns))
            raise UserError(f"{name}: row {row} (line {row + 1}) has {len(cells)} columns, not {len(columns)}{cut}")
        for column, cell in zip(columns, cells, strict=True):
            if not (cell.isascii() and cell.isdigit() and len(cell) <= 3):
                bad_cell(name, row, column, cell)
        lines.append(",".join(cells))
        row += 1
    return ("\n".join(lines) + "\n").encode()


def bad_cell(name, row, column, found):
    """Raises the UserError of a cell that holds no label or no pixel."""
    needed = "a label, 0 to 9" if column == "label" else "a whole number from 0 to 255"
    found = f"{found[:40]!r}" if found else "nothing"
    raise UserError(f"{name}: row {row} (line {row + 1}), column {column}: {found} is not {needed}")
