"""Every source of digits is found and read right."""

import gzip
import io
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import write_csv
from kaggle_files import assert_same, zipped

from recognizer.base.errors import UserError
from recognizer.data import sources

pytestmark = pytest.mark.usefixtures("alone")


def test_scikit_digits_are_in_mnists_form(digits):
    x = np.concatenate([digits.train.x, digits.test.x])
    assert (len(digits.train.x), len(digits.test.x)) == (1437, 360)
    assert x.dtype == np.uint8
    assert x.max() > 200
    rows, columns = x.any(axis=2), x.any(axis=1)
    assert (rows.sum(1) <= 20).all()
    assert (columns.sum(1) <= 20).all()
    weight = x.astype(float).sum((1, 2))
    centre = (x.sum(2) * np.arange(28)).sum(1) / weight, (x.sum(1) * np.arange(28)).sum(1) / weight
    assert np.abs(np.array(centre) - 13.5).max() <= 1


def test_kaggle_csvs_are_read_from_a_folder_a_zip_and_gzip(kaggle_folder, digits, tmp_path):
    assert_same(sources.load(str(kaggle_folder)), digits)
    with zipfile.ZipFile(tmp_path / "digit-recognizer.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(kaggle_folder / "train.csv", "train.csv")
        archive.write(kaggle_folder / "test.csv", "test.csv")
    assert_same(sources.load(str(tmp_path / "digit-recognizer.zip")), digits)
    zipped = tmp_path / "gz"
    zipped.mkdir()
    for name in ("train", "test"):
        with gzip.open(zipped / f"{name}.csv.gz", "wb") as file:
            file.write((kaggle_folder / f"{name}.csv").read_bytes())
    assert_same(sources.load(str(zipped)), digits)


def test_auto_prefers_kaggle_then_mnist_then_digits(kaggle_folder, digits, tmp_path, offline):
    found = sources.load("auto")
    assert found.source == "digits"
    assert "mnist.npz" in found.hint
    (tmp_path / "data").mkdir()
    arrays = {"x_train": digits.train.x, "y_train": digits.train.y, "x_test": digits.test.x, "y_test": digits.test.y}
    np.savez(tmp_path / "data" / "mnist.npz", **arrays)
    sources.load.cache_clear()
    assert "mnist.npz" in sources.load("auto").source
    for name in ("train.csv", "test.csv"):
        shutil.copy(kaggle_folder / name, tmp_path / "data")
    sources.load.cache_clear()
    found = sources.load("auto")
    assert_same(found, digits)
    assert found.hint == ""


def each_zipped(source, target):
    target.mkdir(parents=True)
    for name in ("train.csv", "test.csv"):
        with zipfile.ZipFile(target / f"{name}.zip", "w") as archive:
            archive.write(source / name, name)


def each_unpacked_by_windows(source, target):
    for name in ("train.csv", "test.csv"):
        (target / name).mkdir(parents=True)
        shutil.copy(source / name, target / name / name)


def unpacked(at):
    return lambda source: shutil.copytree(source, at)


KAGGLE_PLACES = {
    "plain": unpacked("data"),
    "the zip": lambda source: zipped(source, Path("data/digit-recognizer.zip")),
    "a second download": lambda source: zipped(source, Path("data/digit-recognizer (1).zip")),
    "a third one": lambda source: zipped(source, Path("data/digit-recognizer (2).zip")),
    "Firefox's second": lambda source: zipped(source, Path("data/digit-recognizer(1).zip")),
    "Safari's second": lambda source: zipped(source, Path("data/digit-recognizer-2.ZIP")),
    "a copy": lambda source: zipped(source, Path("data/Copy of Digit-Recognizer.zip")),
    "unpacked": unpacked("data/digit-recognizer"),
    "unpacked again by macOS": unpacked("data/digit-recognizer 2"),
    "the second unpacked": unpacked("data/digit-recognizer (1)"),
    "a copy on Windows": unpacked("data/digit-recognizer - Copy"),
    "one folder deeper": unpacked("data/digit-recognizer/digit-recognizer"),
    "any folder deeper": unpacked("data/digit-recognizer (1)/csv"),
    "the zip in a folder": lambda source: zipped(source, Path("data/digit-recognizer/digit-recognizer.zip")),
    "a folder in the zip": lambda source: zipped(source, Path("data/digit-recognizer.zip"), "digit-recognizer/"),
    "each zipped": lambda source: each_zipped(source, Path("data")),
    "each zipped in a folder": lambda source: each_zipped(source, Path("data/digit-recognizer")),
    "each unpacked by Windows": lambda source: each_unpacked_by_windows(source, Path("data")),
    "Kaggle's mount": unpacked("input/competitions/digit-recognizer"),
    "Kaggle's mount before": unpacked("input/digit-recognizer"),
}


@pytest.mark.parametrize("place", KAGGLE_PLACES)
def test_kaggles_files_are_found_where_browsers_systems_and_kaggle_put_them(place, kaggle_folder, digits, offline):
    KAGGLE_PLACES[place](kaggle_folder)
    for source in ("auto", "kaggle"):
        found = sources.load(source)
        assert_same(found, digits)
        assert found.hint == ""
    np.testing.assert_array_equal(sources.load_test("kaggle").x, digits.test.x[:10])
    sources.load.cache_clear()
    assert_same(sources.load(found.source), digits)  # as a run records it
    np.testing.assert_array_equal(sources.load_test(found.source).x, digits.test.x[:10])
    if "mount" not in place:
        assert_same(sources.load("data"), digits)
        np.testing.assert_array_equal(sources.load_test("data").x, digits.test.x[:10])


def test_kaggles_own_names_come_first_and_a_damaged_zip_is_never_passed_over(kaggle_folder, digits, offline):
    Path("data").mkdir()
    write_csv("data/train.csv", digits.train.x[:7], digits.train.y[:7])
    zipped(kaggle_folder, Path("data/digit-recognizer (1).zip"))
    assert len(sources.load("auto").train.x) == 7
    os.remove("data/train.csv")
    sources.load.cache_clear()
    assert len(sources.load("auto").train.x) == 40
    for name in ("digit-recognizer (1).zip", "digit-recognizer.zip"):
        (Path("data") / name).write_bytes(Path("data/digit-recognizer (1).zip").read_bytes()[:-300])
        for source in ("auto", "kaggle"):
            sources.load.cache_clear()
            with pytest.raises(UserError, match="cannot be read; it may be damaged or cut short") as error:
                sources.load(source)
            assert name in str(error.value)


def test_the_shared_zip_and_mnist_are_read_as_numpy_reads_them(shared, tmp_path):
    os.symlink(shared / "digit-recognizer.zip", tmp_path / "digit-recognizer.zip")
    loaded = sources.load(str(tmp_path))
    assert (loaded.train.x.shape, loaded.test.x.shape) == ((42000, 28, 28), (28000, 28, 28))
    assert loaded.test.kaggle
    with zipfile.ZipFile(shared / "digit-recognizer.zip") as archive:
        text = archive.read("train.csv")
    some = np.loadtxt(io.BytesIO(text), np.int64, delimiter=",", skiprows=1, max_rows=2000)
    np.testing.assert_array_equal(loaded.train.y[:2000], some[:, 0])
    np.testing.assert_array_equal(loaded.train.x[:2000].reshape(-1, 784), some[:, 1:])
    assert len(sources.load(str(shared / "mnist.npz")).test.y) == 10_000
