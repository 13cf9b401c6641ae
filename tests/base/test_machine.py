"""The names of processors and GPUs."""

import sys
from types import SimpleNamespace

import keras
import pytest

from recognizer.base import machine

T4 = machine.Gpu("Tesla T4", (7, 5))
V100 = machine.Gpu("Tesla V100-SXM2-16GB", (7, 0))
METAL = machine.Gpu("METAL", None)
needs_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's")


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
    # TensorFlow does not use a GPU that is too old for it.
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
