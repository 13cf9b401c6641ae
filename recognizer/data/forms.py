"""Reads digits in any file format: finds the data in a folder, archive or file, and its train and test parts."""

import re
from collections.abc import Sequence
from pathlib import Path

from recognizer.base.errors import LONGEST_LINE, UserError
from recognizer.data import array_files, containers, csv_rows, image_files, tables
from recognizer.data.arrays import Images
from recognizer.data.containers import File

# The endings of file names in each file format. The first format that is found in a folder or an archive is read.
FORMS = {
    "idx": r"[-.](idx[13]?|ubyte)(\.gz)?",
    "npz": r"\.npz",
    "npy": r"\.npy",
    "parquet": r"\.parquet",
    "csv": r"\.(csv|tsv|arff)(\.gz)?",
    "images": "|".join(map(re.escape, sorted(image_files.SUFFIXES))),
}
OUT = "np.savez('mnist.npz', "
# Kinds of files that are not read: (description, Python code that converts a usual one).
CONVERSIONS = {
    "mat": (
        "a MATLAB file",
        "import numpy as np, scipy.io as s; m = s.loadmat('FILE'); "
        f"{OUT}**{{k: v for k, v in m.items() if k[0] != '_'}})",
    ),
    "h5": (
        "an HDF5 file",
        "import h5py, numpy as np; a = {}; h5py.File('FILE').visititems("
        f"lambda k, v: a.update({{k.replace('/', '_'): v[()]}} if hasattr(v, 'shape') else {{}})); {OUT}**a)",
    ),
    "torch": ("a PyTorch file", f"import torch, numpy as np; x, y = torch.load('FILE'); {OUT}x=x, y=y)"),
    "pickle": (
        "a pickle, which can run code; if you trust it",
        "import gzip, pickle, numpy as np; a = pickle.load(gzip.open('FILE'), encoding='latin1'); "
        f"{OUT}**a if isinstance(a, dict) else dict(zip('x_train y_train x_test y_test'.split(), (*a[0], *a[-1]))))",
    ),
}


def read(path: Path | str, wanted: Sequence[str] = ("train", "test")) -> dict[str, Images]:
    """Returns {"train": Images, "test": Images} from the data at a path, with the parts in `wanted` that exist.

    A file or archive that holds only one part counts as the first part in `wanted`, whatever its name. So does data
    without a part in its name, but it is ignored if other data is named as that part. Raises UserError if nothing can
    be read, or if the data is not valid.
    """
    form, given = containers.kind_of(path), ""
    files = containers.listing(path, form)
    if form in ("folder", "zip", "tar"):
        form, files = found_in(files, path)
        if form == "archive":
            return read(files[0].path, wanted)
    else:
        refuse_others(path, form)
        given = array_files.part_of(files[0].name)
        files = _with_partners(files[0], form, given, wanted)
    arrays = form in ("idx", "npy", "npz")
    parts = array_files.gathered(_without_copies(files, form, path)) if arrays else _parts(files, form)
    if wanted[0] in parts and wanted[0] != given:
        parts.pop("", None)
    found = {}
    for part, what in parts.items():
        alone = len(parts) == 1 and Path(path).is_file()  # a single file is the part that is wanted
        role = wanted[0] if alone or part in (given, "") else part
        if role in wanted:
            found[role] = array_files.images_of(what) if arrays else _read(form, what, role, path)
    return found


def found_in(files: list[File], path: Path | str) -> tuple[str, list[File]]:
    """Returns (the first of FORMS that is found among Files, or "archive"; the Files of this form)."""
    for form, ends in FORMS.items():
        found = [file for file in files if re.search(rf"({ends})$", file.name, re.IGNORECASE)]
        others = [file for file in found if not re.search("sample|submission", file.name, re.IGNORECASE)]
        if form == "csv":
            found = others
        if found:
            return form, others or found
    archives = [file for file in files if re.search(r"\.(zip|tar|tgz|tar\.gz)$", file.name, re.IGNORECASE)]
    if len(archives) == 1 and archives[0].member is None:
        return "archive", archives
    for file in files[:100]:
        if file.member is None:
            refuse_others(file.path, containers.kind_of(file.path))
    there = f"{len(files):,} other files, {csv_rows.few([file.name for file in files])}" if files else "no files"
    raise UserError(f"{path} holds {there}: it needs CSV, IDX, .npz, .npy, .parquet, or image files in folders 0 to 9")


def _parts(files, form):
    """Returns {part: its Files}. Of several CSVs for one part, keeps the one called PART.csv.

    If there is none, keeps the one with "mnist" or "digit" in its name. Raises UserError if several remain.
    """
    parts = {}
    for file in files:
        name = file.name.rpartition("/")[0] if form == "images" else file.name
        parts.setdefault(array_files.part_of(name), []).append(file)
    for part, some in parts.items() if form == "csv" else ():
        for pattern in (rf"(^|/){part}\.csv(\.gz)?$", r"(mnist|digit)[^/]*$"):
            if len(some) > 1:
                some = [file for file in some if re.search(pattern, file.name, re.IGNORECASE)] or some
        if len(some) > 1:
            names = csv_rows.few([file.name for file in some])
            raise UserError(
                f"{some[0].path.parent} holds {len(some)} tables{f' for {part}' * bool(part)} ({names}): name one"
            )
        parts[part] = some
    return parts


def _read(form, files, role, path):
    """Returns the Images in the Files of one part. form: "csv", "parquet" or "images"."""
    if form == "csv":
        return tables.read_table(files[0])
    if form == "parquet":
        return tables.read_parquet(files, f"{path}, {role}")
    return image_files.read_classes(files, containers.File(Path(path), role))


def _with_partners(file, kind, part, wanted):
    """Returns a file of arrays and the Files beside it of the same set and part; for "train" also those of "test"."""
    own = set(array_files.words(file.name))
    if kind not in ("idx", "npy") and not (kind == "npz" and own & (array_files.IMAGES | array_files.LABELS)):
        return [file]
    parts = {part, *(("test",) if part == "train" == wanted[0] else ())}
    beside = (containers.File(path, None, path.name) for path in sorted(file.path.absolute().parent.iterdir()))
    beside = [one for one in beside if array_files.set_of(one.name) == array_files.set_of(file.name)]
    beside = [one for one in beside if re.search(rf"({FORMS[kind]})$", one.name, re.IGNORECASE)]
    return [one for one in beside if array_files.part_of(one.name) in parts] or [file]


def _without_copies(files, form, path):
    """Returns Files of arrays without copies.

    Copies are gzipped files, which torchvision keeps beside the unpacked ones, and files in a folder of the same name.

    Raises UserError if the Files belong to several sets, before reading any of them.
    """
    first = {}
    for file in sorted(files, key=lambda file: (file.name.count("/"), len(file.name))):
        *folders, name = (
            tuple(word for word in array_files.words(level) if word != "gz") for level in file.name.split("/")
        )
        first.setdefault((*(folder for folder in folders if folder != name), name), file)
    sets = sorted({" ".join(array_files.set_of(file.name)) for file in first.values()})
    if form == "idx" and len(sets) > 1:
        raise UserError(
            f"{path} holds several sets, {csv_rows.few(sets)}: name one file of one of them (unpack a zip or tar first)"
        )
    return list(first.values())


def refuse_others(path: Path | str, kind: str) -> None:
    """Raises UserError for a kind of file that is not read, with the reason and a command that converts it."""
    if Path(path).suffix.lower() in image_files.SUFFIXES:
        raise UserError(f"{path} is an image: read it by predict.py --images {path}")
    if kind == "packed":
        raise UserError(f"{path} is an archive of another kind than zip or tar: unpack it")
    if kind in CONVERSIONS:
        told, command = CONVERSIONS[kind]
        if not containers.is_gzipped(path):
            command = command.replace("gzip.open('FILE')", "open('FILE', 'rb')").replace("gzip, ", "")
        lines = [
            f'{name} is {told}: python -c "{command.replace("FILE", name)}"' for name in (str(path), Path(path).name)
        ]
        raise UserError(lines[0] if len(lines[0]) <= LONGEST_LINE else lines[1])
