"""An exported file gives what predict.py gives, without Keras."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest
from conftest import TINY, assert_one_line_error, load, script

from recognizer.base.errors import UserError
from recognizer.commands import export
from recognizer.training import exporting

WITHOUT_KERAS = {
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession(path)
probabilities = session.run(None, {session.get_inputs()[0].name: x})[0]
""",
    "litert": """
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(path)
given, got = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
interpreter.resize_tensor_input(given["index"], x.shape)
interpreter.allocate_tensors()
interpreter.set_tensor(given["index"], x)
interpreter.invoke()
probabilities = interpreter.get_tensor(got["index"]).copy()
""",
    "saved_model": """
import tensorflow as tf
loaded = tf.saved_model.load(path)
probabilities = loaded.serve(x).numpy()
""",
}


@pytest.fixture(scope="module")
def two_nets(made_once):
    """A folder with a run of two nets of different kinds, predicting by shifts, in float32: runs/two.1/."""
    import train

    def fit(folder):
        members = 'members=[{}, {"model": "linear"}]'
        options = ["--nets", "2", "--set", members, "--set", "test_shift=1", "--precision", "float32"]
        with contextlib.chdir(folder):
            train.main(["codeastar", *TINY, *options, "--data", "digits", "--run", "two.1"])

    return made_once("export", fit)


@pytest.mark.parametrize("form", WITHOUT_KERAS)
def test_an_ensemble_is_exported_as_one_file_that_agrees_with_keras(form, two_nets, digits, monkeypatch, capsys):
    monkeypatch.chdir(two_nets)
    name = {"onnx": "two.1.onnx", "litert": "two.1.tflite", "saved_model": "two.1"}[form]
    export.main(["two.1", "--format", form])
    told = capsys.readouterr().out
    assert told.startswith(f"exports/{name}: ")
    assert told.count("\n") == 1
    np.save("x.npy", digits.test.x[..., None] / np.float32(255))
    code = f"import sys, numpy as np; path, x = sys.argv[1], np.load('x.npy'){WITHOUT_KERAS[form]}"
    code += "np.save('probabilities.npy', probabilities); assert 'keras' not in sys.modules or path == 'exports/two.1'"
    subprocess.run([sys.executable, "-c", code, f"exports/{name}"], check=True, timeout=120)
    predictions = load(two_nets / "runs" / "two.1" / "predictions.npz")
    expected = (predictions["test_01"] + predictions["test_02"]) / 2
    np.testing.assert_allclose(np.load("probabilities.npy"), expected, atol=1e-4)
    assert [path.name for path in (two_nets / "exports").iterdir() if path.name.startswith(".")] == []


def test_runs_are_averaged_net_by_net_however_many_shifts_each_predicts_by(two_nets, digits, monkeypatch):
    import train

    monkeypatch.chdir(two_nets)
    train.main(["grenholm", *TINY, "--precision", "float32", "--data", "digits", "--run", "one"])
    model = exporting.mean_of_nets([two_nets / "runs" / name for name in ("two.1", "one")])
    found = model.predict(digits.test.x[..., None] / np.float32(255), verbose=0)
    two, one = (load(two_nets / "runs" / name / "predictions.npz") for name in ("two.1", "one"))
    np.testing.assert_allclose(found, (two["test_01"] + two["test_02"] + one["test_01"]) / 3, atol=1e-4)


def test_what_cannot_be_exported_is_one_line(two_nets, monkeypatch):
    monkeypatch.chdir(two_nets)
    (two_nets / "precious.onnx").write_text("mine")
    assert_one_line_error(script("export", "two.1", "--out", "precious.onnx", cwd=two_nets), "precious.onnx exists")
    monkeypatch.setattr(exporting, "write", lambda *_: None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime is needed .* pip install -r requirements/export.txt"):
        export.main(["two.1", "--out", "new.onnx"])
    monkeypatch.setitem(exporting.RUN, "onnx", lambda path, x: np.full((len(x), 10), 0.1))
    with pytest.raises(UserError, match=r"new.onnx was not kept: its probabilities are up to .* from Keras's"):
        export.main(["two.1", "--out", "new.onnx"])
    assert not (two_nets / "new.onnx").exists()
