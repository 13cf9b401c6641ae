"""A run's folder, runs/NAME/: creates, locks and finds it, and reads and checks its files.

    config.json         every setting, the seed, versions, git commit, the data's fingerprint
    architectures.json  Keras's config and the outputs of each kind of net, to detect edits on resuming
    seen.npy            a hash of each labelled image of the run, for predict.py to detect leaks
    .lock               locked by the process that trains the run
    net-01.csv          a row for each epoch, as Keras's CSVLogger writes it
    net-01.steps.csv    a row for each step: the loss and the learning rate
    net-01.json         the net's result; exists once the net is finished
    net-01.keras        the saved net
    log.csv             the rows of all nets; final_val_accuracy is that of the saved net
    predictions.npz     for net 1: validation_rows_01 (rows of the labelled data, from 0), validation_01 and test_01
                        (float32 probabilities); and so on
    mistakes.csv        the wrong validation rows and the wrong rows of a labelled test set, from 1, the most certain
                        mistakes first: label, prediction, and the probabilities of both; a validation row is predicted
                        by the nets that did not train on it. "name" is the image's name or id, if the data has any
    result.json         the run's result; exists once all nets are finished
    pruned.json         only for a sweep's trial that was stopped early: the epoch and its validation accuracy
    *.png, report.html  the pictures, and the report that shows them
    tensorboard/        only with the setting `tensorboard`: logs for TensorBoard

An unfinished net also has net-01.checkpoint-0.npz and -1.npz. Until the run is finished, a finished net also
has net-01.predictions.npz.
Every file outside tensorboard/ is written atomically. Nets share no file, so they can be trained separately and
gathered afterwards.
"""

import argparse
import contextlib
import io
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from recognizer.base import environment
from recognizer.base.errors import UserError, refused
from recognizer.base.files import read_json, remove_temporaries, write_bytes, write_json
from recognizer.base.reasons import reason
from recognizer.base.rules import TEXT
from recognizer.base.words import choose
from recognizer.config import checks, earlier, keras_classes, schedules, schema
from recognizer.data import image_files, sources
from recognizer.data.arrays import Digits, Images

RUNS = Path("runs")
STEP_COLUMNS = ("step", "loss", "learning_rate")  # of net-NN.steps.csv
ABANDONED = 3600  # seconds after which an incomplete folder must be from a dead process
LONGEST_NAME = 200  # bytes; file systems allow 255, and the files beside it have longer names
FREED = 2  # seconds to wait for a lock: a killed process and its children take a while to free it

# Making and locking a run


def create(name: str | None, recipe: str, config: dict, seen: np.ndarray, architectures: Sequence[dict] = ()) -> Path:
    """Creates a run's folder with config.json, seen.npy and architectures.json, and returns its path.

    name: None for `recipe` and the next free number. seen: uint64 (n,), Images.image_hashes of the labelled images.
    architectures: edits.record of each kind of net.
    Raises UserError if the name is taken or not valid.
    """
    environment.need("filelock")  # before creating anything, since the run is locked next
    folder = RUNS / next_name(RUNS, recipe) if name is None else named(name)
    if name is not None and folder.exists():
        raise UserError(f"run {name!r} exists: continue it with --resume, or choose another name")
    _remove_abandoned()
    new = RUNS / f".{folder.name}.{os.getpid()}"  # renamed when complete, so that a run always has its settings
    try:
        _write_new(new, config, seen, architectures)
        new.rename(folder)  # fails if another process has just created it
    except OSError as error:
        if folder.exists():
            # Takes the next number, or says that the name is taken.
            return create(name, recipe, config, seen, architectures)
        raise UserError(f"{folder} cannot be made ({reason(error)})") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def next_name(parent: Path, base: str) -> str:
    """Returns BASE-1, -2, ...: the name after the highest number in a folder, `parent`.

    On Windows and macOS, Base-1 and base-1 are the same folder, so upper and lower case are not told apart. Characters
    that a run's name cannot have become "-": a recipe of recipes.py may have any name.
    """
    base = re.sub(r"[^\w.+-]+", "-", base).lstrip(".+-") or "run"
    numbers = [re.fullmatch(rf"{re.escape(base)}-(\d+)", path.name, re.IGNORECASE) for path in parent.glob("*")]
    return f"{base}-{max((int(number[1]) for number in numbers if number), default=0) + 1}"


def _remove_abandoned():
    for left in RUNS.glob(".*.*/"):
        with contextlib.suppress(OSError):  # another process may have removed it just now
            if re.fullmatch(r"\..+\.\d+", left.name) and time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)


def _write_new(folder, config, seen, architectures):
    folder.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()  # Python's errors for a failed write give the reason; NumPy's do not
    np.save(content, np.unique(seen))
    write_bytes(folder / "seen.npy", content.getvalue())
    write_json(folder / "architectures.json", list(architectures))
    write_json(folder / "config.json", config)


@contextlib.contextmanager
def locked(folder: Path, what: str = "run") -> Iterator[None]:
    """Locks a run for this process inside the block. Raises UserError if another process has locked it.

    The lock file is never replaced or removed; the operating system frees the lock when the process ends, in whatever
    way. Removes temporary files that a dead process left in the folder. what: what the folder belongs to, for the
    message.
    """
    environment.need("filelock")
    import filelock

    if not folder.is_dir():  # filelock would create it
        raise UserError(f"{folder} no longer exists")
    lock = filelock.FileLock(folder / ".lock", timeout=FREED)
    try:
        acquired = lock.acquire()
    except filelock.Timeout:
        raise UserError(f"{what} {folder.name!r} is being trained by another process") from None
    except (OSError, NotImplementedError) as error:
        raise UserError(f"{lock.lock_file} cannot be locked ({reason(error)})") from error
    with acquired:
        remove_temporaries(folder)
        yield


def record_changes(folder: Path, config: dict) -> None:
    """Updates config.json if the run's data has moved or its threads or jobs have changed. The run must be locked."""
    written = read_json(folder / "config.json")
    changed = {key: config[key] for key in ("data", "threads", "jobs") if key in config}
    if written != written | changed:
        write_json(folder / "config.json", written | changed)


# Reading a run, which may come from a stranger


def read_config(folder: Path) -> dict:
    """Returns a run's config.json, checked. Settings that the run's version did not have get their defaults.

    Raises UserError if it is not the config of a run.
    """
    path = folder / "config.json"
    config = read_json(path)
    if not isinstance(config, dict):
        raise UserError(f"{path} is not the config of a run: an object of settings is needed")
    newer = {"tensorboard": False, "deterministic": False, "command": []}
    config = schema.DEFAULTS | newer | dict(earlier.renamed(config.items()))
    try:
        schema.check_values(config, schema.RECORDED | schema.RUN_SETTINGS)
        schema.check_values(config["data"], schema.RECORDED_DATA, "data.")
        for key in ("steps_per_call", "threads", "jobs"):
            schema.COUNT.check(key, config.get(key, 1))
        TEXT.check("sweep", config.get("sweep", ""))
        config["schedule"] = schedules.canonical(config["schedule"])
        config |= {key: keras_classes.canonical(key, config[key]) for key in ("optimizer", "loss")}
        config["weights"] = earlier.weights_kept(config)
        checks.check(config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return config


def read_result(path: Path, *needed: str) -> dict:
    """Returns the dict in a JSON file of results. Raises UserError if it lacks one of the keys `needed`."""
    result = read_json(path)
    if not isinstance(result, dict) or not result.keys() >= set(needed):
        raise UserError(f"{path} is not a result of a run: an object with {', '.join(needed) or 'results'} is needed")
    return result


def temperature(folder: Path, result: dict | None = None) -> float:
    """Returns the temperature that sharpens a run's mean probabilities; 1 if an earlier version made the run.

    result: from gathered.gather; None: from result.json.
    """
    path = folder / "result.json"
    found = (read_result(path) if result is None else result).get("temperature", 1)
    schema.SETTINGS["temperature"].rule.check(f"{path}: temperature", found)
    return found


def net_results(folder: Path, config: dict, *needed: str) -> list[dict]:
    """Returns the results of a finished run's nets, net-NN.json. needed: see `read_result`."""
    return [read_result(net_file(folder, net, ".json"), *needed) for net in net_numbers(config)]


def unfinished_nets(folder: Path, config: dict) -> tuple[list[int], list[dict]]:
    """Returns (numbers of a run's unfinished nets, results of its finished nets)."""
    left = [net for net in net_numbers(config) if not net_file(folder, net, ".json").is_file()]
    paths = [net_file(folder, net, ".json") for net in net_numbers(config) if net not in left]
    return left, [read_result(path, "net", "seconds", "images_per_second") for path in paths]


def read_architectures(folder: Path) -> list[dict]:
    """Returns the list of architectures that `create` recorded; empty if an earlier version made the run."""
    path = folder / "architectures.json"
    found = read_json(path) if path.is_file() else []
    if not isinstance(found, list):
        raise UserError(f"{path} is not the architectures of a run: a list is needed")
    return found


def read_seen(folder: Path) -> np.ndarray:
    """Returns the hashes of the labelled images of a run: uint64, sorted."""
    path = folder / "seen.npy"
    if not path.is_file():
        raise UserError(f"{path} is missing: python train.py --repeat {folder.name} trains the run again")
    with refused(f"{path} cannot be read"):
        seen = np.load(path, allow_pickle=False, mmap_mode="r")  # else NumPy allocates what the header claims
        if seen.dtype != np.uint64 or seen.ndim != 1:
            raise ValueError(f"it is {seen.dtype} {seen.shape}, where uint64 (n,) is needed")
        return seen


def leaks(folders: Iterable[Path], test: Images) -> int:
    """Returns how many images of a test set are among any run's labelled images, comparing exact pixels."""
    hashes = test.image_hashes()
    return int(np.any([np.isin(hashes, read_seen(folder)) for folder in folders], axis=0).sum())


def load_data(folder: Path, config: dict) -> Digits:
    """Returns a run's Digits. Raises UserError if they have moved or changed since the run was started."""
    source = config["data"]["source"]
    if sources.is_gone(source):
        told = f"the data of run {folder.name!r} is no longer at {source}: move it back, or write its path"
        raise UserError(f"{told} to data.source in {folder / 'config.json'}")
    digits = sources.load(source)
    check_data(folder, config, digits)
    return digits


def check_data(folder: Path, config: dict, digits: Digits) -> None:
    """Raises UserError if a run's data has changed since the run was started."""
    data, origin, started = config["data"], digits.train.origin, f"run {folder.name!r} was started"
    if digits.train.fingerprint() != data["fingerprint"]:
        if origin != data["origin"]:
            raise UserError(f"{started} on {data['origin']}, not on {origin}: give the path of the former with --data")
        raise UserError(f"{origin} has changed since {started}")
    test = digits.test.fingerprint() if digits.test else None
    if test != data.get("test_fingerprint", test):
        raise UserError(f"the test set of {origin} has changed since {started}")


def flat(settings: dict, prefix: str = "") -> dict:
    """Returns nested settings as one dict: {"schedule.decay": 0.9, ...}."""
    found: dict = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


# Names and files


def net_numbers(config: dict) -> range:
    """Returns the numbers of a run's nets: 1, 2, ..."""
    return range(1, config["nets"] + 1)


def net_file(folder: Path, net: int, suffix: str) -> Path:
    """Returns the path of a file of net number `net`: net-01.csv, .json, .keras ..."""
    return folder / f"net-{net:02d}{suffix}"


def named(name: str) -> Path:
    """Returns the folder of run `name`. Raises UserError for an invalid name.

    name: may also be a path such as runs/NAME, or ./runs/NAME/, with backslashes on Windows.
    """
    path, name = Path(name), str(name).strip("/")
    if path.parent.resolve() == RUNS.resolve():
        name = path.name
    if not re.fullmatch(r"[\w][\w.+-]*", name):
        raise UserError(
            f"{name!r} is not a name: use letters, digits, '_', '-', '.' and '+', and begin with a letter, digit or '_'"
        )
    return RUNS / name


def short(name: str) -> str:
    """Returns a name for a file, made from the names of runs. Raises UserError if it is too long for a file."""
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise UserError(f"{name[:40]}... is too long for the name of a file: give one by --out")
    return name


def add_run_argument(
    parser: argparse.ArgumentParser, number: str = "?", default: str = "the newest finished one"
) -> None:
    """Adds the argument RUN, with shell completion, to a parser. number: the `nargs` of argparse."""
    run = parser.add_argument("run", nargs=number, metavar="RUN", help=f"a run in runs/ (default: {default})")
    run.completer = names  # type: ignore[attr-defined]  # argcomplete reads it


def is_run(path: Path) -> bool:
    """Returns whether a path is the folder of a run in runs/."""
    return path.resolve().parent == RUNS.resolve() and (path / "config.json").is_file()


def find(name: str) -> Path:
    """Returns the folder of an existing run. Raises UserError if there is no run of this name."""
    path, folder = Path(name), RUNS / name
    given = path.exists() or path.suffix.lower() in image_files.SUFFIXES  # a path, perhaps mistyped, not a name
    if run := next((parent.name for parent in path.parents if is_run(parent)), ""):
        raise UserError(f"{name} is in the folder of a run: write {run}")
    if given and not is_run(path) and not is_run(folder):
        raise UserError(f"{name} is no run: predict.py takes pictures by --images, a test set by --test")
    folder = named(name)
    if not is_run(folder):
        choose("run", folder.name, names())
    return folder


def find_finished(names: Sequence[str]) -> list[Path]:
    """Returns the folders of the finished runs `names`, without duplicates. Without names: the newest finished run's.

    Raises UserError if a run does not exist or is not finished.
    """
    folders = list(dict.fromkeys(find(name) for name in names)) or [newest(finished=True)]
    for folder in folders:
        check_finished(folder)
    return folders


def names(**_: object) -> list[str]:
    """Returns the names of all runs. Ignores the arguments that shell completion passes."""
    return [folder.name for folder in all_runs()]


def all_runs() -> list[Path]:
    """Returns the folders of all runs."""
    return [path.parent for path in RUNS.glob("[!.]*/config.json")]


def readable(folders: Iterable[Path]) -> Iterator[tuple[Path, dict]]:
    """Yields (folder, config) for each of some runs. Skips a damaged one with a warning on stderr."""
    for folder in folders:
        try:
            with refused(f"{folder} is not a run that can be read"):
                config = read_config(folder)
        except UserError as error:
            print(f"{error}: skipped", file=sys.stderr)
        else:
            yield folder, config


def newest(finished: bool) -> Path:
    """Returns the folder of the run that finished last, or of the unfinished run that was started last.

    Skips a damaged run with a warning on stderr. Skips trials of a sweep: a sweep is resumed as a whole, and a trial is
    used for predictions only if the user names it. Raises UserError if there is no other run.
    """
    found, trials = {}, False
    for folder, config in readable(folder for folder in all_runs() if is_finished(folder) == finished):
        if config.get("sweep"):
            trials = True
        else:
            found[folder] = (folder / "result.json").stat().st_mtime if finished else config["created"]
    if not found:
        what = "finished" if finished else "unfinished"
        if trials:
            do = (
                "give a trial's name (python -m recognizer runs --sweep NAME lists them)"
                if finished
                else "python -m recognizer sweep --resume"
            )
            raise UserError(f"in {RUNS}/ only trials of sweeps are {what}: {do}")
        raise UserError(f"there is no {what} run in {RUNS}/: python train.py makes one")
    return max(found, key=found.__getitem__)


def is_finished(folder: Path) -> bool:
    """Returns whether all nets of a run are trained and gathered."""
    return (folder / "result.json").is_file()


def is_pruned(folder: Path) -> bool:
    """Returns whether a trial of a sweep was stopped early because others were better."""
    return (folder / "pruned.json").is_file() and not is_finished(folder)


def check_finished(folder: Path) -> None:
    """Raises UserError if a run is not finished."""
    if is_pruned(folder):
        raise UserError(f"run {folder.name!r} was ended early by its sweep, because other trials were better")
    if not is_finished(folder):
        raise UserError(f"run {folder.name!r} is not finished: python train.py --run {folder.name} --resume")
