# PYTHON_ARGCOMPLETE_OK
"""Predicts with trained runs, and writes submissions/NAME.csv for Kaggle's Digit Recognizer.

    python predict.py                          the newest finished run, on the test set of its own data
    python predict.py grenholm-1 deotte-1      several runs: the mean of all their nets' probabilities
    python predict.py --test kaggle            another test set: a source, or any file or folder of images
    python predict.py --images photo.jpg scans/    digits and numbers on photographs and scans, in any light
    python predict.py single-1 --images scans/     the same by run single-1
    python predict.py --submit "my first"      also upload the CSV by Kaggle's own client, with this message

To upload the CSV by hand: https://www.kaggle.com/c/digit-recognizer/submit
In a Kaggle notebook the predictions are also written to /kaggle/working/submission.csv, which its Submit button takes.
Test images that were among a run's labelled images are refused, since their accuracy would say nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from recognizer.base import cli, program
from recognizer.base.errors import UserError
from recognizer.base.words import plural
from recognizer.data import image_files, segments
from recognizer.data.arrays import Images
from recognizer.reports import submission
from recognizer.runs import metrics, run_folder
from recognizer.training import predicting

if TYPE_CHECKING:
    import numpy as np

Pictures = tuple[list[segments.Picture], list[str]]  # and messages about unreadable files


def parser() -> cli.Parser:
    p = cli.Parser(prog="predict.py", description=__doc__)
    run_folder.add_run_argument(p, "*")
    group = p.add_argument_group("what to predict")
    what = group.add_mutually_exclusive_group()
    what.add_argument("--test", metavar="SOURCE", help="the test set (default: that of the runs' own data)")
    what.add_argument(
        "--images",
        nargs="+",
        metavar="PATH",
        help="predict pictures instead of a test set: files, folders, zips or tars",
    )
    leak = "also predict images that were among a run's labelled images, into a file whose name ends in -leak"
    group.add_argument("--allow-leak", action="store_true", help=leak)
    group = p.add_argument_group("output")
    group.add_argument(
        "--out",
        type=Path,
        metavar="CSV",
        help="the file (default: submissions/RUN.csv; RUN-SOURCE.csv for --test, RUN-images.csv for --images)",
    )
    group.add_argument("--probabilities", action="store_true", help="also write NAME-probabilities.csv, ten columns")
    group.add_argument("--submit", metavar="MESSAGE", help="upload the CSV by Kaggle's own client (pip install kaggle)")
    return p


def main(argv: list[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    folders = run_folder.find_finished(arguments.run)
    configs = [run_folder.read_config(folder) for folder in folders]
    name = "+".join(folder.name for folder in folders)
    out = output(arguments, name)
    submission.check_out(out)
    pictures, test = images_to_predict(arguments, configs)
    leaked = run_folder.leaks(folders, test)
    for note in test.notes:
        print(f"{test.origin}: {note}", file=sys.stderr)
    refuse_leaks(arguments, name, test, leaked)
    if leaked:
        out = out.with_name(f"{out.stem}-leak.csv")
    submission.check_outputs(out, arguments.probabilities)

    what = plural(len(test.x), "image")
    if pictures is not None:  # the probabilities decide which possible digits are digits
        what = f"{plural(len(test.x), 'shape')} in {plural(len(pictures[0]), 'picture')}"
    mean = predicting.mean_probabilities(folders, configs, test, what)
    temperature = predicting.temperature(folders, configs)
    if arguments.images or arguments.test not in (None, "digits"):
        warn_of_small_digits(configs)
    if pictures is not None:
        origins = dict.fromkeys(config["data"]["origin"] for config in configs)
        print(f"Learned from: {'; '.join(origins)}")
        return finish_pictures(out, *pictures, mean, temperature, name, arguments.probabilities)
    probabilities = metrics.sharpened(mean, temperature)
    predicted = probabilities.argmax(1)
    submission.write_all(out, test, probabilities, f"{name}, on {test.origin}", arguments.probabilities)
    preview = submission.beside(out, "preview.png")
    print(f"Predicted {len(test.x):,} images ({test.origin}) with {name}; preview: {preview}")
    submission.print_accuracy(folders, configs, test, predicted, leaked)
    submission.print_submission(out, test, leaked, handed_in=arguments.submit is not None)
    if test.kaggle and not leaked:
        submission.write_where_kaggle_expects_it(out, predicted, test)
    if arguments.submit is not None:
        from recognizer.data import competition

        print(f"Kaggle: {competition.submit(out, arguments.submit)}")


def images_to_predict(arguments: argparse.Namespace, configs: list[dict]) -> tuple[Pictures | None, Images]:
    """Returns (the Pictures of --images, or None without --images; the Images to predict).

    Raises UserError if --images names a run.
    """
    if not arguments.images:
        return None, predicting.test_set(arguments.test, configs)
    for path in map(Path, arguments.images):
        if run_folder.is_run(path) or (not path.exists() and run_folder.is_run(run_folder.RUNS / path)):
            raise UserError(f"{path} is a run: name runs before --images, as in predict.py {path.name} --images PATH")
    pictures, faults, skipped = image_files.read_pictures(arguments.images)
    submission.print_skipped(skipped)
    return (pictures, faults), Images(segments.images(pictures), None, "image files")


def warn_of_small_digits(configs: list[dict]) -> None:
    """Prints a warning on stderr if the nets learned from scikit-learn's small digits only."""
    if all(config["data"]["source"] == "digits" for config in configs):
        remedy = "train on Kaggle's digits or MNIST to predict others (--data kaggle, --data mnist)"
        print(f"predict.py: the nets learned from digits of 8x8 pixels only: {remedy}", file=sys.stderr)


def finish_pictures(
    out: Path,
    pictures: list[segments.Picture],
    faults: list[str],
    probabilities: np.ndarray,
    temperature: float,
    name: str,
    with_probabilities: bool,
) -> None:
    """Writes and prints the digits in pictures. Then raises UserError if some files could not be read."""
    readings = segments.digits(pictures, probabilities, lambda raw: metrics.sharpened(raw, temperature))
    submission.write_readings(out, pictures, readings, f"{name}, on image files", with_probabilities)
    n = sum(map(len, readings))
    what = f"{plural(n, 'digit')} in {plural(len(pictures), 'picture')}"
    print(f"Found {what}, and predicted with {name}; preview: {submission.beside(out, 'preview.png')}")
    print(f"Predictions: {out}")
    submission.print_unread(pictures, readings)
    submission.check_files(out, pictures, faults)


def output(arguments: argparse.Namespace, name: str) -> Path:
    """Returns the path of the predictions: --out, or a name made from the runs and the test set."""
    suffix = "-images" if arguments.images else ""
    if arguments.test:  # else the submission for the runs' own test set would be overwritten
        path = Path(arguments.test)
        path = path if path.name.strip(".") else path.resolve()  # "." and ".." have no name
        suffix = f"-{submission.ENDINGS.sub('', path.name)}"
        if suffix == "-test" and path.parent.name:  # a common name
            suffix = f"-{path.parent.name}-test"
    return arguments.out or submission.SUBMISSIONS / f"{run_folder.short(f'{name}{suffix}')}.csv"


def refuse_leaks(arguments: argparse.Namespace, name: str, test: Images, leaked: int) -> None:
    """Raises UserError for leaked images without --allow-leak, or if --submit is not allowed for these images."""
    if leaked and not arguments.allow_leak:
        told = f"{leaked:,} of these {len(test.x):,} test images ({test.origin}) were among the labelled images"
        raise UserError(
            f"{told} of {name}: predict other images, or add --allow-leak (the CSV's name then ends in -leak)"
        )
    if arguments.submit is not None and (leaked or not test.kaggle):
        raise UserError(
            f"--submit cannot upload predictions of {test.origin}: it takes Kaggle's test rows only (--test kaggle), "
            "and no leaked rows"
        )


if __name__ == "__main__":
    program.run(main)
