"""MNIST's npz is checked, and half a download is repeated."""

import os
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest

from recognizer.base.errors import UserError
from recognizer.data import mnist, sources

pytestmark = pytest.mark.usefixtures("alone")


def test_half_a_download_of_mnist_is_fetched_again_or_left_aside(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(mnist, "downloaded", lambda: digits)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mnist.npz").write_bytes(b"PK half")
    for source in ("auto", "mnist"):
        sources.load.cache_clear()
        np.testing.assert_array_equal(sources.load(source).train.x, digits.train.x)


def test_mnist_npz_with_a_wrong_label_or_shape_is_refused(digits, tmp_path):
    good = {"x_train": digits.train.x, "y_train": digits.train.y, "x_test": digits.test.x, "y_test": digits.test.y}
    bad_label = digits.train.y.copy()
    bad_label[3] = 10
    for change, told in (
        ({"y_train": bad_label}, "the labels, row 4: label 10"),
        ({"x_test": digits.test.x[:, :20]}, "'x_test' is uint8 (360, 20, 28)"),
        ({"x_train": digits.train.x - 0.5}, "values from -0.5 to 254.5"),
        ({"x_train": digits.train.x / 2}, "has pixel values with fractions"),
        ({"x_train": np.array([{}], object)}, "cannot be read"),
    ):
        np.savez(tmp_path / "mnist.npz", **good | change)
        with pytest.raises(UserError) as error:
            sources.load(str(tmp_path / "mnist.npz"))
        assert told in str(error.value)


@pytest.mark.parametrize("writable", [True, False])
def test_keras_download_is_read_from_where_keras_puts_it(writable, digits, tmp_path, monkeypatch):
    named = {"x_train": digits.train.x, "y_train": digits.train.y, "x_test": digits.test.x, "y_test": digits.test.y}
    np.savez(tmp_path / "served.npz", **named)
    home, access, is_folder = tmp_path / "keras", os.access, os.path.isdir
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and (writable or Path(path) != home))
    monkeypatch.setattr(os.path, "isdir", lambda path: path != "/tmp" and is_folder(path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    home.mkdir()
    files = keras.src.utils.file_utils
    monkeypatch.setattr(keras.src.backend.config, "_KERAS_DIR", str(home))
    monkeypatch.setattr(files, "urlretrieve", lambda _, path, *__: shutil.copy(tmp_path / "served.npz", path))
    monkeypatch.setattr(files, "validate_file", lambda *_, **__: True)
    np.testing.assert_array_equal(mnist.downloaded().test.x, digits.test.x)
