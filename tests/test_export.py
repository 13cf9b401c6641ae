"""An exported file gives what predict.py gives, without Keras."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import assert_one_line_error, load, script

from console import UserError

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


@pytest.mark.parametrize("form", WITHOUT_KERAS)
def test_an_ensemble_is_exported_as_one_file_that_agrees_with_keras(form, trained, digits):
    name = {"onnx": "bag.onnx", "litert": "bag.tflite", "saved_model": "bag"}[form]
    process = script("export.py", "bag", "--format", form, cwd=trained)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith(f"exports/{name}: ")
    assert process.stdout.count("\n") == 1
    np.save(trained / "x.npy", digits.test.x[..., None] / np.float32(255))
    code = f"import sys, numpy as np; path, x = sys.argv[1], np.load('x.npy'){WITHOUT_KERAS[form]}"
    code += "np.save('probabilities.npy', probabilities); assert 'keras' not in sys.modules or path == 'exports/bag'"
    subprocess.run([sys.executable, "-c", code, f"exports/{name}"], cwd=trained, check=True, timeout=120)
    predictions = load(trained / "runs" / "bag" / "predictions.npz")
    precision = json.loads((trained / "runs" / "bag" / "config.json").read_text())["precision"]
    # The run's own predictions were in its precision, an export is in float32.
    near = 1e-4 if precision == "float32" else 0.02
    expected = (predictions["test_01"] + predictions["test_02"]) / 2
    np.testing.assert_allclose(np.load(trained / "probabilities.npy"), expected, atol=near)
    assert [path.name for path in (trained / "exports").iterdir() if path.name.startswith(".")] == []


def test_what_cannot_be_exported_is_one_line(trained, monkeypatch):
    import export

    monkeypatch.chdir(trained)
    (trained / "precious.onnx").write_text("mine")
    assert_one_line_error(script("export.py", "bag", "--out", "precious.onnx", cwd=trained), "precious.onnx exists")
    monkeypatch.setattr(export, "written", lambda *_: None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime is needed .* pip install -r requirements-export.txt"):
        export.main(["bag", "--out", "new.onnx"])
    monkeypatch.setitem(export.RUN, "onnx", lambda path, x: np.full((len(x), 10), 0.1))
    with pytest.raises(UserError, match=r"new.onnx was not kept: its probabilities are up to .* from Keras's"):
        export.main(["bag", "--out", "new.onnx"])
    assert not (trained / "new.onnx").exists()
