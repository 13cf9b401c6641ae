"""No file, however damaged, makes a reader do more than return or raise UserError in a line.

FUZZ_INPUTS=100000 python -m pytest tests/test_fuzz.py      a long search, with new inputs each time
"""

import io
import json
import os
import resource
import time
import zipfile

import numpy as np
import pytest
from conftest import write_csv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from recognizer.base.errors import UserError
from recognizer.data import csv_cache, handwriting, sources
from recognizer.nn import saved_net
from recognizer.runs import checkpoints, run_folder

INPUTS = int(os.environ.get("FUZZ_INPUTS", "2500"))
# Values that readers trip over: numbers past every limit, other types, names that mean something elsewhere.
ODD = [
    b"",
    b"-1",
    b"256",
    b"1e9",
    b"nan",
    b"99999999999999999999",
    b"\x00",
    b"\xff\xfe",
    b'"',
    b",",
    b"\n",
    b"\r",
    b"../x",
]
LIMIT = 2**19  # KiB of memory, above what the tests before had


def edited(sample):
    """Copies of some bytes with a few places changed, doubled, cut out or cut short."""
    places = st.integers(0, len(sample))
    return st.lists(
        st.tuples(
            st.sampled_from(["set", "insert", "odd", "cut", "double", "end"]),
            places,
            st.binary(min_size=1, max_size=8),
            st.sampled_from(ODD),
            st.integers(1, 64),
        ),
        max_size=6,
    ).map(lambda edits: apply(sample, edits))


def apply(sample, edits):
    content = bytearray(sample)
    for kind, place, some, odd, n in edits:
        place = min(place, len(content))
        if kind == "set":
            content[place : place + len(some)] = some
        elif kind == "insert":
            content[place:place] = some
        elif kind == "odd":
            content[place : place + n % 4] = odd
        elif kind == "cut":
            del content[place : place + n]
        elif kind == "double":
            content[place:place] = content[place : place + n] * 3
        else:
            del content[place:]
    return bytes(content)


def any_json(keys):
    values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(keys)
    return st.recursive(
        values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=3)
    )


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
    checkpoints.write(folder, 1, {"variable_0000": np.ones(30, np.float32)}, {"epoch": 3, "log": []})
    found["net-01.checkpoint-1.npz"] = (folder / "net-01.checkpoint-1.npz").read_bytes()
    file = io.BytesIO()
    np.save(file, digits.train.image_hashes()[:20])
    found["seen.npy"] = file.getvalue()
    return found


def search(content, read, share, tmp_path, name):
    """Gives `read` files of many a `content` (a strategy): each is read within seconds, or refused in one line."""
    path = tmp_path / name

    @settings(
        max_examples=max(10, round(INPUTS * share)),
        deadline=None,
        database=None,
        derandomize="FUZZ_INPUTS" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    @given(content)
    def check(content):
        path.write_bytes(content)
        started, told = time.monotonic(), ""
        try:
            read(path)
        except UserError as error:
            told = str(error)
        assert "\n" not in told
        assert time.monotonic() - started < 20

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < LIMIT


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


@pytest.mark.parametrize("name", ["net-01.checkpoint-1.npz", "seen.npy"])
def test_any_file_of_a_run_is_read_or_refused_in_a_line(name, samples, tmp_path):
    def read(path):
        return run_folder.read_seen(path.parent) if name == "seen.npy" else checkpoints.read(path.parent, 1)

    search(edited(samples[name]), read, 0.03, tmp_path, name)


def test_any_config_is_read_or_refused_in_a_line(trained, tmp_path):
    config = json.loads((trained / "runs" / "bag" / "config.json").read_text())
    keys = [*config, *config["schedule"], *config["augmentation"]]

    def changed(changes):
        return json.dumps(config | changes).encode()

    values = st.dictionaries(st.sampled_from(list(config)), any_json(keys), max_size=3).map(changed)
    contents = values | edited(json.dumps(config).encode())
    search(contents, lambda path: run_folder.read_config(path.parent), 0.1, tmp_path, "config.json")


def test_any_saved_net_is_read_or_refused_in_a_line(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    model.save(tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def zipped(parts):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
        return file.getvalue()

    one = st.sampled_from(sorted(members)).flatmap(
        lambda name: edited(members[name]).map(lambda content: zipped(members | {name: content}))
    )
    search(one | edited(zipped(members)), saved_net.read_net, 0.01, tmp_path, "net.keras")
