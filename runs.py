"""A run's folder, runs/NAME/: its settings, each net's log, checkpoint and result, and what is gathered at the end.

    config.json        every resolved setting, the seed, versions, git commit, the data's fingerprint
    net-01.csv         a row an epoch
    net-01.json        the net's result; there once the net is finished
    net-01.keras       the net, as Keras saves it
    net-01.checkpoint.npz, net-01.predictions.npz    while unfinished
    log.csv, result.json, predictions.npz, pictures  when all nets are finished

Every file is written whole or not at all. Nets share no file, so they can be trained apart and gathered after.
"""

import csv
import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np

from console import UserError, whole_file

RUNS = Path("runs")


def create(name, recipe, config):
    """Makes a new run's folder and its config.json; returns the folder (Path).

    name: None for `recipe` and the next free number. Raises UserError if the name is taken or no name for a folder.
    """
    if name is not None:
        folder = named(name)
        if folder.exists():
            raise UserError(f"run {name!r} exists: continue it with --resume, or choose another name")
    else:
        taken = [path.name for path in RUNS.glob(f"{recipe}-*")]
        numbers = [int(n.rsplit("-", 1)[1]) for n in taken if re.fullmatch(rf"{re.escape(recipe)}-\d+", n)]
        folder = RUNS / f"{recipe}-{max(numbers, default=0) + 1}"
    folder.mkdir(parents=True)  # fails if another process has just made it
    write_json(folder / "config.json", config)
    return folder


def named(name):
    """The folder of run `name`, which may be given as runs/NAME too."""
    name = str(name).removeprefix(f"{RUNS}/").strip("/")
    if not re.fullmatch(r"[\w][\w.+-]*", name):
        raise UserError(f"{name!r} is no name for a run: use letters, digits, '-', '_', '.' and '+'")
    return RUNS / name


def find(name):
    """The folder of an existing run."""
    folder = named(name)
    if not (folder / "config.json").is_file():
        known = sorted(path.parent.name for path in RUNS.glob("*/config.json"))
        raise UserError(f"no run {name!r} in {RUNS}/; there are: {', '.join(known) or 'none'}")
    return folder


def newest(finished):
    """The folder of the run started last that is (or is not) finished; UserError if there is none."""
    found = [path.parent for path in RUNS.glob("*/config.json") if is_finished(path.parent) == finished]
    if not found:
        what = "finished" if finished else "unfinished"
        raise UserError(f"there is no {what} run in {RUNS}/: python train.py makes one")
    return max(found, key=lambda folder: read_json(folder / "config.json")["created"])


def is_finished(folder):
    return (folder / "result.json").is_file()


def net_file(folder, net, suffix):
    """The path of a file of net number `net`, counted from 1: net-01.csv, .json, .keras ..."""
    return folder / f"net-{net:02d}{suffix}"


def write_json(path, value):
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path):
    """Raises UserError if the file is not there or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error})") from error


def write_rows(path, rows):
    """Writes dicts as a CSV whose columns are those of the first."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with whole_file(path) as temporary:
        temporary.write_bytes(text.getvalue().encode())


def read_rows(path):
    """Reads a CSV of numbers as dicts of floats."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def write_arrays(path, arrays, state=None):
    """Writes a dict of arrays, and `state` (JSON-able) with them, as an .npz."""
    extra = {} if state is None else {"state": np.array(json.dumps(state))}
    with whole_file(path) as temporary:
        np.savez(temporary, **arrays, **extra)


def read_arrays(path):
    """Returns (arrays, state) of `write_arrays`; None where there is no such file. UserError if it is damaged."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}): remove it to train this net anew") from error
    state = arrays.pop("state", None)
    return arrays, None if state is None else json.loads(state.item())


def score(probabilities, labels):
    """Accuracy and mean cross-entropy of float (n, 10) probabilities, as a dict of floats."""
    true = probabilities[np.arange(len(labels)), labels]
    return {
        "accuracy": float(np.mean(probabilities.argmax(1) == labels)),
        "loss": float(np.mean(-np.log(np.clip(true, 1e-7, 1)))),
    }


def gather(folder, config, train_labels, test_labels):
    """When every net is finished: writes log.csv, predictions.npz and result.json; returns the result.

    train_labels: uint8 of all labelled rows. test_labels: uint8, or None where they are not known.
    predictions.npz holds validation_rows_01 (row numbers of the labelled data, from 0), validation_01 and test_01
    (float32 probabilities) for net 1, and so on.
    """
    nets = range(1, config["nets"] + 1)
    results = [read_json(net_file(folder, net, ".json")) for net in nets]
    predictions = {}
    for net in nets:
        arrays, _ = read_arrays(net_file(folder, net, ".predictions.npz"))
        predictions |= {f"{key}_{net:02d}": value for key, value in arrays.items()}
    rows = []
    for net in nets:
        with open(net_file(folder, net, ".csv"), newline="", encoding="utf-8") as file:
            rows += [{"net": net} | row for row in csv.DictReader(file)]
    write_rows(folder / "log.csv", rows)

    result = {
        "recipe": config["recipe"],
        "nets": config["nets"],
        "parameters": results[0]["parameters"],
        "seconds": sum(net["seconds"] for net in results),
        "chosen_on_validation": config["weights"] == "best",
    }
    for part in ("validation_accuracy", "test_accuracy", "test_accuracy_augmented"):
        values = [net[part] for net in results if part in net]
        if values:
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            result[part] = {"mean": float(np.mean(values)), "spread": spread, "n": len(values)}
    rows, probabilities = out_of_bag(predictions, len(train_labels), nets)
    if len(rows):
        result["ensemble_validation"] = score(probabilities, train_labels[rows]) | {
            "rows": len(rows),
            "coverage": len(rows) / len(train_labels),
            "out_of_bag": config["bagging"],
        }
    test = [predictions[f"test_{net:02d}"] for net in nets if f"test_{net:02d}" in predictions]
    if test and test_labels is not None:
        result["ensemble_test"] = score(np.mean(test, axis=0), test_labels) | {"rows": len(test_labels)}
    write_arrays(folder / "predictions.npz", predictions)
    write_json(folder / "result.json", result)
    for net in nets:
        net_file(folder, net, ".predictions.npz").unlink(missing_ok=True)
        net_file(folder, net, ".checkpoint.npz").unlink(missing_ok=True)
    return result


def out_of_bag(predictions, n, nets):
    """The mean probabilities of the nets that did not train on a row, for the rows where there is any.

    Returns (rows, float64 (len(rows), 10)). With one split for all nets these are simply its validation rows.
    """
    total, count = np.zeros((n, 10)), np.zeros(n, int)
    for net in nets:
        rows = predictions.get(f"validation_rows_{net:02d}", np.arange(0))
        if len(rows):
            total[rows] += predictions[f"validation_{net:02d}"]
            count[rows] += 1
    rows = np.flatnonzero(count)
    return rows, total[rows] / count[rows, None]
