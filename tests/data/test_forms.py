"""Digits in every form in which people have them are read as the same digits, or refused in a line."""

import gzip
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
from form_files import PIXELS, WRITERS, classes, idx, png, text

from recognizer.base import environment
from recognizer.base.errors import UserError
from recognizer.data import image_files, sources
from recognizer.data.arrays import Digits, Images

pytestmark = pytest.mark.usefixtures("alone")
SMALL = 30  # images of each part; all of them in a slow test


def some(digits, n):
    return Digits(*(Images(one.x[:n], one.y[:n], "") for one in (digits.train, digits.test)), "")


def read_again(path):
    sources.load.cache_clear()
    found = sources.load(str(path))
    return found.train, found.test, sources.load_test(str(path))


@pytest.mark.parametrize("form", WRITERS)
def test_each_form_gives_the_same_digits(form, digits, tmp_path):
    small = some(digits, SMALL)
    (tmp_path / "set").mkdir()
    path = WRITERS[form](tmp_path / "set", small)
    for _ in range(2):  # then from the cache
        train, test, alone = read_again(path)
        assert train.fingerprint() == small.train.fingerprint()
        assert test.fingerprint() == small.test.fingerprint()
        assert alone.fingerprint() == (small.train if "one " in form else small.test).fingerprint()


@pytest.mark.slow
@pytest.mark.parametrize("form", WRITERS)
def test_each_form_gives_the_known_fingerprints(form, digits, tmp_path):
    (tmp_path / "set").mkdir()
    train, test, _ = read_again(WRITERS[form](tmp_path / "set", digits))
    assert (train.fingerprint(), test.fingerprint()) == ("36b08b006d381f2c", "ff976135b7c5ef58")


def test_hugging_faces_parquet_is_read_and_kept(digits, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    small = some(digits, SMALL)
    for name, images, rows in (("train-00000", small.train, slice(20)), ("train-00001", small.train, slice(20, None))):
        cells = [{"bytes": png(x), "path": None} for x in images.x[rows]]
        pd.DataFrame({"image": cells, "label": images.y[rows]}).to_parquet(tmp_path / f"{name}-of-00002.parquet")
    for decoded in (image_files.decoded, None):  # the second time they are not decoded again
        monkeypatch.setattr(image_files, "decoded", decoded)
        assert sources.load(str(tmp_path)).train.fingerprint() == small.train.fingerprint()


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "installed", lambda package: False)
    Path("a.parquet").write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(UserError, match=r"pyarrow is not installed: python -m pip install pyarrow"):
        sources.load("a.parquet")


def npz(**arrays):
    np.savez("a.npz", **arrays)
    return "a.npz"


def table(data, name="a.csv"):
    Path(name).write_bytes(data)
    return name


def without(name, folder="set"):
    """Returns a function that writes IDX files in a folder, removes the file `name`, and returns the folder."""
    return lambda x, y, small: (idx()(Path(folder), small), os.remove(f"{folder}/{name}"))[0]


def two_sets(small, *names):
    for name in names:
        idx(f"{name}{{part}}-images-idx3-ubyte", f"{name}{{part}}-labels-idx1-ubyte")(Path("set"), small)
    return "set"


def emnist(x, y, small):
    return table(text(Images(x, y + 1, "")), "emnist-letters-train.csv")


def class_folders(**kept):
    return lambda x, y, small: classes(**kept)(Path("set"), small)


# {name: (function of (images, labels, both parts) that makes the source, words of the error)}
REFUSED = {
    "letters": (lambda x, y, _: npz(x=x, y=y + 3), "is not one of 0 to 9 (there are 9 different labels, 4 to 12)"),
    "text": (lambda x, y, _: npz(x=x, y=np.full(len(y), "seven")), "label seven is not one of 0 to 9"),
    "EMNIST letters": (emnist, "neither the first (2 to 10) nor the last (0 to 0) holds labels, 0 to 9"),
    "standardised": (lambda x, y, _: npz(x=(x - 33.0) / 78, y=y), "where 0 to 255, or 0 to 1, are needed"),
    "not a number": (lambda x, y, _: npz(x=x * np.nan, y=y), "from nan to nan"),
    "0 to 16": (lambda x, y, _: npz(x=x // 16, y=y), "values up to 15: scale them"),
    "8x8": (lambda x, y, _: npz(x=x[:, ::4, ::4], y=y), "'x' is uint8 (30, 7, 7)"),
    "fewer labels": (lambda x, y, _: npz(x=x, y=y[1:]), "30 images and 29 labels"),
    "two sets": (
        lambda x, y, _: npz(arr_0=x, arr_1=y, arr_2=x, arr_3=y),
        "several sets (a.npz, 'arr_0'; a.npz, 'arr_2')",
    ),
    "MNIST and Fashion-MNIST": (
        lambda x, y, small: two_sets(small, "A/raw/", "B/raw/"),
        "several sets (set/A/raw/t10k-images-idx3-ubyte; set/B/raw/t10k-images-idx3-ubyte)",
    ),
    "EMNIST's zip": (
        lambda x, y, small: two_sets(small, "emnist-letters-", "emnist-mnist-"),
        "set holds several sets, 'emnist letters', 'emnist mnist': name one file of one of them (unpack a zip or tar "
        "first)",
    ),
    "an object": (lambda x, y, _: npz(x=x, y=np.array([{}])), "cannot be read"),
    "no labels": (without("train-labels-idx1-ubyte"), "put train-labels-idx1-ubyte beside it, or predict it"),
    "no images": (without("train-images-idx3-ubyte"), "where images, (n, 28, 28) or (n, 784), are needed"),
    "a pixel column less": (
        lambda x, y, small: table(text(small.train, PIXELS).replace(b",pixel783", b"")),
        "784 columns (1 of labels, 783 others), where 784 columns of pixels are needed",
    ),
    "an unknown name": (
        lambda x, y, small: table(text(small.train, PIXELS).replace(b"label", b"what")),
        "if 'what' holds labels, call it 'label'",
    ),
    "labels in the middle": (
        lambda x, y, small: table(text(small.train, PIXELS).replace(b"label,pixel0", b"pixel0,label")),
        "785 columns (1 of labels, 784 others), where 784 columns of pixels are needed, "
        "with or without a column of labels before",
    ),
    "numbers first, no header": (
        lambda x, y, small: table(b"".join(b"%d," % i + row for i, row in enumerate(rows(small)))),
        "neither the first (0 to 29) nor the last (0 to 0) holds labels, 0 to 9",
    ),
    "a label and 783 pixels, no header": (
        lambda x, y, _: table(re.sub(rb",\d+(?=\n)", b"", text(Images(x, np.arange(len(x)) % 10, "")))),
        "the first of its 784 columns seems to hold labels",
    ),
    "an image": (lambda x, y, _: table(png(x[0]), "a.png"), "a.png is an image: read it by predict.py --images a.png"),
    "a list of words": (
        lambda x, y, _: table(b"hello\nworld\n"),
        "1 columns (1 others), where 784 columns of pixels are needed",
    ),
    "a submission": (lambda x, y, _: table(b"ImageId,Label\n1,2\n"), "where 784 columns of pixels are needed"),
    "a fraction": (
        lambda x, y, small: table(text(small.train, number="{}.5".format)),
        "column 1: '3.5' is not a whole number from 0 to 255",
    ),
    "other classes": (class_folders(folder_of="cat{}"), "image files in folders 'cat1', 'cat2', 'cat3' and 6 more"),
    "two train.csv": (
        lambda x, y, small: (table(text(small.train), "set/a_train.csv"), table(b"1,2", "set/b_train.csv"), "set")[2],
        "set holds 2 tables for train ('a_train.csv', 'b_train.csv'): name one",
    ),
    "a pickle": (
        lambda x, y, _: table(gzip.compress(pickle.dumps(1)), "mnist.pkl.gz"),
        'a pickle, which can run code; if you trust it: python -c "import gzip, pickle',
    ),
    "HDF5": (lambda x, y, _: table(b"\x89HDF", "mnist.h5"), 'an HDF5 file: python -c "import h5py'),
    "MATLAB's": (lambda x, y, _: table(b"MATLAB 5.0", "set/mnist.mat") and "set", "s.loadmat('set/mnist.mat')"),
    "a RAR": (lambda x, y, _: table(b"Rar!", "a.rar"), "unpack it"),
    "nothing": (lambda x, y, _: "set", "set holds no files: it needs CSV, IDX"),
    "IDX cut short": (
        lambda x, y, _: table(struct.pack(">IIII", 0x803, 60000, 28, 28) + bytes(99), "train-images-idx3-ubyte"),
        "says that it holds (60000, 28, 28), but has 99 bytes",
    ),
    "IDX of a terabyte": (
        lambda x, y, _: table(struct.pack(">IIII", 0x803, 2**31, 2**31, 28), "train-images-idx3-ubyte"),
        "but has 0 bytes",
    ),
}


def mat(**arrays):
    scipy.io.savemat("mnist.mat", arrays)
    return "mnist.mat"


def pickled(value, name="mnist.pkl"):
    return table((gzip.compress if name.endswith(".gz") else bytes)(pickle.dumps(value)), name)


def h5(**arrays):
    with h5py.File("mnist.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return "mnist.h5"


# Files that are refused with a command that converts them: {name: function of both parts}.
CONVERTED = {
    "mldata's .mat": lambda one, two: mat(data=one.x.reshape(-1, 784).T, label=one.y[None].astype(float)),
    "X and y in a .mat": lambda one, two: mat(X=one.x.reshape(-1, 784), y=one.y[:, None]),
    "both parts in a .mat": lambda one, two: mat(trainX=one.x, trainY=one.y, testX=two.x, testY=two.y),
    "deeplearning.net's pickle": lambda one, two: pickled(
        tuple((part.x.reshape(-1, 784) / np.float32(255), part.y) for part in (one, two, two)), "mnist.pkl.gz"
    ),
    "two parts in a pickle": lambda one, two: pickled(((one.x, one.y), (two.x, two.y))),
    "a dict in a pickle": lambda one, two: pickled(dict(x_train=one.x, y_train=one.y, x_test=two.x, y_test=two.y)),
    "HDF5": lambda one, two: h5(x_train=one.x, y_train=one.y, x_test=two.x, y_test=two.y),
    "groups in HDF5": lambda one, two: h5(**{"train/x": one.x, "train/y": one.y, "test/x": two.x, "test/y": two.y}),
}


@pytest.mark.parametrize("form", CONVERTED)
def test_the_command_in_a_refusal_converts_the_file(form, digits, tmp_path):
    small = some(digits, SMALL)
    with pytest.raises(UserError) as error:
        sources.load(CONVERTED[form](small.train, small.test))
    assert len(str(error.value)) < 300
    command = str(error.value).partition('python -c "')[2].removesuffix('"')
    subprocess.run([sys.executable, "-c", command], check=True)
    read = sources.load("mnist.npz")
    assert read.train.fingerprint() == small.train.fingerprint()
    assert read.test is None or read.test.fingerprint() == small.test.fingerprint()


def test_a_file_that_is_given_as_a_test_set_is_one_whatever_its_arrays_are_called(digits, tmp_path):
    x = some(digits, SMALL).train.x
    for names in (["x"], ["x_train"], ["x_train", "y_train"], ["train_images"]):
        np.savez("a.npz", **{name: x if name[0] != "y" else digits.train.y[: len(x)] for name in names})
        assert (sources.load_test("a.npz").x == x).all()


def rows(small):
    return text(small.train, label=None).splitlines(keepends=True)


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_a_line_that_counts_what_is_there_and_says_what_is_needed(what, digits, tmp_path):
    make, told = REFUSED[what]
    Path("set").mkdir()
    small = some(digits, SMALL)
    path = make(small.train.x, small.train.y, small)
    with pytest.raises(UserError) as error:
        sources.load(str(path))
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_names_in_an_archive_cannot_break_a_line(digits, tmp_path):
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("train\n\x1b[31m.csv", "label,pixel0\n1,2\n3\n")
    with pytest.raises(UserError) as error:
        sources.load("a.zip")
    assert str(error.value).isprintable()


# Sources that might be read wrongly, so a line says how they are read: {name: (function that makes one, the line)}.
SAID = {
    "0 or 1": (lambda x, y: npz(x=np.uint8(x > 99), y=y), "its pixels are 0 or 1"),
    "dark on white": (lambda x, y: npz(x=255 - x, y=y), "dark on white: inverted to light on dark"),
    "transposed": (lambda x, y: npz(x=x.swapaxes(1, 2), y=y), "its digits 1 are wider than high"),
    "no header": (lambda x, y: table(text(Images(x, y, ""))), "no column is called label: its first one is read"),
    "EMNIST's name": (
        lambda x, y: table(text(Images(x, y, ""), PIXELS), "emnist-mnist.csv"),
        "exchanged: its images were transposed",
    ),
}


@pytest.mark.parametrize("what", SAID)
def test_what_was_read_in_an_unusual_way_is_said(what, digits, tmp_path):
    make, told = SAID[what]
    path = make(digits.train.x[:200], digits.train.y[:200])
    assert told in sources.load(path).hint
    assert told in " ".join(sources.load_test(path).notes)


def test_the_parts_of_a_file_that_no_name_says_are_not_guessed(digits, tmp_path):
    x, y = digits.train.x, digits.train.y
    loaded = sources.load(npz(x_train=x[:9], y_train=y[:9], x_val=x[9:12], y_val=y[9:12], names=np.arange(3)))
    assert (len(loaded.train.x), loaded.test) == (9, None)


def test_other_sets_of_ten_classes_are_read_as_digits_are(tmp_path):
    clothes = Images(np.random.default_rng(0).integers(0, 256, (60, 28, 28), np.uint8) // 3, np.arange(60) % 10, "")
    (tmp_path / "fashion").mkdir()
    classes()(tmp_path / "fashion", Digits(clothes, clothes, ""))
    loaded = sources.load("fashion")
    for images in (loaded.train, loaded.test):
        np.testing.assert_array_equal(images.x, clothes.x)
        np.testing.assert_array_equal(images.y, clothes.y)


def test_a_test_set_of_image_files_keeps_their_names_and_calls_the_labels_as_train_does(digits, tmp_path):
    """The files of the practice problem "Identify the Digits"; a run on them predicts their test set."""
    for folder, images in (("train", digits.train), ("test", digits.test)):
        (tmp_path / "set" / "Images" / folder).mkdir(parents=True)
        for i in range(12):
            (tmp_path / "set" / "Images" / folder / f"{len(images.x) + 7 * i}.png").write_bytes(png(images.x[i]))
    labelled, names = ([f"{len(one.x) + 7 * i}.png" for i in range(12)] for one in (digits.train, digits.test))
    train = ["filename,digit", *map("{},{}".format, labelled, digits.train.y)]
    (tmp_path / "set" / "train.csv").write_text("\n".join(train))
    (tmp_path / "set" / "Test_fCbTej3.csv").write_text("\n".join(["filename", *reversed(names)]))
    (tmp_path / "set" / "Sample_Submission.csv").write_text("filename,digit\n")
    loaded = sources.load("set")
    for test in (loaded.test, sources.load_test("set")):
        np.testing.assert_array_equal(test.x, digits.test.x[:12][::-1])
        assert test.named() == (("filename", "digit"), names[::-1])
    np.testing.assert_array_equal(loaded.train.x, digits.train.x[:12])
