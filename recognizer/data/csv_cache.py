"""Keeps the arrays of a parsed CSV beside it, or in the user's cache folder, for as long as the CSV is the same."""

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np

from recognizer.base.errors import UserError
from recognizer.base.files import write_arrays


def _paths(file, member, digest):
    """Returns where a parsed CSV may be kept: beside it, then in the user's cache folder."""
    beside = Path(file).with_name(f".{Path(file).name}{'.' + Path(member).name if member else ''}.cache.npz")
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    key = hashlib.sha256(digest.encode()).hexdigest()[:32]
    return beside, Path(home) / "digit-recognizer" / f"{key}.npz"


def read(file, member, digest):
    """Returns (x uint8 (n, 784), y uint8 (n,) or None) if there is a cache of the same CSV, else None.

    digest: tells one CSV's content from another's.
    """
    for path in _paths(file, member, digest):
        # Absent or damaged: NumPy raises nearly every kind of exception.
        with contextlib.suppress(Exception), np.load(path, allow_pickle=False) as cache:
            if cache["digest"].item() == digest:
                return cache["x"], cache["y"] if "y" in cache.files else None
    return None


def write(file, member, digest, x, y):
    """Keeps what was parsed, in the first place that can be written to; nowhere if none can."""
    arrays = dict(x=x, digest=np.array(digest)) | ({} if y is None else dict(y=y))
    for path in _paths(file, member, digest):
        with contextlib.suppress(OSError, UserError):
            path.parent.mkdir(parents=True, exist_ok=True)
            # A folder marked read-only is left alone even if the user (root, say) could write to it.
            if path.parent.stat().st_mode & 0o222:
                write_arrays(path, arrays)
                return
