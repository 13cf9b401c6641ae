"""Image files are read by a CSV of their names."""

import shutil
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from recognizer.base.errors import UserError
from recognizer.data import image_files, sources

pytestmark = pytest.mark.usefixtures("alone")


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


@pytest.mark.parametrize("form", ["zip", "tar", "gztar"])
def test_pictures_of_an_archive_are_read_in_one_pass_and_in_the_order_of_their_names(
    form, digits, tmp_path, monkeypatch
):
    (tmp_path / "scans").mkdir()
    for i in (7, 2, 9, 4, 1):
        Image.fromarray(digits.test.x[i]).save(tmp_path / "scans" / f"{i}.png")
    (tmp_path / "scans" / "3.png").write_bytes(b"no picture")
    path = shutil.make_archive(str(tmp_path / "all"), form, tmp_path, "scans")
    reads = []
    for module, name in ((tarfile, "open"), (zipfile, "ZipFile")):
        own = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, own=own, **more: reads.append(given) or own(*given, **more))
    pictures, faults, skipped = image_files.read_pictures([path, tmp_path / "scans"])
    names = [f"{folder}/{i}.png" for folder in (f"{path}/scans", tmp_path / "scans") for i in (1, 2, 4, 7, 9)]
    assert [picture.name for picture in pictures] == names
    np.testing.assert_array_equal(pictures[2].gray, digits.test.x[4])
    assert ["3.png" in fault for fault in faults] == [True, True]
    assert not skipped
    assert len(reads) <= 4  # to know its kind, to list it, and to read it: not once for each picture
