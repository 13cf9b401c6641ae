"""Reads, verifies and averages what a run's nets predicted for validation and test rows."""

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recognizer.base.errors import UserError
from recognizer.base.files import read_arrays
from recognizer.base.reasons import reason
from recognizer.data.arrays import Digits, Images
from recognizer.runs import metrics, run_folder


class Labelled(NamedTuple):
    """Predictions of a run for some labelled images."""

    part: str  # "validation" or "test"
    x: np.ndarray  # uint8 (n, 28, 28)
    y: np.ndarray  # uint8 (n,)
    probabilities: np.ndarray  # float (n, 10)
    rows: np.ndarray  # int (n,), from 0, of the labelled data or of the test set
    names: np.ndarray | None  # (n,), the names of the images, if the data has names


def read_predictions(path: Path, digits: Digits) -> dict[str, np.ndarray]:
    """Returns the arrays of a run's or a net's predictions.npz as a dict; run_folder.py lists them.

    digits: the run's Digits. Raises UserError if the arrays do not match them: the file may come from a stranger.
    """
    arrays, labelled = read_arrays(path), np.arange(len(digits.train.x))
    for key, array in arrays.items():
        if key.startswith("validation_rows"):
            sound = array.ndim == 1 and array.dtype.kind in "iu" and bool(np.isin(array, labelled).all())
            sound = sound and (key.replace("_rows", "") in arrays or not len(array))
        else:
            rows = arrays.get(key.replace("validation", "validation_rows")) if "validation" in key else None
            n = len(rows) if rows is not None else len(digits.test.x) if digits.test else 0
            sound = array.dtype == np.float32 and array.shape == (n, 10)
        if not sound:
            raise UserError(f"{path} is not of this run's data: {key} is {array.dtype} {array.shape}")
    return arrays


def checksums(folder: Path, net: int, arrays: dict[str, np.ndarray]) -> dict[str, str]:
    """Returns SHA-256 checksums of a saved net and its test predictions, for `read_test_predictions` to verify."""
    test = {"test": checksum({"test": arrays["test"]})} if "test" in arrays else {}
    return {"net": _file_checksum(run_folder.net_file(folder, net, ".keras"))} | test


def read_test_predictions(folder: Path, config: dict, test: Images) -> list[np.ndarray] | None:
    """Returns the stored probabilities for a run's own test set: a list of float32 (n, 10), one for each net.

    Returns None if `test` is another test set, or if the run has no checksums. Returns None with a warning on stderr if
    a saved net or the predictions have changed since training.
    """
    if test.fingerprint() != config["data"].get("test_fingerprint"):
        return None
    recorded = [result.get("checksums") or {} for result in run_folder.net_results(folder, config)]
    if not all(isinstance(sums, dict) and sums.keys() >= {"net", "test"} for sums in recorded):
        return None
    path, found = folder / "predictions.npz", []
    try:
        arrays = read_arrays(path)
        for net, sums in enumerate(recorded, 1):
            saved = run_folder.net_file(folder, net, ".keras")
            if _file_checksum(saved) != sums["net"]:
                raise UserError(f"{saved} has changed since it was trained")
            found.append(arrays.get(f"test_{net:02d}", np.zeros(0)))
            if found[-1].shape != (len(test.x), 10) or checksum({"test": found[-1]}) != sums["test"]:
                raise UserError(f"{path} has changed since net {net} was trained")
    except OSError:  # a net cannot be read: predicting anew raises an error that names it
        return None
    except UserError as error:
        print(f"{reason(error)}: predicting anew", file=sys.stderr)
        return None
    return found


def checksum(arrays: dict[str, np.ndarray]) -> str:
    """Returns the SHA-256 of a dict of arrays: their names, types, shapes and values."""
    digest = hashlib.sha256()
    for key in sorted(arrays):
        array = np.asarray(arrays[key])
        digest.update(f"{key} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _file_checksum(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identical(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    """Returns whether two dicts of arrays are equal, bit for bit."""
    return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)


def mean_of_test(predictions: dict[str, np.ndarray], nets: Iterable[int]) -> np.ndarray | None:
    """Returns the nets' mean probabilities for the test set, (n, 10), or None if there was no test set."""
    found = [predictions[f"test_{net:02d}"] for net in nets if f"test_{net:02d}" in predictions]
    return np.mean(found, axis=0) if found else None


def out_of_bag(predictions: dict[str, np.ndarray], n: int, nets: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """Averages, for each labelled row, the probabilities of the nets that did not train on it.

    If all nets have the same split, these are its validation rows. n: the number of labelled rows.
    Returns (rows that at least one net predicted, mean probabilities float64 (len(rows), 10)).
    """
    total, count = np.zeros((n, 10)), np.zeros(n, int)
    for net in nets:
        rows = predictions.get(f"validation_rows_{net:02d}", np.arange(0))
        if len(rows):
            total[rows] += predictions[f"validation_{net:02d}"]
            count[rows] += 1
    rows = np.flatnonzero(count)
    return rows, total[rows] / count[rows, None]


def labelled_predictions(folder: Path, config: dict, digits: Digits, result: dict) -> list[Labelled]:
    """Returns a run's predictions for its validation rows and for its test set. Skips a part that has no labels.

    A validation row is predicted by the nets that did not train on it, a test row by all nets. If the run has a
    temperature, the probabilities are sharpened; those of validation rows by metrics.cross_fitted, since the
    temperature was fitted on these rows. result: from gathered.gather.
    """
    (train, test), nets, found = (digits.train, digits.test), run_folder.net_numbers(config), []
    predictions = read_predictions(folder / "predictions.npz", digits)
    rows, probabilities = out_of_bag(predictions, len(train.x), nets)
    if len(rows) and train.y is not None:
        if "temperature" in result:
            probabilities = metrics.cross_fitted(train.y[rows], probabilities, config["temperature"])
        found.append(_labelled("validation", train, probabilities, rows))
    mean = mean_of_test(predictions, nets)
    if mean is not None and test is not None and test.y is not None:
        probabilities = metrics.sharpened(mean, run_folder.temperature(folder, result))
        found.append(_labelled("test", test, probabilities, np.arange(len(test.x))))
    return found


def _labelled(part, images, probabilities, rows):
    names = None if images.ids is None else images.ids[rows]
    return Labelled(part, images.x[rows], images.y[rows], probabilities, rows, names)
