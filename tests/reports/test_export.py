"""An exported file gives what predict.py gives, without Keras."""

import contextlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import TINY, assert_one_line_error, load, script
from keras import layers as k
from keras import ops

from recognizer.base.errors import UserError
from recognizer.commands import export
from recognizer.nn.parts import classes, images
from recognizer.runs import metrics, run_folder
from recognizer.training import exporting, predicting

FREE = {"keras": ".keras", "saved_model": "two.1"}


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


@pytest.mark.parametrize(
    "form",
    [pytest.param(form, marks=[pytest.mark.slow] * (form != "keras")) for form in exporting.SUFFIXES],
)
def test_an_ensemble_is_exported_as_one_file_that_agrees_with_keras(form, two_nets, digits, monkeypatch, capsys):
    monkeypatch.chdir(two_nets)
    name = f"two.1{exporting.SUFFIXES[form]}"
    export.main(["two.1", "--format", form])
    writing, told, line, _ = capsys.readouterr().out.splitlines()
    assert writing.startswith(f"Writing exports/{name}, ")
    assert told.startswith(f"exports/{name}: ")
    np.save("x.npy", digits.test.x[..., None] / np.float32(255))
    *statements, last = line.removeprefix("Use: ").split("; ")
    code = f"import sys, numpy as np; path, free, x = *sys.argv[1:], np.load('x.npy'); {'; '.join(statements)}; "
    code += f"np.save('probabilities.npy', {last}); assert 'keras' not in sys.modules or path.endswith(free)"
    subprocess.run([sys.executable, "-c", code, f"exports/{name}", FREE.get(form, "-")], check=True, timeout=120)
    predictions = load(two_nets / "runs" / "two.1" / "predictions.npz")
    expected = (predictions["test_01"] + predictions["test_02"]) / 2
    temperature = run_folder.temperature(two_nets / "runs" / "two.1")
    assert temperature != 1
    np.testing.assert_allclose(np.load("probabilities.npy"), metrics.sharpened(expected, temperature), atol=1e-4)
    assert [path.name for path in (two_nets / "exports").iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_runs_are_averaged_net_by_net_however_many_shifts_each_predicts_by(two_nets, digits, monkeypatch):
    import train

    monkeypatch.chdir(two_nets)
    train.main(["grenholm", *TINY, "--precision", "float32", "--data", "digits", "--run", "one"])
    model = exporting.mean_of(exporting.saved_nets([two_nets / "runs" / name for name in ("two.1", "one")]))
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
    with pytest.raises(UserError, match=r"new.onnx was not kept: its probabilities differ from Keras's by up to "):
        export.main(["two.1", "--out", "new.onnx"])
    assert not (two_nets / "new.onnx").exists()


@keras.saving.register_keras_serializable("test_export")
class Computed(k.Layer):
    def __init__(self, by, **kwargs):
        super().__init__(**kwargs)
        self.by = by

    def call(self, x):
        return {
            "einsum": lambda: ops.einsum("bhwc,bhvc->bhwv", x, x),
            "sort": lambda: ops.flip(ops.sort(x, axis=2), axis=1),
            "top_k": lambda: ops.top_k(ops.reshape(x, (-1, 784)), 5)[0],
            "linspace": lambda: ops.exp(-ops.square(x - ops.linspace(-1.0, 1.0, 8))),
            "batch": lambda: x - ops.mean(x, axis=0, keepdims=True),
            "fft": lambda: ops.fft2((x[..., 0], 0 * x[..., 0]))[0],
            "half": lambda: ops.cast(ops.cast(x, "bfloat16") * 0.3, "float32"),
        }[self.by]()

    def compute_output_shape(self, shape):
        known = {"einsum": (None, 28, 28, 28), "top_k": (None, 5), "linspace": (None, 28, 28, 8), "fft": (None, 28, 28)}
        return known.get(self.by, shape)


def sequential(*middle):
    return keras.Sequential([images(), *middle, k.Flatten(name="flat"), classes()])


def attention():
    inputs = images()
    rows = k.LayerNormalization()(k.Dense(16)(k.Reshape((28, 28))(inputs)))
    rows = rows + k.MultiHeadAttention(2, 8, dropout=0.1)(rows, rows)
    return keras.Model(inputs, classes()(k.GlobalAveragePooling1D()(rows)))


def positions():
    inputs = images()
    rows = k.Reshape((28, 28))(inputs)
    return keras.Model(inputs, classes()(k.Flatten()(rows + k.Embedding(28, 28, name="place")(ops.arange(28)))))


def rows():
    return k.Reshape((28, 28))


# By name: function, {format: what the line says instead of exporting}.
NETS = {
    "augmentation": (
        lambda: sequential(
            *[k.RandomRotation(0.1), k.RandomTranslation(0.1, 0.1), k.RandomZoom(0.2)],
            *[k.GaussianNoise(0.3), k.Dropout(0.4), k.SpatialDropout2D(0.4), k.RandomContrast(0.3)],
        ),
        {},
    ),
    "vgg": (lambda: sequential(k.Conv2D(8, 3, activation="relu"), k.BatchNormalization(), k.MaxPooling2D()), {}),
    "gelu": (
        lambda: sequential(k.Conv2D(4, 3), k.Activation("gelu", name="exact"), k.Conv2D(2, 3)),
        {},
    ),
    "penalties": (
        lambda: sequential(k.Conv2D(4, 3, activity_regularizer="l1"), k.ActivityRegularization(l2=0.1)),
        {},
    ),
    "LSTM": (lambda: sequential(rows(), k.LSTM(8)), {}),
    "GRU": (lambda: sequential(rows(), k.Bidirectional(k.GRU(4, return_sequences=True)), k.GRU(4)), {}),
    "long": (
        lambda: sequential(k.Reshape((392, 2)), k.GRU(2, name="slow")),
        {"litert": "litert cannot do the operation TensorListReserve, from layer 'slow' of net 1"},
    ),
    "attention": (attention, {}),
    "positions": (positions, {"onnx": "onnx cannot hold a constant outside a layer (operand 'y'), from layer"}),
    "depthwise": (lambda: sequential(k.DepthwiseConv2D(5), k.SeparableConv2D(4, 3), k.Conv2DTranspose(2, 3)), {}),
    "groups": (
        lambda: sequential(k.Conv2D(4, 3), k.Conv2D(4, 3, groups=2, name="grouped")),
        {"onnx": "onnx cannot do the operation StatefulPartitionedCall, from layer 'grouped' of net 1 of run 'a' on"},
    ),
    "normalizations": (
        lambda: sequential(k.SpectralNormalization(k.Conv2D(4, 3)), k.GroupNormalization(2), k.UnitNormalization()),
        {},
    ),
    "bicubic": (
        lambda: sequential(k.Resizing(20, 20, interpolation="bicubic", name="resized")),
        {"litert": "litert cannot do the operation ResizeBicubic, from layer 'resized'"},
    ),
    "lanczos": (
        lambda: sequential(k.Resizing(20, 20, interpolation="lanczos3", name="resized")),
        {form: "cannot do the operation ScaleAndTranslate, from layer 'resized'" for form in ("onnx", "litert")},
    ),
    "einsum": (lambda: sequential(Computed("einsum")), {}),
    "sort": (lambda: sequential(Computed("sort")), {}),
    "top_k": (lambda: sequential(Computed("top_k")), {}),
    "linspace": (lambda: sequential(Computed("linspace")), {}),
    "batch": (lambda: sequential(Computed("batch")), {}),
    "fft": (
        lambda: sequential(Computed("fft", name="waves")),
        {form: "cannot do the operation Complex, from layer 'waves'" for form in ("onnx", "litert")},
    ),
    "half": (
        lambda: sequential(Computed("half", name="rounded")),
        {"onnx": "from layer 'rounded' of net 1", "litert": "litert cannot do the operation"},
    ),
}
FEW = ("augmentation", "gelu", "groups", "penalties")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in FEW)) for n in NETS])
def test_a_net_of_any_layers_is_exported_or_a_line_says_what_a_format_cannot_do(name, tmp_path, monkeypatch, digits):
    make, refused = NETS[name]
    most = 1e-3 if name == "bicubic" else 1e-4  # TensorFlow rounds bicubic weights
    keras.backend.clear_session()
    x = digits.test.x[:5, ..., None] / np.float32(255)
    monkeypatch.setattr(predicting, "temperature", lambda *_: 0.5)
    for form, suffix in exporting.SUFFIXES.items():
        net = make()
        monkeypatch.setattr(exporting, "saved_nets", lambda _, net=net: [("net 1 of run 'a'", net, 0)])
        out = tmp_path / f"net{suffix}"
        if told := refused.get(form):
            with pytest.raises(UserError) as error:
                exporting.export([], out, form)
            assert told in str(error.value)
            assert "\n" not in str(error.value)
            assert len(str(error.value)) < 300 + len(str(tmp_path))
            assert list(tmp_path.iterdir()) == []
        else:
            assert exporting.export([], out, form) < most
            for some in (x, x[:1]):  # any number of images
                found = exporting.RUN[form](out, some)
                assert found.dtype == np.float32
                expected = metrics.sharpened(net(some, training=False), 0.5)
                np.testing.assert_allclose(found, expected, atol=most)
            exporting._remove(out)


@pytest.mark.slow
def test_a_difference_is_said_with_the_net_and_the_layer_where_it_begins(tmp_path, monkeypatch):
    def nets(_):
        good, wrong = sequential(k.Conv2D(2, 3)), sequential(k.Conv2D(2, 3), k.Rescaling(2.0, name="wrong"))
        return [("net 1 of run 'a'", good, 0), ("net 2 of run 'a'", wrong, 1)]

    write = exporting.write

    def write_wrong(model, path, form):
        wrong = [layer for layer in model._flatten_layers() if layer.name == "wrong"]
        for layer in wrong:
            layer.scale = 3.0
        write(model, path, form)
        for layer in wrong:
            layer.scale = 2.0

    monkeypatch.setattr(exporting, "saved_nets", nets)
    monkeypatch.setattr(predicting, "temperature", lambda *_: 1)
    monkeypatch.setattr(exporting, "write", write_wrong)
    with pytest.raises(
        UserError,
        match=r"its probabilities differ from Keras's by up to .*, from layer 'wrong' of net 2 of run 'a' on;",
    ):
        exporting.export([], tmp_path / "net.onnx", "onnx")
