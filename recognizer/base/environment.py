"""Imports Keras with the environment variables that it needs. Only this file sets environment variables.

In the process that the user starts, variables that the user has set are never changed, with two exceptions: XLA_FLAGS
gets more flags, and Gradio's telemetry is always off.
"""

import contextlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from recognizer.base.errors import UserError

INSTALL = "python -m pip install -r requirements.txt (or requirements/jax.txt)"
INSTALL_CLUSTER = "python -m pip install -r requirements/cluster.txt"
NEWEST_PYTHON = (3, 13)  # the newest Python for which TensorFlow has wheels
BACKENDS = ("tensorflow", "jax")
OLDEST_KERAS = "3.12"
# The user's values, or None, of the variables that the scripts set for each process.
GIVEN = {name: os.environ.get(name) for name in ("KERAS_BACKEND", "TF_NUM_INTRAOP_THREADS", "NPROC")}
# These versions compute wrong matrix products with XNNPACK on a CPU (512 x 512 float32, for example).
WRONG_JAXLIB = ("0.7.2", "0.8.0", "0.8.1")


def for_workers() -> dict[str, str | None]:
    """Returns the environment variables for a worker process, {name: value or None}.

    The values are the user's, not those that this process has set, so that the worker can choose its own.
    """
    return dict(GIVEN)


def set_variables(values: Mapping[str, str | None]) -> None:
    """Sets environment variables, {name: value}, before Keras is imported; None removes one."""
    for name, value in values.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def choose_threads(config: dict) -> None:
    """Limits the threads that TensorFlow and XLA use for a net. Call it before import_keras.

    An operation on 16 digits is too short to split: on two cores the net `grenholm` trains 1.4 times as fast with one
    thread per operation. With replicas, an operation gets its replica's share of the threads. JAX has a single thread
    pool.

    config: a run's settings. Reads `replicas`, `batch_size` and `threads`, the number of threads for all operations of
    a net (default: the number of cores that this process may use).
    """
    threads = config.get("threads") or _cores()
    _limit("NPROC", threads)
    _limit("TF_NUM_INTRAOP_THREADS", threads // _shares(config))


def recorded_threads(config: dict, jobs: int = 1) -> int:
    """Returns the `threads` to record for a run that trains `jobs` nets at once: each net's share of the cores.

    If the user has set the backend's number of threads, TF_NUM_INTRAOP_THREADS or (JAX) NPROC, returns the `threads`
    from which choose_threads computes that value.
    """
    jax = backend() == "jax"
    given = GIVEN["NPROC" if jax else "TF_NUM_INTRAOP_THREADS"] or ""
    if given.isdecimal() and int(given):
        return int(given) * (1 if jax else _shares(config))
    return max(1, _cores() // jobs)


def backend() -> str:
    """Returns the name of Keras's backend, or of the one that import_keras will choose.

    The choice is KERAS_BACKEND, else the backend in ~/.keras/keras.json, else TensorFlow. If KERAS_BACKEND is not set
    and only JAX is installed, JAX is chosen instead of TensorFlow, because Keras itself writes TensorFlow into a new
    keras.json.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"].backend.backend()
    if named := os.environ.get("KERAS_BACKEND"):
        return named
    named = _keras_json().get("backend", "tensorflow")
    return "jax" if named == "tensorflow" and installed("jax") and not installed("tensorflow") else named


def keras_home() -> Path:
    """Returns the folder of Keras's settings and downloads, found as Keras finds it."""
    home = os.path.expanduser("~")
    home = os.path.join(home if os.access(home, os.W_OK) else "/tmp", ".keras")
    return Path(os.path.expanduser(os.environ.get("KERAS_HOME") or home))


def _keras_json():
    """Returns the settings in ~/.keras/keras.json as a dict. Keras, too, ignores a file that is not JSON.

    Raises UserError if the file is JSON but not an object, since Keras could not be imported with such a file.
    """
    path = keras_home() / "keras.json"
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        raise UserError(f"{path} does not hold a JSON object: delete it")
    return found


def _shares(config):
    """Returns the number by which a net's threads are divided to get the threads of one operation."""
    return max(config["replicas"], 2 if config["batch_size"] < 32 else 1)


def _cores():
    """Returns the number of cores that this process may use."""
    from joblib import cpu_count

    return cpu_count()


def _limit(variable, most):
    """Sets an environment variable to `most` threads, unless that is every core of the machine, the default.

    In a container, TensorFlow would otherwise start a thread for each core of the whole machine.
    """
    if max(1, most) < (os.cpu_count() or 1):
        os.environ.setdefault(variable, str(max(1, most)))


def import_keras(deterministic: bool = False) -> None:
    """Imports Keras and its backend. Hides the log lines that TensorFlow's C++ code writes to stderr.

    For the backend see `backend`. In ~/.keras/keras.json, floatx, epsilon and image_data_format have no effect: nets
    here are float32, with the channel last. GPU memory is allocated as needed, so that programs can share a card.

    deterministic: whether a GPU must compute the same bits in every run, with slower kernels.
    Raises UserError if Keras or its backend is not installed, if Keras is too old, or if the backend is not supported.
    """
    name = backend()
    if name not in BACKENDS:
        raise UserError(f"Keras's backend must be TensorFlow or JAX, not {name!r}: set KERAS_BACKEND=tensorflow or jax")
    if name == "jax":  # if only JAX is installed, Keras would choose TensorFlow
        os.environ["KERAS_BACKEND"] = name
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3":
        logging.getLogger("tensorflow").setLevel(logging.CRITICAL)  # TensorFlow also raises its errors as exceptions
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    for variable in ("TF_NUM_INTRAOP_THREADS", "NPROC"):
        _limit(variable, _cores())
    _add_xla_flags(deterministic)
    try:
        with quiet():
            import keras
            from packaging.version import Version

            # Keras builds a layer without build() by calling it, and would warn whenever the net is copied.
            warnings.filterwarnings("ignore", r"(?s).*`build\(\)` was called on layer", UserWarning)
            keras.distribution.list_devices()
            if installed("tensorflow"):  # Keras on JAX also imports it, to save or copy a layer
                import tensorflow as tf

                if deterministic:
                    tf.config.experimental.enable_op_determinism()
    except ImportError as error:
        raise UserError(f"Keras cannot be imported ({error}): {how_to_install()}") from error
    if Version(keras.__version__) < Version(OLDEST_KERAS):
        raise UserError(f"Keras {keras.__version__} is too old: python -m pip install 'keras>={OLDEST_KERAS}'")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    if name == "tensorflow":
        _compile_once()


def how_to_install() -> str:
    """Returns how to install Keras for this Python version, as text."""
    if sys.version_info[:2] <= NEWEST_PYTHON:
        return INSTALL
    newest, here = (".".join(map(str, version[:2])) for version in (NEWEST_PYTHON, sys.version_info))
    told = f"TensorFlow has no wheels for Python {here}: use {newest} (uv venv --seed --python {newest} .venv)"
    return f"{told}, or JAX (python -m pip install -r requirements/jax.txt)"


def _add_xla_flags(deterministic):
    flags = ["--xla_gpu_deterministic_ops=true"] if deterministic else []
    if os.environ.get("KERAS_BACKEND") == "jax" and version("jaxlib") in WRONG_JAXLIB:
        flags.append("--xla_cpu_use_xnnpack=false")
    if flags:
        os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")]).strip()


def _compile_once():
    """Compiles a function with XLA, stderr hidden: TensorFlow 2.20 logs a line the first time, at any log level."""
    import tensorflow as tf

    with quiet(), tf.device("CPU"):
        tf.function(lambda x: x + 1, jit_compile=True)(0.0)


def import_gradio() -> ModuleType:
    """Imports Gradio, with telemetry off, and returns it. Raises UserError if it is not installed."""
    need("gradio", "python -m pip install -r requirements/draw.txt")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read during the import
    return importlib.import_module("gradio")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discards everything written to stderr in the block, also by C++ libraries."""
    sys.stderr.flush()
    before = os.dup(2)
    with open(os.devnull, "wb") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def installed(package: str) -> bool:
    """Returns whether a package can be imported. Does not import it."""
    return importlib.util.find_spec(package) is not None


def version(package: str) -> str | None:
    """Returns the installed version of a package, or None. Does not import it."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def need(package: str, install: str = INSTALL) -> None:
    """Raises UserError if a package is not installed. install: the command that installs it."""
    if not installed(package):
        raise UserError(f"{package} is not installed: {install}")


def import_ray() -> ModuleType:
    """Imports Ray, with telemetry off, and returns it. Raises UserError if it is not installed."""
    need("ray", INSTALL_CLUSTER)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    return importlib.import_module("ray")
