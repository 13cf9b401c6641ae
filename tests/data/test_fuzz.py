"""Any data file, however damaged, is read or refused in a line."""

import io
import zipfile

import numpy as np
import pytest
from conftest import write_csv
from fuzz import edited, search
from PIL import Image

from recognizer.data import csv_cache, handwriting, sources


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
    for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp"):
        file = io.BytesIO()
        Image.fromarray(np.kron(x[0], np.ones((3, 3), np.uint8))).save(file, kind)
        found[kind] = file.getvalue()
    return found


@pytest.fixture(autouse=True)
def _no_caches(monkeypatch):
    monkeypatch.setattr(csv_cache, "write", lambda *_: None)
    monkeypatch.setattr(csv_cache, "read", lambda *_: None)


@pytest.mark.parametrize("name", ["train.csv", "names.csv", "stored.zip", "packed.zip", "mnist.npz"])
def test_any_data_file_is_read_or_refused_in_a_line(name, samples, tmp_path):
    load = sources.load.__wrapped__  # without what it remembers
    search(edited(samples[name]), lambda path: load(str(path)), 0.13, tmp_path, name)


def test_any_test_csv_is_read_or_refused_in_a_line(samples, tmp_path):
    search(edited(samples["test.csv"]), lambda path: sources.load_test(str(path)), 0.1, tmp_path, "test.csv")


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "tiff", "webp"])
def test_any_image_file_is_read_or_refused_in_a_line(kind, samples, tmp_path):
    search(edited(samples[kind]), handwriting.read_image, 0.02, tmp_path, f"image.{kind}")
