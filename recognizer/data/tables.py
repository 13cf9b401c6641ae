import hashlib
from pathlib import Path

import numpy as np

from recognizer.data import containers, csv_cache, csv_rows, image_files
from recognizer.data.arrays import Images

KAGGLE_TEST_ROWS = 28_000


def read_table(file, member, part):
    """Reads one CSV, from its cache where that is sound. part: "train" or "test"."""
    name = f"{file}" if member is None else f"{file} ({member})"
    with containers.reading(name), open(file, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest() + f":{member}:{part}"
    cached = csv_cache.read(file, member, digest)
    if cached is None:
        data = containers.decompressed(file, member, name)
        header, start = csv_rows.read_header(data, name)
        if len(header) <= 2 and not set(header) & set(csv_rows.PIXELS):
            x, y = image_files.read_image_table(data, header, start, Path(file), member, name, part)
            return Images(x, y, name)
        values = csv_rows.parse_pixels(data, header, start, name, part)
        cached = values if part == "test" else values[:, 1:], values[:, 0] if part == "train" else None
        csv_cache.write(file, member, digest, *cached)
    x, y = cached
    x = np.ascontiguousarray(x).reshape(-1, 28, 28)
    return Images(x, y, name, kaggle=part == "test" and len(x) == KAGGLE_TEST_ROWS)
