# PYTHON_ARGCOMPLETE_OK
"""Writes a run's nets, all of an ensemble in one file, for use without Keras; and runs that file to see that it agrees.

    python export.py                                 the newest finished run, as exports/NAME.onnx
    python export.py single-1 --format litert        for phones: exports/NAME.tflite
    python export.py single-1 deotte-1 --format saved_model    the mean of both, for TensorFlow Serving: a folder

Input: float32 (n, 28, 28, 1), pixels / 255, ink light on dark. Output: ten probabilities, float32 (n, 10), the mean of
all nets (and of the shifts that the recipe predicts by). Needs requirements-export.txt.
"""

import contextlib
import io
import os
import shutil
import warnings
from pathlib import Path

import numpy as np

import console
import dataset
import runs
from console import UserError, reason

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite", "saved_model": ""}
LARGEST_DIFFERENCE = 1e-4


def parser():
    p = console.Parser(prog="export.py", description=__doc__)
    names = p.add_argument("runs", nargs="*", metavar="RUN", help="names in runs/ (default: the newest finished one)")
    names.completer = runs.names
    p.add_argument("--format", choices=SUFFIXES, default="onnx", help="what to write (default: onnx)")
    p.add_argument("--out", type=Path, metavar="PATH", help="default: exports/RUN and the format's suffix")
    return p


def main(argv=None):
    arguments = parser().parse_args(argv)
    folders = runs.chosen(arguments.runs)
    name = "+".join(folder.name for folder in folders)
    out = arguments.out or Path("exports") / f"{name}{SUFFIXES[arguments.format]}"
    if not out.name.endswith(SUFFIXES[arguments.format]):
        raise UserError(f"--out {out}: {arguments.format} wants a name that ends in {SUFFIXES[arguments.format]}")
    if out.exists():
        raise UserError(f"{out} exists: remove it, or choose another name by --out")
    console.import_keras()
    import layers

    if not layers.TENSORFLOW:
        raise UserError("only Keras on TensorFlow exports: install requirements.txt, and unset KERAS_BACKEND")
    model = mean_of_nets(folders)
    x = dataset.load("digits").test.x[:64, ..., None] / np.float32(255)
    temporary = out.with_name(f".{out.stem}.{os.getpid()}{out.suffix}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        expected = model.predict(x, verbose=0)
        written(model, temporary, arguments.format)
        difference = np.abs(RUN[arguments.format](temporary, x) - expected).max()
        if not difference <= LARGEST_DIFFERENCE:
            raise UserError(f"{out} was not kept: its probabilities are up to {difference:.2g} from Keras's")
        os.replace(temporary, out)
    except ImportError as error:
        need = "python -m pip install -r requirements-export.txt"
        raise UserError(
            f"{error.name or reason(error)} is needed to write {arguments.format} and to try it: {need}"
        ) from error
    except OSError as error:
        raise UserError(f"{out} cannot be written ({reason(error)})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True) if temporary.is_dir() else temporary.unlink(missing_ok=True)
    size = sum(path.stat().st_size for path in ([out] if out.is_file() else out.rglob("*")) if path.is_file())
    print(f"{out}: {size / 1e6:.1f} MB; {len(x)} digits give Keras's probabilities to {difference:.1e}")


def mean_of_nets(folders):
    """One keras.Model of the nets of all runs: the mean of their probabilities, over the shifts they predict by."""
    import keras
    from keras.layers import Cropping2D, Input, ZeroPadding2D

    import fit
    import predict

    found = []
    for i, folder in enumerate(folders, 1):
        config = runs.read_config(folder)
        for number, net in enumerate(predict.saved_nets(folder, config), 1):
            net.name = f"run_{i}_net_{number}"
            found.append((net, config["test_shift"]))
    inputs, outputs = Input((28, 28, 1)), []
    for net, by in found:
        views = [inputs]
        if by:
            padded = ZeroPadding2D(by)(inputs)
            views = [Cropping2D(((top, 2 * by - top), (left, 2 * by - left)))(padded) for top, left in fit.views(by)]
        outputs.append(_mean([net(view) for view in views]))
    return keras.Model(inputs, _mean(outputs))


def _mean(tensors):
    import keras

    return keras.layers.Average()(tensors) if len(tensors) > 1 else tensors[0]


def written(model, path, form):
    """Keras's own export, without what TensorFlow and the converters tell."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), console.quiet():
        warnings.simplefilter("ignore")
        model.export(path, format=form.replace("saved_model", "tf_saved_model"), verbose=False)


def run_onnx(path, x):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def run_litert(path, x):
    from ai_edge_litert.interpreter import Interpreter

    with console.quiet():
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

if __name__ == "__main__":
    console.run(main)
