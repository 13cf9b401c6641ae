"""--data auto says why it does not use files that look like digits."""

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
from kaggle_files import zipped

from recognizer.base.errors import UserError
from recognizer.commands import data
from recognizer.data import sources

pytestmark = pytest.mark.usefixtures("alone")


def other_zip(source):
    with zipfile.ZipFile("other.zip", "w") as archive:
        archive.writestr("readme.txt", "no digits")
    return Path("other.zip").read_bytes()


def kaggles(name):
    return lambda source: (source / name).read_bytes()


def put(name, content):
    def make(source):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content(source) if callable(content) else content)

    return make


# What is put where, the file that is named, and why it is not used.
UNUSED = {
    "Chrome's half": (
        put("data/digit-recognizer.zip.crdownload", b"PK"),
        "recognizer.zip.crdownload is half a download",
    ),
    "Firefox's half": (put("data/Xy1.zip.part", b"PK"), "Xy1.zip.part is half a download"),
    "Safari's half": (
        put("data/digit-recognizer.zip.download/digit-recognizer.zip", b"PK"),
        "digit-recognizer.zip.download is half a download",
    ),
    "test.csv alone": (put("data/test.csv", kaggles("test.csv")), "test.csv has no labels"),
    "a train.csv elsewhere": (
        put("data/mine/train.csv", kaggles("train.csv")),
        f"train.csv is not where Kaggle's files are looked for: use --data {Path('data/mine')}",
    ),
    "another name": (put("data/digits.csv", kaggles("train.csv")), f"use --data {Path('data/digits.csv')}"),
    "gzipped": (
        put("data/digits.csv.gz", lambda source: gzip.compress(kaggles("train.csv")(source))),
        f"use --data {Path('data/digits.csv.gz')}",
    ),
    "half a gzip": (
        put("data/digits.csv.gz", lambda source: gzip.compress(kaggles("train.csv")(source))[:500]),
        "digits.csv.gz cannot be read",
    ),
    "a zip of another name": (
        lambda source: zipped(source, Path("data/archive.zip")),
        f"archive.zip is not where Kaggle's files are looked for: use --data {Path('data/archive.zip')}",
    ),
    "a damaged zip": (put("data/archive.zip", b"PK"), "archive.zip cannot be read; it may be damaged or cut short"),
    "a zip of other things": (put("data/archive.zip", other_zip), "archive.zip holds 1 other files, 'readme.txt'"),
    "Kaggle's zip without": (put("data/digit-recognizer.zip", other_zip), "digit-recognizer.zip holds 1 other files"),
    "a RAR": (put("data/digit-recognizer.rar", b"Rar!"), "unpack it"),
    "IDX": (put("data/MNIST/raw/train-images-idx3-ubyte", bytes([0, 0, 8, 3])), "ubyte is not where Kaggle's files"),
    "a pickle": (
        put("data/mnist.pkl.gz", gzip.compress(b"\x80\x04N.")),
        "mnist.pkl.gz is a pickle, which can run code",
    ),
    "an npz": (put("data/digits.npz", b"PK"), "digits.npz is not Kaggle's: use --data"),
    "a log-in page": (put("data/digits.csv", b"<html>"), "digits.csv is a web page"),
    "an empty file": (put("data/digits.csv", b""), "digits.csv is empty"),
    "another table": (
        put("data/titanic.csv", b"a,b\n1,2\n"),
        "line 1: 2 columns (2 others), where 784 columns of pixels are needed",
    ),
    "another competition": (
        put("input/competitions/titanic/train.csv", b"PassengerId,Survived\n1,0\n"),
        "train.csv line 1: 2 columns (2 others), where 784 columns of pixels are needed",
    ),
    "mounted by another name": (
        put("input/my-digits/train.csv", kaggles("train.csv")),
        "train.csv is not where Kaggle's files are looked for: use --data ",
    ),
    "MNIST mounted": (put("input/datasets/someone/mnist-numpy/mnist.npz", b"PK"), "is not Kaggle's: use --data"),
}


@pytest.mark.parametrize("kind", UNUSED)
def test_auto_says_why_it_does_not_use_what_looks_like_digits(kind, kaggle_folder, digits, offline, capsys):
    make, told = UNUSED[kind]
    make(kaggle_folder)
    assert sources.load("auto").source == "digits"
    data.main([])
    lines = capsys.readouterr().out.splitlines()
    (note,) = [line for line in lines if line.startswith("not used: ")]
    assert told in note
    assert len(note.replace(str(Path.cwd()), "")) < 300
    with pytest.raises(UserError) as error:
        sources.load("kaggle")
    assert told in str(error.value)
    assert len(str(error.value).replace(str(Path.cwd()), "")) < 300
    # The line is also printed if MNIST is used. MNIST's own file in data/ has no such line.
    arrays = {"x_train": digits.train.x, "y_train": digits.train.y, "x_test": digits.test.x, "y_test": digits.test.y}
    Path("data").mkdir(exist_ok=True)
    np.savez("data/mnist.npz", **arrays)
    sources.load.cache_clear()
    assert [line for line in sources.load("auto").hint.splitlines() if line.startswith("not used: ")] == [note]


def test_unused_files_are_few_lines_and_hidden_files_are_none(offline, kaggle_folder):
    put("data/README.md", b"text")(None)
    put("data/.train.csv.cache.npz", b"PK")(None)
    assert "not used" not in sources.load("auto").hint
    for i in range(30):
        put(f"input/some/{i}.csv", b"a,b\n")(None)
    sources.load.cache_clear()
    lines = sources.load("auto").hint.splitlines()
    assert [line.startswith("not used: ") for line in lines] == [True] * 4 + [False] * 2
    assert lines[3] == "not used: 27 more files"
    assert "Add Input" in lines[-1]  # Kaggle's page is no help within Kaggle


def test_train_says_which_file_auto_does_not_use(kaggle_folder, offline, capsys):
    from recognizer.training import plan

    put("data/test.csv", kaggles("test.csv"))(kaggle_folder)
    plan.print_data(sources.load("auto"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(f"        not used: {Path('data/test.csv')} has no labels")
    assert all(line.startswith("        ") for line in lines[1:])
