"""Out-of-memory errors of any library become one line."""

import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT, assert_one_line_error

from recognizer.base.errors import UserError, enough_memory


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


OTHER = """
import sys; sys.path.insert(0, sys.argv[1])
from recognizer.base import program
sys.argv = ["predict.py"]
program.run(lambda: bytearray(10**15))
"""


def test_a_lack_of_memory_in_any_other_script_is_one_line():
    process = subprocess.run([sys.executable, "-c", OTHER, str(ROOT)], capture_output=True, text=True, timeout=60)
    assert_one_line_error(process, "predict.py: out of memory: close other programs")


@pytest.mark.parametrize(
    "command",
    [["train.py"], ["train.py", "quick", "--data", "digits"], ["predict.py"], ["recognizer", "runs"]],
    ids=" ".join,
)
def test_a_python_without_the_packages_is_refused_with_the_way_to_the_right_one(command, tmp_path):
    process = subprocess.run(
        [sys.executable, "-S", str(ROOT / command[0]), *command[1:]], cwd=tmp_path, capture_output=True, text=True
    )  # -S: without the folder of packages
    assert process.returncode == 2
    assert process.stdout == ""
    told = rf"[\w.]+: {re.escape(sys.executable)} has no package '\w+': activate this project's environment \(.*\)"
    assert re.match(told, process.stderr)
    assert process.stderr.count("\n") == 1


PRINTS = """
import sys; sys.path.insert(0, sys.argv[1])
from recognizer.base import program
program.run(lambda: print("scans/\\u5199\\udce9.png: 7"))
"""


@pytest.mark.parametrize(
    ("encoding", "told"),
    [("utf-8", "写\\udce9"), ("cp1252", "\\u5199\\udce9"), ("ascii:strict", "\\u5199\\udce9")],
)
def test_a_name_that_the_output_cannot_encode_is_printed_escaped(encoding, told):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    process = subprocess.run([sys.executable, "-c", PRINTS, str(ROOT)], capture_output=True, env=environment)
    assert (process.returncode, process.stdout.decode()) == (0, f"scans/{told}.png: 7\n"), process.stderr
