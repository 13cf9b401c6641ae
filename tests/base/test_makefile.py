"""What make installs, and the pinned requirements."""

import os
import platform
import shutil
import subprocess

import pytest
from conftest import ROOT

from recognizer.base import gpu_advice


def test_the_makefile_looks_for_a_driver_where_the_scripts_do():
    assert f"DRIVERS := {' '.join(gpu_advice.DRIVERS)}\n" in (ROOT / "Makefile").read_text()


def made(folder, *arguments, **environment):
    """What make would run, as text."""
    of_make = ("GPU", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # set if make runs the tests
    environment = {key: value for key, value in os.environ.items() if key not in of_make} | environment
    command = ["make", "-n", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment).stdout


@pytest.mark.slow
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
    # Requirements are installed once; those for a GPU when GPU=1 asks for them.
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
