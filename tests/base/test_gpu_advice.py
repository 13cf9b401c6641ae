"""What is printed if a GPU is not used; tested without a GPU."""

import ctypes
import platform
import shutil

import keras
import pytest

from recognizer.base import environment, gpu_advice, machine

T4 = machine.Gpu("Tesla T4", (7, 5))
P100 = machine.Gpu("Tesla P100-PCIE-16GB", (6, 0))
V100 = machine.Gpu("Tesla V100-SXM2-16GB", (7, 0))
M40 = machine.Gpu("Tesla M40", (5, 2))
METAL = machine.Gpu("METAL", None)
needs_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's")


@pytest.fixture
def described(monkeypatch, tmp_path):
    """A function that imitates a machine: described(driver=True, gpus=[], packages={}, ...)."""

    def describe(driver=True, gpus=(), packages=(), backend="tensorflow", windows=False, cpu="x86_64", physical=()):
        path = tmp_path / "driver"
        path.touch()
        packages = dict(packages)
        monkeypatch.setattr(gpu_advice, "DRIVERS", (str(path if driver else tmp_path / "none"),))
        monkeypatch.setattr(machine, "gpus", lambda: list(gpus))
        monkeypatch.setattr(machine, "tensorflow_gpus", lambda: list(physical))
        monkeypatch.setattr(gpu_advice, "WINDOWS", windows)
        monkeypatch.setattr(shutil, "which", lambda name: "nvidia-smi.exe" if driver and windows else None)
        monkeypatch.setattr(environment, "version", packages.get)
        monkeypatch.setattr(platform, "machine", lambda: cpu)
        monkeypatch.setattr(ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
        monkeypatch.setattr(keras.backend, "backend", lambda: backend)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.delenv("JAX_PLATFORMS", raising=False)

    return describe


CUDA = {"nvidia-cudnn-cu12": "9.10.2.21"}
NEW = {"nvidia-cudnn-cu12": "9.28.0.42"}
FROM_NVIDIA = {"nvidia-cudnn-cu13": "9.12.0.46"}
NO_GPU = {
    "TensorFlow": ({}, "pip install -r requirements/gpu.txt"),
    "JAX": ({"backend": "jax"}, "pip install -r requirements/jax-gpu.txt"),
    "JAX beside TensorFlow's CUDA": ({"backend": "jax", "packages": CUDA}, "pip install -r requirements/jax-gpu.txt"),
    "CUDA is there": ({"packages": CUDA}, "nvidia-smi must list the GPU"),
    "CUDA is there for JAX": ({"backend": "jax", "packages": {"jax-cuda13-plugin": "0.10.2"}}, "nvidia-smi must list"),
    "Windows": ({"windows": True}, "WSL2"),
    "JAX on Windows": ({"windows": True, "backend": "jax"}, "WSL2"),
    "ARM": ({"cpu": "aarch64"}, "KERAS_BACKEND=jax"),
    "JAX on ARM": ({"cpu": "aarch64", "backend": "jax"}, "pip install -r requirements/jax-gpu.txt"),
    "a card that it refuses": ({"packages": CUDA, "physical": [V100]}, "nvidia-smi must list the GPU"),
    "an old card": ({"packages": CUDA, "physical": [M40]}, "Tesla M40 (compute capability 5.2) is too old"),
    "P100, new cuDNN": ({"gpus": [P100], "packages": NEW}, "cuDNN 9.28 does not support Tesla P100-PCIE-16GB (compute"),
    "V100, new cuDNN": ({"gpus": [T4, V100], "packages": NEW}, "pip install nvidia-cudnn-cu12==9.10.2.21"),
    "V100, CUDA 13": ({"gpus": [V100], "packages": FROM_NVIDIA}, "cuDNN 9.12 does not support Tesla V100"),
}
SILENT = {
    "no driver": {"driver": False},
    "no driver on Windows": {"driver": False, "windows": True},
    "a GPU is used": {"gpus": [T4], "packages": NEW},
    "Apple's GPU": {"gpus": [METAL], "driver": False},
    "P100, the pinned cuDNN": {"gpus": [P100], "packages": CUDA},
    "P100, an unknown cuDNN": {"gpus": [P100]},
}


@needs_tensorflow
@pytest.mark.parametrize("case", NO_GPU)
def test_a_gpu_that_stands_idle_is_one_line_that_says_what_to_do(case, described, capsys):
    things, told = NO_GPU[case]
    described(**things)
    gpu_advice.print_advice()
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert err.count("\n") == 1
    assert len(err) < 300


@needs_tensorflow
@pytest.mark.parametrize("case", SILENT)
def test_nothing_is_said_where_there_is_nothing_to_do(case, described, capsys):
    described(**SILENT[case])
    gpu_advice.print_advice()
    assert capsys.readouterr() == ("", "")


@needs_tensorflow
@pytest.mark.parametrize(
    ("variable", "value", "silent"),
    [
        ("CUDA_VISIBLE_DEVICES", "", True),
        ("CUDA_VISIBLE_DEVICES", "-1", True),
        ("CUDA_VISIBLE_DEVICES", "none", True),
        ("CUDA_VISIBLE_DEVICES", "0", False),
        ("CUDA_VISIBLE_DEVICES", "1,0", False),
        ("CUDA_VISIBLE_DEVICES", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", False),
        ("JAX_PLATFORMS", "cpu", True),
        ("JAX_PLATFORMS", "cuda,cpu", False),
    ],
)
def test_who_hides_the_gpu_wants_the_cpu(variable, value, silent, described, capsys, monkeypatch):
    described(backend="jax")
    monkeypatch.setenv(variable, value)
    gpu_advice.print_advice()
    assert (capsys.readouterr().err == "") == silent
