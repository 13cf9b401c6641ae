"""Describes the machine that computes a run: processors, GPUs, package versions, the git commit of these scripts."""

import collections
import contextlib
import importlib
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Gpu(NamedTuple):
    name: str
    capability: tuple[int, int] | None  # CUDA's compute capability, (7, 5) for example


def gpus() -> list[Gpu]:
    """Returns the accelerators that Keras uses. Keras must be imported."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return [_jax_gpu(device) for device in jax.local_devices() if device.platform != "cpu"]
    import tensorflow as tf

    return tensorflow_gpus() if tf.config.list_logical_devices("GPU") else []


def _jax_gpu(device):
    capability = re.fullmatch(r"(\d+)\.(\d+)", str(getattr(device, "compute_capability", "")))  # AMD GPUs: gfx90a
    return Gpu(device.device_kind, (int(capability[1]), int(capability[2])) if capability else None)


def tensorflow_gpus() -> list[Gpu]:
    """Returns the GPUs that TensorFlow finds. TensorFlow may not use them if they are too old."""
    import tensorflow as tf

    found = []
    for device in tf.config.list_physical_devices("GPU"):
        details = {}
        with contextlib.suppress(ValueError, tf.errors.OpError):
            details = tf.config.experimental.get_device_details(device)
        found.append(Gpu(details.get("device_name", "GPU"), details.get("compute_capability")))
    return found


def gpu_names() -> str | None:
    """Returns the names of the GPUs that Keras uses as text, such as "2 x Tesla T4", or None without a GPU."""
    counts = collections.Counter(gpu.name for gpu in gpus())
    return ", ".join(f"{n} x {name}" if n > 1 else name for name, n in counts.items()) or None


def processor_name(cpuinfo: Path | str = "/proc/cpuinfo") -> str:
    """Returns the processor's model name, or its architecture if the model is not known."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "darwin":
            sysctl = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(sysctl, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
        if model := re.search(r"^model name\s*: *(.+)$", Path(cpuinfo).read_text(), re.MULTILINE):
            return model[1].strip()
    return platform.processor() or platform.machine()


def where() -> str:
    """Returns the backend and its devices as text, such as "tensorflow on 2 x Tesla T4". Keras must be imported."""
    import joblib
    import keras

    return f"{keras.backend.backend()} on {gpu_names() or f'the CPU, {joblib.cpu_count()} cores'}"


def versions() -> dict[str, str | None]:
    """Returns {package: version}, and "python", "machine", "processor" and "gpu". Keras must be imported."""
    import joblib
    import keras

    names = ("keras", keras.backend.backend(), "numpy", "scipy")
    modules = dict(zip(names, names, strict=True)) | {"scikit-learn": "sklearn"}
    here = {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {joblib.cpu_count()} cores",
        "processor": processor_name(),
        "gpu": gpu_names(),
    }
    return here | {name: importlib.import_module(module).__version__ for name, module in modules.items()}


def commit() -> str | None:
    """Returns the git commit of these scripts, with "+changes" if they differ from it; None outside git."""
    # "describe" without tags prints the commit, and "+changes" if a tracked file has changed.
    describe = ["describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+changes"]
    git = ["git", "--no-optional-locks", "-C", str(Path(__file__).parents[2]), *describe]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    return None
