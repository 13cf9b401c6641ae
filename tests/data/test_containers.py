"""Archives that are damaged, dangerous or bloated are refused; folders and archives are listed whole."""

import gzip
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from recognizer.base.errors import UserError
from recognizer.data import containers, limits, sources

pytestmark = pytest.mark.usefixtures("alone")


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
        (lambda: archive("C:train.csv", train), "outside it"),
        (lambda: archive("a\\..\\..\\train.csv", train), "outside it"),
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


def test_every_file_that_unpacks_to_more_than_is_allowed_is_refused(kaggle_folder, digits, tmp_path, monkeypatch):
    train = (kaggle_folder / "train.csv").read_bytes()
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress(train))
    with zipfile.ZipFile(tmp_path / "train.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.csv", train)
    np.savez_compressed(tmp_path / "digits.npz", x=digits.train.x[:40], y=digits.train.y[:40])
    paths = [kaggle_folder / "train.csv", *(tmp_path / name for name in ("train.csv.gz", "train.zip", "digits.npz"))]
    for allowed in (len(train), 20_000):
        monkeypatch.setattr(limits, "FILE_BYTES", allowed)
        for path in paths:
            sources.load.cache_clear()
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
            for cache in tmp_path.rglob(".*.cache.npz"):
                cache.unlink()
            if allowed == len(train):
                np.testing.assert_array_equal(sources.load(str(path)).train.x, digits.train.x[:40])
            else:
                with pytest.raises(UserError, match="unpacks to"):
                    sources.load(str(path))


@pytest.mark.parametrize("name", ["train 10:22:33.csv", "scans: train/train.csv", "2024-03-01T10:22/train.csv"])
def test_an_archive_may_have_names_with_colons(name, kaggle_folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.write(kaggle_folder / "train.csv", name)
    assert len(sources.load(str(tmp_path / "a.zip")).train.x) == 40


@pytest.mark.parametrize("linked", ["set", "set/train", "set/train/3", "set/train/3/a.png"])
def test_linked_folders_are_read_even_if_links_form_a_circle(linked, digits, tmp_path):
    names = ["train/3/a.png", "train/8/b.png", "test/c.png"]
    for name in names:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.train.x[0]).save(tmp_path / "set" / name)
    (tmp_path / linked).rename(tmp_path / "elsewhere")
    (tmp_path / linked).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "test" / "circle").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "train" / "circle").symlink_to(tmp_path / "set" / "test")
    files = [file.name for file in containers.listing(tmp_path / "set", "folder")]
    assert [name for name in files if "circle" not in name] == sorted(names)
    assert len(files) < 10
