"""Reads a table of labelled or unlabelled digits: a CSV of pixels, parsed once and cached, or of image files' names."""

import hashlib
from pathlib import Path

import numpy as np

from recognizer.data import containers, csv_cache, csv_rows, image_files
from recognizer.data.arrays import Images

KAGGLE_TEST_ROWS = 28_000


def read_table(file, member, part):
    """Returns the Images of a CSV. Raises UserError, with row and column, if it is not sound.

    file: plain or gzipped, or a zip with `member`. part: "train" or "test", which has no labels.
    """
    name = f"{file}" if member is None else f"{file} ({member})"
    with containers.reading(name), open(file, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest() + f":{member}:{part}"
    cached = csv_cache.read(file, member, digest)
    if cached is None:
        data = containers.decompressed(file, member, name)
        header, start = csv_rows.read_header(data, name)
        if len(header) <= 2 and not set(header) & set(csv_rows.PIXELS):
            return Images(*image_files.read_table(data, header, Path(file), member, name, part), name)
        cached = csv_rows.parse(data, header, start, name, part)
        csv_cache.write(file, member, digest, *cached)
    x, y = cached
    x = np.ascontiguousarray(x).reshape(-1, 28, 28)
    return Images(x, y, name, kaggle=part == "test" and len(x) == KAGGLE_TEST_ROWS)
