# PYTHON_ARGCOMPLETE_OK
"""Predicts with trained runs, and writes submissions/NAME.csv for Kaggle's Digit Recognizer.

    python predict.py                          the newest finished run, on the test set of its own data
    python predict.py grenholm-1 deotte-1      several runs: the mean of all their nets' probabilities
    python predict.py --test kaggle            another test set: a source, or a CSV of pixels
    python predict.py --images photo.png scans/    photographs and scans, in any light
    python predict.py --submit "my first"      hand the CSV in by Kaggle's own client, too

In a Kaggle notebook, Kaggle's test rows are also written as /kaggle/working/submission.csv, which it hands in.
Test images whose labels a run has seen in training are refused, since their accuracy would say nothing.
Or hand the CSV in at https://www.kaggle.com/c/digit-recognizer/submit
"""

from pathlib import Path

from recognizer.base import cli
from recognizer.base.errors import UserError, refused
from recognizer.base.files import write_rows
from recognizer.data import image_files, sources
from recognizer.data.arrays import Images
from recognizer.reports import submission
from recognizer.runs import metrics, run_folder
from recognizer.training import predicting


def parser():
    p = cli.Parser(prog="predict.py", description=__doc__)
    names = p.add_argument("runs", nargs="*", metavar="RUN", help="names in runs/ (default: the newest finished one)")
    names.completer = run_folder.names
    group = p.add_argument_group("what to predict")
    what = group.add_mutually_exclusive_group()
    what.add_argument("--test", metavar="SOURCE", help="the test set (default: that of the runs' own data)")
    what.add_argument("--images", nargs="+", metavar="PATH", help="image files, or folders of them, instead")
    group.add_argument(
        "--allow-leak",
        action="store_true",
        help="predict images whose labels a run has seen all the same, into a file whose name ends in -leak",
    )
    group = p.add_argument_group("what becomes of it")
    group.add_argument("--out", type=Path, metavar="CSV", help="default: submissions/RUN.csv, by --test RUN-SOURCE.csv")
    group.add_argument("--probabilities", action="store_true", help="write CSV-probabilities.csv too, ten columns")
    group.add_argument("--submit", metavar="MESSAGE", help="hand it in by Kaggle's own client (pip install kaggle)")
    return p


def main(argv=None):
    arguments = parser().parse_args(argv)
    folders = run_folder.find_finished(arguments.runs)
    configs = [run_folder.read_config(folder) for folder in folders]
    name = "+".join(folder.name for folder in folders)
    suffix = "-images" if arguments.images else ""
    if arguments.test:  # beside the submission of the runs' own test set
        suffix = f"-{Path(arguments.test).name.split('.')[0]}"
    out = arguments.out or submission.SUBMISSIONS / f"{name}{suffix}.csv"
    submission.check_out(out)

    paths = None
    if arguments.images:
        paths, x = image_files.read_images(arguments.images)
        test = Images(x, None, "image files")
    else:
        test = test_set(arguments.test, configs)
    x, y, origin = test.x, test.y, test.origin
    leaked = run_folder.leaks(folders, test)
    if leaked and not arguments.allow_leak:
        raise UserError(
            f"{leaked:,} of these {len(x):,} test images ({origin}) were among the labelled ones that {name} had: "
            "predict others, or train on data without them (--allow-leak predicts them, in a file marked -leak)"
        )
    if arguments.submit is not None and (leaked or not test.kaggle):
        raise UserError(f"--submit hands in Kaggle's test rows only, and these are not ({origin}): give --test kaggle")
    if leaked:
        out = out.with_name(f"{out.stem}-leak.csv")
    table = out.with_name(f"{out.stem}-probabilities.csv")
    for path in [out, table] if arguments.probabilities else [out]:
        submission.check_out(path)
    preview = out.with_name(f"{out.stem}-preview.png")
    if preview.exists() and not out.exists():
        raise UserError(f"{preview} exists, and is of no predictions here: move it, or choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    from recognizer.data import competition
    from recognizer.reports import charts

    probabilities = predicting.mean_probabilities(folders, configs, test)
    predicted = probabilities.argmax(1)
    if paths is None:
        submission.write_submission(out, predicted)
    else:
        told = list(zip(paths, predicted, probabilities.max(1), strict=True))
        write_rows(out, [{"file": path, "label": label, "probability": f"{p:.4f}"} for path, label, p in told])
        for path, label, p in told:
            print(f"{path}: {label} ({p:.1%})")
    if arguments.probabilities:
        rows = [
            {"ImageId": i} | {f"p{k}": f"{p:.6f}" for k, p in enumerate(row)} for i, row in enumerate(probabilities, 1)
        ]
        write_rows(table, rows)
        print(f"Probabilities: {table}")
    picture = charts.save(charts.preview(x, probabilities, f"{name}, on {origin}"), preview)

    print(f"Predicted {len(x):,} images ({origin}) with {name}; the first of them: {picture}")
    if y is not None:
        wrong = int((predicted != y).sum())
        told = f"; {leaked:,} of them were trained on, so this is no measure of anything" if leaked else ""
        print(f"Test accuracy: {1 - wrong / len(y):.2%} ({wrong:,} of {len(y):,} wrong{told})")
    else:
        for folder, config in zip(folders, configs, strict=True):
            print_validation(folder, config)
    if paths is not None:
        print(f"Predictions: {out}")
    else:
        note = "" if test.kaggle else " (not for Kaggle: these are not the rows it asks for)"
        if leaked:
            note = f" (not for Kaggle: {leaked:,} of its images were trained on with their labels)"
        print(f"Submission: {out}{note}")
        if test.kaggle and not leaked:
            submission.write_where_kaggle_expects_it(out, predicted)
    if arguments.submit is not None:
        print(f"Kaggle: {competition.submit(out, arguments.submit)}")


def print_validation(folder, config):
    path = folder / "result.json"
    result = run_folder.read_result(path)
    part = result.get("ensemble_validation")
    if not part:
        return
    with refused(f"{path} is no run's"):
        low, high = metrics.interval(part["accuracy"], part["rows"])
        origin = config["data"]["origin"]
        kind = "out-of-bag " if part.get("out_of_bag") else ""
        biased = f"; {metrics.BIASED}" if result.get("chosen_on_validation") else ""
        print(
            f"Validation accuracy of {folder.name}: {part['accuracy']:.2%} on {part['rows']:,} {kind}rows of {origin} "
            f"(95 % interval {low:.2%} to {high:.2%}{biased})"
        )


def test_set(source, configs):
    """The test set to predict: `source`, or that of the runs' own data."""
    if source is not None:
        return sources.load_test(source)
    data = [config["data"] for config in configs]
    if len({d["fingerprint"] for d in data}) > 1:
        raise UserError("these runs were trained on different data: say by --test which test set to predict")
    return sources.load_test(data[0]["source"])


if __name__ == "__main__":
    cli.run(main)
