"""Caches the arrays read from a data file, beside the file or in the user's cache folder.

A cache is used while the data file is unchanged.
"""

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np

from recognizer.base.errors import UserError
from recognizer.base.files import write_arrays
from recognizer.data.containers import File


def _paths(file, digest):
    """Returns the possible paths of a File's cache: beside the file, then in the user's cache folder."""
    path = file.path.resolve()
    beside = path.with_name(f".{path.name}{'.' + Path(file.member).name if file.member else ''}.cache.npz")
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/.cache")
    key = hashlib.sha256(digest.encode(errors="backslashreplace")).hexdigest()[:32]
    return beside, Path(home) / "digit-recognizer" / f"{key}.npz"


def read(file: File, digest: str) -> dict[str, np.ndarray] | None:
    """Returns the arrays cached for a File as a dict, or None.

    digest: a string that identifies the file's content.
    """
    for path in _paths(file, digest):
        # For a missing or damaged file, NumPy raises nearly every kind of exception.
        with contextlib.suppress(Exception), np.load(path, allow_pickle=False) as cache:
            if cache["digest"].item() == digest:
                return {key: cache[key] for key in cache.files if key != "digest"}
    return None


def write(file: File, digest: str, arrays: dict[str, np.ndarray]) -> None:
    """Caches a dict of arrays at the first writable path of `_paths`. Does nothing if none is writable."""
    for path in _paths(file, digest):
        with contextlib.suppress(OSError, UserError):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Respects a read-only folder, even if the user (root, for example) could write to it.
            if path.parent.stat().st_mode & 0o222:
                write_arrays(path, arrays | {"digest": np.array(digest)})
                return
