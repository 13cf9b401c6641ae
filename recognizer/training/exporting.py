"""Exports runs: their nets, averaged, as one file for use without Keras, which is run to verify it."""

import contextlib
import io
import os
import shutil
import warnings

import numpy as np

from recognizer.base import environment
from recognizer.base.errors import UserError
from recognizer.base.reasons import reason
from recognizer.data import sources
from recognizer.runs import run_folder

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite", "saved_model": ""}
LARGEST_DIFFERENCE = 1e-4


def check_out(out, form):
    """Raises UserError if `out` (Path) does not fit the format, or exists."""
    if not out.name.endswith(SUFFIXES[form]):
        raise UserError(f"--out {out}: {form} needs a name that ends in {SUFFIXES[form]}")
    if out.exists():
        raise UserError(f"{out} exists: remove it, or choose another name by --out")


def export(folders, out, form, digits=64):
    """Writes the mean of the nets of runs to `out` (Path) in a format of SUFFIXES, if the file agrees with Keras.

    digits: how many digits it is tried on. Returns the largest difference of a probability from Keras's.
    Raises UserError if the format's packages are missing, or if the difference is above LARGEST_DIFFERENCE.
    """
    environment.import_keras()
    from recognizer.base.backend import TENSORFLOW

    if not TENSORFLOW:
        raise UserError("only Keras on TensorFlow exports: install requirements.txt, and unset KERAS_BACKEND")
    model = mean_of_nets(folders)
    x = sources.load("digits").test.x[:digits, ..., None] / np.float32(255)
    temporary = out.with_name(f".{out.stem}.{os.getpid()}{out.suffix}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        expected = model.predict(x, verbose=0)
        write(model, temporary, form)
        difference = np.abs(RUN[form](temporary, x) - expected).max()
        if not difference <= LARGEST_DIFFERENCE:
            raise UserError(f"{out} was not kept: its probabilities are up to {difference:.2g} from Keras's")
        os.replace(temporary, out)
    except ImportError as error:
        need = "python -m pip install -r requirements/export.txt"
        raise UserError(f"{error.name or reason(error)} is needed to write {form} and to try it: {need}") from error
    except OSError as error:
        raise UserError(f"{out} cannot be written ({reason(error)})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True) if temporary.is_dir() else temporary.unlink(missing_ok=True)
    return difference


def size(path):
    """Returns the size of a file, or of all files in a folder, in bytes."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def mean_of_nets(folders):
    """Returns a keras.Model: the mean probabilities of all nets of the runs, and of the shifts they predict by."""
    import keras
    from keras.layers import Cropping2D, Input, ZeroPadding2D

    from recognizer.training import inference, predicting

    models = []
    for run, folder in enumerate(folders, 1):
        config = run_folder.read_config(folder)
        for net, model in enumerate(predicting.saved_models(folder, config), 1):
            model.name = f"run_{run}_net_{net}"
            models.append((model, config["test_shift"]))
    inputs, outputs = Input((28, 28, 1)), []
    for model, by in models:
        views = [inputs]
        if by:
            padded = ZeroPadding2D(by)(inputs)
            corners = inference.views(by)
            views = [Cropping2D(((top, 2 * by - top), (left, 2 * by - left)))(padded) for top, left in corners]
        outputs.append(_mean([model(view) for view in views]))
    return keras.Model(inputs, _mean(outputs))


def _mean(tensors):
    import keras

    return keras.layers.Average()(tensors) if len(tensors) > 1 else tensors[0]


def write(model, path, form):
    """Exports a keras.Model by Keras, without the messages of TensorFlow and the converters."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), environment.quiet():
        warnings.simplefilter("ignore")
        model.export(path, format=form.replace("saved_model", "tf_saved_model"), verbose=False)


def run_onnx(path, x):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def run_litert(path, x):
    from ai_edge_litert.interpreter import Interpreter

    with environment.quiet():
        interpreter = Interpreter(str(path))
        (images,), (probabilities,) = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.resize_tensor_input(images["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(images["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(probabilities["index"])


def run_saved_model(path, x):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))  # which owns the weights
    return loaded.serve(x).numpy()


# By format: function(path, x), which returns the probabilities that the file gives.
RUN = {"onnx": run_onnx, "litert": run_litert, "saved_model": run_saved_model}
