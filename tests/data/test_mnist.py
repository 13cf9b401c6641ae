"""MNIST's npz is checked, and half a download is repeated."""

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
