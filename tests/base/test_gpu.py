"""On a machine with a GPU, shown without one: what is printed and installed, memory, names, threads."""

import ctypes
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import ROOT, TINY, assert_one_line_error, load, script

import predict
import train
from recognizer.base import environment, gpu_advice, machine
from recognizer.base.errors import UserError, enough_memory
from recognizer.runs import compare
from recognizer.training import memory, progress, trainer

T4 = machine.Gpu("Tesla T4", (7, 5))
P100 = machine.Gpu("Tesla P100-PCIE-16GB", (6, 0))
V100 = machine.Gpu("Tesla V100-SXM2-16GB", (7, 0))
M40 = machine.Gpu("Tesla M40", (5, 2))
METAL = machine.Gpu("METAL", None)
needs_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's")


@pytest.fixture
def described(monkeypatch, tmp_path):
    """A machine as it is described: described(driver=True, gpus=[], packages={}, ...)."""

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


def test_training_and_predicting_say_it_once_each(tmp_path, monkeypatch, capsys, no_pictures, kaggle_folder):
    (tmp_path / "driver").touch()
    monkeypatch.setattr(gpu_advice, "DRIVERS", (str(tmp_path / "driver"),))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.chdir(tmp_path)
    if machine.gpus() or os.name == "nt":
        pytest.skip("this machine has a GPU, or is Windows, which has other signs of a driver")
    train.main(["--model", "linear", "--nets", "2", *TINY, "--data", "digits", "--run", "r"])
    assert capsys.readouterr().err.count("has an NVIDIA driver") == 1
    other = ["r", "--test", str(kaggle_folder), "--allow-leak"]  # its own test set is predicted already
    predict.main(other)
    assert capsys.readouterr().err.count("has an NVIDIA driver") == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    predict.main(other)
    assert capsys.readouterr().err == ""


def test_the_makefile_looks_for_a_driver_where_the_scripts_do():
    assert f"DRIVERS := {' '.join(gpu_advice.DRIVERS)}\n" in (ROOT / "Makefile").read_text()


def made(folder, *arguments, **environment):
    """What make would run, as text."""
    of_make = ("GPU", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # where make runs the tests
    environment = {key: value for key, value in os.environ.items() if key not in of_make} | environment
    command = ["make", "-n", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment).stdout


@pytest.mark.skipif(shutil.which("make") is None or platform.machine() != "x86_64", reason="needs make, on x86-64")
def test_make_installs_cuda_where_there_is_a_driver(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    here, none = f"DRIVERS={tmp_path}", f"DRIVERS={tmp_path / 'none'}"
    for target in ("submission", "test", "slow-test", "bench"):
        assert "-r requirements/gpu.txt" in made(tmp_path, target, here)
        assert "-r requirements/gpu.txt" in made(tmp_path, target, none, "GPU=1")
        assert "-r requirements/gpu.txt" in made(tmp_path, target, none, GPU="1")
        for arguments in ([none], [here, "GPU=0"]):
            text = made(tmp_path, target, *arguments)
            assert "-r requirements.txt" in text
            assert "gpu.txt" not in text
    # PyTorch's cuDNN would replace TensorFlow's.
    assert "requirements/bench" in made(tmp_path, "bench", "GPU=0")
    assert "requirements/bench" not in made(tmp_path, "bench", "GPU=1")
    # What is installed is installed once, and for a GPU too once that is asked for.
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("bin/python", "installed-requirements", "installed-dev"):
        (tmp_path / ".venv" / name).touch()
    assert "pip" not in made(tmp_path, "test", "GPU=0")
    assert "-r requirements/gpu.txt" in made(tmp_path, "test", "GPU=1")
    assert made(tmp_path, "test", "GPU=maybe") == ""


def test_both_gpu_requirements_have_the_pinned_versions():
    pinned = {}
    for name in ("requirements.txt", "requirements/gpu.txt", "requirements/jax.txt", "requirements/jax-gpu.txt"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if line[0] not in "#-"]
        pinned[name] = dict(line.split("==") for line in lines)
    assert pinned["requirements/gpu.txt"]["tensorflow[and-cuda]"] == pinned["requirements.txt"]["tensorflow"]
    assert pinned["requirements/jax-gpu.txt"]["jax[cuda12]"] == pinned["requirements/jax.txt"]["jax"]
    for name in gpu_advice.REQUIREMENTS.values():
        assert pinned[name]["nvidia-cudnn-cu12"] == "9.10.2.21"


VARIABLES = """
import json, os, sys; sys.path.insert(0, sys.argv[1])
from recognizer.base import environment

class Backend:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in ("tensorflow", "jax"):
            print(json.dumps(dict(os.environ)), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Backend)
environment.import_keras()
"""


@pytest.mark.parametrize(
    ("backend", "name", "value"),
    [("tensorflow", "TF_FORCE_GPU_ALLOW_GROWTH", "true"), ("jax", "XLA_PYTHON_CLIENT_PREALLOCATE", "false")],
)
def test_memory_of_a_gpu_grows_as_needed_unless_the_user_says_otherwise(backend, name, value):
    before = {key: text for key, text in os.environ.items() if key != name} | {"KERAS_BACKEND": backend}
    for own, expected in (({}, value), ({name: "as the user has it"}, "as the user has it")):
        command = [sys.executable, "-c", VARIABLES, str(ROOT)]
        process = subprocess.run(command, capture_output=True, text=True, env=before | own, timeout=60)
        assert json.loads(process.stdout)[name] == expected  # when the backend is about to be imported


def test_training_on_jax_shows_no_notes_of_tensorflow(tmp_path):
    pytest.importorskip("jax")
    arguments = ["--model", "linear", *TINY, "--data", "digits", "--run", "r"]
    process = script("train.py", *arguments, cwd=tmp_path, KERAS_BACKEND="jax", TF_CPP_MIN_LOG_LEVEL="3")
    assert process.returncode == 0
    assert process.stderr == ""


# Out of memory


def tensorflow_eager():
    import tensorflow as tf

    tf.zeros([10**13])


def tensorflow_data():
    import tensorflow as tf

    def build(_):
        return np.zeros(10**14)

    list(tf.data.Dataset.range(1).map(lambda i: tf.numpy_function(build, [i], tf.float64)))


def tensorflow_layer():
    class Wide(keras.layers.Layer):
        def call(self, x):
            return keras.ops.sum(keras.random.uniform([10**9, 10**4]) + keras.ops.sum(x))

    Wide()(np.zeros((2, 3), np.float32))


def jax_eager():
    jax = pytest.importorskip("jax")
    jax.numpy.zeros(10**13).block_until_ready()


def jax_compiled():
    jax = pytest.importorskip("jax")
    jax.jit(lambda: jax.numpy.sort(jax.random.uniform(jax.random.key(0), (10**9, 10**4))).sum())().block_until_ready()


def raising(error):
    def act():
        raise error

    return act


SHORT_OF_MEMORY = {
    "tensorflow": tensorflow_eager,
    "tf.data": tensorflow_data,
    "a layer": tensorflow_layer,
    "jax": jax_eager,
    "jax.jit": jax_compiled,
    "numpy": lambda: np.zeros(10**14),
    "python": lambda: bytearray(10**15),
    "cuDNN": raising(RuntimeError("INTERNAL: CUDNN_STATUS_ALLOC_FAILED in stream_executor/cuda/cuda_dnn.cc(1150)")),
    "cuBLAS": raising(RuntimeError("INTERNAL: failed to create cublas handle: CUBLAS_STATUS_ALLOC_FAILED")),
    "CUDA": raising(RuntimeError("INTERNAL: Failed to load in-memory CUBIN: CUDA_ERROR_OUT_OF_MEMORY: out of memory")),
    "XLA": raising(RuntimeError("RESOURCE_EXHAUSTED: Failed to allocate request for 2.00GiB (2147483648B) on device")),
    "fork": raising(OSError(12, "Cannot allocate memory")),
}


@pytest.mark.parametrize("case", SHORT_OF_MEMORY)
def test_a_lack_of_memory_is_recognised(case):
    with pytest.raises(UserError, match=r"^out of memory: buy more$"), enough_memory("buy more"):
        SHORT_OF_MEMORY[case]()


def full_disk():
    import tensorflow as tf

    with tf.io.gfile.GFile("/dev/full", "w") as file:
        file.write("x" * 10**6)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(full_disk, marks=pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")),
        raising(ValueError("Input 0 of layer conv2d is incompatible with the layer")),
        raising(RuntimeError("RESOURCE_EXHAUSTED: Received message larger than max (5000000 vs. 4194304)")),
        raising(OSError(28, "No space left on device")),
        raising(UserError("no recipe 'x'")),
        raising(KeyboardInterrupt()),
    ],
)
def test_other_errors_are_not_taken_for_a_lack_of_memory(act):
    with pytest.raises(BaseException) as one:  # noqa: PT011
        act()
    with pytest.raises(one.type) as other, enough_memory("buy more"):
        act()
    assert str(other.value) == str(one.value)


@needs_tensorflow
def test_a_lack_of_memory_keeps_the_epochs_done_and_names_the_batch_size(tmp_path, monkeypatch, no_pictures):
    monkeypatch.chdir(tmp_path)
    arguments = ["--model", "linear", *TINY, "--batch-size", "40", "--data", "digits"]
    begin = progress.Progress.on_epoch_begin

    def short_in_epoch_2(self, epoch, logs=None):
        begin(self, epoch, logs)
        if epoch == 1:
            tensorflow_eager()

    monkeypatch.setattr(progress.Progress, "on_epoch_begin", short_in_epoch_2)
    with pytest.raises(UserError) as told:
        train.main([*arguments, "--run", "r"])
    monkeypatch.setattr(progress.Progress, "on_epoch_begin", begin)
    assert "python train.py --run r --resume" in str(told.value)
    assert "--batch-size 20 (it is 40)" in str(told.value)
    assert len(str(told.value)) < 280
    assert "\n" not in str(told.value)
    assert len((tmp_path / "runs" / "r" / "net-01.csv").read_text().splitlines()) == 2
    train.main(["--run", "r", "--resume"])
    train.main([*arguments, "--run", "whole"])
    resumed, whole = (load(tmp_path / "runs" / name / "predictions.npz") for name in ("r", "whole"))
    np.testing.assert_array_equal(resumed["test_01"], whole["test_01"])


@pytest.mark.parametrize(
    ("size", "replicas", "told"),
    [(64, 1, "--batch-size 32"), (12, 4, "--batch-size 4"), (4, 4, "a smaller net"), (1, 1, "a smaller net")],
)
def test_half_the_batch_size_is_one_that_the_replicas_can_share(size, replicas, told):
    assert told in memory.smaller_batches({"batch_size": size, "replicas": replicas})


def test_memory_that_is_short_before_there_is_a_run_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trainer, "new_model", lambda *_: np.zeros(10**14))
    with pytest.raises(UserError, match="out of memory: try --batch-size 20"):
        train.main(["--model", "linear", *TINY, "--batch-size", "40", "--data", "digits"])
    assert not (tmp_path / "runs").exists()


OTHER = """
import sys; sys.path.insert(0, sys.argv[1])
from recognizer.base import cli
sys.argv = ["predict.py"]
cli.run(lambda: bytearray(10**15))
"""


def test_a_lack_of_memory_in_any_other_script_is_one_line():
    process = subprocess.run([sys.executable, "-c", OTHER, str(ROOT)], capture_output=True, text=True, timeout=60)
    assert_one_line_error(process, "predict.py: out of memory: close other programs")


# Names


@needs_tensorflow
def test_gpus_are_named_as_tensorflow_names_them(monkeypatch):
    import tensorflow as tf

    details = [
        {"device_name": "Tesla T4", "compute_capability": (7, 5)},
        {"device_name": "Tesla T4", "compute_capability": (7, 5)},
        {"device_name": "METAL"},
    ]
    devices = [f"/physical_device:GPU:{i}" for i in range(3)]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: devices)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: devices)
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda device: details[int(str(device).rsplit(":", 1)[1])]
    )
    assert machine.gpus() == [T4, T4, METAL]
    assert machine.where() == "tensorflow on 2 x Tesla T4, METAL"
    assert machine.versions()["gpu"] == "2 x Tesla T4, METAL"
    # A GPU that TensorFlow finds too old is none that it uses.
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: [])
    assert machine.gpus() == []
    assert machine.versions()["gpu"] is None


def test_gpus_are_named_as_jax_names_them(monkeypatch):
    jax = pytest.importorskip("jax")
    devices = [
        SimpleNamespace(platform="cpu", device_kind="cpu"),
        SimpleNamespace(platform="gpu", device_kind="Tesla V100-SXM2-16GB", compute_capability="7.0"),
        SimpleNamespace(platform="tpu", device_kind="TPU v4"),
    ]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert machine.gpus() == [V100, machine.Gpu("TPU v4", None)]
    assert machine.where() == "jax on Tesla V100-SXM2-16GB, TPU v4"


def test_the_processor_is_named(tmp_path):
    path = tmp_path / "cpuinfo"
    if sys.platform.startswith("linux"):
        path.write_text("processor\t: 0\nmodel\t\t: 85\nmodel name\t: Intel(R) Xeon(R) CPU @ 2.00GHz\nstepping\t: 3\n")
        assert machine.processor_name(path) == "Intel(R) Xeon(R) CPU @ 2.00GHz"
        path.write_text("processor\t: 0\nCPU part\t: 0xd0c\n")  # as on ARM
        assert machine.processor_name(path)
        assert machine.processor_name(tmp_path / "none")
    assert machine.versions()["processor"] == machine.processor_name() != ""


def test_a_repetition_elsewhere_names_processor_and_gpu(trained, tmp_path):
    first, second = trained / "runs" / "bag", tmp_path / "other"
    shutil.copytree(first, second)
    config = json.loads((first / "config.json").read_text())
    here = config["versions"]["processor"]

    def told(**changes):
        versions = {key: value for key, value in (config["versions"] | changes).items() if value != "unknown"}
        (second / "config.json").write_text(json.dumps(config | {"versions": versions}))
        return compare.repeated(first, second)[0]

    assert told() == "Different from bag: nothing"
    assert told(processor="M4") == f"Different from bag: processor {here} then, M4 now"
    if not machine.gpus():
        assert told(gpu="Tesla T4") == "Different from bag: gpu none then, Tesla T4 now"
    # Runs made before these were recorded.
    assert told(processor="unknown", gpu="unknown") == "Different from bag: nothing"


# Threads


@pytest.mark.parametrize(
    ("cores", "usable", "batch_size", "replicas", "threads"),
    [
        (8, 8, 64, 1, None),  # all: as TensorFlow itself has it
        (64, 2, 64, 1, "2"),  # a container with two of them
        (64, 2, 16, 1, "1"),
        (8, 8, 16, 1, "4"),
        (8, 8, 64, 4, "2"),
        (8, 2, 64, 4, "1"),
    ],
)
def test_threads_are_as_many_as_the_cores_that_the_process_may_use(
    cores, usable, batch_size, replicas, threads, monkeypatch
):
    import joblib

    monkeypatch.setattr(joblib, "cpu_count", lambda: usable)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    environment.choose_threads({"batch_size": batch_size, "replicas": replicas})
    environment.import_keras()
    assert os.environ.get("TF_NUM_INTRAOP_THREADS") == threads
    assert f"{usable} cores" in machine.versions()["machine"]
    if not machine.gpus():
        assert machine.where().endswith(f"{usable} cores")
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    environment.choose_threads({"batch_size": batch_size, "replicas": replicas})
    environment.import_keras()
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == "3"


def test_joblib_is_installed_by_the_requirements():
    assert f"joblib=={importlib.metadata.version('joblib')}\n" in (ROOT / "requirements.txt").read_text()


@pytest.mark.parametrize("backend", ["torch", "openvino", "tensorflwo"])
def test_a_backend_that_is_not_supported_is_one_line(backend, tmp_path):
    process = script("train.py", "--data", "digits", cwd=tmp_path, KERAS_BACKEND=backend)
    assert_one_line_error(process, repr(backend), "TensorFlow or JAX", "KERAS_BACKEND=tensorflow")
    assert not (tmp_path / "runs").exists()
