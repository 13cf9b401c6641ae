"""How the scripts talk to the person who runs them: errors, exit codes, options, times.

Imports the standard library and reasons.py only, so that `--help` and a mistyped option answer at once.
"""

import argparse
import contextlib
import difflib
import gc
import importlib.metadata
import importlib.util
import math
import os
import re
import signal
import sys
import traceback
from pathlib import Path

import reasons
from reasons import reason

LONGEST_LINE = 280  # characters of an error's line, beside the script's name
OLDEST_KERAS = (3, 12)
# Their matrix products on a CPU by XNNPACK have wrong elements (512 x 512 float32, for one); 0.8.2 mended that.
WRONG_JAXLIB = {"0.7.2", "0.8.0", "0.8.1"}


class UserError(Exception):
    """Something the user can mend: printed as one line, exit code 2."""


class Terminated(BaseException):
    """SIGTERM was received; like KeyboardInterrupt it passes every `except Exception`."""


class Parser(argparse.ArgumentParser):
    """ArgumentParser whose errors are one line, and whose help keeps the script's docstring as written.

    Where argcomplete is installed and activated, the shell completes a script's options by it.
    """

    def __init__(self, **arguments):
        epilog = "Exit codes: 0 done, 1 failed, 2 to be mended (one line says how), 130 interrupted, 143 terminated."
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=form, allow_abbrev=False, epilog=epilog, **arguments)
        self.add_argument("--debug", action="store_true", help="show the traceback behind an error's line")

    def parse_args(self, *arguments):
        if "_ARGCOMPLETE" in os.environ:
            import argcomplete

            argcomplete.autocomplete(self)
        return super().parse_args(*arguments)

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def choose(kind, name, valid):
    """Returns `name` if it is one of `valid`; otherwise a UserError that names the closest and lists all.

    >>> choose("recipe", "grenhol", ["grenholm", "deotte"])
    Traceback (most recent call last):
    console.UserError: no recipe 'grenhol'; did you mean 'grenholm'? There are: deotte, grenholm
    """
    if name in list(valid):  # a list, since a name from a file may be of a kind that has no hash
        return name
    close = difflib.get_close_matches(str(name), list(valid), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise UserError(f"no {kind} {name!r}{hint} There are: {', '.join(sorted(valid))}")


def choose_name(kind, name, valid):
    """Like choose, for names in which `-` and `_` are the same: returns the name as `valid` has it.

    >>> choose_name("recipe", "vgg_dropout", ["vgg", "vgg-dropout"])
    'vgg-dropout'
    """
    same = {hyphens(key): key for key in valid}
    return choose(kind, name if name in list(valid) else same.get(hyphens(name), name), valid)


def hyphens(name):
    """Returns the name of a recipe or a net, which may be written with `_`, as it is shown: with `-`."""
    return str(name).replace("_", "-")


def is_number(value):
    """Whether a setting is a finite number, which True is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def duration(seconds):
    """Seconds as people say them: '8 s', '3 min 20 s', '2 h 5 min'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def choose_threads(config):
    """For small batches and for replicas, lets TensorFlow share an operation among fewer threads than there are cores.

    An operation on 16 digits is too short to be shared: with two cores, Grenholm's net trains 1.4 times as fast so.
    Replicas have their operations to themselves. To be called before TensorFlow starts; a setting of the user's stays.
    """
    _limit_threads(max(config["replicas"], 2 if config["batch_size"] < 32 else 1))


def _limit_threads(shares=1):
    """Has TensorFlow use at most the cores that this process may use, divided by `shares`.

    TensorFlow itself heeds taskset, but starts a thread for each core of the machine in a container with fewer.
    """
    from joblib import cpu_count

    threads = max(1, cpu_count() // shares)
    if threads < (os.cpu_count() or 1):
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(threads))


def import_keras(deterministic=False):
    """Imports Keras and its backend without the notes that TensorFlow writes past Python to the screen.

    The backend is that of KERAS_BACKEND; without it TensorFlow, or JAX where that alone is installed. On a GPU it takes
    memory as needed rather than nearly all at the start, so that programs share a card; a user's own setting stays.

    deterministic: whether a GPU must compute the same bits each time, by slower kernels.
    """
    if deterministic:  # JAX reads it as it starts
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()
    if "KERAS_BACKEND" not in os.environ and not _installed("tensorflow") and _installed("jax"):
        os.environ["KERAS_BACKEND"] = "jax"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    _limit_threads()
    if os.environ.get("KERAS_BACKEND") == "jax" and _version("jaxlib") in WRONG_JAXLIB:
        os.environ["XLA_FLAGS"] = f"--xla_cpu_use_xnnpack=false {os.environ.get('XLA_FLAGS', '')}".strip()
    try:
        with quiet():
            import keras

            keras.distribution.list_devices()
            if _installed("tensorflow"):  # Keras itself imports it on JAX, too, when it saves or copies a layer
                tensorflow = importlib.import_module("tensorflow")
                if deterministic:
                    tensorflow.config.experimental.enable_op_determinism()
    except ImportError as error:
        install = "python -m pip install -r requirements.txt (or requirements-jax.txt)"
        raise UserError(f"Keras cannot be used here ({error}): {install}") from error
    if tuple(map(int, keras.__version__.split(".")[:2])) < OLDEST_KERAS:
        oldest = ".".join(map(str, OLDEST_KERAS))
        raise UserError(
            f"Keras {keras.__version__} is too old, {oldest} and later will do: python -m pip install 'keras>={oldest}'"
        )
    if keras.backend.backend() == "tensorflow":
        _compile_once()


def _compile_once():
    """Compiles something by XLA, since TensorFlow 2.20 writes a note when it does so first, whatever its log level."""
    import tensorflow as tf

    with quiet(), tf.device("CPU"):
        tf.function(lambda x: x + 1, jit_compile=True)(0.0)


@contextlib.contextmanager
def quiet():
    """Nothing reaches the screen by stderr meanwhile, not even what libraries write past Python."""
    sys.stderr.flush()
    before = os.dup(2)
    with open(os.devnull, "wb") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _installed(package):
    return importlib.util.find_spec(package) is not None


def _version(package):
    """The installed version of a package, or None. Does not import it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def need(package, told):
    """UserError if a package that is needed for what was asked is not installed. told: how to install it."""
    if not _installed(package):
        raise UserError(f"{package} is not installed: {told}")


@contextlib.contextmanager
def whole_file(path):
    """Gives a temporary path beside `path`; renamed to `path` when the block ends well, else removed.

    So `path` is written whole or not at all. The bytes are on the disk before the name is. A disk that is full, a
    folder that is not there or not writable: UserError.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        try:
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            with contextlib.suppress(OSError):  # not every file system can; the file is whole either way
                _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({reason(error)}): what was there is as it was") from error


def _sync(path):
    """Returns when a file's bytes, or a folder's names, are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows keeps names by itself
    file = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def remove_temporaries(folder):
    """Removes what `whole_file` left in a folder where a process died. No other process may be writing there."""
    for path in Path(folder).glob(".*"):
        if re.fullmatch(r"\..+\.\d+(\.\w+)?", path.name):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def refused(told, hostile=True):
    """Whatever is raised in the block becomes one line: `told`, and why.

    For reading a file that may be damaged or made to do harm: the readers of such files (NumPy's, Keras's, Pillow's,
    zipfile) raise nearly every kind of exception. hostile: whether a lack of memory is the file's fault, too.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not hostile and out_of_memory(error):
            raise
        raise UserError(f"{told} ({reason(error, max(100, LONGEST_LINE - len(told)))})") from error


def out_of_memory(error):
    """Whether an exception says that memory, the machine's or a GPU's, ran out.

    By its text, since TensorFlow's class ResourceExhaustedError also stands for a full disk, and cuDNN, cuBLAS and XLA
    have no class of their own.
    """
    words = "[Oo]ut of memory|OUT_OF_MEMORY|OOM when|[Ff]ailed to allocate|[Uu]nable to allocate|Cannot allocate"
    return isinstance(error, MemoryError) or re.search(f"{words}|_ALLOC_FAILED|MemoryError", str(error)) is not None


@contextlib.contextmanager
def enough_memory(told):
    """If memory runs out in the block, raises a UserError. told: what the user can do then."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"out of memory: {told}") from error


_received = []  # signals that were to end the program


def _stop(signum, frame):
    _received.append(signum)
    stop_if_asked()


def stop_if_asked():
    """Raises again what SIGINT or SIGTERM raised: JAX's C++, which calls Python, now and then swallows it."""
    if _received:
        raise KeyboardInterrupt if _received[-1] == signal.SIGINT else Terminated


def run(main):
    """Runs a script's `main` and exits: 0 done, 1 failed, 2 the user can mend it, 130 or 143 interrupted."""
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else ignored, as by a shell's background jobs
        signal.signal(signal.SIGINT, _stop)
    program = Path(sys.argv[0]).name
    try:
        with enough_memory(
            "close other programs that use this machine's memory or its GPU's, or set CUDA_VISIBLE_DEVICES=-1 to "
            "compute without a GPU"
        ):
            code = main() or 0
    except UserError as error:
        code = _mendable(program, error, str(error))
    except BrokenPipeError:  # the reader, `head` say, has gone
        sys.stdout = None
        code = 1
    except KeyboardInterrupt as interrupt:
        print(f"\n{program}: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        code = 130
    except Terminated as interrupt:
        print(f"\n{program}: {str(interrupt) or 'terminated'}", file=sys.stderr)
        code = 143
    except Exception as error:
        if where := reasons.failed_import(error, Path(__file__).parent):
            code = _mendable(program, error, where)
        elif isinstance(error, OSError):
            where = f"{error.filename}: " if error.filename else ""
            code = _mendable(program, error, f"{where}{reason(error)}")
        else:
            raise
    gc.freeze()  # the collection at the end would walk through all of Keras: up to a second
    sys.exit(code)


def _mendable(program, error, line):
    """Prints the line of an error that the user can mend, by --debug after its traceback; returns the exit code."""
    if "--debug" in sys.argv:
        traceback.print_exception(error)
    print(f"{program}: {line}", file=sys.stderr)
    return 2
