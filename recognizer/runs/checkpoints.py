import json
import sys

import numpy as np

from recognizer.base.errors import UserError, refused
from recognizer.base.files import read_arrays, write_arrays
from recognizer.runs import run_folder
from recognizer.runs.predictions import checksum


def write(folder, net, arrays, state):
    """Writes a dict of arrays and `state` (JSON-able, with its "epoch") with a checksum, over the last but one."""
    arrays = arrays | {"state": np.array(json.dumps(state))}
    arrays["checksum"] = np.array(checksum(arrays))
    write_arrays(paths(folder, net)[state["epoch"] % 2], arrays)


def read(folder, net):
    """Returns (arrays, state) of the last checkpoint that is sound; None where there is none.

    One that is damaged is told of on stderr.
    """
    found = []
    for path in paths(folder, net):
        if path.is_file():
            try:
                with refused(f"{path} is damaged"):
                    arrays = read_arrays(path)
                    if arrays.pop("checksum").item() != checksum(arrays):
                        raise ValueError("its checksum is another")
                    state = json.loads(arrays.pop("state").item())
                    found.append((int(state["epoch"]), arrays, state))
            except UserError as error:
                print(f"{error}: going on without it", file=sys.stderr)
    return max(found, key=lambda checkpoint: checkpoint[0])[1:] if found else None


def remove(folder, net):
    for path in paths(folder, net):
        path.unlink(missing_ok=True)


def paths(folder, net):
    """The paths of a net's two generations of checkpoint, which are written in turn."""
    return [run_folder.net_file(folder, net, f".checkpoint-{generation}.npz") for generation in (0, 1)]
