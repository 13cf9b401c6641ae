"""Parses the rows of a CSV of pixels. Errors name the row and the column."""

import csv
import dataclasses
import io
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import numpy as np

from recognizer.base.errors import UserError, refused
from recognizer.data import competition, containers, limits

LABELS = {"label", "labels", "class", "digit", "y", "target"}  # names of the labels' column, in lower case
IDS = {"", "id", "imageid", "image_id", "index", "unnamed: 0"}  # names of the ids' column, in lower case
BLOCK = 2**21  # bytes that a thread parses at once
FRACTION = re.compile(r"0?\.\d+(e-\d+)?|\d(\.\d+)?e-\d+", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Head:
    """The header of a CSV."""

    columns: list[str]  # the names of the columns; "1", "2", ... without a header
    named: bool  # whether it has a header
    start: int  # the first row's offset in bytes
    line: int  # the first row's line number
    separator: str


def read_header(data: bytes, name: containers.Named) -> Head:
    """Returns the Head of a CSV or an ARFF file. Raises UserError if the data is neither."""
    if not data or data.isspace():
        raise UserError(f"{name} is empty")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{name} is in UTF-16: save it as CSV in UTF-8")
    start = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    if data[start : start + 512].lstrip().startswith(b"<"):
        raise UserError(f"{name} is a web page, not a CSV: download the file from {competition.PAGE}/data")
    said = (line.strip() for line in data[start : limits.HEADER_BYTES].split(b"\n"))  # ARFF comments begin with %
    if (
        next((line for line in said if line and line[:1] != b"%"), b"")
        .lower()
        .startswith((b"@relation", b"@attribute"))
    ):
        return _read_arff_header(data, name)
    end = data.find(b"\n")
    line = data[start : end if end >= 0 else len(data)][: limits.HEADER_BYTES].rstrip(b"\r")
    try:
        text = line.decode("utf-8")
        if re.search(r"[\x00-\x08\x0e-\x1f]", text):
            raise ValueError("control characters")
        separator = max(",;\t", key=text.count)
        columns = next(csv.reader([text], strict=True, delimiter=separator), [])
    except (ValueError, csv.Error) as error:
        raise UserError(f"{name} is not a CSV: its first line is not text") from error
    number = r"\s*-?\d+([.,]\d+)?(e[-+]\d+)?\s*"
    if all(re.fullmatch(number, column, re.IGNORECASE) for column in columns) and not counts(columns):
        return Head([f"{i + 1}" for i in range(len(columns))], False, start, 1, separator)
    return Head([column.strip() for column in columns], True, end + 1 if end >= 0 else len(data), 2, separator)


def counts(columns: Sequence[str]) -> bool:
    """Returns whether many columns are named by consecutive numbers from 0 or 1, as pandas names them."""
    return len(columns) > 300 and all(column == str(i) for i, column in enumerate(columns, int(columns[0] == "1")))


def _read_arff_header(data, name):
    found = re.search(rb"(?im)^@data[^\n]*\n\s*", data[: 2 * limits.HEADER_BYTES])
    if not found:
        raise UserError(f"{name} is an ARFF file without @data")
    names = re.findall(rb"(?im)^@attribute\s+['\"]?([^'\"\s]+)", data[: found.end()])
    columns = [column.decode("utf-8", "replace") for column in names]
    return Head(columns, True, found.end(), data.count(b"\n", 0, found.end()) + 1, ",")


def few(names: Sequence[str]) -> str:
    """Returns the first three names, and how many more there are, as text."""
    shown = ", ".join(repr(name[:40]) for name in names[:3])
    return shown + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def parse(
    data: bytes, head: Head, ids: int, labels: set[int], name: containers.Named
) -> tuple[np.ndarray, list[str] | None]:
    """Returns (the CSV's values (n, columns), uint8, or float32 if there are fractions; list of ids, or None).

    ids: 1 if the first column holds ids, which are text, else 0. labels: the indices of the columns that hold labels,
    from 0 for the first column after the ids.
    Raises UserError, with row and column, for an invalid cell.
    Blocks of lines are parsed as arrays of bytes on all cores, faster than with a CSV reader. If a block has anything
    but digits, commas and line ends, other usual ways to write numbers are converted first. If the only cells that
    still cannot be parsed are fractions below 1, pandas reads the CSV. Any other cell is an error.
    """
    import joblib

    if head.separator != ",":
        data = data.translate(bytes.maketrans(f"{head.separator},".encode(), b",."))
    spans = _blocks(data, head.start)
    columns = head.columns[ids:]

    def of_lines(span: slice) -> tuple[np.ndarray | None, list[str]]:
        return _block(data[span] + b"\n", len(columns), ids)

    with ThreadPoolExecutor(joblib.cpu_count()) as pool:
        parsed = list(pool.map(of_lines, spans))
    blocks, row = [], 1
    for span, (values, _) in zip(spans, parsed, strict=True):
        if values is None:
            _check_lines(_tidy(data[span] + b"\n"), head, ids, labels, row, name)
            return _fractions(data, spans, head, ids, name)
        _check_range(values, columns, labels, row, head.line, name)
        blocks.append(values.astype(np.uint8))
        row += len(values)
    if not blocks:
        raise UserError(f"{name} has a header and no rows")
    return np.concatenate(blocks), [one for _, some in parsed for one in some] if ids else None


def _blocks(data: bytes, start: int) -> list[slice]:
    """Returns slices of whole lines, from byte `start` on, without blank lines at the end."""
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


def _block(block, columns, ids):
    """Returns (values uint16 (rows, columns), or None if they cannot be parsed; list of ids) of whole lines."""
    found = []
    if ids:
        found = [one.decode("utf-8", "replace").strip('" ') for one in re.findall(rb"(?m)^([^,\n]*),", block)]
        block = re.sub(rb"(?m)^[^,\n]*,", b"", block)
    values = _parse_block(block, columns)
    if values is None:
        values = _parse_block(_without_zeros(block), columns)
    if values is None and (b'"' in block or b" " in block):  # this takes far longer
        values = _parse_block(_tidy(block), columns)
    return values, found


def _without_zeros(block):
    """Returns lines without carriage returns, and without .0 after numbers."""
    return block.replace(b"\r\n", b"\n").replace(b".0,", b",").replace(b".0\n", b"\n")


def _tidy(block):
    """Returns lines without carriage returns, and without quotes, spaces and .0 around numbers."""
    block = block.replace(b"\r\n", b"\n")
    return re.sub(rb'(?m)(?<![^,\n]) *("?)(\d+)(?:\.0*)?\1 *(?=[,\n])', rb"\2", block)


def _check_range(values, columns, labels, row, line, name):
    """Raises UserError at the first value that is too large. row: the first row's number. line: the line of row 1."""
    largest = np.array([9 if i in labels else 255 for i in range(len(columns))])
    if (values > largest).any():
        i, j = np.argwhere(values > largest)[0]
        bad_cell(name, row + i, row + i + line - 1, columns[j], str(values[i, j]), j in labels)


def _parse_block(block, columns):
    """Parses whole lines to uint16 (rows, columns). Returns None if a cell is not a number of one to three digits."""
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


def _check_lines(block, head, ids, labels, row, name):
    """Raises UserError at a block's first cell that is neither a number of one to three digits nor a fraction below 1.

    row: the number of the block's first row.
    """
    for number, line in enumerate(block[:-1].split(b"\n"), row):
        text, place = line.decode("utf-8", "replace"), f"{name}: row {number} (line {number + head.line - 1})"
        try:
            cells = next(csv.reader([text], strict=True), []) if '"' in text else text.split(",")
        except csv.Error:
            raise UserError(f"{place}: a quotation mark is not closed") from None
        if text == "":
            raise UserError(f"{place} is blank: remove it")
        if len(cells) != len(head.columns):
            cut = " (cut short?)" * (len(cells) < len(head.columns))
            raise UserError(f"{place} has {len(cells)} columns, not {len(head.columns)}{cut}")
        for i, (column, cell) in enumerate(zip(head.columns[ids:], cells[ids:], strict=True)):
            fraction = i not in labels and FRACTION.fullmatch(cell)
            if not fraction and not (cell.isascii() and cell.isdigit() and len(cell) <= 3):
                bad_cell(name, number, number + head.line - 1, column, cell, i in labels)


def _fractions(data, spans, head, ids, name):
    """Like `parse`, for a CSV with fractions. Reads it with pandas, as float32."""
    import pandas as pd

    kinds = {i: str if i < ids else np.float32 for i in range(len(head.columns))}
    values, found = [], []
    with refused(f"{name} cannot be read"):
        for span in spans:
            table = pd.read_csv(io.BytesIO(data[span]), header=None, dtype=kinds, skip_blank_lines=False)
            if table.shape[1] != len(kinds) or table.isna().any(axis=None):
                raise ValueError(f"rows of other than {len(kinds)} columns, or empty cells")
            found += table.pop(0).tolist() if ids else []
            values.append(table.to_numpy(np.float32))
    return np.concatenate(values), found if ids else None


def bad_cell(name: containers.Named, row: int, line: int, column: str, found: str, label: bool) -> NoReturn:
    """Raises UserError for a cell that is not a valid label or pixel. label: whether it should be a label."""
    needed = "a label, 0 to 9" if label else "a whole number from 0 to 255"
    found = f"{found[:40]!r}" if found else "nothing"
    raise UserError(f"{name}: row {row} (line {line}), column {column[:40]}: {found} is not {needed}")
