"""Reads and writes JSON, CSV and NumPy files. Writes are atomic."""

import contextlib
import csv
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recognizer.base.errors import UserError, refused
from recognizer.base.reasons import reason


@contextlib.contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Writes a file atomically: yields a temporary path beside `path`, and renames it to `path` after the block.

    If the block raises, the temporary file is removed and `path` is unchanged. The bytes are on the disk before the
    file is renamed.
    Raises UserError if the disk is full, or the folder is missing or not writable.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            with contextlib.suppress(OSError):  # some file systems cannot sync a folder
                _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({reason(error)}): an existing file is unchanged") from error


def _sync(path):
    """Waits until a file's bytes, or a folder's entries, are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows syncs a folder's entries itself
    file = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def remove_temporaries(folder: Path | str) -> None:
    """Removes the temporary files that `whole_file` left in a folder if a process was killed.

    No other process may be writing there.
    """
    for path in Path(folder).glob(".*"):
        if re.fullmatch(r"\..+\.\d+(\.\w+)?", path.name):
            path.unlink(missing_ok=True)


def write_bytes(path: Path | str, content: bytes) -> None:
    """Writes the content of a file atomically."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path | str, text: str) -> None:
    """Writes a text in UTF-8.

    Linux allows file names that are not UTF-8. Python reads their bytes as surrogates, which become \\udcNN here.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path | str, value: object) -> None:
    """Writes a value as JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Returns the value of a JSON file. Raises UserError if the file is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))  # Windows' editors may put a signature first
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({reason(error)})") from error


def write_rows(path: Path | str, rows: Sequence[dict], columns: Sequence[str] = ()) -> None:
    """Writes a list of dicts as a CSV. columns: their keys, needed if there may be no rows."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns or rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_rows(path: Path | str, *needed: str) -> list[dict[str, float]]:
    """Returns the rows of a CSV of numbers, as dicts of floats.

    needed: the names of columns that it must have; the first one counts epochs or steps, from 1.
    Raises UserError if the file is missing or damaged, or has no rows.
    """
    with refused(f"{path} cannot be read"):
        with open(path, newline="", encoding="utf-8") as file:
            columns, *lines = list(csv.reader(file)) or [[]]
        if not lines or not set(columns) >= set(needed):
            raise ValueError(f"rows with the columns {', '.join(needed)} are needed")
        if uneven := [i for i, line in enumerate(lines, 1) if len(line) != len(columns)]:
            raise ValueError(f"row {uneven[0]} does not have {len(columns)} values")
        rows = [dict(zip(columns, map(float, line), strict=True)) for line in lines]
        if needed and not all(
            1 <= row[needed[0]] < 10**9 and math.isfinite(sum(row[key] for key in needed)) for row in rows
        ):
            raise ValueError(f"{needed[0]} must count from 1, and {', '.join(needed)} must be finite")
        return rows


def write_arrays(path: Path | str, arrays: dict[str, np.ndarray]) -> None:
    """Writes a dict of arrays as an .npz."""
    named: dict[str, Any] = arrays  # Any: else type checkers take an array for NumPy's option allow_pickle
    with whole_file(path) as temporary:
        np.savez(temporary, **named)


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """Returns the arrays of an .npz as a dict. Raises UserError if it is damaged."""
    with refused(f"{path} is damaged"):
        with zipfile.ZipFile(path) as file:
            if any(member.compress_type != zipfile.ZIP_STORED for member in file.infolist()):
                raise ValueError("it is compressed, which these files are not")
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
