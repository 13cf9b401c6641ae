"""The files that predict.py writes, such as submissions, and the lines that it prints about them."""

import math
import os
import re
import sys
from pathlib import Path

import numpy as np

from recognizer.base.errors import UserError, refused
from recognizer.base.files import write_rows
from recognizer.base.words import plural
from recognizer.data import segments
from recognizer.data.arrays import Images
from recognizer.runs import metrics, run_folder

SUBMISSIONS = Path("submissions")
UPLOAD = "https://www.kaggle.com/c/digit-recognizer/submit"
WORKING = Path("/kaggle/working")  # output folder of a Kaggle notebook, which submits its submission.csv
PLACE = ("line", "number", "digit", "left", "top", "right", "bottom")  # columns if pictures show several digits
Readings = list[list[segments.Digit]]  # of each picture
# The endings of a test set's file that the names of its predictions lack. Other dots stay, as in scans.2024.zip.
ENDINGS = re.compile(r"(\.(csv|tsv|arff|npz|npy|parquet|zip|tar|tgz|gz))+$", re.IGNORECASE)
FEW = 3  # file names to list in a message
# The first bytes of files that may be overwritten, and of submissions that may be overwritten if their preview exists.
OWN = re.compile(rb"ImageId,|file,label,probability|[^,\n]*,(line,number,digit,)?p0,p1,p2,")
OTHERS = re.compile(rb"[^,\n]*,[^,\n]*\r?\n")


def check_out(path: Path) -> None:
    """Raises UserError if `path` is not a .csv file, or if writing it would overwrite a file of another kind."""
    if path.suffix.lower() != ".csv":
        raise UserError(f"--out must name a .csv file, not {path}")
    if path.is_dir():
        raise UserError(f"{path} is a folder")
    if path.exists():
        with open(path, "rb") as file:
            start = file.read(100)
        if not OWN.match(start) and not (OTHERS.match(start) and beside(path, "preview.png").exists()):
            raise UserError(f"{path} exists and is not a submission: choose another name, or remove it")


def check_outputs(out: Path, probabilities: bool) -> None:
    """Raises UserError if writing `out` and the files beside it would overwrite files of another kind.

    probabilities: bool, whether the probabilities are written, too.
    """
    for path in [out, *[beside(out, "probabilities.csv")] * probabilities]:
        check_out(path)
    preview = beside(out, "preview.png")
    if preview.exists() and not out.exists():
        raise UserError(f"{preview} exists without {out}, so it is not overwritten: move it, or choose another --out")


def beside(out: Path, what: str) -> Path:
    """Returns the path of a file beside the CSV `out`: submissions/NAME-`what` for submissions/NAME.csv."""
    return out.with_name(f"{out.stem}-{what}")


def write_all(out: Path, test: Images, probabilities: np.ndarray, title: str, with_probabilities: bool) -> None:
    """Writes a submission to `out`, and the preview and (optionally) the probabilities beside it.

    test: Images. probabilities: (n, 10).
    """
    from recognizer.reports import charts

    out.parent.mkdir(parents=True, exist_ok=True)
    write_submission(out, probabilities.argmax(1), test)
    if with_probabilities:
        (column, _), ids = test.named()
        write_probabilities(out, [{column: i} for i in ids], probabilities)
    charts.save(charts.preview(test.x, probabilities, title), beside(out, "preview.png"))


def write_probabilities(out: Path, columns: list[dict], probabilities: np.ndarray) -> None:
    """Writes the probabilities for the rows of `out` to a second CSV beside it. NaN becomes an empty cell.

    columns: for each row a dict of the columns that identify it. probabilities: (n, 10).
    """
    pairs = zip(columns, probabilities, strict=True)
    rows = [named | {f"p{k}": "" if np.isnan(p) else f"{p:.6f}" for k, p in enumerate(row)} for named, row in pairs]
    write_rows(beside(out, "probabilities.csv"), rows)
    print(f"Probabilities: {beside(out, 'probabilities.csv')}")


def write_submission(path: Path, labels: np.ndarray, test: Images) -> None:
    """Writes the labels of Images in Kaggle's format, ImageId (from 1) and Label, or with the images' own ids."""
    (first, second), ids = test.named()
    write_rows(path, [{first: i, second: label} for i, label in zip(ids, labels, strict=True)])


def write_readings(
    out: Path, pictures: list[segments.Picture], readings: Readings, title: str, with_probabilities: bool
) -> None:
    """Prints the digits in pictures, writes them to `out`, and writes preview and probabilities beside it.

    pictures: list of segments.Picture. readings: for each picture a list of its segments.Digits.
    """
    from recognizer.reports import charts

    out.parent.mkdir(parents=True, exist_ok=True)
    pairs = list(zip(pictures, readings, strict=True))
    numbers = any(map(_is_number, readings))
    rows = [_row(picture.name, digit, numbers) for picture, digits in pairs for digit in digits]
    write_rows(out, rows)
    for picture, digits in pairs:
        print(f"{picture.name}: {_told(digits)}")
    every = [digit for digits in readings for digit in digits]
    probabilities = np.stack([digit.probabilities for digit in every])
    if with_probabilities:
        names = [{key: row[key] for key in ("file", *PLACE[:3]) if key in row} for row in rows]
        known = np.array([[digit.label is not None] for digit in every])
        write_probabilities(out, names, np.where(known, probabilities, np.nan))
    if numbers:
        figure = charts.readings(sorted(pairs, key=lambda pair: not _is_number(pair[1])), title)
    else:
        figure = charts.preview(np.stack([digit.image for digit in every]), probabilities, title)
    charts.save(figure, beside(out, "preview.png"))


def _is_number(digits):
    """Returns whether a picture shows more than one digit, or digits that touch."""
    return len(digits) > 1 or digits[0].label is None


def _row(name, digit, with_place):
    """Returns the CSV row of a segments.Digit."""
    label, p = ("", "") if digit.label is None else (digit.label, f"{digit.probabilities.max():.4f}")
    row = {"file": name, "label": label, "probability": p}
    return row | dict(zip(PLACE, (*digit.place, *digit.box), strict=True)) if with_place else row


def _told(digits):
    """Returns the digits in a picture as text: "4 72 (2 numbers; at least 90.8%)"."""
    numbers, lines = (len({digit.place[:parts] for digit in digits}) for parts in (2, 1))
    told = [f"{numbers} numbers" + f" in {lines} lines" * (lines > 1)] if numbers > 1 else []
    known = [digit.probabilities.max() for digit in digits if digit.label is not None]
    if known:  # rounded down: no digit is certain
        told.append(f"{'at least ' * (len(known) > 1)}{math.floor(1000 * min(known) + 1e-6) / 10:.1f}%")
    if len(known) < len(digits):
        told.append("? stands for digits that touch or are unclear")
    return f"{segments.text(digits)} ({'; '.join(told)})"


def print_skipped(skipped: list[str]) -> None:
    """Prints on stderr which files were skipped, since they are no images."""
    if skipped:
        files = "a file that is no image" if len(skipped) == 1 else f"{len(skipped):,} files that are no images"
        print(f"Skipped {files}: {_few(skipped)}", file=sys.stderr)


def print_unread(pictures: list[segments.Picture], readings: Readings) -> None:
    """Prints how many digits could not be read, and in which pictures, if there are any."""
    unread = [sum(digit.label is None for digit in digits) for digits in readings]
    if any(unread):
        files = [picture.name for picture, n in zip(pictures, unread, strict=True) if n]
        told = f"{sum(unread):,} of {plural(sum(map(len, readings)), 'digit')}, marked ?, in {_few(files)}"
        print(f"Not read: {told}: digits that touch or are unclear to this run")


def check_files(out: Path, pictures: list[segments.Picture], faults: list[str]) -> None:
    """Raises UserError if image files could not be read. Called after everything else is written.

    faults: list of lines, one for each damaged file.
    """
    if faults[1:]:
        for line in faults:
            print(line, file=sys.stderr)
        faults = [f"{len(faults):,} of {len(faults) + len(pictures):,} image files cannot be read, as said above"]
    if faults:
        raise UserError(f"{faults[0]}; all else is in {out}")


def _few(names):
    """Returns the first few names, and the number of the others, as text."""
    more = f" and {len(names) - FEW:,} more" * (len(names) > FEW)
    return f"{', '.join(names[:FEW])}{more}"


def write_where_kaggle_expects_it(out: Path, labels: np.ndarray, test: Images) -> None:
    """Writes the submission to /kaggle/working/submission.csv, too, if this is a Kaggle notebook."""
    path = WORKING / "submission.csv"
    if not os.access(WORKING, os.W_OK) or path.resolve() == out.resolve():
        return
    if path.exists() and not (path.is_file() and path.read_bytes().startswith(b"ImageId,Label")):
        print(f"{path} is not a submission, so it was not overwritten", file=sys.stderr)
        return
    write_submission(path, labels, test)
    print(f"Submission: {path}, a copy for Kaggle's Submit button")


def print_accuracy(folders: list[Path], configs: list[dict], test: Images, predicted: np.ndarray, leaked: int) -> None:
    """Prints the accuracy of predicted labels; if the test set has no labels, the runs' validation accuracies.

    leaked: int, the number of test images that were among the runs' labelled images.
    """
    if test.y is None:
        for folder, config in zip(folders, configs, strict=True):
            print_validation(folder, config)
        return
    wrong = int((predicted != test.y).sum())
    note = f"; {leaked:,} of the test images were among the labelled images, so this measures nothing" if leaked else ""
    print(f"Test accuracy: {1 - wrong / len(test.y):.2%} ({wrong:,} of {len(test.y):,} wrong{note})")


def print_validation(folder: Path, config: dict) -> None:
    """Prints the validation accuracy of a finished run, if it has one."""
    path = folder / "result.json"
    result = run_folder.read_result(path)
    score = result.get("ensemble_validation")
    if not score:
        return
    with refused(f"{path} is not the result of a run"):
        low, high = metrics.interval(score["accuracy"], score["rows"])
        kind = "out-of-bag " if score.get("out_of_bag") else ""
        biased = f"; {metrics.BIASED}" if result.get("chosen_on_validation") else ""
        told = f"{score['accuracy']:.2%} on {score['rows']:,} {kind}rows of {config['data']['origin']}"
        print(f"Validation accuracy of {folder.name}: {told} (95 % interval {low:.2%} to {high:.2%}{biased})")


def print_submission(out: Path, test: Images, leaked: int, handed_in: bool) -> None:
    """Prints the path of a submission, and whether and how it can be handed in to Kaggle.

    test: its Images. leaked: see print_accuracy. handed_in: bool, whether predict.py uploads it.
    """
    note = "" if handed_in or WORKING.exists() else f" (upload it at {UPLOAD}, or add --submit)"
    if not test.kaggle:
        note = " (not for Kaggle: these are not the competition's test rows)"
    if test.ids is not None:
        note = f" (with the ids of the test set's column {test.columns[0]!r})"
    if leaked:
        note = f" (not for Kaggle: {leaked:,} of its images were among the labelled images)"
    print(f"Submission: {out}{note}")
