"""Every source of digits is read right, and data that is not sound is told in one line."""

import gzip
import io
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_one_line_error, script, write_csv
from PIL import Image

from recognizer.base.errors import UserError
from recognizer.commands import data
from recognizer.data import mnist, places, sources, streams


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """Each test in a folder of its own, without the user's caches, and without a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(places, "KAGGLE_INPUT", tmp_path / "input")
    sources.load.cache_clear()
    yield
    sources.load.cache_clear()


def assert_same(loaded, digits, n=40, tests=10):
    assert loaded.train.x.dtype == np.uint8
    np.testing.assert_array_equal(loaded.train.x, digits.train.x[:n])
    np.testing.assert_array_equal(loaded.train.y, digits.train.y[:n])
    np.testing.assert_array_equal(loaded.test.x, digits.test.x[:tests])
    assert loaded.test.y is None


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


def test_auto_prefers_kaggle_then_mnist_then_digits(kaggle_folder, digits, tmp_path, monkeypatch):
    def no_network():
        raise UserError("no network")

    monkeypatch.setattr(mnist, "downloaded", no_network)
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


@pytest.fixture
def offline(monkeypatch):
    """MNIST cannot be downloaded."""

    def no_network():
        raise UserError("no network")

    monkeypatch.setattr(mnist, "downloaded", no_network)


def zipped(source, target, inside=""):
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("train.csv", "test.csv"):
            archive.write(source / name, f"{inside}{name}")


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
            with pytest.raises(UserError, match="cannot be read, damaged or cut short") as error:
                sources.load(source)
            assert name in str(error.value)


def put(name, content):
    def make(source):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content(source) if callable(content) else content)

    return make


def other_zip(source):
    with zipfile.ZipFile("other.zip", "w") as archive:
        archive.writestr("readme.txt", "no digits")
    return Path("other.zip").read_bytes()


def kaggles(name):
    return lambda source: (source / name).read_bytes()


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
    "a damaged zip": (put("data/archive.zip", b"PK"), "archive.zip cannot be read, damaged or cut short"),
    "a zip of other things": (put("data/archive.zip", other_zip), "archive.zip holds no train.csv"),
    "Kaggle's zip without": (put("data/digit-recognizer.zip", other_zip), "digit-recognizer.zip holds no train.csv"),
    "a RAR": (put("data/digit-recognizer.rar", b"Rar!"), "unpack it"),
    "an npz": (put("data/digits.npz", b"PK"), f"digits.npz is not {Path('data/mnist.npz')}: use --data"),
    "a log-in page": (put("data/digits.csv", b"<html>"), "digits.csv is a web page"),
    "an empty file": (put("data/digits.csv", b""), "digits.csv is empty"),
    "another table": (put("data/titanic.csv", b"a,b\n1,2\n"), "other columns than label,pixel0,...,pixel783: 'a', 'b'"),
    "another competition": (
        put("input/competitions/titanic/train.csv", b"PassengerId,Survived\n1,0\n"),
        "train.csv has other columns than label,pixel0,...,pixel783: 'PassengerId', 'Survived'",
    ),
    "mounted by another name": (
        put("input/my-digits/train.csv", kaggles("train.csv")),
        "train.csv is not where Kaggle's files are looked for: use --data ",
    ),
    "MNIST mounted": (put("input/datasets/someone/mnist-numpy/mnist.npz", b"PK"), "mnist.npz: use --data"),
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
    # MNIST, too, is less than what the folder seems to hold; its own file is no such file.
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
        ({"y_train": bad_label}, "y_train, row 4: label 10"),
        ({"x_test": digits.test.x[:, :20]}, "x_test is uint8 (360, 20, 28)"),
        ({"x_train": digits.train.x.astype(float)}, "x_train is float64"),
        ({"x_train": np.array([{}], object)}, "damaged or not an mnist.npz"),
    ):
        np.savez(tmp_path / "mnist.npz", **good | change)
        with pytest.raises(UserError) as error:
            sources.load(str(tmp_path / "mnist.npz"))
        assert told in str(error.value)


def test_a_cache_is_used_only_while_its_source_is_unchanged(kaggle_folder, digits):
    sources.load(str(kaggle_folder))
    cache = kaggle_folder / ".train.csv.cache.npz"
    assert cache.is_file()
    before = os.stat(kaggle_folder / "train.csv")
    write_csv(kaggle_folder / "train.csv", digits.train.x[:40], (digits.train.y[:40] + 1) % 10)
    os.utime(kaggle_folder / "train.csv", ns=(before.st_atime_ns, before.st_mtime_ns))
    sources.load.cache_clear()
    np.testing.assert_array_equal(sources.load(str(kaggle_folder)).train.y, (digits.train.y[:40] + 1) % 10)
    cache.write_bytes(cache.read_bytes()[:1000])
    sources.load.cache_clear()
    assert len(sources.load(str(kaggle_folder)).train.x) == 40


def test_the_cache_goes_to_the_users_folder_where_the_source_is_read_only(kaggle_folder, digits, tmp_path):
    kaggle_folder.chmod(0o555)
    try:
        assert_same(sources.load(str(kaggle_folder)), digits)
        assert sorted(p.name for p in kaggle_folder.iterdir()) == ["test.csv", "train.csv"]
        assert len(list((tmp_path / "cache" / "digit-recognizer").glob("*.npz"))) == 2
        sources.load.cache_clear()
        assert_same(sources.load(str(kaggle_folder)), digits)
    finally:
        kaggle_folder.chmod(0o755)


def lines(edit):
    """A change of the list of lines of a CSV."""
    return lambda data: b"\n".join(edit(data.split(b"\n")))


def cell(row, column, value):
    """A change of one cell; row 0 is the header."""

    def edit(text):
        cells = text[row].split(b",")
        cells[column] = value
        return [*text[:row], b",".join(cells), *text[row + 1 :]]

    return lines(edit)


BAD = {
    "a missing column": (lines(lambda t: [line.rpartition(b",")[0] for line in t]), ["784 columns", "'pixel783'"]),
    "a misspelt column": (cell(0, 5, b"pixl4"), ["'pixel4'", "'pixl4' is not one of them"]),
    "a doubled column": (cell(0, 5, b"pixel3"), ["'pixel3' stands twice, at 5 and 6"]),
    "reordered columns": (
        lambda d: d.replace(b"pixel3,pixel4,", b"pixel4,pixel3,"),
        ["column 5 is 'pixel4' where 'pixel3' belongs"],
    ),
    "no header": (lines(lambda t: t[1:]), ["no header"]),
    "text": (cell(2, 7, b"ink"), ["row 2 (line 3), column pixel6: 'ink'"]),
    "NaN": (cell(2, 7, b"NaN"), ["row 2 (line 3), column pixel6: 'NaN'"]),
    "nothing in a cell": (cell(2, 7, b""), ["row 2 (line 3), column pixel6: nothing"]),
    "a negative": (cell(40, 784, b"-1"), ["row 40 (line 41), column pixel783: '-1'"]),
    "256": (cell(3, 1, b"256"), ["row 3 (line 4), column pixel0: '256'"]),
    "a fraction": (cell(3, 1, b"1.5"), ["row 3 (line 4), column pixel0: '1.5'"]),
    "label 10": (cell(1, 0, b"10"), ["row 1 (line 2), column label: '10' is not a label"]),
    "a ragged row": (lines(lambda t: [*t[:4], t[4] + b",0", *t[5:]]), ["row 4 (line 5) has 786 columns"]),
    "a truncated file": (lambda d: d[:-900], ["row 40 (line 41)", "cut short"]),
    "an unclosed quotation": (cell(2, 7, b'"1'), ["row 2 (line 3): a quotation mark is not closed"]),
    "a blank line inside": (lines(lambda t: [*t[:4], b"", *t[4:]]), ["row 4 (line 5) is blank"]),
    "an empty file": (lambda d: b"", ["is empty"]),
    "a header alone": (lines(lambda t: t[:1]), ["a header and no rows"]),
    "a log-in page": (lambda d: b"<!DOCTYPE html><html>Sign in</html>", ["is a web page"]),
    "a PNG": (lambda d: b"\x89PNG\r\n\x1a\n" + bytes(100), ["is not a CSV"]),
    "UTF-16": (lambda d: d.decode().encode("utf-16"), ["UTF-16"]),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_csv_is_told_by_file_row_and_column(fault, kaggle_folder):
    change, told = BAD[fault]
    path = kaggle_folder / "train.csv"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError) as error:
        sources.load(str(kaggle_folder))
    for part in ["train.csv", *told]:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_train_and_test_files_given_for_each_other_are_told(kaggle_folder):
    with pytest.raises(UserError, match=r"is a test\.csv \(has no label column\), where a train\.csv is needed"):
        sources.load(str(kaggle_folder / "test.csv"))
    with pytest.raises(
        UserError, match=r"is a train\.csv \(has a label column\), where a test\.csv is needed \(predict\.py --test"
    ):
        sources.load_test(str(kaggle_folder / "train.csv"))


def test_bom_crlf_quotes_and_blank_lines_at_the_end_are_accepted(kaggle_folder, digits):
    path = kaggle_folder / "train.csv"
    quoted = b"\n".join(
        b",".join(b'"' + cell + b'"' for cell in line.split(b",")) for line in path.read_bytes().split(b"\n")[:-1]
    )
    path.write_bytes(b"\xef\xbb\xbf" + quoted.replace(b"\n", b"\r\n") + b"\r\n\r\n\n")
    assert_same(sources.load(str(kaggle_folder)), digits)


def test_damaged_dangerous_and_bloated_archives_are_refused(kaggle_folder, tmp_path):
    train = (kaggle_folder / "train.csv").read_bytes()

    def archive(name, data, cut=None):
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr(name, data)
        whole = (tmp_path / "a.zip").read_bytes()
        (tmp_path / "a.zip").write_bytes(whole[:cut])
        return tmp_path / "a.zip"

    def gzipped(data, cut=None):
        (tmp_path / "train.csv.gz").write_bytes(gzip.compress(data)[:cut])
        return tmp_path / "train.csv.gz"

    flipped = archive("train.csv", train)
    data = bytearray(flipped.read_bytes())
    data[2000] ^= 1
    for make, told in (
        (lambda: archive("../train.csv", train), "outside it"),
        (lambda: archive("/train.csv", train), "outside it"),
        (lambda: archive("train.csv", train, cut=-300), "cannot be read"),
        (lambda: archive("train.csv", bytes(10**8)), "far more"),
        (lambda: gzipped(train, cut=-100), "cannot be read"),
        (lambda: gzipped(bytes(10**8)), "far more"),
    ):
        with pytest.raises(UserError) as error:
            sources.load(str(make()))
        assert told in str(error.value)
    flipped.write_bytes(data)
    with pytest.raises(UserError, match="cannot be read"):
        sources.load(str(flipped))


def test_a_folder_of_image_files_with_a_csv_of_names_and_labels_is_read(digits, tmp_path):
    (tmp_path / "set" / "images").mkdir(parents=True)
    for i in range(12):
        Image.fromarray(digits.train.x[i]).save(tmp_path / "set" / "images" / f"{i}.png")
    table = "filename,label\n" + "".join(f"{i}.png,{digits.train.y[i]}\n" for i in range(12))
    (tmp_path / "set" / "train.csv").write_text(table)
    (tmp_path / "set" / "test.csv").write_text("filename\n3.png\n4.png\n")
    loaded = sources.load(str(tmp_path / "set"))
    np.testing.assert_array_equal(loaded.train.x, digits.train.x[:12])
    np.testing.assert_array_equal(loaded.train.y, digits.train.y[:12])
    np.testing.assert_array_equal(loaded.test.x, digits.train.x[3:5])
    for row, told in (("99.png,1", "'99.png' is not there"), ("../1.png,1", "not a file beside"), ("1.png,x", "'x'")):
        (tmp_path / "set" / "train.csv").write_text(f"{table}{row}\n")
        sources.load.cache_clear()
        with pytest.raises(UserError, match="row 13") as error:
            sources.load(str(tmp_path / "set"))
        assert told in str(error.value)


def test_files_of_one_name_in_two_folders_are_not_taken_for_each_other(digits, tmp_path):
    for part, images in (("train", digits.train), ("test", digits.test)):
        (tmp_path / part).mkdir()
        Image.fromarray(images.x[0]).save(tmp_path / part / "1.png")
    (tmp_path / "train.csv").write_text("filename,label\n1.png,3\n")
    (tmp_path / "test.csv").write_text("filename\ntest/1.png\n")
    with pytest.raises(UserError, match=r"row 1 \(line 2\), column filename: '1.png' is in 2 folders: give each"):
        sources.load(str(tmp_path))
    (tmp_path / "train.csv").write_text("filename,label\ntrain/1.png,3\n")
    loaded = sources.load(str(tmp_path))
    np.testing.assert_array_equal(loaded.train.x, digits.train.x[:1])
    np.testing.assert_array_equal(loaded.test.x, digits.test.x[:1])


def test_a_table_of_images_whose_column_has_no_name_is_read(digits, tmp_path):
    Image.fromarray(digits.test.x[0]).save(tmp_path / "a.png")
    (tmp_path / "train.csv").write_text(",label\na.png,3\n")
    loaded = sources.load(str(tmp_path / "train.csv")).train
    np.testing.assert_array_equal(loaded.x[0], digits.test.x[0])
    assert loaded.y.tolist() == [3]


def test_splits_are_scikit_learns_and_streams_never_meet():
    from sklearn.model_selection import train_test_split

    rows, held_out = streams.split(1000, 0.08, 7)
    expected = train_test_split(np.arange(1000), test_size=0.08, random_state=7)
    assert set(rows) == set(expected[0])
    assert set(held_out) == set(expected[1])
    seen = set()
    for purpose in streams.PURPOSES:
        for key in np.ndindex(3, 3, 3, 2):
            seen.add(streams.rng(purpose, *key).integers(2**63))
    assert len(seen) == len(streams.PURPOSES) * 54


def test_bad_data_ends_a_script_with_code_2_and_one_line(kaggle_folder, tmp_path):
    path = kaggle_folder / "train.csv"
    path.write_bytes(cell(3, 1, b"256")(path.read_bytes()))
    process = script("train.py", "--data", kaggle_folder, cwd=tmp_path)
    assert_one_line_error(process, "train.csv: row 3 (line 4), column pixel0: '256'")
    assert not (tmp_path / "runs").exists()
    process = script("train.py", "--data", tmp_path / "nowhere", cwd=tmp_path)
    assert_one_line_error(process, "no data at", "auto, kaggle, mnist, digits")


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
