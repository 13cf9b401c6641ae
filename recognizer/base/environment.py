import contextlib
import importlib.metadata
import importlib.util
import os
import sys

from recognizer.base.errors import UserError

OLDEST_KERAS = (3, 12)


# Their matrix products on a CPU by XNNPACK have wrong elements (512 x 512 float32, for one); 0.8.2 mended that.
WRONG_JAXLIB = {"0.7.2", "0.8.0", "0.8.1"}


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
    if "KERAS_BACKEND" not in os.environ and not installed("tensorflow") and installed("jax"):
        os.environ["KERAS_BACKEND"] = "jax"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    _limit_threads()
    if os.environ.get("KERAS_BACKEND") == "jax" and version("jaxlib") in WRONG_JAXLIB:
        os.environ["XLA_FLAGS"] = f"--xla_cpu_use_xnnpack=false {os.environ.get('XLA_FLAGS', '')}".strip()
    try:
        with quiet():
            import keras

            keras.distribution.list_devices()
            if installed("tensorflow"):  # Keras itself imports it on JAX, too, when it saves or copies a layer
                tensorflow = importlib.import_module("tensorflow")
                if deterministic:
                    tensorflow.config.experimental.enable_op_determinism()
    except ImportError as error:
        install = "python -m pip install -r requirements.txt (or requirements/jax.txt)"
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


def installed(package):
    return importlib.util.find_spec(package) is not None


def version(package):
    """The installed version of a package, or None. Does not import it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def need(package, told):
    """UserError if a package that is needed for what was asked is not installed. told: how to install it."""
    if not installed(package):
        raise UserError(f"{package} is not installed: {told}")
