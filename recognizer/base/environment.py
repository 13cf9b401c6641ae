"""Imports Keras with the environment variables that it needs: every variable that the scripts set is set in this file.

A variable that the user has set is never changed, except that XLA_FLAGS gets more flags.
"""

import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import sys
import warnings

from recognizer.base.errors import UserError

INSTALL = "python -m pip install -r requirements.txt (or requirements/jax.txt)"
NEWEST_PYTHON = (3, 13)  # that TensorFlow has wheels for
BACKENDS = ("tensorflow", "jax")
OLDEST_KERAS = "3.12"
# What the user has set of the variables that the scripts choose for each process.
GIVEN = {name: os.environ.get(name) for name in ("KERAS_BACKEND", "TF_NUM_INTRAOP_THREADS", "NPROC")}
# These compute wrong matrix products on a CPU by XNNPACK (512 x 512 float32, for example).
WRONG_JAXLIB = ("0.7.2", "0.8.0", "0.8.1")


def for_workers():
    """Returns the environment variables for a process that this one starts, {name: value or None}.

    They are as the user has set them, so that it chooses its own.
    """
    return dict(GIVEN)


def set_variables(values):
    """Sets environment variables, {name: value}, before Keras is imported; None removes one."""
    for name, value in values.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def choose_threads(config):
    """Limits the threads that TensorFlow and XLA use for a net. Call it before import_keras.

    An operation on 16 digits is too short to share: on two cores the net `grenholm` trains 1.4 times as fast with one
    thread per operation. Each replica computes its operations on one thread. JAX has one pool of threads for all.

    config: a run's settings, of which it reads `replicas`, `batch_size` and `threads`, those of a net for all its
    operations (without it: the cores that this process may use).
    """
    threads = config.get("threads") or _cores()
    _limit("NPROC", threads)
    _limit("TF_NUM_INTRAOP_THREADS", threads // _shares(config))


def recorded_threads(config, jobs=1):
    """Returns the `threads` to record of a run that trains so many nets at once: its share of the cores.

    If the user has set TF_NUM_INTRAOP_THREADS, they are those that lead to it.
    """
    given = GIVEN["TF_NUM_INTRAOP_THREADS"] or ""
    return int(given) * _shares(config) if given.isdecimal() and int(given) else max(1, _cores() // jobs)


def _shares(config):
    """Returns by how many an operation's threads are divided."""
    return max(config["replicas"], 2 if config["batch_size"] < 32 else 1)


def _cores():
    """Returns how many cores this process may use."""
    from joblib import cpu_count

    return cpu_count()


def _limit(variable, most):
    """Sets a variable to `most` threads unless that is every core of the machine, which is the default.

    In a container TensorFlow would start one for each core of the whole machine.
    """
    if max(1, most) < (os.cpu_count() or 1):
        os.environ.setdefault(variable, str(max(1, most)))


def import_keras(deterministic=False):
    """Imports Keras and its backend. Hides the notes that TensorFlow writes to stderr from C++.

    The backend is that of KERAS_BACKEND. Without it: TensorFlow, or JAX if only JAX is installed. GPU memory is
    allocated as needed, so that programs can share a card.

    deterministic: whether a GPU must compute the same bits each time, by slower kernels.
    Raises UserError if Keras or its backend is not installed, too old, or a backend that the scripts do not support.
    """
    if "KERAS_BACKEND" not in os.environ and not installed("tensorflow") and installed("jax"):
        os.environ["KERAS_BACKEND"] = "jax"
    _check_backend(os.environ.get("KERAS_BACKEND", "tensorflow"))
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3":
        logging.getLogger("tensorflow").setLevel(logging.CRITICAL)  # TensorFlow raises its errors as well
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    for variable in ("TF_NUM_INTRAOP_THREADS", "NPROC"):
        _limit(variable, _cores())
    _add_xla_flags(deterministic)
    try:
        with quiet():
            import keras
            from packaging.version import Version

            # Keras builds such a layer by calling it, and says so at each copy of the net.
            warnings.filterwarnings("ignore", r"(?s).*`build\(\)` was called on layer", UserWarning)
            keras.distribution.list_devices()
            if installed("tensorflow"):  # Keras on JAX imports it too, when it saves or copies a layer
                import tensorflow as tf

                if deterministic:
                    tf.config.experimental.enable_op_determinism()
    except ImportError as error:
        raise UserError(f"Keras cannot be imported ({error}): {how_to_install()}") from error
    if Version(keras.__version__) < Version(OLDEST_KERAS):
        raise UserError(f"Keras {keras.__version__} is too old: python -m pip install 'keras>={OLDEST_KERAS}'")
    _check_backend(keras.backend.backend())  # Keras's own settings, ~/.keras/keras.json, can name one too
    if keras.backend.backend() == "tensorflow":
        _compile_once()


def how_to_install():
    """Returns what installs Keras for the Python that runs this."""
    if sys.version_info[:2] <= NEWEST_PYTHON:
        return INSTALL
    newest, here = (".".join(map(str, version[:2])) for version in (NEWEST_PYTHON, sys.version_info))
    told = f"TensorFlow has no wheels for Python {here}: use {newest} (uv venv --seed --python {newest} .venv)"
    return f"{told}, or JAX (python -m pip install -r requirements/jax.txt)"


def _check_backend(name):
    if name not in BACKENDS:
        raise UserError(f"Keras's backend must be TensorFlow or JAX, not {name!r}: set KERAS_BACKEND=tensorflow or jax")


def _add_xla_flags(deterministic):
    flags = ["--xla_gpu_deterministic_ops=true"] if deterministic else []
    if os.environ.get("KERAS_BACKEND") == "jax" and version("jaxlib") in WRONG_JAXLIB:
        flags.append("--xla_cpu_use_xnnpack=false")
    if flags:
        os.environ["XLA_FLAGS"] = " ".join([*flags, os.environ.get("XLA_FLAGS", "")]).strip()


def _compile_once():
    """Compiles something by XLA: TensorFlow 2.20 writes a note the first time, whatever its log level is."""
    import tensorflow as tf

    with quiet(), tf.device("CPU"):
        tf.function(lambda x: x + 1, jit_compile=True)(0.0)


def import_gradio():
    """Imports Gradio and returns it. Nothing is sent to its makers. Raises UserError if it is not installed."""
    need("gradio", "python -m pip install -r requirements/draw.txt")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read during the import
    return importlib.import_module("gradio")


@contextlib.contextmanager
def quiet():
    """Discards everything written to stderr in the block, by C++ libraries as well."""
    sys.stderr.flush()
    before = os.dup(2)
    with open(os.devnull, "wb") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def installed(package):
    """Returns whether a package can be imported. Does not import it."""
    return importlib.util.find_spec(package) is not None


def version(package):
    """Returns the installed version of a package, or None. Does not import it."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


def need(package, install=INSTALL):
    """Raises UserError if a package is not installed. install: the command that installs it."""
    if not installed(package):
        raise UserError(f"{package} is not installed: {install}")


def import_ray():
    """Imports Ray and returns it. Nothing is sent to its makers. Raises UserError if it is not installed."""
    need("ray", "python -m pip install -r requirements/cluster.txt")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    return importlib.import_module("ray")
