"""The files that predict.py writes, submissions first, and the lines that it prints about them."""

import os
import re
import sys
from pathlib import Path

from recognizer.base.errors import UserError, refused
from recognizer.base.files import write_rows
from recognizer.runs import metrics, run_folder

SUBMISSIONS = Path("submissions")
WORKING = Path("/kaggle/working")  # the output of a Kaggle notebook, which submits its submission.csv
STARTS = b"ImageId,", b"file,label,probability"  # of the files that may be overwritten
COLUMNS = re.compile(rb"[^,\n]*,[^,\n]*\r?\n")  # of other submissions, which may be if a preview lies beside them


def check_out(path):
    """Raises UserError if `path` is not a CSV's, or if writing to it would overwrite a file of another kind."""
    if path.suffix.lower() != ".csv":
        raise UserError(f"--out must name a .csv file, not {path}")
    if path.is_dir():
        raise UserError(f"{path} is a folder")
    if path.exists():
        with open(path, "rb") as file:
            start = file.read(100)
        if not start.startswith(STARTS) and not (COLUMNS.match(start) and beside(path, "preview.png").exists()):
            raise UserError(f"{path} exists and is not a submission: choose another name, or remove it")


def check_outputs(out, probabilities):
    """Raises UserError if writing `out` and the files beside it would overwrite files of another kind.

    probabilities: whether they are written, too.
    """
    for path in [out, *[beside(out, "probabilities.csv")] * probabilities]:
        check_out(path)
    preview = beside(out, "preview.png")
    if preview.exists() and not out.exists():
        raise UserError(f"{preview} exists, and is not of predictions here: move it, or choose another --out")


def beside(out, what):
    """Returns the path of a file that is written beside the CSV `out`: its name begins with that of `out`."""
    return out.with_name(f"{out.stem}-{what}")


def write_all(out, test, files, probabilities, title, with_probabilities):
    """Writes predictions to `out`, a submission or by file names, and the preview and the probabilities beside it.

    test: Images. files: their names, or None for a submission. probabilities: (n, 10).
    """
    from recognizer.reports import charts

    out.parent.mkdir(parents=True, exist_ok=True)
    if files is None:
        write_submission(out, probabilities.argmax(1), test)
    else:
        write_labels_of_files(out, files, probabilities)
    if with_probabilities:
        (column, _), ids = test.named()
        numbered = zip(ids, probabilities, strict=True)
        rows = [{column: i} | {f"p{k}": f"{p:.6f}" for k, p in enumerate(row)} for i, row in numbered]
        write_rows(beside(out, "probabilities.csv"), rows)
        print(f"Probabilities: {beside(out, 'probabilities.csv')}")
    charts.save(charts.preview(test.x, probabilities, title), beside(out, "preview.png"))


def write_submission(path, labels, test):
    """Writes the labels of Images in Kaggle's form, ImageId (from 1) and Label, or by the images' own ids."""
    (first, second), ids = test.named()
    write_rows(path, [{first: i, second: label} for i, label in zip(ids, labels, strict=True)])


def write_labels_of_files(path, files, probabilities):
    """Writes, and prints, the label and its probability of each of some image files."""
    predicted = list(zip(files, probabilities.argmax(1), probabilities.max(1), strict=True))
    write_rows(path, [{"file": file, "label": label, "probability": f"{p:.4f}"} for file, label, p in predicted])
    for file, label, p in predicted:
        print(f"{file}: {label} ({p:.1%})")


def write_where_kaggle_expects_it(out, labels, test):
    """Writes the submission again as /kaggle/working/submission.csv, in a Kaggle notebook."""
    path = WORKING / "submission.csv"
    if not os.access(WORKING, os.W_OK) or path.resolve() == out.resolve():
        return
    if path.exists() and not (path.is_file() and path.read_bytes().startswith(b"ImageId,Label")):
        print(f"{path} is not a submission, so it was not overwritten", file=sys.stderr)
        return
    write_submission(path, labels, test)
    print(f"Submission: {path}, the same for Kaggle's Submit button")


def print_accuracy(folders, configs, test, predicted, leaked):
    """Prints the accuracy of predicted labels, or if the test set has no labels the runs' validation accuracies.

    leaked: how many of the test images the runs had with their labels.
    """
    if test.y is None:
        for folder, config in zip(folders, configs, strict=True):
            print_validation(folder, config)
        return
    wrong = int((predicted != test.y).sum())
    note = f"; {leaked:,} of them were trained on, so this measures nothing" if leaked else ""
    print(f"Test accuracy: {1 - wrong / len(test.y):.2%} ({wrong:,} of {len(test.y):,} wrong{note})")


def print_validation(folder, config):
    """Prints the validation accuracy of a finished run, if it has one."""
    path = folder / "result.json"
    result = run_folder.read_result(path)
    score = result.get("ensemble_validation")
    if not score:
        return
    with refused(f"{path} is not a run's"):
        low, high = metrics.interval(score["accuracy"], score["rows"])
        kind = "out-of-bag " if score.get("out_of_bag") else ""
        biased = f"; {metrics.BIASED}" if result.get("chosen_on_validation") else ""
        told = f"{score['accuracy']:.2%} on {score['rows']:,} {kind}rows of {config['data']['origin']}"
        print(f"Validation accuracy of {folder.name}: {told} (95 % interval {low:.2%} to {high:.2%}{biased})")


def print_submission(out, test, leaked):
    """Prints where a submission is, and whether it is for Kaggle. test: the Images that it labels."""
    note = "" if test.kaggle else " (not for Kaggle: these are not the rows it asks for)"
    if test.ids is not None:
        note = f" (the column {test.columns[0]!r} as in the test set)"
    if leaked:
        note = f" (not for Kaggle: {leaked:,} of its images were trained on with their labels)"
    print(f"Submission: {out}{note}")
