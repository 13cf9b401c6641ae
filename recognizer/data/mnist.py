"""Reads MNIST in Keras's form, mnist.npz: in data/, in Keras's cache, or downloaded by Keras."""

import contextlib
import dataclasses
import io
import os
import socket
import tempfile
from pathlib import Path

from recognizer.base import environment
from recognizer.base.errors import UserError
from recognizer.base.reasons import reason
from recognizer.data import array_files, containers, places
from recognizer.data.arrays import Digits

TIMEOUT = 10  # seconds without an answer; Keras itself would wait for ever


def on_this_machine() -> Digits | None:
    """Returns the Digits of data/mnist.npz or of Keras's copy; None if neither exists, or if the copy is damaged."""
    if (own := places.DATA / "mnist.npz").is_file():
        return read_npz(own)
    try:
        return read_npz(_keras_copy()) if _keras_copy().is_file() else None
    except UserError:  # an unfinished download, which Keras will repeat
        return None


def downloaded() -> Digits:
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
    return read_npz(_keras_copy(writable=True))


def _keras_copy(writable=False):
    """Returns the path of Keras's copy. writable: whether Keras has just downloaded it, into a folder it may write."""
    home = environment.keras_home()
    if writable and not os.access(home, os.W_OK):
        home = Path("/tmp" if os.path.isdir("/tmp") else tempfile.gettempdir(), ".keras")  # as keras.utils.get_file
    return home / "datasets" / "mnist.npz"


def read_npz(path: Path | str) -> Digits:
    """Returns the Digits of a file with x_train, y_train, x_test, y_test."""
    found = array_files.gathered([containers.File(Path(path))])
    parts = {part: array_files.images_of(found[part]) for part in ("train", "test") if part in found}
    if "train" not in parts:
        raise UserError(f"{path} holds no x_train")
    origins = {"train": f"MNIST, {path}", "test": f"MNIST's test set, {path}"}
    parts = {part: dataclasses.replace(parts[part], origin=origins[part]) for part in parts}
    return Digits(parts["train"], parts.get("test"), str(Path(path).resolve()))
