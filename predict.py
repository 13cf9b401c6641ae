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

import contextlib
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np

import console
import dataset
import handwriting
import runs
from console import UserError, duration, refused, whole_file

SUBMISSIONS = Path("submissions")
WORKING = Path("/kaggle/working")  # the output of a Kaggle notebook, which submits its submission.csv
SLOW = 5  # seconds before a line says that predicting is under way, without a terminal
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


def parser():
    p = console.Parser(prog="predict.py", description=__doc__)
    names = p.add_argument("runs", nargs="*", metavar="RUN", help="names in runs/ (default: the newest finished one)")
    names.completer = runs.names
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
    folders = runs.chosen(arguments.runs)
    configs = [runs.read_config(folder) for folder in folders]
    name = "+".join(folder.name for folder in folders)
    suffix = "-images" if arguments.images else ""
    if arguments.test:  # beside the submission of the runs' own test set
        suffix = f"-{Path(arguments.test).name.split('.')[0]}"
    out = arguments.out or SUBMISSIONS / f"{name}{suffix}.csv"
    check_out(out)

    paths = None
    if arguments.images:
        paths, x = read_images(arguments.images)
        test = dataset.Images(x, None, "image files")
    else:
        test = test_set(arguments.test, configs)
    x, y, origin = test.x, test.y, test.origin
    leaked = leaks(folders, test)
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
        check_out(path)
    preview = out.with_name(f"{out.stem}-preview.png")
    if preview.exists() and not out.exists():
        raise UserError(f"{preview} exists, and is of no predictions here: move it, or choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    import plots

    probabilities = mean_probabilities(folders, configs, test)
    predicted = probabilities.argmax(1)
    if paths is None:
        write_submission(out, predicted)
    else:
        told = list(zip(paths, predicted, probabilities.max(1), strict=True))
        runs.write_rows(out, [{"file": path, "label": label, "probability": f"{p:.4f}"} for path, label, p in told])
        for path, label, p in told:
            print(f"{path}: {label} ({p:.1%})")
    if arguments.probabilities:
        rows = [
            {"ImageId": i} | {f"p{k}": f"{p:.6f}" for k, p in enumerate(row)} for i, row in enumerate(probabilities, 1)
        ]
        runs.write_rows(table, rows)
        print(f"Probabilities: {table}")
    picture = plots.save(plots.preview(x, probabilities, f"{name}, on {origin}"), preview)

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
            write_where_kaggle_expects_it(out, predicted)
    if arguments.submit is not None:
        import competition

        print(f"Kaggle: {competition.submit(out, arguments.submit)}")


def leaks(folders, test):
    """How many images of a test set were among the labelled ones that any of the runs had, by their exact pixels."""
    hashes = test.image_hashes()
    return int(np.any([np.isin(hashes, runs.read_seen(folder)) for folder in folders], axis=0).sum())


def print_validation(folder, config):
    path = folder / "result.json"
    result = runs.read_result(path)
    part = result.get("ensemble_validation")
    if not part:
        return
    with refused(f"{path} is no run's"):
        low, high = runs.interval(part["accuracy"], part["rows"])
        origin = config["data"]["origin"]
        kind = "out-of-bag " if part.get("out_of_bag") else ""
        biased = f"; {runs.BIASED}" if result.get("chosen_on_validation") else ""
        print(
            f"Validation accuracy of {folder.name}: {part['accuracy']:.2%} on {part['rows']:,} {kind}rows of {origin} "
            f"(95 % interval {low:.2%} to {high:.2%}{biased})"
        )


def test_set(source, configs):
    """The test set to predict: `source`, or that of the runs' own data."""
    if source is not None:
        return dataset.load_test(source)
    data = [config["data"] for config in configs]
    if len({d["fingerprint"] for d in data}) > 1:
        raise UserError("these runs were trained on different data: say by --test which test set to predict")
    return dataset.load_test(data[0]["source"])


def mean_probabilities(folders, configs, test):
    """Returns the mean probabilities of every net of the runs, float64 (n, 10), for a dataset.Images.

    Probabilities that training has stored are not computed again. If all are stored, Keras is not imported.
    """
    known = [runs.read_test_predictions(folder, config, test) for folder, config in zip(folders, configs, strict=True)]
    left = [i for i, found in enumerate(known) if found is None]
    if same := [folder.name for folder, found in zip(folders, known, strict=True) if found is not None]:
        print(f"Already predicted when trained: {', '.join(same)}")
    if left:
        computed = computed_probabilities([folders[i] for i in left], [configs[i] for i in left], test.x)
        for i, found in zip(left, computed, strict=True):
            known[i] = found
    total = np.zeros((len(test.x), 10))
    for probabilities in (of_net for of_run in known for of_net in of_run):
        total += probabilities
    return total / sum(config["nets"] for config in configs)


def computed_probabilities(folders, configs, x):
    """Returns each run's list of its nets' probabilities, float32 (n, 10), for images uint8 (n, 28, 28)."""
    console.import_keras()
    import keras

    import fit
    import gpu
    import layers

    gpu.print_advice()
    computed, compiled = [], fit.Compiled()
    with progress(len(x), sum(config["nets"] for config in configs)) as begin_net:
        for folder, config in zip(folders, configs, strict=True):
            precision = layers.native_precision(config["precision"])
            computed.append([])
            for net, model in enumerate(saved_nets(folder, config), 1):
                begin_net(sum(map(len, computed)))
                dtypes = runs.read_result(runs.net_file(folder, net, ".json")).get("dtypes")
                computed[-1].append(compiled.predictor(model, precision, dtypes).predict(x, config["test_shift"]))
                keras.backend.clear_session()
    return computed


@contextlib.contextmanager
def progress(images, nets):
    """Shows progress: on a terminal the net and the time left, elsewhere one line if predicting takes a while.

    Yields a function to call before each net, with the number of nets done.
    """
    what = f"Predicting {images:,} images with {nets} net{'s' * (nets > 1)}"
    if not sys.stdout.isatty():
        told = threading.Timer(SLOW, print, [f"{what} ..."], {"flush": True})
        told.start()
        try:
            yield lambda done: None
        finally:
            told.cancel()
        return

    started, width = time.perf_counter(), shutil.get_terminal_size().columns - 1

    def show(line):
        print(f"\r{line[:width]:<{width}}\r", end="", flush=True)

    def begin_net(done):
        left = f", {duration((time.perf_counter() - started) / done * (nets - done))} left" if done else ""
        show(f"{what}: net {done + 1}/{nets}{left}")

    try:
        yield begin_net
    finally:
        show("")


def saved_nets(folder, config):
    """The keras.Models of a run, one after the other."""
    import nets

    for net in range(1, config["nets"] + 1):
        result = runs.read_result(runs.net_file(folder, net, ".json"), "parameters")
        yield nets.read_net(runs.net_file(folder, net, ".keras"), result["parameters"])


def read_images(paths):
    """Returns (file names, uint8 (n, 28, 28)) of image files and folders of them, in order."""
    files = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not found:
                raise UserError(f"{path} holds no image files ({', '.join(sorted(SUFFIXES))})")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f"there is no image at {path}")
    return files, np.stack([handwriting.read_image(file) for file in files])


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


if __name__ == "__main__":
    console.run(main)
