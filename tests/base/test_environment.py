"""Environment variables, threads and backends of Keras."""

import importlib.metadata
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT, assert_one_line_error, script

from recognizer.base import environment, machine

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
        assert json.loads(process.stdout)[name] == expected  # its value just before the backend is imported


@pytest.mark.parametrize(
    ("cores", "usable", "batch_size", "replicas", "threads"),
    [
        (8, 8, 64, 1, None),  # all cores, which is TensorFlow's own default
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


@pytest.mark.parametrize(
    ("written", "variable", "backend"),
    [
        (None, None, "tensorflow"),
        ("not JSON", None, "tensorflow"),
        ("{}", None, "tensorflow"),
        ('{"backend": "jax"}', None, "jax"),
        ('{"backend": "jax"}', "tensorflow", "tensorflow"),
        ('{"backend": "tensorflow"}', "jax", "jax"),
        ('{"backend": "jax"}', "", "jax"),
        ('{"backend": "torch"}', None, "torch"),
    ],
)
def test_keras_json_names_the_backend_before_keras_is_imported(written, variable, backend, tmp_path, monkeypatch):
    if written is not None:
        (tmp_path / "keras.json").write_text(written)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    if variable is not None:
        monkeypatch.setenv("KERAS_BACKEND", variable)
    assert environment.backend() == backend


CHOSEN = """
import json, sys; sys.path.insert(0, sys.argv[1])
from recognizer.base import environment

environment.import_keras()
import keras

settings = keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format()
print(json.dumps([environment.backend(), *settings]))
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_other_settings_in_keras_json_have_no_effect(backend, tmp_path):
    own = {"backend": backend, "floatx": "float64", "epsilon": 0.001, "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps(own))
    variables = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    variables["KERAS_HOME"] = str(tmp_path)
    command = [sys.executable, "-c", CHOSEN, str(ROOT)]
    process = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=120)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == [backend, "float32", 1e-7, "channels_last"]


def test_a_keras_json_that_is_no_object_is_one_line(tmp_path):
    (tmp_path / "keras.json").write_text("[]")
    process = script("train.py", "--data", "digits", cwd=tmp_path, KERAS_HOME=str(tmp_path), KERAS_BACKEND="")
    assert_one_line_error(process, "keras.json", "delete it")


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ((3, 11, 9), "pip install -r requirements.txt (or requirements/jax.txt)"),
        ((3, 13, 0), "pip install -r requirements.txt (or requirements/jax.txt)"),
        ((3, 14, 1), "TensorFlow has no wheels for Python 3.14: use 3.13 (uv venv --seed --python 3.13 .venv), or JAX"),
        ((3, 15, 0), "TensorFlow has no wheels for Python 3.15: use 3.13"),
    ],
    ids=str,
)
def test_a_python_that_is_too_new_for_tensorflow_is_told_which_to_use(version, told, monkeypatch):
    monkeypatch.setattr(sys, "version_info", version)
    assert told in environment.how_to_install()


HOME = """
import os, sys; sys.path.insert(0, sys.argv[1])
import pwd


def unknown(user):
    raise KeyError(user)


pwd.getpwuid = unknown
from pathlib import Path
from recognizer.base import environment
from recognizer.data import containers, csv_cache

csv_cache.read(containers.File(Path("train.csv")), "")
print(environment.keras_home(), environment.backend())
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pwd")
@pytest.mark.parametrize(
    ("variables", "expected"),  # the folders are those of keras.src.backend.config
    [
        ({}, "/tmp/.keras"),
        ({"HOME": "{}/none"}, "/tmp/.keras"),
        ({"HOME": "{}"}, "{}/.keras"),
        ({"KERAS_HOME": "{}/k"}, "{}/k"),
        ({"HOME": "{}", "KERAS_HOME": "~/k"}, "{}/k"),
    ],
    ids=str,
)
def test_a_user_without_a_home_has_keras_folder_where_keras_puts_it(variables, expected, tmp_path):
    own = {key: text for key, text in os.environ.items() if key not in ("HOME", "KERAS_HOME", "XDG_CACHE_HOME")}
    own |= {"KERAS_BACKEND": "jax"} | {key: text.format(tmp_path) for key, text in variables.items()}
    command = [sys.executable, "-c", HOME, str(ROOT)]
    process = subprocess.run(command, capture_output=True, text=True, env=own, cwd=tmp_path, timeout=60)
    assert process.stdout == f"{expected.format(tmp_path)} jax\n", process.stderr
