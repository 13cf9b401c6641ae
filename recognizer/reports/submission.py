import os
import sys
from pathlib import Path

import numpy as np

from recognizer.base.errors import UserError
from recognizer.base.files import whole_file

SUBMISSIONS = Path("submissions")


WORKING = Path("/kaggle/working")  # the output of a Kaggle notebook, which submits its submission.csv


def check_out(path):
    """Raises UserError if writing to `path` would overwrite what these scripts did not write."""
    if path.suffix.lower() != ".csv":
        raise UserError(f"--out must name a .csv file, not {path}")
    if path.is_dir():
        raise UserError(f"{path} is a folder")
    if path.exists():
        with open(path, "rb") as file:
            start = file.read(32)
        if not start.startswith((b"ImageId,", b"file,label,probability")):
            raise UserError(f"{path} exists and is no submission: choose another name, or remove it")


def write_submission(path, labels):
    """Writes Kaggle's form, ImageId (from 1) and Label; it takes its name only once read back and found right."""
    text = "ImageId,Label\n" + "".join(f"{i},{label}\n" for i, label in enumerate(labels, 1))
    with whole_file(path) as temporary:
        temporary.write_bytes(text.encode())
        table = np.loadtxt(temporary, np.int64, delimiter=",", skiprows=1, ndmin=2)
        if not np.array_equal(table, np.column_stack([np.arange(1, len(labels) + 1), labels])):
            raise OSError(f"{path} did not read back as written; nothing was kept")


def write_where_kaggle_expects_it(out, labels):
    """Writes the submission again as /kaggle/working/submission.csv, in a Kaggle notebook."""
    path = WORKING / "submission.csv"
    if not os.access(WORKING, os.W_OK) or path.resolve() == out.resolve():
        return
    if path.exists() and not (path.is_file() and path.read_bytes().startswith(b"ImageId,Label")):
        print(f"{path} is not a submission, so it was not overwritten", file=sys.stderr)
        return
    write_submission(path, labels)
    print(f"Submission: {path}, the same for Kaggle's Submit button")
