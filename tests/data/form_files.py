"""Digits written in every form in which people have them: WRITERS[name](folder, digits) returns what --data names."""

import gzip
import io
import struct
import tarfile
import zipfile

import numpy as np
from PIL import Image


def parts(digits):
    return {"train": digits.train, "test": digits.test}.items()


def text(images, header=None, label=0, separator=",", number=str, ids=None, end="\n", scale=1):
    """A CSV's bytes. header: the 784 pixels' names. label: its column, 0 or 784, or None. ids: their column's name."""
    rows = [
        [number(value / scale) if scale > 1 else number(value) for value in row] for row in images.x.reshape(-1, 784)
    ]
    rows = [[str(number(y)) if label is not None else None, *row] for y, row in zip(images.y, rows, strict=True)]
    rows = [row[1:] if label is None else [*row[1:], row[0]] if label else row for row in rows]
    if header:
        named = list(header)
        rows = [named if label is None else [*named, "label"] if label else ["label", *named], *rows]
    if ids is not None:
        rows = [[ids if header and not i else str(1000 + i), *row] for i, row in enumerate(rows, 0 if header else 1)]
    return (end.join(separator.join(map(str, row)) for row in rows) + end).encode()


def csvs(names=("train.csv", "test.csv"), packed=None, **kept):
    def write(folder, digits):
        for name, (_, images) in zip(names, parts(digits), strict=True):
            data = text(images, **kept)
            (folder / name).write_bytes(packed(data) if packed else data)
        return folder

    return write


PIXELS = [f"pixel{i}" for i in range(784)]


def zipped(write, name="archive.zip", inside=""):
    def write_zip(folder, digits):
        (folder / "plain").mkdir()
        root = write(folder / "plain", digits)
        root = root if root.is_dir() else root.parent
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(path for path in root.rglob("*") if path.is_file()):
                archive.write(path, inside + path.relative_to(root).as_posix())
        return folder / name

    return write_zip


def tarred(write, name="archive.tar.gz", inside="MNIST"):
    def write_tar(folder, digits):
        (folder / "plain").mkdir()
        write(folder / "plain", digits)
        with tarfile.open(folder / name, "w:gz") as archive:
            archive.add(folder / "plain", inside)
        return folder / name

    return write_tar


def idx(images="{part}-images-idx3-ubyte", labels="{part}-labels-idx1-ubyte", packed=None, test="t10k", turned=False):
    def write(folder, digits):
        for part, some in parts(digits):
            x = some.x.swapaxes(1, 2) if turned else some.x
            for name, array in ((images, x), (labels, some.y)):
                data = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()
                path = folder / name.format(part=test if part == "test" else part)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(packed(data) if packed else data)
        return folder

    return write


def npz(names="x_{part} y_{part}", x=lambda x: x, y=lambda y: y):
    def write(folder, digits):
        images, labels = names.split()
        some = [(images.format(part=part), x(one.x)) for part, one in parts(digits)]
        some += [(labels.format(part=part), y(one.y)) for part, one in parts(digits)]
        np.savez(folder / "some.npz", **dict(some))
        return folder / "some.npz"

    return write


def npys(folder, digits):
    for part, images in parts(digits):
        np.save(folder / f"{part}_images.npy", images.x)
        np.save(folder / f"{part}_labels.npy", images.y)
    return folder


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


def classes(train="train", test="test", folder_of="{}", invert=False):
    def write(folder, digits):
        for name, (_, images) in zip((train, test), parts(digits), strict=True):
            for i, (x, y) in enumerate(zip(images.x, images.y, strict=True)):
                path = folder / name / folder_of.format(y) / f"img_{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(255 - x if invert else x))
        return folder

    return write


def listed(header=",label,path"):
    def write(folder, digits):
        (folder / "images").mkdir()
        for part, images in parts(digits):
            lines = [header]
            for i, (x, y) in enumerate(zip(images.x, images.y, strict=True)):
                (folder / "images" / f"{part}{i}.png").write_bytes(png(x))
                cells = {"": i, "label": y, "path": f"images/{part}{i}.png", "filename": f"{part}{i}.png"}
                lines.append(",".join(str(cells[column]) for column in header.split(",")))
            (folder / f"{part}.csv").write_text("\n".join(lines) + "\n")
        return folder

    return write


def arff(folder, digits):
    for part, images in parts(digits):
        head = ["% comment", "@relation mnist", *(f"@attribute 'pixel{i}' real" for i in range(1, 785))]
        head += ["@attribute 'class' {0,1,2,3,4,5,6,7,8,9}", "@data", ""]
        (folder / f"{part}.arff").write_bytes("\n".join(head).encode() + text(images, label=784))
    return folder


def one(write, name):
    """Returns a writer like `write`, which returns the path of its file `name`."""
    return lambda folder, digits: write(folder, digits) / name


def one_hot(y):
    return np.eye(10, dtype=np.float32)[y]


WRITERS = {
    "Kaggle's": csvs(header=PIXELS),
    "mnist_train.csv": csvs(("mnist_train.csv", "mnist_test.csv"), header=PIXELS),
    "1x1": csvs(("mnist_train.csv", "mnist_test.csv"), header=[f"{i // 28 + 1}x{i % 28 + 1}" for i in range(784)]),
    "pixel1..784, label last": csvs(header=[f"pixel{i + 1}" for i in range(784)], label=784),
    "0..783": csvs(header=[f"{i}" for i in range(784)]),
    "no header": csvs(),
    "no header, label last": csvs(label=784),
    "semicolons": csvs(header=PIXELS, separator=";"),
    "tabs": csvs(("train.tsv", "test.tsv"), header=PIXELS, separator="\t"),
    "5.0": csvs(header=PIXELS, number=lambda value: f"{value}.0"),
    "5,0;": csvs(header=PIXELS, number=lambda value: f"{value},0", separator=";"),
    "0..1": csvs(header=PIXELS, label=784, number=lambda value: f"{value:.6g}", scale=255),
    "BOM and CRLF": csvs(header=PIXELS, end="\r\n", packed=lambda data: b"\xef\xbb\xbf" + data + b"\r\n\r\n"),
    "ids": csvs(header=PIXELS, ids="id"),
    "ids without a name": csvs(header=PIXELS, ids=""),
    "csv.gz": csvs(("train.csv.gz", "test.csv.gz"), header=PIXELS, packed=gzip.compress),
    "a zip": zipped(csvs(("mnist_train.csv", "mnist_test.csv"))),
    "a zip in a folder": lambda folder, digits: (
        zipped(csvs(("mnist_train.csv", "mnist_test.csv")))(folder, digits).parent
    ),
    "ARFF": arff,
    "IDX": idx(),
    "IDX.gz": idx(packed=gzip.compress),
    "IDX, dots": idx("{part}-images.idx3-ubyte", "{part}-labels.idx1-ubyte"),
    "IDX, upper case": idx("{part}-IMAGES-IDX3-UBYTE", "{part}-LABELS-IDX1-UBYTE"),
    "torchvision's": idx("MNIST/raw/{part}-images-idx3-ubyte", "MNIST/raw/{part}-labels-idx1-ubyte"),
    "IDX in a zip": zipped(idx(packed=gzip.compress)),
    "IDX in a tar": tarred(idx()),
    "one of IDX": one(idx(packed=gzip.compress), "train-images-idx3-ubyte"),
    "EMNIST": idx(
        "emnist-digits-{part}-images-idx3-ubyte", "emnist-digits-{part}-labels-idx1-ubyte", None, "test", True
    ),
    "Keras's": npz(),
    "X_train, floats": npz("X_{part} Y_{part}", lambda x: (x / 255).astype(np.float32)),
    "float64, (n, 784), one-hot": npz("{part}_images {part}_labels", lambda x: x.reshape(-1, 784) / 255.0, one_hot),
    "float16": npz(x=lambda x: (x / 255).astype(np.float16)),
    "(n, 28, 28, 1), int64": npz("{part}X {part}Y", lambda x: x[..., None].astype(np.int64), lambda y: y[:, None]),
    "(n, 1, 28, 28), text": npz(x=lambda x: x[:, None], y=lambda y: y.astype(str)),
    "inverted": npz(x=lambda x: 255 - x),
    "npy": npys,
    "one npy": one(npys, "train_images.npy"),
    "class folders": classes(),
    "mnist_png": classes("training", "testing"),
    "inverted images": classes("trainingSet/trainingSet", "testSet/testSet", invert=True),
    "digit_0": classes(folder_of="digit_{}"),
    "class folders in a zip": zipped(classes("mnist/training", "mnist/testing")),
    "class folders in a tar": tarred(classes(), inside="."),
    "a list": listed(),
    "filename,label": listed("filename,label"),
    "a list in a zip": zipped(listed("label,filename"), inside="set/"),
}
