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

    python -m recognizer runs                           the runs, the best validation accuracy first
    python -m recognizer runs --html runs.html          as a page whose columns can be sorted; --csv runs.csv as a table
    python -m recognizer runs diff single-1 single-2    which settings and which digits differ, with McNemar's test
"""

import contextlib
import io
import os
import re
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from recognizer.base import environment
from recognizer.base.errors import UserError, refused
from recognizer.base.files import read_json, remove_temporaries, whole_file, write_json
from recognizer.base.reasons import reason
from recognizer.config import checks, earlier, schema
from recognizer.runs import run_folder

RUNS = Path("runs")


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
    environment.need("filelock", "python -m pip install -r requirements.txt (or requirements-jax.txt)")


def record_source(folder, config):
    """Writes where a run's data is now to its config.json, if it has moved. The run must be locked."""
    written = read_json(folder / "config.json")
    if written["data"] != config["data"]:
        write_json(folder / "config.json", written | {"data": config["data"]})


def read_config(folder):
    """Returns a run's config.json, checked, as it may come from elsewhere; settings newer than the run are added."""
    path = folder / "config.json"
    config = read_json(path)
    if not isinstance(config, dict):
        raise UserError(f"{path} is no run's: an object of settings is needed")
    later = {"tensorboard": False, "deterministic": False, "command": []}
    config = schema.DEFAULTS | later | dict(earlier.renamed(config.items()))
    try:
        schema.check_values(config, schema.RECORDED | schema.RUN_SETTINGS)
        schema.check_values(config["data"], schema.RECORDED_DATA, "data.")
        schema.COUNT.check("steps_per_call", config.get("steps_per_call", 1))
        checks.check(config)
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


def leaks(folders, test):
    """How many images of a test set were among the labelled ones that any of the runs had, by their exact pixels."""
    hashes = test.image_hashes()
    return int(np.any([np.isin(hashes, run_folder.read_seen(folder)) for folder in folders], axis=0).sum())
