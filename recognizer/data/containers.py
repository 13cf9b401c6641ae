"""Opens data files: plain, gzipped, or inside a zip or tar. Refuses files that exceed the limits of limits.py."""

import contextlib
import dataclasses
import functools
import gzip
import io
import itertools
import os
import posixpath
import re
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from recognizer.base.errors import UserError, refused
from recognizer.data import limits

STARTS = {  # the first bytes of a file, and its kind
    b"PK": "zip",
    b"\x1f\x8b": "packed",
    b"\x00\x00": "idx",
    b"\x93NUMPY": "npy",
    b"PAR1": "parquet",
    b"MATLAB": "mat",
    b"\x89HDF": "h5",
    b"Rar!": "packed",
    b"7z\xbc\xaf": "packed",
    b"\xfd7zXZ": "packed",
    b"BZh": "packed",
} | {bytes([0x80, protocol]): "pickle" for protocol in range(2, 6)}

HIDDEN = re.compile(r"(^|/)(\.|__MACOSX/|Thumbs\.db$|desktop\.ini$)")  # files that operating systems leave in folders


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a data set, on its own or a member of an archive."""

    path: Path
    member: str | None = None
    name: str = ""  # its path within the folder or the archive, with forward slashes

    def __str__(self):
        text = f"{self.path}" if self.member is None else f"{self.path} ({self.member})"
        return "".join(c if c.isprintable() else "?" for c in text)  # an archive from a stranger may contain any name


Named = File | Path | str  # what a message names


def reading(name: Named) -> contextlib.AbstractContextManager[None]:
    """Turns any exception in the block into a UserError: `name` cannot be read, and why."""
    return refused(f"{name} cannot be read; it may be damaged or cut short")


def kind_of(path: Path | str) -> str:
    """Returns the kind of a path: "folder", "tar", a kind in STARTS, or "csv" for any other file.

    For a gzipped file it is the kind of the content. NumPy's zips are "npz", PyTorch's are "torch".
    """
    path = Path(path)
    kind = "folder" if path.is_dir() else start_of(path)
    if kind == "zip":
        members = zip_members(path)
        kinds = {"npz": ".npy", "torch": "data.pkl"}
        return next((kind for kind, end in kinds.items() if any(name.endswith(end) for name in members)), kind)
    return kind


def start_of(path: Path | str) -> str:
    """Returns the kind of a file from its first bytes alone."""
    with reading(path), opened(path) as file:
        start = file.read(512)
    if start[257:262] == b"ustar":
        return "tar"
    return next((kind for begin, kind in STARTS.items() if start.startswith(begin)), "csv")


def listing(path: Path | str, kind: str) -> list[File]:
    """Returns the Files in a folder and its subfolders, in a zip or in a tar, without hidden ones.

    For a single file, returns a list of it.

    kind: see `kind_of`.
    """
    path = Path(path)
    if kind == "folder":
        files = _files_below(path)
    elif kind in ("zip", "tar"):
        names = zip_members(path) if kind == "zip" else _tar_members(path)
        names = ((name, posixpath.normpath(name.replace("\\", "/"))) for name in names if not name.endswith("/"))
        files = (File(path, *both) for both in names)
    else:
        return [File(path, None, path.name)]
    kept = []
    for file in files:
        if not HIDDEN.search(file.name):
            kept.append(file)
        if len(kept) > limits.SET_FILES:
            raise UserError(f"{path} holds more than {limits.SET_FILES:,} files: give the folder of the digits")
    return sorted(kept, key=lambda file: file.name)


def _files_below(path):
    """Yields the Files below a folder, also in linked folders, but not in a link to a folder that it lies in."""
    above = {}  # the real paths of the folders above each folder
    for folder, inner, names in os.walk(path, followlinks=True):
        real, before = os.path.realpath(folder), above.pop(folder, ())
        if real in before:
            inner.clear()
            continue
        above |= dict.fromkeys((os.path.join(folder, name) for name in inner), (*before, real))
        inside = Path(folder).relative_to(path).as_posix()
        yield from (File(Path(folder, name), None, f"{inside}/{name}".removeprefix("./")) for name in names)


def zip_members(path: Path | str) -> list[str]:
    """Returns the names of the files in a zip. Raises UserError for a name that points outside the zip's folder."""
    with reading(path):
        members = zipfile.ZipFile(path).namelist()
    return _inside(members, path)


def _tar_members(path):
    with reading(path), tarfile.open(path) as archive:
        members = []
        for member in archive:
            if archive.offset > 4 * limits.FILE_BYTES:
                raise UserError(f"{path} unpacks to far more than a set of digits would: it was not read")
            members += [member.name] * member.isfile()
    return _inside(members, path)


def _inside(members, path):
    for member in members:
        if re.match(r"[/\\]|[A-Za-z]:", member) or ".." in re.split(r"[/\\]", member):
            raise UserError(f"{path} holds {member[:80]!r}, which lies outside it: this is no archive of digits")
    return members


def is_gzipped(path: Path | str) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def opened(path: Path | str) -> io.BufferedIOBase:
    """Returns a binary stream of a file's bytes, decompressed if the file is gzipped."""
    return (gzip.open if is_gzipped(path) else open)(path, "rb")


def decompressed(file: File) -> bytes:
    """Returns the bytes of a File, decompressed. Raises UserError if they exceed the limits."""
    return next(contents([file]))


def contents(files: Sequence[File]) -> Iterator[bytes]:
    """Yields the bytes of each File. The Files must all be in the same archive, or all outside archives."""
    tar = files and files[0].member is not None and start_of(files[0].path) == "tar"
    for file, open_it in _in_order(files) if tar else _openers(files):
        yield _read(file, open_it)


def contents_or_errors(files: Sequence[File]) -> Iterator[tuple[File, bytes | UserError]]:
    """Yields each File and its bytes, or the error if it cannot be read. Those of a tar come in the tar's own order."""
    for file, open_it in _openers(files):
        try:
            found: bytes | UserError = _read(file, open_it)
        except UserError as error:
            found = error
        yield file, found


def _read(file, open_it):
    with reading(file), open_it() as stream:
        # Digits as text compress 10 to 30 times. A file that compresses far more is meant to exhaust memory.
        most = min(limits.FILE_BYTES, 2**24 + 100 * os.path.getsize(file.path))
        data = stream.read(most + 1)
        if file.member is not None and data.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(data)) as unpacked:
                data = unpacked.read(most + 1)
    if len(data) > most:
        raise UserError(f"{file} unpacks to far more than a file of digits would: it was not read")
    return data


def _openers(files):
    """Yields (File, function that opens it) for each File. Opens an archive once, and reads a tar in its own order."""
    for path, group in itertools.groupby(files, key=lambda file: file.path):
        some = list(group)
        if some[0].member is None:
            yield from ((file, functools.partial(opened, path)) for file in some)
        elif start_of(path) == "tar":
            wanted = {file.member: file for file in some}
            with reading(path), tarfile.open(path) as archive:
                for member in _named(archive, wanted):
                    yield wanted[member.name], functools.partial(archive.extractfile, member)
        else:
            with reading(path), zipfile.ZipFile(path) as archive:
                yield from ((file, functools.partial(archive.open, file.member)) for file in some)


def _in_order(files):
    """Yields (File, function that opens it) for each File of a tar, in the order of `files`."""
    with reading(files[0].path):
        found = _of_tar(files[0].path, {file.member for file in files})
    yield from ((file, functools.partial(io.BytesIO, found.get(file.member, b""))) for file in files)


def _of_tar(path, members):
    """Returns the bytes of members of a tar, {name: bytes}. Raises ValueError if together they exceed the limits."""
    found, left = {}, limits.FILE_BYTES
    with tarfile.open(path) as archive:
        for member in _named(archive, members):
            left -= member.size
            if left < 0:
                raise ValueError(f"more than {limits.FILE_BYTES >> 20} MB")
            found[member.name] = archive.extractfile(member).read()
    return found


def _named(archive, names):
    """Yields the files with some names in an open tar, in its own order."""
    return (member for member in archive if member.isfile() and member.name in names)
