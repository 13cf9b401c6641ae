# PYTHON_ARGCOMPLETE_OK
"""A run's folder, runs/NAME/: its settings, each net's log, checkpoint and result, and what is gathered at the end.

    config.json        every resolved setting, the seed, versions, git commit, the data's fingerprint
    seen.npy           a hash of each labelled image that the run had, for predict.py's leak guard
    net-01.csv         a row an epoch
    net-01.steps.csv   a row for every step: the loss and the learning rate
    net-01.json        the net's result; there once the net is finished
    net-01.keras       the net, as Keras saves it
    .lock              locked by the process that trains the run
    net-01.checkpoint-0.npz, net-01.checkpoint-1.npz, net-01.predictions.npz    while unfinished
    log.csv, result.json, predictions.npz, pictures  when all nets are finished

Every file is written whole or not at all. Nets share no file, so they can be trained apart and gathered after.

    python runs.py                           the runs, the best validation accuracy first
    python runs.py --html runs.html          as a page whose columns can be sorted; --csv runs.csv as a table
    python runs.py diff single-1 single-2    which settings and which digits differ, with McNemar's test
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import shutil
import sys
import time
import zipfile
from pathlib import Path

import numpy as np

import console
import recipes
from console import UserError, choose, reason, refused, remove_temporaries, whole_file

RUNS = Path("runs")
BIASED = "biased upward: the epoch was chosen on these rows"


def create(name, recipe, config, seen):
    """Makes a new run's folder, its config.json and seen.npy; returns the folder (Path).

    name: None for `recipe` and the next free number. seen: uint64, dataset.Images.image_hashes of the labelled images.
    Raises UserError if the name is taken or no name for a folder.
    """
    _need_filelock()  # before anything is made: the run is locked next
    if name is not None:
        folder = named(name)
        if folder.exists():
            raise UserError(f"run {name!r} exists: continue it with --resume, or choose another name")
    else:
        numbers = [re.fullmatch(rf"{re.escape(recipe)}-(\d+)", path.name) for path in RUNS.glob("*")]
        folder = RUNS / f"{recipe}-{max((int(number[1]) for number in numbers if number), default=0) + 1}"
    new = RUNS / f".{folder.name}.{os.getpid()}"  # renamed when complete, so that a run has its settings from the first
    for left in RUNS.glob(".*.*/"):
        if time.time() - left.stat().st_mtime > 3600:  # seconds; of a process that died while it was here
            shutil.rmtree(left, ignore_errors=True)
    try:
        new.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # written by Python, whose errors say what the system said, where NumPy's do not
        np.save(content, np.unique(seen))
        with whole_file(new / "seen.npy") as temporary:
            temporary.write_bytes(content.getvalue())
        write_json(new / "config.json", config)
        new.rename(folder)  # fails if another process has just made it
    except OSError as error:
        if name is None and folder.exists():
            return create(name, recipe, config, seen)  # with the next number
        if folder.exists():
            raise UserError(f"run {name!r} exists: another process has just started it") from error
        raise UserError(f"{folder} cannot be made ({reason(error)})") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


@contextlib.contextmanager
def locked(folder):
    """Keeps a run to this process while the block lasts. Raises UserError if another process has it.

    The lock is on a file of its own, which nothing replaces or removes; the operating system frees it however the
    process ends. Temporary files that a dead process left in the folder are removed.
    """
    _need_filelock()
    import filelock

    path = folder / ".lock"
    if not folder.is_dir():  # filelock would create it
        raise UserError(f"{folder} no longer exists")
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"run {folder.name!r} is being trained by another process") from None
    except (OSError, NotImplementedError) as error:
        raise UserError(f"{path} cannot be locked ({reason(error)})") from error
    try:
        remove_temporaries(folder)
        yield
    finally:
        lock.release()


def _need_filelock():
    console.need("filelock", "python -m pip install -r requirements.txt (or requirements-jax.txt)")


def record_source(folder, config):
    """Writes where a run's data is now to its config.json, if it has moved. The run must be locked."""
    written = read_json(folder / "config.json")
    if written["data"] != config["data"]:
        write_json(folder / "config.json", written | {"data": config["data"]})


def read_config(folder):
    """A run's config.json, checked as it may come from elsewhere; settings that are newer than the run are added."""
    path = folder / "config.json"
    config = read_json(path)
    if not isinstance(config, dict):
        raise UserError(f"{path} is no run's: an object of settings is needed")
    config = recipes.DEFAULTS | {"tensorboard": False, "deterministic": False} | config
    kinds = dict(recipe=str, seed=int, precision=str, augment_engine=str, data=dict, created=str)
    kinds |= dict(tensorboard=bool, deterministic=bool) | dict.fromkeys({"steps_per_call"} & config.keys(), int)
    for key, kind in kinds.items():
        if not isinstance(config.get(key), kind):
            raise UserError(f"{path}: {key} is missing or no {kind.__name__}: this is no run's")
    choose(f"value in {path} for precision:", config["precision"], ("float32", "bfloat16", "float16"))
    choose(f"value in {path} for augment_engine:", config["augment_engine"], ("batch", "keras"))
    command = config.setdefault("command", [])
    if not isinstance(command, list) or not all(isinstance(part, str) for part in command):
        raise UserError(f"{path}: command is no list of texts: this is no run's")
    for key in ("source", "origin", "fingerprint"):
        if not isinstance(config["data"].get(key), str):
            raise UserError(f"{path}: data.{key} is missing or no text: this is no run's")
    try:
        recipes.check_seed("seed", config["seed"])
        recipes.check(config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return config


def check_data(folder, config, digits):
    """Raises UserError if a run's data (dataset.Digits) is not what it was when the run was started."""
    if digits.train.fingerprint() != config["data"]["fingerprint"]:
        if digits.train.origin != config["data"]["origin"]:
            raise UserError(
                f"run {folder.name!r} was started on {config['data']['origin']}, which {digits.train.origin} is not: "
                "give by --data where that is now"
            )
        raise UserError(f"{digits.train.origin} has changed since run {folder.name!r} was started")
    test = digits.test.fingerprint() if digits.test else None
    if test != config["data"].get("test_fingerprint", test):
        raise UserError(f"the test set of {digits.train.origin} has changed since run {folder.name!r} was started")


def read_result(path, *needed):
    """A JSON file of a run's results, which may come from elsewhere: an object that has the keys `needed`."""
    result = read_json(path)
    if not isinstance(result, dict) or not result.keys() >= set(needed):
        raise UserError(f"{path} is no run's: an object with {', '.join(needed) or 'results'} is needed")
    return result


def read_seen(folder):
    """The hashes of the labelled images that a run had: uint64, sorted."""
    path = folder / "seen.npy"
    if not path.is_file():
        raise UserError(
            f"run {folder.name!r} has no {path.name}, which tells what it was trained on: "
            f"python train.py --repeat {folder.name} trains it again"
        )
    with refused(f"{path} cannot be read"):
        seen = np.load(path, allow_pickle=False, mmap_mode="r")  # no more than the file's own size
        if seen.dtype != np.uint64 or seen.ndim != 1:
            raise ValueError(f"it is {seen.dtype} {seen.shape}, where uint64 (n,) is needed")
        return seen


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
        raise UserError(f"no run {name!r} in {RUNS}/; there are: {', '.join(sorted(names())) or 'none'}")
    return folder


def chosen(names):
    """The folders of finished runs, by name and each once; of no names, the newest finished one."""
    folders = list(dict.fromkeys(find(name) for name in names)) or [newest(finished=True)]
    for folder in folders:
        check_finished(folder)
    return folders


def names(**_):
    """The names of all runs, as the shell completes them."""
    return [folder.name for folder in all_runs()]


def all_runs():
    """The folders of all runs."""
    return [path.parent for path in RUNS.glob("[!.]*/config.json")]


def newest(finished):
    """The folder of the run finished last, or of the unfinished one started last; UserError if there is none.

    A run that is damaged is told of on stderr, and left out.
    """
    found = {}
    for folder in all_runs():
        if is_finished(folder) == finished:
            try:
                created = read_config(folder)["created"]
                found[folder] = (folder / "result.json").stat().st_mtime if finished else created
            except UserError as error:
                print(f"{error}: left out", file=sys.stderr)
    if not found:
        what = "finished" if finished else "unfinished"
        raise UserError(f"there is no {what} run in {RUNS}/: python train.py makes one")
    return max(found, key=found.get)


def is_finished(folder):
    return (folder / "result.json").is_file()


def check_finished(folder):
    if not is_finished(folder):
        raise UserError(f"run {folder.name!r} is not finished: python train.py --run {folder.name} --resume")


def flat(settings, prefix=""):
    """{"schedule.decay": 0.9, ...} of settings within settings."""
    found = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


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
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({reason(error)})") from error


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


def write_arrays(path, arrays):
    """Writes a dict of arrays as an .npz."""
    with whole_file(path) as temporary:
        np.savez(temporary, **arrays)


def read_arrays(path):
    """Returns the arrays of an .npz as a dict. Raises UserError if it is damaged."""
    with refused(f"{path} is damaged"):
        with zipfile.ZipFile(path) as file:
            if any(member.compress_type != zipfile.ZIP_STORED for member in file.infolist()):
                raise ValueError("it is packed, which these files are not")
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}


def read_predictions(path, digits):
    """The arrays of a predictions.npz (see `gather`), a run's or a net's, checked as they may come from elsewhere.

    digits: the run's dataset.Digits. Raises UserError if the arrays are not theirs.
    """
    arrays, labelled = read_arrays(path), np.arange(len(digits.train.x))
    for key, array in arrays.items():
        if key.startswith("validation_rows"):
            sound = array.ndim == 1 and array.dtype.kind in "iu" and np.isin(array, labelled).all()
            sound = sound and (key.replace("_rows", "") in arrays or not len(array))
        else:
            rows = arrays.get(key.replace("validation", "validation_rows")) if "validation" in key else None
            n = len(rows) if rows is not None else len(digits.test.x) if digits.test else 0
            sound = array.dtype == np.float32 and array.shape == (n, 10)
        if not sound:
            raise UserError(f"{path} is not of this run's data: {key} is {array.dtype} {array.shape}")
    return arrays


def checksums(folder, net, arrays):
    """Returns SHA-256 checksums of a saved net and its test predictions, which `read_test_predictions` verifies."""
    test = {"test": _checksum({"test": arrays["test"]})} if "test" in arrays else {}
    return {"net": _file_checksum(net_file(folder, net, ".keras"))} | test


def read_test_predictions(folder, config, test):
    """Returns the probabilities that training stored for a run's own test set: a list of float32 (n, 10), by net.

    test: dataset.Images. Returns None if this is another test set, if the run is older than its checksums, or if a net
    or the predictions have changed since training, which is reported on stderr.
    """
    if test.fingerprint() != config["data"].get("test_fingerprint"):
        return None
    nets = range(1, config["nets"] + 1)
    recorded = [read_result(net_file(folder, net, ".json")).get("checksums") for net in nets]
    if not all(isinstance(sums, dict) and sums.keys() >= {"net", "test"} for sums in recorded):
        return None
    path, found = folder / "predictions.npz", []
    try:
        arrays = read_arrays(path)
        for net, sums in zip(nets, recorded, strict=True):
            if _file_checksum(net_file(folder, net, ".keras")) != sums["net"]:
                raise UserError(f"{net_file(folder, net, '.keras')} has changed since it was trained")
            found.append(arrays.get(f"test_{net:02d}", np.zeros(0)))
            if found[-1].shape != (len(test.x), 10) or _checksum({"test": found[-1]}) != sums["test"]:
                raise UserError(f"{path} has changed since net {net} was trained")
    except (OSError, UserError) as error:
        print(f"{reason(error)}: predicting anew", file=sys.stderr)
        return None
    return found


def write_checkpoint(folder, net, arrays, state):
    """Writes a dict of arrays and `state` (JSON-able, with its "epoch") with a checksum, over the last but one."""
    arrays = arrays | {"state": np.array(json.dumps(state))}
    arrays["checksum"] = np.array(_checksum(arrays))
    write_arrays(checkpoints(folder, net)[state["epoch"] % 2], arrays)


def read_checkpoint(folder, net):
    """Returns (arrays, state) of the last checkpoint that is sound; None where there is none.

    One that is damaged is told of on stderr.
    """
    found = []
    for path in checkpoints(folder, net):
        if path.is_file():
            try:
                with refused(f"{path} is damaged"):
                    arrays = read_arrays(path)
                    if arrays.pop("checksum").item() != _checksum(arrays):
                        raise ValueError("its checksum is another")
                    state = json.loads(arrays.pop("state").item())
                    found.append((int(state["epoch"]), arrays, state))
            except UserError as error:
                print(f"{error}: going on without it", file=sys.stderr)
    return max(found, key=lambda checkpoint: checkpoint[0])[1:] if found else None


def remove_checkpoints(folder, net):
    for path in checkpoints(folder, net):
        path.unlink(missing_ok=True)


def checkpoints(folder, net):
    """The paths of a net's two generations of checkpoint, which are written in turn."""
    return [net_file(folder, net, f".checkpoint-{generation}.npz") for generation in (0, 1)]


def _checksum(arrays):
    digest = hashlib.sha256()
    for key in sorted(arrays):
        array = np.asarray(arrays[key])
        digest.update(f"{key} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8))
    return digest.hexdigest()


def _file_checksum(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identical(first, second):
    """Whether two dicts of arrays are the same, bit for bit."""
    return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)


def score(probabilities, labels):
    """Accuracy and mean cross-entropy of float (n, 10) probabilities, as a dict of floats."""
    true = probabilities[np.arange(len(labels)), labels]
    return {
        "accuracy": float(np.mean(probabilities.argmax(1) == labels)),
        "loss": float(np.mean(-np.log(np.clip(true, 1e-7, 1)))),
    }


def calibration(labels, probabilities, bins=10):
    """How often predictions are right beside how sure they are (Guo et al., "On calibration ...", 2017).

    Returns (expected calibration error, mean probability and accuracy of each bin that has any, count of every bin).
    """
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    bin_of = np.minimum((sure * bins).astype(int), bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    some = counts > 0
    means = np.bincount(bin_of, sure, bins)[some] / counts[some]
    accuracies = np.bincount(bin_of, right, bins)[some] / counts[some]
    return float(np.abs(means - accuracies) @ counts[some] / len(sure)), means, accuracies, counts


def gather(folder, config, digits):
    """When every net is finished: writes log.csv and predictions.npz, and returns the result for `finish`.

    digits: the run's dataset.Digits.
    predictions.npz holds validation_rows_01 (row numbers of the labelled data, from 0), validation_01 and test_01
    (float32 probabilities) for net 1, and so on.
    """
    nets = range(1, config["nets"] + 1)
    train_labels, test_labels = digits.train.y, digits.test and digits.test.y
    results = [read_result(net_file(folder, net, ".json"), "parameters", "seconds") for net in nets]
    gathered = folder / "predictions.npz"
    predictions = read_predictions(gathered, digits) if gathered.is_file() else {}
    for net in nets:
        if (path := net_file(folder, net, ".predictions.npz")).is_file():
            predictions |= {f"{key}_{net:02d}": value for key, value in read_predictions(path, digits).items()}
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
            "calibration_error": calibration(train_labels[rows], probabilities)[0],
        }
    probabilities = mean_of_test(predictions, nets)
    if probabilities is not None and test_labels is not None:
        result["ensemble_test"] = score(probabilities, test_labels) | {
            "rows": len(test_labels),
            "calibration_error": calibration(test_labels, probabilities)[0],
        }
    write_arrays(gathered, predictions)
    return result


def finish(folder, config, result):
    """Removes what was needed until now, and writes result.json, by which a run is finished."""
    for net in range(1, config["nets"] + 1):
        net_file(folder, net, ".predictions.npz").unlink(missing_ok=True)
        remove_checkpoints(folder, net)
    write_json(folder / "result.json", result)


def mean_of_test(predictions, nets):
    """The nets' mean probabilities for the test set, (n, 10); None where they were not asked for them."""
    found = [predictions[f"test_{net:02d}"] for net in nets if f"test_{net:02d}" in predictions]
    return np.mean(found, axis=0) if found else None


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


def interval(accuracy, n):
    """Wilson's 95 % interval of an accuracy on `n` rows: (low, high)."""
    from scipy.stats import binomtest

    return tuple(binomtest(round(accuracy * n), n).proportion_ci(method="wilson"))


def parser():
    p = console.Parser(prog="runs.py", description=__doc__)
    p.add_argument("--html", type=Path, metavar="FILE", help="write the table as a page, too")
    p.add_argument("--csv", type=Path, metavar="FILE", help="write the table as a CSV, too")
    commands = p.add_subparsers(dest="command")
    told = "which settings and which digits of two finished runs differ, with McNemar's test"
    diff = commands.add_parser("diff", help=told, description=told)
    for which in ("first", "second"):
        diff.add_argument(which, metavar="RUN", help="a name in runs/").completer = names
    return p


def main(argv=None):
    arguments = parser().parse_args(argv)
    import compare
    import report

    if arguments.command == "diff":
        with refused(f"{arguments.first} and {arguments.second} cannot be compared"):
            print("\n".join(compare.diff(find(arguments.first), find(arguments.second))))
        return
    if not (folders := all_runs()):
        raise UserError(f"there are no runs in {RUNS}/: python train.py makes one")
    table = compare.table(folders)
    if table.empty:
        raise UserError(f"none of the {len(folders)} runs in {RUNS}/ can be read")
    print(compare.text(table))
    for path, content in ((arguments.html, compare.page), (arguments.csv, compare.comma_separated)):
        if path:
            if path.exists() and not path.read_bytes().startswith((b"run,recipe,", report.START)):
                raise UserError(f"{path} exists and is no table of runs: choose another name, or remove it")
            with whole_file(path) as temporary:
                temporary.write_bytes(content(table).encode())
            print(path)


if __name__ == "__main__":
    console.run(main)
