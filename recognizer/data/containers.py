import contextlib
import gzip
import os
import re
import zipfile

from recognizer.base.errors import UserError, refused

LARGEST = 512 * 2**20  # bytes of one file, decompressed; Kaggle's train.csv has 77 million


def reading(name):
    return refused(f"{name} cannot be read, damaged or cut short?")


def kind_of(path):
    with reading(path), open(path, "rb") as file:
        start = file.read(4)
    return {b"PK": "zip", b"\x1f\x8b": "gzip"}.get(start[:2], "csv")


def zip_members(path):
    with reading(path):
        members = zipfile.ZipFile(path).namelist()
    for member in members:
        if member.startswith(("/", "\\")) or ":" in member or ".." in re.split(r"[/\\]", member):
            raise UserError(f"{path} holds {member!r}, which lies outside it: this is no archive of Kaggle's")
    return members


def decompressed(file, member, name):
    """The bytes of a CSV that is plain, gzipped or in a zip, at most LARGEST."""
    with reading(name), contextlib.ExitStack() as stack:
        size, at_once = os.path.getsize(file), 2**22
        if member is not None:
            archive = stack.enter_context(zipfile.ZipFile(file))
            size = archive.getinfo(member).compress_size
            stream = stack.enter_context(archive.open(member))
        elif kind_of(file) == "gzip":
            stream = stack.enter_context(gzip.open(file))
        else:
            stream = stack.enter_context(open(file, "rb"))
            at_once = LARGEST
        chunks, total = [], 0
        while chunk := stream.read(at_once):
            chunks.append(chunk)
            total += len(chunk)
            # Digits as text shrink ten- to thirtyfold; a thousandfold is a bomb.
            if total > LARGEST or total > 2**24 + 100 * size:
                raise UserError(f"{name} unpacks to far more than a CSV of digits would: it was not read")
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
