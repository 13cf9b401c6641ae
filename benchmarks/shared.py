"""What the benchmarks share: the repository on the path, the machine in words, train.py as a command, Markdown rows."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

import joblib

from recognizer.base.machine import processor_name


def script(name, *arguments):
    """Returns the command that runs a Python file of the repository, "train.py" for example."""
    return [sys.executable, str(ROOT / name), *map(str, arguments)]


def machine():
    """Returns the processor with its instructions for half precision, the GPU, cores, versions and day, as text."""
    model = processor_name()
    with contextlib.suppress(OSError):
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        found = set(flags[1].split()) if flags else set()
        model += "".join(f", {flag}" for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in found)
    if gpu := gpu_name():
        model += f", {gpu}"
    wheels = importlib.metadata.packages_distributions()  # TensorFlow's has several names
    names = ("tensorflow", "keras", "numpy", "pandas", "torch", "jax")
    versions = [f"{name} {importlib.metadata.version(wheels[name][0])}" for name in names if name in wheels]
    day = datetime.date.today().isoformat()
    return f"{model}; {joblib.cpu_count()} cores; Python {platform.python_version()}, {', '.join(versions)}; {day}"


def gpu_name():
    """Returns the name of the machine's first NVIDIA GPU, or None."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):  # if it fails, its stdout is an error message
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().split("\n")[0]
    return None


def without_folders(arguments):
    """Returns arguments of a command line with the names of files in place of their paths on this machine."""
    return [Path(argument).name if os.sep in argument else argument for argument in arguments]


def row(cells):
    """Returns a row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def table(columns, rows):
    """Returns the lines of a Markdown table."""
    return [row(columns), row(["---"] * len(columns)), *map(row, rows)]
