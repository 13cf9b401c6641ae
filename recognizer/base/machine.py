"""The processors that Keras computes on: their names, and what to install where an NVIDIA GPU stands idle.

Facts (tensorflow 2.21.0's build info, NVIDIA's support matrices): TensorFlow's wheel for Linux on x86-64 serves GPUs of
compute capability 6.0 and later; those for Linux on ARM and for Windows serve none. cuDNN 9.11 dropped what is below
7.5 (Maxwell, Pascal, Volta); 9.10.2 serves 5.0 to 12.0.
"""

import contextlib
import ctypes
import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

DRIVERS = ("/proc/driver/nvidia", "/usr/lib/wsl/lib/libcuda.so.1")  # Linux; WSL2. The Makefile has them, too


WINDOWS = os.name == "nt"


REQUIREMENTS = {"tensorflow": "requirements/gpu.txt", "jax": "requirements/jax-gpu.txt"}


CUDA_PACKAGES = {"tensorflow": ("nvidia-cudnn-cu12",), "jax": ("jax-cuda12-plugin", "jax-cuda13-plugin")}


TURING = (7, 5)  # the oldest that cuDNN serves from 9.11 on


class Gpu(NamedTuple):
    name: str
    capability: tuple | None  # CUDA's compute capability, (7, 5) for example


def gpus():
    """Returns the accelerators that Keras uses, a list of Gpu. Keras must be imported."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return [_jax_gpu(device) for device in jax.local_devices() if device.platform != "cpu"]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return _tensorflow_gpus() if tf.config.list_logical_devices("GPU") else []
    return []


def _jax_gpu(device):
    capability = re.fullmatch(r"(\d+)\.(\d+)", str(getattr(device, "compute_capability", "")))  # AMD's is gfx90a, say
    return Gpu(device.device_kind, (int(capability[1]), int(capability[2])) if capability else None)


def _tensorflow_gpus():
    """Returns the GPUs that TensorFlow finds; it computes on none of them where all are too old for it."""
    import tensorflow as tf

    found = []
    for device in tf.config.list_physical_devices("GPU"):
        details = {}
        with contextlib.suppress(ValueError, tf.errors.OpError):
            details = tf.config.experimental.get_device_details(device)
        found.append(Gpu(details.get("device_name", "GPU"), details.get("compute_capability")))
    return found


def gpu_names():
    """Returns the names of the GPUs that Keras uses as text, "2 x Tesla T4" for example, or None without a GPU."""
    names = [gpu.name for gpu in gpus()]
    counts = {name: names.count(name) for name in names}
    return ", ".join(f"{n} x {name}" if n > 1 else name for name, n in counts.items()) or None


def processor_name(cpuinfo="/proc/cpuinfo"):
    """Returns the processor's model name, or its architecture where the system does not tell more."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "darwin":
            sysctl = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(sysctl, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
        if WINDOWS:
            import winreg

            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as key:
                return winreg.QueryValueEx(key, "ProcessorNameString")[0].strip()
        if model := re.search(r"^model name\s*: *(.+)$", Path(cpuinfo).read_text(), re.MULTILINE):
            return model[1].strip()
    return platform.processor() or platform.machine()


def print_advice():
    """Prints one line on stderr if an NVIDIA GPU stands idle, or if the installed cuDNN does not serve it."""
    advice = _idle() or _outdated()
    if advice:
        print(f"{Path(sys.argv[0]).name}: {advice}", file=sys.stderr)


def _idle():
    """Returns what to do if there is an NVIDIA driver and Keras sees no GPU, else None."""
    import keras

    backend = keras.backend.backend()
    if backend not in REQUIREMENTS or not _has_driver() or _wants_cpu(backend) or gpus():
        return None
    name = {"tensorflow": "TensorFlow", "jax": "JAX"}[backend]
    return f"this machine has an NVIDIA driver, but {name} uses the CPU, since {_remedy(backend)}"


def _has_driver():
    if WINDOWS:
        return shutil.which("nvidia-smi") is not None
    return any(os.path.exists(path) for path in DRIVERS)


def _wants_cpu(backend):
    """Whether the user's environment hides the GPUs: CUDA ignores all that follow an invalid number."""
    hidden = not re.match(r"\s*(\d|GPU-|MIG-)", os.environ.get("CUDA_VISIBLE_DEVICES", "0"))
    return hidden or (backend == "jax" and os.environ.get("JAX_PLATFORMS") == "cpu")


def _remedy(backend):
    """Returns why Keras sees no GPU, and what to do."""
    if WINDOWS:
        return "on Windows it has no GPU support: run this in WSL2 (Windows' own Linux), which has it"
    if backend == "tensorflow":
        import tensorflow as tf

        served = tf.sysconfig.get_build_info().get("cuda_compute_capabilities", ["sm_60"])
        oldest = min(int(text.split("_")[1]) for text in served)  # "sm_60" stands for 6.0
        for gpu in _tensorflow_gpus():
            if gpu.capability and gpu.capability < divmod(oldest, 10):
                return f"{_described(gpu)} is too old for it: {oldest / 10} is the least"
        if platform.machine().lower() in ("aarch64", "arm64"):
            install = f"python -m pip install -r {REQUIREMENTS['jax']}, and set KERAS_BACKEND=jax"
            return f"on ARM it has no GPU support. JAX has it: {install}"
    if any(_version(package) for package in CUDA_PACKAGES[backend]):
        return (
            "it finds no GPU although the CUDA packages are installed: nvidia-smi must list the GPU, with driver 525 "
            "or later (in a container: docker run --gpus all)"
        )
    return f"the CUDA packages are missing: python -m pip install -r {REQUIREMENTS[backend]}"


def _outdated():
    """Returns which cuDNN to install if the installed one does not serve a GPU that is used, else None."""
    old = [gpu for gpu in gpus() if gpu.capability and gpu.capability < TURING]
    version = _cudnn_version() if old else None
    if not version or version < (9, 11):
        return None
    return (
        f"cuDNN {version[0]}.{version[1]} does not support {_described(old[0])}, and training will probably fail. "
        "The last version that does: python -m pip install nvidia-cudnn-cu12==9.10.2.21"
    )


def _described(gpu):
    return f"{gpu.name} (compute capability {'.'.join(map(str, gpu.capability))})"


def _cudnn_version():
    """Returns (major, minor) of the cuDNN that is installed by pip, or else by the system; None if there is none."""
    for package in ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"):
        if version := _version(package):
            return tuple(map(int, version.split(".")[:2]))
    with contextlib.suppress(OSError, AttributeError):
        number = ctypes.CDLL("libcudnn.so.9").cudnnGetVersion()  # 91002 is 9.10.2
        return number // 10_000, number // 100 % 100
    return None


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions():
    """What a run is computed with: returns {name: version, or the processor's or the GPUs' name}."""
    import joblib
    import keras

    from recognizer.base import machine

    names = ("keras", keras.backend.backend(), "numpy", "scipy")
    modules = dict(zip(names, names, strict=True)) | {"scikit-learn": "sklearn"}
    here = {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {joblib.cpu_count()} cores",
        "processor": machine.processor_name(),
        "gpu": machine.gpu_names(),
    }
    return here | {name: importlib.import_module(module).__version__ for name, module in modules.items()}


def commit():
    """The git commit of these scripts, "+changes" where they differ from it; None outside git."""
    git = ["git", "--no-optional-locks", "-C", str(Path(__file__).parents[2])]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def where():
    """Returns the backend and what it computes on, in words."""
    import joblib
    import keras

    from recognizer.base import machine

    return f"{keras.backend.backend()} on {machine.gpu_names() or f'the CPU, {joblib.cpu_count()} cores'}"
