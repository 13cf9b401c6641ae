"""Opens data files, whatever contains them: plain, gzipped, or members of a zip. Never unpacks more than the limits."""

import gzip
import os
import re
import zipfile
from pathlib import Path

from recognizer.base.errors import UserError, refused
from recognizer.data import limits


def reading(name):
    """Any exception in the block becomes a UserError that says that `name` cannot be read, and why."""
    return refused(f"{name} cannot be read, damaged or cut short?")


def kind_of(path):
    """Returns what contains the data at a path: "folder", "npz" (NumPy's zip), "zip", "gzip" or "csv" (all else)."""
    if Path(path).is_dir():
        return "folder"
    with reading(path), open(path, "rb") as file:
        start = file.read(2)
    if start == b"PK":
        return "npz" if any(member.endswith(".npy") for member in zip_members(path)) else "zip"
    return "gzip" if start == b"\x1f\x8b" else "csv"


def zip_members(path):
    """Returns the names of the files in a zip. Raises UserError for a name that would lie outside its folder."""
    with reading(path):
        members = zipfile.ZipFile(path).namelist()
    for member in members:
        if member.startswith(("/", "\\")) or ":" in member or ".." in re.split(r"[/\\]", member):
            raise UserError(f"{path} holds {member!r}, which lies outside it: this is no archive of Kaggle's")
    return members


def opened(file, member=None):
    """Returns a stream of the decompressed bytes of a file, plain or gzipped, or of a member of a zip."""
    if member is not None:
        return zipfile.ZipFile(file).open(member)
    return (gzip.open if kind_of(file) == "gzip" else open)(file, "rb")


def decompressed(file, member, name):
    """Returns the bytes of a file, or of a member of a zip. Raises UserError if they are more than the limits allow."""
    with reading(name), opened(file, member) as stream:
        # Digits as text shrink to a tenth or a thirtieth: what shrinks far more is made to fill the memory.
        most = min(limits.FILE_BYTES, 2**24 + 100 * os.path.getsize(file))
        data = stream.read(most + 1)
    if len(data) > most:
        raise UserError(f"{name} unpacks to far more than a CSV of digits would: it was not read")
    return data
