"""MNIST as Keras keeps it, mnist.npz: in data/, in Keras's cache, or downloaded by Keras."""

import contextlib
import io
import os
import socket
import zipfile
from pathlib import Path

import numpy as np

from recognizer.base import environment
from recognizer.base.errors import UserError, refused
from recognizer.base.reasons import reason
from recognizer.data import limits, places
from recognizer.data.arrays import Digits, checked

TIMEOUT = 10  # seconds without an answer; Keras itself would wait for ever


def on_this_machine():
    """Returns the Digits of data/mnist.npz, or of Keras's copy; None if there is neither, or that copy is damaged."""
    if (own := places.DATA / "mnist.npz").is_file():
        return read_npz(own)
    try:
        return read_npz(_keras_copy()) if _keras_copy().is_file() else None
    except UserError:  # half a download, which Keras repeats
        return None


def downloaded():
    """Returns the Digits of Keras's download. Raises UserError if that fails."""
    environment.import_keras()
    import keras

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            keras.datasets.mnist.load_data()
    except Exception as error:
        told = f"MNIST could not be downloaded ({reason(error)})"
        raise UserError(f"{told}: put mnist.npz into data/, or use --data digits") from error
    finally:
        socket.setdefaulttimeout(before)
    return read_npz(_keras_copy())


def _keras_copy():
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return Path(home) / "datasets" / "mnist.npz"


def read_npz(path):
    """Returns the Digits of a file with x_train, y_train, x_test, y_test, or with x and y alone: without a test set."""
    with refused(f"{path} is damaged or not an mnist.npz"):
        if sum(member.file_size for member in zipfile.ZipFile(path).infolist()) > limits.FILE_BYTES:
            raise UserError(f"{path} unpacks to more than {limits.FILE_BYTES >> 20} MB")
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    source = str(Path(path).resolve())
    if "x" in arrays and "x_train" not in arrays:
        return Digits(checked(arrays, "x", "y", path, str(path)), None, source)
    return Digits(
        checked(arrays, "x_train", "y_train", path, f"MNIST, {path}"),
        checked(arrays, "x_test", "y_test", path, f"MNIST's test set, {path}"),
        source,
    )
