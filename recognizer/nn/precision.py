"""Chooses the precision of a net: float32, or a half precision that the processor computes natively."""

import re
from pathlib import Path

import keras

from recognizer.base.backend import TENSORFLOW
from recognizer.base.machine import gpus

# Keras's dtype policy for each precision.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def native_precision(wanted: str | None = None) -> str:
    """Returns `wanted` if the processor computes it natively, else "float32". wanted: None for the fastest precision.

    bfloat16 is native to NVIDIA GPUs of compute capability 8.0 or higher, to TPUs, and on TensorFlow to x86 processors
    with AMX or AVX512-BF16 (JAX's convolutions gain nothing there). float16 is native to GPUs of 7.0 (V100) or higher.
    """
    return next((precision for precision in _native_precisions() if wanted in (None, precision)), "float32")


def _native_precisions(cpuinfo=Path("/proc/cpuinfo")):
    """Returns the half precisions that all processors in use compute natively, the best first."""
    if "tpu" in {device.split(":")[0] for device in keras.distribution.list_devices()}:
        return ["bfloat16"]
    if found := gpus():
        lowest = min(gpu.capability or (0, 0) for gpu in found)
        return ["bfloat16"] * (lowest >= (8, 0)) + ["float16"] * (lowest >= (7, 0))
    if not TENSORFLOW:
        return []
    try:
        flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:  # not Linux
        return []
    return ["bfloat16"] if flags and {"amx_bf16", "avx512_bf16"} & set(flags[1].split()) else []
