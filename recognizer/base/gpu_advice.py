"""Advice to the user if an NVIDIA GPU is not used, or not supported by the installed cuDNN.

Facts (TensorFlow 2.21.0's build info, NVIDIA's support matrices): TensorFlow's package for Linux on x86-64 supports
GPUs of compute capability 6.0 and later. Its packages for Linux on ARM and for Windows support no GPU. cuDNN 9.11
dropped GPUs below 7.5 (Maxwell, Pascal, Volta); cuDNN 9.10.2 supports 5.0 to 12.0.
"""

import contextlib
import ctypes
import os
import platform
import re
import shutil
import sys
from pathlib import Path

from recognizer.base import environment, machine

WINDOWS = os.name == "nt"
DRIVERS = ("/proc/driver/nvidia", "/usr/lib/wsl/lib/libcuda.so.1")  # Linux; WSL2. The Makefile has the same list
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX"}
REQUIREMENTS = {"tensorflow": "requirements/gpu.txt", "jax": "requirements/jax-gpu.txt"}
CUDA_PACKAGES = {"tensorflow": ("nvidia-cudnn-cu12",), "jax": ("jax-cuda12-plugin", "jax-cuda13-plugin")}
TURING = (7, 5)  # the oldest compute capability that cuDNN 9.11 and later support


def print_advice() -> None:
    """Prints one line on stderr if an NVIDIA GPU is not used, or if the installed cuDNN does not support it.

    Keras must be imported.
    """
    if advice := _idle() or _outdated():
        print(f"{Path(sys.argv[0]).name}: {advice}", file=sys.stderr)


def _idle():
    """Returns advice if there is an NVIDIA driver but Keras uses no GPU, else None."""
    import keras

    backend = keras.backend.backend()
    if not _has_driver() or _hidden(backend) or machine.gpus():
        return None
    return f"this machine has an NVIDIA driver, but {BACKENDS[backend]} uses the CPU, since {_remedy(backend)}"


def _has_driver():
    if WINDOWS:
        return shutil.which("nvidia-smi") is not None
    return any(os.path.exists(path) for path in DRIVERS)


def _hidden(backend):
    """Returns whether the user's environment hides all GPUs. CUDA ignores all device numbers after an invalid one."""
    hidden = not re.match(r"\s*(\d|GPU-|MIG-)", os.environ.get("CUDA_VISIBLE_DEVICES", "0"))
    return hidden or (backend == "jax" and os.environ.get("JAX_PLATFORMS") == "cpu")


def _remedy(backend):
    """Returns why Keras uses no GPU and what to do, as text."""
    if WINDOWS:
        return "on Windows it has no GPU support: run this in WSL2 (Windows' own Linux), which has it"
    if backend == "tensorflow":
        import tensorflow as tf

        supported = tf.sysconfig.get_build_info().get("cuda_compute_capabilities", ["sm_60"])
        oldest = min(int(text.split("_")[1]) for text in supported)  # "sm_60" stands for 6.0
        for gpu in machine.tensorflow_gpus():
            if gpu.capability and gpu.capability < divmod(oldest, 10):
                return f"{_described(gpu)} is too old for it: {oldest / 10} is the least"
        if platform.machine().lower() in ("aarch64", "arm64"):
            install = f"python -m pip install -r {REQUIREMENTS['jax']}, and set KERAS_BACKEND=jax"
            return f"on ARM it has no GPU support. JAX has it: {install}"
    if any(environment.version(package) for package in CUDA_PACKAGES[backend]):
        needed = "nvidia-smi must list the GPU, with driver 525 or later (in a container: docker run --gpus all)"
        return f"it finds no GPU although the CUDA packages are installed: {needed}"
    return f"the CUDA packages are missing: python -m pip install -r {REQUIREMENTS[backend]}"


def _outdated():
    """Returns advice if the installed cuDNN does not support a GPU that Keras uses, else None."""
    old = [gpu for gpu in machine.gpus() if gpu.capability and gpu.capability < TURING]
    version = _cudnn_version() if old else None
    if not version or version < (9, 11):
        return None
    last = "the last version that does: python -m pip install nvidia-cudnn-cu12==9.10.2.21"
    return f"cuDNN {version[0]}.{version[1]} does not support {_described(old[0])}; {last}"


def _described(gpu):
    return f"{gpu.name} (compute capability {'.'.join(map(str, gpu.capability))})"


def _cudnn_version():
    """Returns (major, minor) of the cuDNN that pip installed, else of the system's cuDNN, else None."""
    for package in ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"):
        if version := environment.version(package):
            return tuple(map(int, version.split(".")[:2]))
    with contextlib.suppress(OSError, AttributeError):
        number = ctypes.CDLL("libcudnn.so.9").cudnnGetVersion()  # 91002 is 9.10.2
        return number // 10_000, number // 100 % 100
    return None
