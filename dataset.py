# PYTHON_ARGCOMPLETE_OK
"""Where digits come from, checked: Kaggle's CSVs, MNIST, scikit-learn's digits, image files; splits; random streams.

    python train.py --data SOURCE, where SOURCE is
    auto      the first of: Kaggle's files, MNIST, digits
    kaggle    Kaggle's train.csv and test.csv, plain, gzipped, zipped or inside Kaggle's zip
    mnist     data/mnist.npz, Keras's cache of it, or Keras's download
    digits    the 1,797 digits of 8x8 pixels inside scikit-learn, brought to MNIST's form; a fixed fifth is the test set
    a path    a folder or zip as for kaggle, a labelled CSV, an mnist.npz, or a folder of image files with a
              train.csv of file names and labels (and a test.csv of file names)

Kaggle's files are looked for in data/; then in the folders and zips in it whose name contains "digit-recognizer"
("digit-recognizer (1).zip", or the zip unpacked, also one folder deeper); then where Kaggle mounts the competition:
/kaggle/input/competitions/digit-recognizer, /kaggle/input/digit-recognizer. A folder given as a path is searched like
data/. Where `auto` takes other digits although data/ or /kaggle/input holds data files, it says why each is not used.

Pixels are uint8 (n, 28, 28), 0 background to 255 ink; labels uint8 (n,), 0 to 9.

    python dataset.py                  what `auto` finds here
    python dataset.py fetch            download Kaggle's files into data/ by Kaggle's own client
"""

import contextlib
import csv
import dataclasses
import functools
import gzip
import hashlib
import io
import itertools
import os
import re
import socket
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import console
from console import UserError, reason, refused, whole_file
from handwriting import mnist_form, read_image

SOURCES = ("auto", "kaggle", "mnist", "digits")
DATA = Path("data")
KAGGLE_INPUT = Path("/kaggle/input")  # where Kaggle mounts the data that a notebook has added
KAGGLE_MOUNTS = ("competitions/digit-recognizer", "digit-recognizer")
KAGGLE_NAME = re.compile("digit[-_ ]recognizer", re.IGNORECASE)  # the zip, copies of it, and its unpacked folder
KAGGLE_PAGE = "https://www.kaggle.com/c/digit-recognizer/data"
KAGGLE_TEST_ROWS = 28_000
PIXELS = [f"pixel{i}" for i in range(784)]
DATA_FILES = {".csv", ".gz", ".zip", ".npz", ".7z", ".rar", ".tar", ".tgz"}
HALF_DOWNLOADS = {".crdownload", ".part", ".partial", ".download", ".opdownload"}
LARGEST = 512 * 2**20  # bytes of one file, decompressed; Kaggle's train.csv has 77 million
PURPOSES = ("split", "weights", "dropout", "order", "transform", "elastic", "test transform", "preview", "update_bn")


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Some images and, where known, their labels."""

    x: np.ndarray  # uint8 (n, 28, 28)
    y: np.ndarray | None  # uint8 (n,)
    origin: str  # where they come from, for people
    kaggle: bool = False  # rows of Kaggle's test set, by form and number

    def __post_init__(self):
        for array in (self.x, self.y):
            if array is not None:
                array.flags.writeable = False  # they are shared by every net of a process

    def statistics(self):
        """Mean and standard deviation of all pixels, in 0..1: two floats."""
        blocks = np.array_split(self.x, 64)  # never a copy of all pixels in a wider type
        counts = sum(np.bincount(block.ravel(), minlength=256) for block in blocks) / self.x.size
        values = np.arange(256) / 255
        mean = float(counts @ values)
        return mean, float(np.sqrt(counts @ (values - mean) ** 2))

    def image_hashes(self):
        """A number for each image, from its exact pixels: uint64 (n,). Images that differ have, in effect, others."""
        digests = (hashlib.blake2b(image, digest_size=8).digest() for image in np.ascontiguousarray(self.x))
        return np.frombuffer(b"".join(digests), np.uint64)

    def fingerprint(self):
        """16 hexadecimal digits of the SHA-256 of pixels and labels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.x))
        if self.y is not None:
            digest.update(np.ascontiguousarray(self.y))
        return digest.hexdigest()[:16]


@dataclasses.dataclass(frozen=True, eq=False)
class Digits:
    """A data set: labelled images to train on, and the test set that belongs to them, if any."""

    train: Images
    test: Images | None
    source: str  # gives the same data to `load` again
    hint: str = ""  # how to get the next better data


def rng(purpose, seed, net=0, epoch=0, step=0):
    """The random stream of (seed, net, epoch, step, purpose): a numpy.random.Generator of its own for each.

    All randomness here is drawn so. All are whole numbers from 0 to 2^32 - 1, so that no two streams coincide.
    """
    entropy = [seed, net, epoch, step, PURPOSES.index(purpose)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def split(n, validation_split, random_state):
    """Returns (training rows, validation rows) of `n`, sorted int64 arrays, by scikit-learn's train_test_split."""
    from sklearn.model_selection import train_test_split

    if not validation_split:
        return np.arange(n), np.arange(0)
    try:
        parts = train_test_split(np.arange(n), test_size=validation_split, random_state=random_state)
    except ValueError as error:
        raise UserError(f"{n} labelled rows cannot be split by {validation_split}: {error}") from error
    return tuple(np.sort(part) for part in parts)


# Sources


@functools.lru_cache(maxsize=2)
def load(source="auto"):
    """Returns the Digits of `source` (see above). Raises UserError where there are none, or they are not sound."""
    if source == "auto":
        return _auto()
    if source == "kaggle":
        if not (place := _kaggle_place(*kaggle_folders())):
            found = "".join(f"; {line}" for line in unused_files()[:1])
            raise UserError(f"Kaggle's train.csv is neither in {DATA} nor mounted by Kaggle: {_kaggle_advice()}{found}")
        return _from_folder(place)
    if source == "mnist":
        return _mnist() or _mnist_download()
    if source == "digits":
        return _scikit_digits()
    path = Path(source).expanduser()
    if not path.exists():
        known = ", ".join(SOURCES)
        raise UserError(
            f"no data at {source!r}: give by --data (predict.py: --test) a folder, a zip, a CSV, an mnist.npz, "
            f"or one of {known}"
        )
    if not (path.is_file() or path.is_dir()):
        raise UserError(f"{source!r} is neither a file nor a folder")
    if path.is_dir():
        if not _kaggle_place(path) and (path / "mnist.npz").is_file():
            return _from_npz(path / "mnist.npz")
        return _from_folder(path)
    kind = _kind_of(path)
    if kind == "zip" and _is_npz(path):
        return _from_npz(path)
    if kind == "zip":
        return _from_folder(path)
    return Digits(_read_table(path, None, "train"), None, str(path.resolve()))


def load_test(source):
    """Returns the Images of a test set: a source's own, or the file that `source` names (a CSV without labels)."""
    path = Path(source).expanduser()
    if source not in SOURCES and (path.is_file() or path.is_dir()):
        kind = "folder" if path.is_dir() else _kind_of(path)
        if kind in ("csv", "gzip"):
            return _read_table(path, None, "test")
        if kind == "folder" or not _is_npz(path):
            place = _kaggle_place(path) or _kaggle_place(path, table="test")
            if place and (found := _find(place, "test")):
                return _read_table(*found, "test")
    test = load(source).test
    if test is None:
        raise UserError(f"{source} has no test set: give one with --test")
    return test


def kaggle_folders():
    """The folders that Kaggle's files are looked for in, in order."""
    return [DATA, *(KAGGLE_INPUT / mount for mount in KAGGLE_MOUNTS)]


def _kaggle_advice():
    if KAGGLE_INPUT.is_dir():
        return "in a Kaggle notebook, add it by Add Input, Competitions, Digit Recognizer"
    return f"put digit-recognizer.zip from {KAGGLE_PAGE} into {DATA}/"


def _auto():
    if place := _kaggle_place(*kaggle_folders()):
        return _from_folder(place)
    hints = [f"for Kaggle's own digits: {_kaggle_advice()}"]
    digits = _mnist()
    if not digits:
        try:
            digits = _mnist_download()
        except UserError:
            digits = _scikit_digits()
            hints.insert(0, f"for MNIST's 70,000: put mnist.npz into {DATA}/")
    return dataclasses.replace(digits, hint="\n".join([*unused_files(used=digits.source), *hints]))


def _from_folder(path):
    """A folder or a zip with train.csv and perhaps test.csv."""
    path = _kaggle_place(path) or path
    train, test = _find(path, "train"), _find(path, "test")
    if not train:
        if test:
            raise UserError(f"{path} has a test.csv and no train.csv: training needs labelled rows")
        raise UserError(f"{path} has no train.csv (nor .gz, .zip, digit-recognizer.zip or mnist.npz)")
    return Digits(_read_table(*train, "train"), _read_table(*test, "test") if test else None, str(Path(path).resolve()))


def _kaggle_place(*paths, table="train"):
    """Returns the first of all `_places` in some paths that holds a table ("train" or "test"); None if none does."""
    places = itertools.chain.from_iterable(map(_places, paths))
    return next((place for place in places if _find(place, table)), None)


def _places(path):
    """Yields a path, then the folders and zips in it that have Kaggle's name, the shortest names first."""
    path = Path(path)
    yield path
    if not path.is_dir():
        return
    named = [inner for inner in path.iterdir() if KAGGLE_NAME.search(inner.name) and not _is_half_download(inner)]
    for inner in sorted(named, key=lambda inner: (inner.is_file(), len(inner.name), inner.name)):
        if inner.is_dir():
            yield inner
            yield from sorted(deeper for deeper in inner.iterdir() if deeper.is_dir())
        elif inner.suffix.lower() == ".zip":
            yield inner


def _find(path, name):
    """Where table `name` ("train" or "test") is at `path`: (file, member of a zip or None), or None."""
    if Path(path).is_dir():
        # Windows unpacks train.csv.zip to a folder train.csv with train.csv in it.
        for file in (f"{name}.csv", f"{name}.csv/{name}.csv", f"{name}.csv.gz"):
            if (file := Path(path) / file).is_file():
                return file, None
        zips = [Path(path) / f"{name}.csv.zip", Path(path) / "digit-recognizer.zip"]
    else:
        zips = [Path(path)]
    for file in zips:
        if file.is_file():
            members = [
                member
                for member in _zip_members(file)
                if Path(member).name == f"{name}.csv" and not member.startswith("__MACOSX/")
            ]
            if len(members) > 1:
                raise UserError(f"{file} holds {len(members)} files {name}.csv: {', '.join(members)}")
            if members:
                return file, members[0]
    return None


def unused_files(used=""):
    """Returns at most four lines that say why `auto` does not use the data files in data/ and /kaggle/input.

    used: the path of a file that it does use.
    """
    files = itertools.islice(itertools.chain(_files_in(DATA), _files_in(KAGGLE_INPUT)), 10_000)
    like = [path for path in files if path.suffix.lower() in DATA_FILES or _is_half_download(path)]
    like = [path for path in like if str(path.resolve()) != used]
    lines = [f"not used: {path} {_why_unused(path)}" for path in like[:3]]
    return lines + [f"not used: {len(like) - 3} more files"] * (len(like) > 3)


def _files_in(folder, depth=4):
    """Yields the files in a folder and its subfolders, without hidden ones; of a folder, a thousand at most."""
    try:
        with os.scandir(folder) as entries:
            paths = sorted(Path(entry) for entry in itertools.islice(entries, 1000) if entry.name[0] not in "._")
    except OSError:  # no such folder, or not to be read
        return
    for path in paths:
        if path.is_file() or _is_half_download(path):
            yield path
        elif depth:
            yield from _files_in(path, depth - 1)


def _is_half_download(path):
    return path.suffix.lower() in HALF_DOWNLOADS  # Safari's .download is a folder


def _why_unused(path):
    """Says why `auto` does not use a file, and what to do."""
    suffix = path.suffix.lower()
    by_path = f"is not where Kaggle's files are looked for: use --data {path.parent if path.stem == 'train' else path}"
    if _is_half_download(path):
        return "is half a download: let it finish, or download it again"
    if suffix == ".npz":
        return f"is not {DATA / 'mnist.npz'}: use --data {path}"
    if suffix not in (".csv", ".gz", ".zip"):
        return "is an archive of another kind than zip: unpack it"
    try:
        if suffix == ".zip":
            return by_path if _find(path, "train") else "holds no train.csv"
        with _reading(path), gzip.open(path) if _kind_of(path) == "gzip" else open(path, "rb") as file:
            header, _ = _header(file.read(2**16), path)
    except UserError as error:
        return str(error).removeprefix(f"{path} ")
    if header == ["label", *PIXELS]:
        return by_path
    if header == PIXELS:
        return "has no labels, so nothing can be trained on it"
    return f"has other columns than label,pixel0,...,pixel783: {_few(header)}"


def _mnist():
    """data/mnist.npz, or the copy that Keras keeps; None if there is neither, or that copy is half a download."""
    if Path("data/mnist.npz").is_file():
        return _from_npz(Path("data/mnist.npz"))
    try:
        return _from_npz(_keras_cache()) if _keras_cache().is_file() else None
    except UserError:  # Keras fetches it again
        return None


def _keras_cache():
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return Path(home) / "datasets" / "mnist.npz"


def _mnist_download():
    console.import_keras()
    import keras

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)  # seconds; Keras itself would wait for ever
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            keras.datasets.mnist.load_data()
    except Exception as error:
        raise UserError(
            f"MNIST could not be downloaded ({reason(error)}): put mnist.npz into data/, or use --data digits"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return _from_npz(_keras_cache())


def _is_npz(path):
    return any(member.endswith(".npy") for member in _zip_members(path))


def _from_npz(path):
    """MNIST in Keras's form: x_train, y_train, x_test, y_test; or x and y alone, without a test set."""
    with refused(f"{path} is damaged or not an mnist.npz"):
        if sum(member.file_size for member in zipfile.ZipFile(path).infolist()) > LARGEST:
            raise UserError(f"{path} unpacks to more than {LARGEST >> 20} MB")
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}

    def part(x, y, origin):
        if x not in arrays or y not in arrays:
            raise UserError(f"{path} lacks {x} or {y}; it holds {', '.join(arrays) or 'nothing'}")
        images, labels = arrays[x], arrays[y]
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28) or not len(images):
            raise UserError(f"{path}: {x} is {images.dtype} {images.shape}, where uint8 (n, 28, 28) is needed")
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "ui":
            raise UserError(f"{path}: {y} is {labels.dtype} {labels.shape}, where {len(images)} integers are needed")
        if labels.min() < 0 or labels.max() > 9:
            row = int(np.flatnonzero((labels < 0) | (labels > 9))[0])
            raise UserError(f"{path}: {y}, row {row + 1}: label {labels[row]} is not one of 0 to 9")
        return Images(images, labels.astype(np.uint8), origin)

    source = str(Path(path).resolve())
    if "x" in arrays and "x_train" not in arrays:
        return Digits(part("x", "y", str(path)), None, source)
    return Digits(
        part("x_train", "y_train", f"MNIST, {path}"),
        part("x_test", "y_test", f"MNIST's test set, {path}"),
        source,
    )


def _scikit_digits():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    small, labels = load_digits(return_X_y=True)
    x = np.stack([mnist_form(image.reshape(8, 8) * (255 / 16)) for image in small])
    y = labels.astype(np.uint8)
    train, test = train_test_split(np.arange(len(y)), test_size=0.2, random_state=0, stratify=y)
    return Digits(
        Images(x[train], y[train], f"scikit-learn's digits ({len(train):,} of {len(y):,})"),
        Images(x[test], y[test], "the fixed fifth of scikit-learn's digits"),
        "digits",
    )


# Tables


def _read_table(file, member, part):
    """Reads one CSV, from its cache where that is sound. part: "train" or "test"."""
    name = f"{file}" if member is None else f"{file} ({member})"
    with _reading(name), open(file, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest() + f":{member}:{part}"
    cached = _read_cache(file, member, digest)
    if cached is None:
        data = _decompressed(file, member, name)
        header, start = _header(data, name)
        if len(header) <= 2 and not set(header) & set(PIXELS):
            x, y = _image_table(data, header, start, Path(file), member, name, part)
            return Images(x, y, name)
        values = _parse_pixels(data, header, start, name, part)
        cached = values if part == "test" else values[:, 1:], values[:, 0] if part == "train" else None
        _write_cache(file, member, digest, *cached)
    x, y = cached
    x = np.ascontiguousarray(x).reshape(-1, 28, 28)
    return Images(x, y, name, kaggle=part == "test" and len(x) == KAGGLE_TEST_ROWS)


def _reading(name):
    return refused(f"{name} cannot be read, damaged or cut short?")


def _kind_of(path):
    with _reading(path), open(path, "rb") as file:
        start = file.read(4)
    return {b"PK": "zip", b"\x1f\x8b": "gzip"}.get(start[:2], "csv")


def _zip_members(path):
    with _reading(path):
        members = zipfile.ZipFile(path).namelist()
    for member in members:
        if member.startswith(("/", "\\")) or ":" in member or ".." in re.split(r"[/\\]", member):
            raise UserError(f"{path} holds {member!r}, which lies outside it: this is no archive of Kaggle's")
    return members


def _decompressed(file, member, name):
    """The bytes of a CSV that is plain, gzipped or in a zip, at most LARGEST."""
    with _reading(name), contextlib.ExitStack() as stack:
        size, at_once = os.path.getsize(file), 2**22
        if member is not None:
            archive = stack.enter_context(zipfile.ZipFile(file))
            size = archive.getinfo(member).compress_size
            stream = stack.enter_context(archive.open(member))
        elif _kind_of(file) == "gzip":
            stream = stack.enter_context(gzip.open(file))
        else:
            stream = stack.enter_context(open(file, "rb"))
            at_once = LARGEST
        chunks, total = [], 0
        while chunk := stream.read(at_once):
            chunks.append(chunk)
            total += len(chunk)
            # Digits as text shrink ten- to thirtyfold; a thousandfold is a bomb.
            if total > LARGEST or total > 2**24 + 100 * size:
                raise UserError(f"{name} unpacks to far more than a CSV of digits would: it was not read")
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _header(data, name):
    """Returns (column names, where the first row starts) of a CSV; UserError for what is no CSV at all."""
    if not data or data.isspace():
        raise UserError(f"{name} is empty")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{name} is in UTF-16: save it as CSV in UTF-8")
    start = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    if data[start : start + 512].lstrip().startswith(b"<"):
        raise UserError(f"{name} is a web page, not a CSV (a log-in page?): download the file from {KAGGLE_PAGE}")
    end = data.find(b"\n")
    line = data[start : end if end >= 0 else len(data)][: 2**16].rstrip(b"\r")
    try:
        text = line.decode("utf-8")
        if re.search(r"[\x00-\x08\x0e-\x1f]", text):
            raise ValueError("control characters")
        columns = next(csv.reader([text], strict=True), [])
    except (ValueError, csv.Error) as error:
        raise UserError(f"{name} is not a CSV: its first line is not text") from error
    return columns, end + 1 if end >= 0 else len(data)


def _check_header(header, expected, name, part):
    if header == expected:
        return
    other = "test" if part == "train" else "train"
    if header == (PIXELS if part == "train" else ["label", *PIXELS]):
        has = "has no label column" if part == "train" else "has a label column"
        hint = " (predict.py --test FILE)" * (part == "test")
        raise UserError(f"{name} is a {other}.csv ({has}), where a {part}.csv is needed{hint}")
    if all(re.fullmatch(r"-?\d+(\.\d+)?", column) for column in header):
        raise UserError(f"{name} has no header: its first line must be {expected[0]},{expected[1]},...")
    for i, column in enumerate(header):
        if column in header[:i]:
            raise UserError(
                f"{name}: line 1: column {column!r} stands twice, at {header.index(column) + 1} and {i + 1}"
            )
    if sorted(header) == sorted(expected):
        i = next(i for i, pair in enumerate(zip(header, expected, strict=True)) if pair[0] != pair[1])
        raise UserError(
            f"{name}: line 1: column {i + 1} is {header[i]!r} where {expected[i]!r} belongs: keep the order"
        )
    missing = [column for column in expected if column not in header]
    unknown = [column for column in header if column not in expected]
    found = f"; {_few(unknown)} is not one of them" if unknown else ""
    raise UserError(
        f"{name}: line 1: {len(header)} columns where {len(expected)} are needed; "
        f"missing: {_few(missing) or 'none'}{found}"
    )


def _few(names):
    shown = ", ".join(repr(name[:40]) for name in names[:3])
    return shown + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _parse_pixels(data, header, start, name, part):
    """Parses rows of whole numbers: uint8 (rows, columns).

    Blocks of some megabytes are parsed as arrays of bytes on all cores, faster than by a CSV reader; a block with
    anything but digits, commas and line ends is first cleaned line by line, which finds the line at fault.
    """
    import joblib

    expected = PIXELS if part == "test" else ["label", *PIXELS]
    _check_header(header, expected, name, part)
    end = len(data)
    while end > start and data[end - 1] in b"\r\n":
        end -= 1
    spans = []
    while start < end:
        stop = data.find(b"\n", min(start + 2**21, end))
        stop = end if stop < 0 else min(stop, end)
        spans.append(slice(start, stop))
        start = stop + 1
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:
        parsed = list(pool.map(lambda span: _parse_block(data[span] + b"\n", len(expected)), spans))
    blocks, row = [], 1
    for span, values in zip(spans, parsed, strict=True):
        if values is None:
            values = _parse_block(_cleaned(data[span] + b"\n", expected, row, name), len(expected))
        limits = np.full(len(expected), 255)
        if part == "train":
            limits[0] = 9
        if (values > limits).any():
            i, j = np.argwhere(values > limits)[0]
            _bad_cell(name, row + i, expected[j], str(values[i, j]))
        blocks.append(values.astype(np.uint8))
        row += len(values)
    if not blocks:
        raise UserError(f"{name} has a header and no rows")
    return np.concatenate(blocks)


def _parse_block(block, columns):
    """bytes of whole lines -> uint16 (rows, columns); None if it holds anything but rows of 1- to 3-digit numbers."""
    text = np.frombuffer(block, np.uint8)
    at = np.flatnonzero(text < ord("0"))  # commas and line ends
    if len(at) % columns or text.max() > ord("9"):
        return None
    ends = text[at].reshape(-1, columns)
    if (ends[:, :-1] != ord(",")).any() or (ends[:, -1] != ord("\n")).any():
        return None
    length = np.diff(at, prepend=-1) - 1
    if length.min() < 1 or length.max() > 3:
        return None
    values = text[at - 1].astype(np.uint16) - ord("0")
    more = np.flatnonzero(length > 1)
    values[more] += (text[at[more] - 2].astype(np.uint16) - ord("0")) * 10
    more = more[length[more] > 2]
    values[more] += (text[at[more] - 3].astype(np.uint16) - ord("0")) * 100
    return values.reshape(-1, columns)


def _cleaned(block, expected, row, name):
    """The lines of a block without quotes and carriage returns; UserError at the first line that is no row."""
    lines = []
    for line in block[:-1].split(b"\n"):
        text = line.rstrip(b"\r").decode("utf-8", "replace")
        try:
            cells = next(csv.reader([text], strict=True), []) if '"' in text else text.split(",")
        except csv.Error:
            raise UserError(f"{name}: row {row} (line {row + 1}): a quotation mark is not closed") from None
        if text == "":
            raise UserError(f"{name}: row {row} (line {row + 1}) is blank: remove it")
        if len(cells) != len(expected):
            cut = ": cut short?" if len(cells) < len(expected) else ""
            raise UserError(
                f"{name}: row {row} (line {row + 1}) has {len(cells)} columns where {len(expected)} are needed{cut}"
            )
        for column, cell in zip(expected, cells, strict=True):
            if not (cell.isascii() and cell.isdigit() and len(cell) <= 3):
                _bad_cell(name, row, column, cell)
        lines.append(",".join(cells))
        row += 1
    return ("\n".join(lines) + "\n").encode()


def _bad_cell(name, row, column, found):
    needed = "a label, 0 to 9" if column == "label" else "a whole number from 0 to 255"
    found = f"{found[:40]!r}" if found else "nothing"
    raise UserError(f"{name}: row {row} (line {row + 1}), column {column}: {found} is not {needed}")


# Cache


def _cache_paths(file, member, digest):
    """Where a parsed CSV may be kept: beside it, then in the user's cache folder."""
    beside = Path(file).with_name(f".{Path(file).name}{'.' + Path(member).name if member else ''}.cache.npz")
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    key = hashlib.sha256(digest.encode()).hexdigest()[:32]
    return beside, Path(home) / "digit-recognizer" / f"{key}.npz"


def _read_cache(file, member, digest):
    """Returns (x, y) if a sound cache of the very same source is there, else None."""
    for path in _cache_paths(file, member, digest):
        try:
            with np.load(path, allow_pickle=False) as cache:
                if cache["digest"].item() != digest:
                    continue
                x, y = cache["x"], cache["y"] if "y" in cache.files else None
        except Exception:  # absent or damaged, of which NumPy tells by nearly every kind of exception
            continue
        sound = x.dtype == np.uint8 and x.ndim == 2 and x.shape[1] == 784
        if sound and (y is None or (y.dtype == np.uint8 and y.shape == x.shape[:1] and y.max() < 10)):
            return x, y
    return None


def _write_cache(file, member, digest, x, y):
    arrays = dict(x=x, digest=np.array(digest)) | ({} if y is None else dict(y=y))
    for path in _cache_paths(file, member, digest):
        try:
            # A folder marked read-only is left alone even where the user, root say, could write to it.
            if path.parent.exists() and not path.parent.stat().st_mode & 0o222:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as temporary:
                np.savez(temporary, **arrays)
            return
        except (OSError, UserError):  # then without
            continue


# Image files


def _image_table(data, header, start, file, member, name, part):
    """A CSV of file names (and labels) beside image files: Returns x, y as in Images."""
    import pandas as pd

    if member is not None:
        raise UserError(f"{name} lists image files: unpack the zip and give the folder")
    labels = [column for column in header if column.lower() in ("label", "class", "digit")]
    if len(header) != (2 if part == "train" else 1) or len(labels) != (part == "train"):
        needed = "a column of file names and a column 'label'" if part == "train" else "one column of file names"
        raise UserError(
            f"{name}: line 1: columns {_few(header)}: needed are label,pixel0,...,pixel783"
            f"{'' if part == 'train' else ' without label'}, or {needed}"
        )
    column = next(column for column in header if column not in labels)
    with refused(f"{name} cannot be read"):
        # By our own reading of the header: pandas renames a column without a name.
        kept = dict(dtype=str, keep_default_na=False, encoding="utf-8-sig")
        table = pd.read_csv(io.BytesIO(data), header=0, names=header, **kept)
    if table.empty:
        raise UserError(f"{name} has a header and no rows")
    inside = None  # {name: paths} of the files in the folders below, where they are needed
    x = np.empty((len(table), 28, 28), np.uint8)
    for i, image in enumerate(table[column]):
        path = file.parent / image
        if not image or ".." in Path(image).parts or Path(image).is_absolute():
            _bad_image(name, i + 1, column, image, "is not a file beside this CSV")
        if not path.is_file():
            if inside is None:
                inside = {}
                for other in file.parent.rglob("*"):
                    inside.setdefault(other.name, []).append(other)
            found = inside.get(path.name, [])
            if len(found) > 1:
                what = f"is in {len(found)} folders: give each file's path from this CSV's folder"
                _bad_image(name, i + 1, column, image, what)
            if not found:
                _bad_image(name, i + 1, column, image, "is not there")
            path = found[0]
        x[i] = read_image(path)
    if part == "test":
        return x, None
    for i, label in enumerate(table[labels[0]]):
        if not re.fullmatch(r"[0-9]", label):
            _bad_cell(name, i + 1, "label", label)
    return x, table[labels[0]].astype(np.uint8).to_numpy(copy=True)


def _bad_image(name, row, column, image, what):
    raise UserError(f"{name}: row {row} (line {row + 1}), column {column}: {image[:80]!r} {what}")


def parser():
    p = console.Parser(prog="dataset.py", description=__doc__)
    p.add_argument("command", nargs="?", choices=("fetch",), help="fetch: download Kaggle's files into data/")
    p.add_argument("--data", default="auto", metavar="SOURCE", help="what to look at (default: auto)")
    return p


def main(argv=None):
    arguments = parser().parse_args(argv)
    if arguments.command == "fetch":
        import competition

        print(f"{competition.fetch(DATA)}: now python train.py --data kaggle")
        return
    digits = load(arguments.data)
    for images, what in ((digits.train, "labelled"), (digits.test, "test")):
        if images is not None:
            print(f"{what}: {len(images.x):,} images of {images.origin}, fingerprint {images.fingerprint()}")
    if digits.hint:
        print(digits.hint)


if __name__ == "__main__":
    console.run(main)
