"""Any data file, however damaged, is read or refused in a line."""

import io
import zipfile

import numpy as np
import pandas as pd
import pytest
from conftest import write_csv
from form_files import WRITERS, png
from fuzz import edited, search
from PIL import Image

from recognizer.data import csv_cache, handwriting, sources
from recognizer.data.arrays import Digits, Images

# {a form of form_files.py: the file of it that is edited; "" if it has only one}
FORMS = {
    "no header": "train.csv",
    "0..1": "train.csv",
    "5,0;": "train.csv",
    "ids": "train.csv",
    "ARFF": "train.arff",
    "IDX": "train-images-idx3-ubyte",
    "IDX.gz": "train-labels-idx1-ubyte",
    "IDX in a tar": "",
    "npy": "train_images.npy",
    "float64, (n, 784), one-hot": "",
    "class folders in a zip": "",
    "a list in a zip": "",
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory, digits):
    """Sound files of every kind, a few digits each: {name: bytes}."""
    folder = tmp_path_factory.mktemp("samples")
    x, y = digits.train.x[:3], digits.train.y[:3]
    found = {
        "train.csv": write_csv(folder / "train.csv", x, y).read_bytes(),
        "test.csv": write_csv(folder / "test.csv", x).read_bytes(),
        "names.csv": b"file,label\na.png,3\nb.png,4\n",
    }
    for name, method in (("stored.zip", zipfile.ZIP_STORED), ("packed.zip", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(folder / name, "w", method) as archive:
            for part in ("train.csv", "test.csv"):
                archive.write(folder / part, part)
        found[name] = (folder / name).read_bytes()
    file = io.BytesIO()
    np.savez_compressed(file, x_train=x, y_train=y, x_test=x, y_test=y)
    found["mnist.npz"] = file.getvalue()
    small = Digits(Images(x, y, ""), Images(x, y, ""), "")
    for form, name in FORMS.items():
        (folder / form).mkdir()
        path = WRITERS[form](folder / form, small)
        found[form] = (path / name if name else path).read_bytes()
    partners = ("IDX", "train-images-idx3-ubyte"), ("IDX", "train-labels-idx1-ubyte"), ("npy", "train_labels.npy")
    found["partners"] = {name: (folder / form / name).read_bytes() for form, name in partners}
    for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp"):
        file = io.BytesIO()
        Image.fromarray(np.kron(x[0], np.ones((3, 3), np.uint8))).save(file, kind)
        found[kind] = file.getvalue()
    return found


@pytest.fixture(autouse=True)
def _no_caches(monkeypatch):
    monkeypatch.setattr(csv_cache, "write", lambda *_: None)
    monkeypatch.setattr(csv_cache, "read", lambda *_: None)


@pytest.mark.parametrize("form", FORMS)
def test_any_file_of_any_form_is_read_or_refused_in_a_line(form, samples, tmp_path):
    for partner, content in samples["partners"].items():
        (tmp_path / partner).write_bytes(content)
    load = sources.load.__wrapped__
    search(edited(samples[form]), lambda path: load(str(path)), 0.05, tmp_path, FORMS[form] or "a.zip")


def test_any_parquet_file_is_read_or_refused_in_a_line(digits, tmp_path):
    pytest.importorskip("pyarrow")
    table = pd.DataFrame({"image": [{"bytes": png(x), "path": None} for x in digits.train.x[:3]], "label": [1, 2, 3]})
    table.to_parquet(tmp_path / "sound.parquet")
    load = sources.load.__wrapped__
    content = edited((tmp_path / "sound.parquet").read_bytes())
    search(content, lambda path: load(str(path)), 0.05, tmp_path, "a.parquet")


@pytest.mark.parametrize("name", ["train.csv", "names.csv", "stored.zip", "packed.zip", "mnist.npz"])
def test_any_data_file_is_read_or_refused_in_a_line(name, samples, tmp_path):
    load = sources.load.__wrapped__  # without what it remembers
    search(edited(samples[name]), lambda path: load(str(path)), 0.13, tmp_path, name)


def test_any_test_csv_is_read_or_refused_in_a_line(samples, tmp_path):
    search(edited(samples["test.csv"]), lambda path: sources.load_test(str(path)), 0.1, tmp_path, "test.csv")


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "tiff", "webp"])
def test_any_image_file_is_read_or_refused_in_a_line(kind, samples, tmp_path):
    search(edited(samples[kind]), handwriting.read_image, 0.02, tmp_path, f"image.{kind}")
