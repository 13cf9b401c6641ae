"""Checkpoints of an unfinished net: two files, written alternately, so that one is valid whenever a process dies."""

import json
import sys
from pathlib import Path

import numpy as np

from recognizer.base.errors import UserError, refused
from recognizer.base.files import read_arrays, write_arrays
from recognizer.runs import run_folder
from recognizer.runs.predictions import checksum


def write(folder: Path, net: int, arrays: dict[str, np.ndarray], state: dict) -> None:
    """Writes a checkpoint, with its checksum, in place of the older one. state: JSON data with "epoch"."""
    arrays = arrays | {"state": np.array(json.dumps(state))}
    arrays["checksum"] = np.array(checksum(arrays))
    write_arrays(paths(folder, net)[state["epoch"] % 2], arrays)


def read(folder: Path, net: int) -> tuple[dict[str, np.ndarray], dict] | None:
    """Returns (arrays, state) of the newest valid checkpoint, or None if there is none.

    A damaged checkpoint is skipped with a warning on stderr.
    """
    found = []
    for path in paths(folder, net):
        if path.is_file():
            try:
                found.append(_read(path))
            except UserError as error:
                print(f"{error}: continuing without it", file=sys.stderr)
    return max(found, key=lambda checkpoint: int(checkpoint[1]["epoch"]), default=None)


def _read(path):
    with refused(f"{path} is damaged"):
        arrays = read_arrays(path)
        if arrays.pop("checksum").item() != checksum(arrays):
            raise ValueError("its checksum does not match")
        state = json.loads(arrays.pop("state").item())
        int(state["epoch"])
        return arrays, state


def remove(folder: Path, net: int) -> None:
    """Removes a net's checkpoints."""
    for path in paths(folder, net):
        path.unlink(missing_ok=True)


def paths(folder: Path, net: int) -> list[Path]:
    """Returns the paths of a net's two checkpoints."""
    return [run_folder.net_file(folder, net, f".checkpoint-{generation}.npz") for generation in (0, 1)]
