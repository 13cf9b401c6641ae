# PYTHON_ARGCOMPLETE_OK
"""Writes a run's nets, all of an ensemble in one file, for use without Keras; and runs that file to see that it agrees.

    python -m recognizer export                                 the newest finished run, as exports/NAME.onnx
    python -m recognizer export single-1 --format litert        for phones: exports/NAME.tflite
    python -m recognizer export single-1 deotte-1 --format saved_model    the mean of both, for TensorFlow Serving

Input: float32 (n, 28, 28, 1), pixels / 255, ink light on dark. Output: ten probabilities, float32 (n, 10), the mean of
all nets (and of the shifts that the recipe predicts by). Needs requirements/export.txt.
"""

import contextlib
import io
import warnings

from recognizer.base import environment
from recognizer.runs import run_folder

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite", "saved_model": ""}


LARGEST_DIFFERENCE = 1e-4


def mean_of_nets(folders):
    """One keras.Model of the nets of all runs: the mean of their probabilities, over the shifts they predict by."""
    import keras
    from keras.layers import Cropping2D, Input, ZeroPadding2D

    from recognizer.training import inference, predicting

    found = []
    for i, folder in enumerate(folders, 1):
        config = run_folder.read_config(folder)
        for number, net in enumerate(predicting.saved_nets(folder, config), 1):
            net.name = f"run_{i}_net_{number}"
            found.append((net, config["test_shift"]))
    inputs, outputs = Input((28, 28, 1)), []
    for net, by in found:
        views = [inputs]
        if by:
            padded = ZeroPadding2D(by)(inputs)
            views = [
                Cropping2D(((top, 2 * by - top), (left, 2 * by - left)))(padded) for top, left in inference.views(by)
            ]
        outputs.append(_mean([net(view) for view in views]))
    return keras.Model(inputs, _mean(outputs))


def _mean(tensors):
    import keras

    return keras.layers.Average()(tensors) if len(tensors) > 1 else tensors[0]


def written(model, path, form):
    """Keras's own export, without what TensorFlow and the converters tell."""
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
        (given,), (got,) = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.resize_tensor_input(given["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(got["index"])


def run_saved_model(path, x):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))  # which owns the weights
    return loaded.serve(x).numpy()


RUN = {"onnx": run_onnx, "litert": run_litert, "saved_model": run_saved_model}
