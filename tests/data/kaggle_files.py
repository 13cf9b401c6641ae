"""Kaggle's files for the tests of data: packed, and compared with what was read."""

import zipfile

import numpy as np


def zipped(source, target, inside=""):
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("train.csv", "test.csv"):
            archive.write(source / name, f"{inside}{name}")


def assert_same(loaded, digits, n=40, tests=10):
    assert loaded.train.x.dtype == np.uint8
    np.testing.assert_array_equal(loaded.train.x, digits.train.x[:n])
    np.testing.assert_array_equal(loaded.train.y, digits.train.y[:n])
    np.testing.assert_array_equal(loaded.test.x, digits.test.x[:tests])
    assert loaded.test.y is None
