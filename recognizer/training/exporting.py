"""Exports nets of one or more runs as one file, and runs the file to verify it.

Its output is the mean probabilities of all nets, sharpened by the temperature.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recognizer.base import environment
from recognizer.base.errors import UserError, out_of_memory
from recognizer.base.reasons import reason
from recognizer.data import sources
from recognizer.nn import saved_net
from recognizer.runs import run_folder
from recognizer.training import predicting

if TYPE_CHECKING:
    import keras

    Nets = list[tuple[str, keras.Model, int]]  # of saved_nets

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite", "saved_model": "", "keras": ".keras"}
# The largest allowed difference of a probability. For bicubic resizing TensorFlow takes its weights from a table of
# 1,024 entries, which causes differences up to 1.4e-4.
LARGEST_DIFFERENCE = 1e-3
# Recurrent layers are unrolled if they have at most this many steps in total. An export takes a second more for every
# ten steps.
MOST_STEPS = 200

# Messages of converters and runtimes about an operation that they do not support.
NO_OPERATION = (r'In Node, \("[^"]*", (\w+)', r"\(Flex(\w+)\)", r"'tf\.(\w+)' op is neither", r"of Optype \((\w+)\)")


def check_out(out: Path, form: str) -> None:
    """Raises UserError if `out` (Path) has the wrong suffix for the format, or exists."""
    if not out.name.endswith(SUFFIXES[form]):
        raise UserError(f"--out {out}: {form} needs a name that ends in {SUFFIXES[form]}")
    if out.exists():
        raise UserError(f"{out} exists: remove it, or choose another name with --out")


def export(folders: list[Path], out: Path, form: str, digits: int = 64) -> float:
    """Writes the mean of all nets of runs to `out` (Path), and keeps the file if it agrees with Keras.

    form: a key of SUFFIXES. digits: int, the number of digits to try it on.
    Returns the largest difference of a probability from Keras's. Raises UserError if the difference is above
    LARGEST_DIFFERENCE, if a package is missing, or if the format does not support a net.
    """
    environment.import_keras()
    from recognizer.base.backend import TENSORFLOW

    if not TENSORFLOW and form != "keras":
        raise UserError(f"{form} needs Keras on TensorFlow: install requirements.txt, and unset KERAS_BACKEND")
    nets = saved_nets(folders)
    temperature = predicting.temperature(folders, [run_folder.read_config(folder) for folder in folders])
    if form == "litert":
        _unroll(nets)
    if form == "onnx":
        _simplify(nets)
    x = sources.load_test("digits").x[:digits, ..., None] / np.float32(255)
    temporary = out.with_name(f".{out.stem}.{os.getpid()}{out.suffix}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        difference, fault = tried(mean_of(nets, temperature), temporary, form, x)
        if fault:
            raise UserError(f"{out} was not kept: {fault}{_where(nets, temporary, form, x)}; try {_instead(form)}")
        os.replace(temporary, out)
    except ImportError as error:
        need = "python -m pip install -r requirements/export.txt"
        raise UserError(f"{error.name or reason(error)} is needed to write {form} and to try it: {need}") from error
    except OSError as error:
        raise UserError(f"{out} cannot be written ({reason(error)})") from error
    finally:
        _remove(temporary)
    return difference


def tried(model: keras.Model, path: Path, form: str, x: np.ndarray) -> tuple[float, str]:
    """Writes a keras.Model, and runs the file on all digits and on a single one.

    Returns (the largest difference from Keras's outputs, divided by the largest output if that is above 1; the problem
    as text, or "").
    Raises ImportError if a package is missing.
    """
    _remove(path)
    difference = 0.0
    try:
        parts = [(some, model.predict_on_batch(some)) for some in (x, x[:1])]
        write(model, path, form)
        for some, expected in parts:
            apart = np.abs(RUN[form](path, some) - expected).max() / max(1, np.abs(expected).max())
            difference = max(difference, apart) if np.isfinite(apart) else np.inf
    except (ImportError, OSError):
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        return np.inf, _fault(str(error), form) or f"{form} cannot hold this net ({reason(error, 100)})"
    sound = difference <= LARGEST_DIFFERENCE
    return difference, "" if sound else f"its probabilities differ from Keras's by up to {difference:.2g}"


def _fault(text, form):
    """Returns what a converter or a runtime does not support according to its message, or ""."""
    if operation := next((found[1] for pattern in NO_OPERATION if (found := re.search(pattern, text))), None):
        return f"{form} cannot do the operation {operation}"
    if found := re.search(r"Required inputs \(\['([^':]+)", text):
        return f"{form} cannot hold a constant outside a layer (operand {found[1].split('/')[-1]!r})"
    return ""


def _where(nets, path, form, x):
    """Returns the first net and layer at which an exported file is wrong, as the rest of a line, or ""."""
    import keras

    def is_faulty(net, layer):
        inputs = keras.Input((28, 28, 1))
        part = keras.Model(net.inputs[0], layer.output)
        return bool(tried(keras.Model(inputs, part(inputs, training=False)), path, form, x)[1])

    for told, net, _ in nets:
        layers = [layer for layer in net.layers if hasattr(layer.output, "shape")]
        layers = [layer for layer in layers if not isinstance(layer, keras.layers.InputLayer)]
        low, high = 0, len(layers) - 1
        if not is_faulty(net, layers[high]):
            continue
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if is_faulty(net, layers[middle]) else (middle + 1, high)
        return f", from layer {layers[low].name!r} of {told} on"
    return ""


def _instead(form):
    return f"--format {' or '.join(other for other in SUFFIXES if other != form)}, or another layer"


def _remove(path):
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def size(path: Path) -> int:
    """Returns the size of a file, or of all files in a folder, in bytes."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def saved_nets(folders: list[Path]) -> Nets:
    """Returns the nets of runs: a list of (net and run as text, keras.Model, the run's test_shift in pixels)."""
    nets = []
    for run, folder in enumerate(folders, 1):
        config = run_folder.read_config(folder)
        for net, model in enumerate(predicting.saved_models(folder, config), 1):
            model.name = f"run_{run}_net_{net}"
            nets.append((f"net {net} of run {folder.name!r}", model, config["test_shift"]))
    return nets


def _unroll(nets):
    """Unrolls recurrent layers if they have few steps, since LiteRT does not support loops."""
    layers = [layer for _, net, _ in nets for layer in net._flatten_layers() if getattr(layer, "unroll", None) is False]
    lengths = [((layer.get_build_config() or {}).get("input_shape") or [None])[1:2] for layer in layers]
    views = 5 if any(by for *_, by in nets) else 1
    if all(length and length[0] for length in lengths) and views * sum(n for (n,) in lengths) <= MOST_STEPS:
        for layer in layers:
            layer.unroll = True


def _simplify(nets):
    """Replaces what the converter to ONNX does not know, and removes what predictions do not need.

    The exact GELU is computed by Erf in place of Keras's Erfc. Activity regularizers are for training only.
    """
    import keras

    def gelu(x):
        return 0.5 * x * (1 + keras.ops.erf(x * 0.5**0.5))

    for layer in [layer for _, net, _ in nets for layer in net._flatten_layers()]:
        if getattr(layer, "activation", None) is keras.activations.gelu:
            layer.activation = gelu
        if getattr(layer, "activity_regularizer", None) is not None:
            layer.activity_regularizer = None


def mean_of(nets: Nets, temperature: float = 1) -> keras.Model:
    """Returns a keras.Model of the mean probabilities over all nets, sharpened.

    nets: from `saved_nets`. For a net with a test_shift, the mean is also over the image and its four shifts.
    """
    import keras
    from keras.layers import Cropping2D, Input, ZeroPadding2D

    from recognizer.training import inference

    inputs, outputs = Input((28, 28, 1)), []
    for _, model, by in nets:
        views = [inputs]
        if by:
            padded = ZeroPadding2D(by)(inputs)
            corners = inference.views(by)
            views = [Cropping2D(((top, 2 * by - top), (left, 2 * by - left)))(padded) for top, left in corners]
        outputs.append(_mean([model(view, training=False) for view in views]))
    return keras.Model(inputs, _sharpened(_mean(outputs), temperature))


def _sharpened(probabilities, temperature):
    """Returns sharpened probabilities, like metrics.sharpened, but as a tensor."""
    from keras import ops

    if temperature == 1:
        return probabilities
    greatest = ops.max(probabilities, axis=1, keepdims=True)
    powers = ops.power(probabilities / greatest, 1 / temperature)
    return powers / ops.sum(powers, axis=1, keepdims=True)


def _mean(tensors):
    import keras

    return keras.layers.Average()(tensors) if len(tensors) > 1 else tensors[0]


def write(model: keras.Model, path: Path, form: str) -> None:
    """Saves or exports a keras.Model by Keras, and hides the messages of TensorFlow and the converters."""
    if form == "keras":
        return saved_net.save(model, path)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), environment.quiet():
        warnings.simplefilter("ignore")
        model.export(path, format=form.replace("saved_model", "tf_saved_model"), verbose=False)


def run_onnx(path: Path, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    with environment.quiet():
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: x})[0]


def run_litert(path: Path, x: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    with environment.quiet():
        interpreter = Interpreter(str(path))
        (images,), (probabilities,) = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.resize_tensor_input(images["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(images["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(probabilities["index"])


def run_saved_model(path: Path, x: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))  # must stay alive: it owns the weights
    return loaded.serve(x).numpy()


def run_keras(path: Path, x: np.ndarray) -> np.ndarray:
    import keras

    return keras.models.load_model(path).predict_on_batch(x)


# {format: function(path, x) that returns the file's probabilities}
RUN = {"onnx": run_onnx, "litert": run_litert, "saved_model": run_saved_model, "keras": run_keras}
# Code that does the same, to show to the user: {format: (import, statements that end with the probabilities of x)}
USE = {
    "onnx": (
        "import onnxruntime",
        "s = onnxruntime.InferenceSession({!r}); s.run(None, {{s.get_inputs()[0].name: x}})[0]",
    ),
    "litert": (
        "from ai_edge_litert.interpreter import Interpreter",
        "r = Interpreter({!r}).get_signature_runner(); r(**{{next(iter(r.get_input_details())): x}})['output_0']",
    ),
    "saved_model": ("import tensorflow as tf", "m = tf.saved_model.load({!r}); m.serve(x).numpy()"),
    "keras": ("import keras", "keras.models.load_model({!r}).predict(x)"),
}


def use(out: Path, form: str) -> str:
    """Returns the line of Python that computes the probabilities of digits x by an exported file."""
    imported, statements = USE[form]
    return f"{imported}; {statements.format(str(out))}"
