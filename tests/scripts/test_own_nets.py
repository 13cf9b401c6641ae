"""A net of one's own in models.py: what is wrong with it is said in a line before a run is made; what is right is used.

All nets are added to one copy of models.py, and tried by one process, each as `train.py --model NAME --check` does it.
"""

import importlib
import itertools
import json
import re
import subprocess
import sys
import textwrap

import driver
import numpy as np
import pytest
from conftest import ROOT, TINY, assert_one_line_error, script
from driver import copied

from recognizer.config.overrides import resolve
from recognizer.nn import parts
from recognizer.runs import metrics, run_folder


def sequential(*layers):
    return f"return keras.Sequential([images(), {', '.join(layers)}, classes()])"


def functional(*lines):
    return "\n".join(["x = images()", *lines])


REGISTER = "@keras.saving.register_keras_serializable('own')\n"
TOP = "\n# above: at the top level of models.py\n"
numbers = itertools.count()


def registered(*lines, use="Mine()", register=True):
    """A net with a layer of its own, of a class that no other has."""
    body = textwrap.indent("\n".join(lines), "    ")
    text = f"{REGISTER * register}class Mine(keras.layers.Layer):\n{body}\n{TOP}{sequential(use, 'Flatten()')}"
    return text.replace("Mine", f"Mine{next(numbers)}")


INIT = "def __init__(self, n, **kwargs):\n    super().__init__(**kwargs)\n    self.n = n"
CALL = "def call(self, x):\n    return x * 2"


def config(items):
    return f"def get_config(self):\n    return super().get_config() | {items}"


# What people write: (the function's body, what its line says).
WRONG = {
    "no flatten": (sequential("Conv2D(8, 3)"), ["(None, 26, 26, 10)", "Flatten()"]),
    "pooled too often": (
        sequential(*["MaxPooling2D()"] * 5, "Flatten()"),
        ["max_pooling2d", "MaxPooling2D", "zero or negative", "[None 1 1 1]"],
    ),
    "kernel too large": (
        sequential("Conv2D(8, 29)", "Flatten()"),
        ["conv2d", "zero or negative", "(None, 28, 28, 1)", "(29, 29, 1, 8)"],
    ),
    "no parentheses": (sequential("Flatten"), ["Flatten", "parentheses"]),
    "called once": (
        functional("y = Flatten(x)", "return keras.Model(x, classes()(y))"),
        ["Flatten", "make the layer, then call it"],
    ),
    "add": (
        functional("y = Add()([Conv2D(4, 3)(x), Conv2D(8, 5)(x)])", "return keras.Model(x, classes()(Flatten()(y)))"),
        ["layer 'add' (Add)", "incompatible shapes", "(26, 26, 4) and (24, 24, 8)"],
    ),
    "concatenate": (
        functional(
            "y = keras.layers.Concatenate()([Conv2D(4, 3)(x), Conv2D(8, 5)(x)])",
            "return keras.Model(x, classes()(Flatten()(y)))",
        ),
        ["Concatenate", "matching shapes", "(None, 26, 26, 4), (None, 24, 24, 8)"],
    ),
    "multiply": (
        functional("y = Conv2D(4, 3)(x) * Conv2D(8, 3)(x)", "return keras.Model(x, classes()(Flatten()(y)))"),
        ["broadcast", "[None, 26, 26, 4] and [None, 26, 26, 8]"],
    ),
    "a kernel of three": (sequential("Conv2D(8, (3, 3, 3))", "Flatten()"), ["Conv2D", "kernel_size", "(3, 3, 3)"]),
    "no kernel": (sequential("Conv2D(8)", "Flatten()"), ["Conv2D", "missing", "kernel_size"]),
    "784 inputs": (
        "return keras.Sequential([keras.Input((784,)), classes()])",
        ["(None, 784)", "(None, 28, 28, 1)", "images()"],
    ),
    "no channel": (
        "return keras.Sequential([keras.Input((28, 28)), Flatten(), classes()])",
        ["(None, 28, 28) to", "images()"],
    ),
    "whole numbers": (
        "return keras.Sequential([keras.Input((28, 28, 1), dtype='uint8'), Flatten(), classes()])",
        ["uint8", "float32"],
    ),
    "two inputs": (
        "a, b = images(), images()\nreturn keras.Model([a, b], classes()(Flatten()(Add()([a, b]))))",
        ["[(None, 28, 28, 1), (None, 28, 28, 1)]", "images()"],
    ),
    "another input": (
        "a, b = images(), images()\nreturn keras.Model(a, classes()(Flatten()(b)))",
        ["is not connected to `inputs`"],
    ),
    "layer not called": (
        "x = images()\nreturn keras.Model(x, classes()(Flatten()(BatchNormalization()(Conv2D(8, 3)))))",
        ["a layer not called", "Layer(arguments)(x)"],
    ),
    "model without inputs": (
        "return keras.Model(classes()(Flatten()(images())))",
        ["write keras.Model(inputs, outputs)"],
    ),
    "classes of x": ("x = images()\nreturn keras.Model(x, classes(Flatten()(x)))", ["write classes()(x)"]),
    "two tensors to add": (
        "x = images()\nreturn keras.Model(x, classes()(Flatten()(Add()(x, x))))",
        ["takes a list", "Add()([x, y])"],
    ),
    "eleven classes": ("return keras.Sequential([images(), Flatten(), Dense(11)])", ["(None, 11)", "classes()"]),
    "conv on a row": (sequential("Flatten()", "Conv2D(8, 3)"), ["conv2d", "min_ndim=4", "(None, 784)"]),
    "lstm on an image": (sequential("keras.layers.LSTM(8)"), ["lstm", "ndim=3", "(None, 28, 28, 1)"]),
    "activation": (sequential("Conv2D(8, 3, activation='rellu')", "Flatten()"), ["Conv2D", "activation", "rellu"]),
    "initializer": (
        sequential("Conv2D(8, 3, kernel_initializer='he_norml')", "Flatten()"),
        ["Conv2D", "initializer", "he_norml"],
    ),
    "regularizer": (sequential("Conv2D(8, 3, kernel_regularizer='l3')", "Flatten()"), ["Conv2D", "regularizer", "l3"]),
    "padding": (sequential("Conv2D(8, 3, padding='smae')", "Flatten()"), ["Conv2D", "padding", "smae"]),
    "dtype": (sequential("Conv2D(8, 3, dtype='flot16')", "Flatten()"), ["Conv2D", "flot16"]),
    "keyword": (sequential("Conv2D(8, 3, activaton='relu')", "Flatten()"), ["Conv2D", "'activaton'"]),
    "half a unit": (sequential("Flatten()", "Dense(64.5)"), ["Dense", "units", "64.5"]),
    "text for a number": (sequential("Conv2D('8', 3)", "Flatten()"), ["Conv2D", "'str' and 'int'"]),
    "rate in percent": (sequential("Dropout(25)", "Flatten()"), ["Dropout", "rate=25"]),
    "groups": (sequential("Conv2D(9, 3, groups=2)", "Flatten()"), ["Conv2D", "groups=2", "filters=9"]),
    "groups of channels": (
        sequential("Conv2D(7, 3)", "Conv2D(8, 3, groups=2)", "Flatten()"),
        ["conv2d", "groups=2", "(None, 26, 26, 7)"],
    ),
    "axis": (
        sequential("keras.layers.BatchNormalization(axis=4)", "Flatten()"),
        ["batch_normalization", "out of range", "(None, 28, 28, 1)"],
    ),
    "reshape": (
        sequential("Flatten()", "keras.layers.Reshape((20, 20))", "Flatten()"),
        ["layer 'reshape' (Reshape)", "total size", "(784,)", "(20, 20)"],
    ),
    "one name for two": (
        sequential("Dropout(0.1, name='d')", "Dropout(0.2, name='d')", "Flatten()"),
        ["'d'", "unique"],
    ),
    "text for a layer": (sequential("'flatten'"), ["keras.Layer", "flatten"]),
    "a numpy function": (
        functional("import numpy as np", "y = np.maximum(x, 0)", "return keras.Model(x, classes()(Flatten()(y)))"),
        ["KerasTensor", "keras.ops"],
    ),
    "an if": (
        functional("y = x * 2 if x > 0 else x", "return keras.Model(x, classes()(Flatten()(y)))"),
        ["KerasTensor", "boolean"],
    ),
    "a matrix of another size": (
        functional(
            "y = keras.ops.matmul(Flatten()(x), keras.ops.ones((10, 20)))", "return keras.Model(x, classes()(y))"
        ),
        ["(None, 784)", "(10, 20)"],
    ),
    "a net for 32 pixels": (
        sequential("keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3))"),
        ["mobilenetv2", "(None, 32, 32, 3)"],
    ),
    "no return": ("keras.Sequential([images(), Flatten(), classes()])", ["returned None", "return keras.Model("]),
    "unfinished": ("...", ["returned None", "return keras.Model("]),
    "a tensor": (functional("return classes()(Flatten()(x))"), ["returned a KerasTensor", "return keras.Model("]),
    "a list": ("return [images(), Flatten(), classes()]", ["returned a list", "keras.Sequential"]),
    "what compile returns": (
        "return keras.Sequential([images(), Flatten(), classes()]).compile('adam')",
        ["returned None"],
    ),
    "a model with a call": (
        "class Net(keras.Model):\n    def call(self, x):\n        return x\nreturn Net()",
        ["Net", "subclass of keras.Model", "register_keras_serializable() above", "top level"],
    ),
    "no such name": (sequential("Flaten()"), ["NameError", "'Flaten'"]),
    "no such layer": (sequential("keras.layers.Conv2d(8, 3)", "Flatten()"), ["keras.layers", "'Conv2d'"]),
    "an error without text": ("raise ValueError()", ["ValueError without a message"]),
    "an assertion": ("assert 1 > 2", ["AssertionError"]),
    "no such key": ("return {}['filters']", ["KeyError: 'filters'"]),
    "no file": ("open('weights.npz')", ["No such file"]),
    "a lambda layer": (
        sequential("keras.layers.Lambda(lambda x: x)", "Flatten()"),
        ["cannot be saved and loaded: Lambda", "keras.ops"],
    ),
    "a lambda": (
        sequential("Conv2D(8, 3, activation=lambda x: x)", "Flatten()"),
        ["Conv2D", "lambda", "register_keras"],
    ),
    "a function": (
        f"def thrice(x):\n    return x * 3\n{TOP}{sequential('Conv2D(8, 3, activation=thrice)', 'Flatten()')}",
        ["cannot be saved and loaded: it contains builtins.thrice", "register_keras_serializable"],
    ),
    "a layer inside the function": (
        registered(CALL).replace(TOP, ""),
        ["cannot be saved and loaded: Mine", "inside a function", "top level"],
    ),
    "not registered": (
        registered(CALL, register=False),
        ["cannot be saved and loaded: Mine", "register_keras_serializable"],
    ),
    "no super": (registered("def __init__(self):\n    self.n = 3", CALL), ["Mine", "super().__init__()"]),
    "no build": (registered("def call(self, x):\n    return x * self.scale"), ["mine", "'scale'"]),
    "no call": (registered("pass"), ["Mine", "`call`"]),
    "a call without inputs": (registered("def call(self):\n    return 1"), ["Mine", "positional argument"]),
    "a call without return": (registered("def call(self, x):\n    x * 2"), ["None", "flatten"]),
    "a call that raises nothing": (
        registered("def call(self, x):\n    raise ValueError()"),
        ["mine", "ValueError without a message", "(None, 28, 28, 1)"],
    ),
    "a weight without a keyword": (
        registered("def build(self, shape):\n    self.w = self.add_weight('w', (1,))", CALL),
        ["Mine", "`name` must be passed"],
    ),
    "a weight of any shape": (
        registered("def build(self, shape):\n    self.w = self.add_weight(shape=shape)", CALL),
        ["mine", "shape=(None, 28, 28, 1)"],
    ),
    "a weight in call": (
        registered("def call(self, x):\n    return x * self.add_weight(shape=(1,))"),
        ["mine", "already built"],
    ),
    "no kwargs": (
        registered("def __init__(self, n):\n    super().__init__()", CALL, use="Mine(3)"),
        ["Mine", "get_config()", "'trainable'", "**kwargs"],
    ),
    "a config that lacks an argument": (
        registered(INIT, CALL, config("{'m': self.n}"), use="Mine(3)"),
        ["cannot be saved and loaded: get_config() of Mine", "lacks 'n'", "every argument"],
    ),
    "a config that fails": (registered(CALL, config("{'n': self.n}")), ["Mine", "'n'"]),
    "a config with an object": (
        registered(INIT, CALL, config("{'n': self.n}"), use="Mine(object())"),
        ["Mine", "Cannot serialize object"],
    ),
    "a config with a lambda": (
        registered(INIT, CALL, config("{'n': self.n}"), use="Mine(lambda x: x)"),
        ["lambda", "register_keras_serializable"],
    ),
    "a config that forgets": (
        registered(
            "def __init__(self, n=3, **kwargs):\n    super().__init__(**kwargs)\n    self.n = n",
            "def call(self, x):\n    return x * self.n",
            "def get_config(self):\n    return super().get_config()",
            use="Mine(9)",
        ),
        ["predicts differently after it is saved", "get_config()"],
    ),
    "a layer in a config": (
        registered(INIT, "def call(self, x):\n    return self.n(x)", config("{'n': self.n}"), use="Mine(Dense(3))"),
        ["cannot be saved and loaded", "Dict' object is not callable", "from_config()"],
    ),
    "a matrix in a layer": (
        registered(
            "def build(self, shape):",
            "    self.w = self.add_weight(shape=(7, 3))",
            "def call(self, x):",
            "    return keras.ops.matmul(x, self.w)",
        ),
        ["Mine", "1", "7"],
    ),
    "an if in training": (
        registered("def call(self, x, training=False):\n    return x * 2 if training and x[0, 0, 0, 0] > 0.5 else x"),
        ["cannot take a training step", "Mine", "bool"],
    ),
    "only in training": (
        registered(
            "def call(self, x, training=False):",
            "    return keras.ops.add(x, keras.ops.ones((3, 5), x.dtype)) if training else x",
        ),
        ["cannot take a training step", "mine", "28", "5"],
    ),
    "NaN in training": (
        registered("def call(self, x, training=False):\n    return x - keras.ops.log(0 * x) * 0 if training else x"),
        ["cannot take a training step", "the loss is nan"],
    ),
    "NaN": (sequential("keras.layers.Rescaling(float('nan'))", "Flatten()"), ["NaN", "before any training"]),
    "logits": ("return keras.Sequential([images(), Flatten(), Dense(10)])", ["not ten probabilities", "classes()"]),
    "sigmoid": (
        "return keras.Sequential([images(), Flatten(), Dense(10, 'sigmoid')])",
        ["not ten probabilities", "classes()"],
    ),
    "an activation with weights": (
        sequential("Conv2D(8, 3, activation=keras.layers.PReLU())", "Flatten()"),
        ["cannot be saved and loaded: PReLU has weights", "add PReLU() as a layer after 'conv2d'"],
    ),
    "a layer in call": (
        registered("def call(self, x):\n    return Dense(8)(x)"),
        ["Mine", "__init__ or build()"],
    ),
    "random numbers without a seed": (
        registered(
            "def call(self, x, training=False):",
            "    return x + keras.random.normal((1,), dtype=x.dtype) if training else x",
        ),
        ["without a seed", "SeedGenerator"],
    ),
    "random numbers of TensorFlow": (
        registered(
            "def call(self, x, training=False):",
            "    import tensorflow as tf",
            "    return x + tf.random.normal(tf.shape(x)) if training else x",
        ),
        ["without a seed", "keras.random.SeedGenerator() made in __init__"],
    ),
    "random numbers of NumPy": (
        registered(
            "def call(self, x, training=False):",
            "    import numpy as np",
            "    return x * np.random.uniform(0.5, 1.5) if training else x",
        ),
        ["without a seed", "keras.random.SeedGenerator() made in __init__"],
    ),
    "a drawn width": (
        "import random\n" + sequential("Flatten()", "Dense(random.randrange(2, 10**4))"),
        ["weights of other shapes for another seed", "model_config"],
    ),
    "a subclass of Sequential": (
        f"{REGISTER}class Stack(keras.Sequential):\n    def __init__(self, **kwargs):\n"
        f"        super().__init__([images(), Flatten(), classes()], **kwargs)\n{TOP}return Stack()",
        ["Stack subclasses keras.Sequential"],
    ),
    "text": (
        sequential("keras.layers.IntegerLookup(vocabulary=[0, 1])", "Flatten()"),
        ["IntegerLookup", "leave it out"],
    ),
    "relu": (
        "return keras.Sequential([images(), Flatten(), Dense(10, 'relu')])",
        ["not ten probabilities", "classes()"],
    ),
    "log softmax": (
        "return keras.Sequential([images(), Flatten(), Dense(10, 'log_softmax')])",
        ["not ten probabilities"],
    ),
}

# Nets that are right, but were once refused by mistake, or might be.
RIGHT = {
    "efficient net": functional(
        "y = keras.layers.Concatenate()([keras.layers.ZeroPadding2D(2)(x)] * 3)",
        "size = dict(input_shape=(32, 32, 3), pooling='avg')",
        "y = keras.applications.EfficientNetB0(weights=None, include_top=False, **size)(y)",
        "return keras.Model(x, classes()(y))",
    ),
    "spectral normalization": sequential("keras.layers.SpectralNormalization(keras.layers.Conv2D(4, 3))", "Flatten()"),
    "whole weights": registered(
        "def build(self, shape):",
        "    self.n = self.add_weight(shape=(), dtype='int32', initializer='ones', trainable=False, name='n')",
        "    self.b = self.add_weight(shape=(3,), dtype='bool', initializer='zeros', trainable=False, name='b')",
        "def call(self, x):",
        "    return x + keras.ops.cast(self.n, x.dtype)",
    ),
    "adapted": "import numpy as np\nn = keras.layers.Normalization()\n"
    "n.adapt(np.linspace(0, 1, 7840, dtype='float32').reshape(10, 28, 28, 1))\n" + sequential("n", "Flatten()"),
    "224 pixels": sequential(
        "keras.layers.Resizing(224, 224)", "keras.layers.Conv2D(64, 3, padding='same')", "GlobalAveragePooling2D()"
    ),
    "low rank": sequential("Flatten()", "Dense(30, lora_rank=2)"),
    "fewer saved": registered(
        "def build(self, shape):",
        "    self.w = self.add_weight(shape=(6,), initializer='ones', trainable=False)",
        "def call(self, x):",
        "    return x * self.w[0]",
        "def save_own_variables(self, store):",
        "    store['half'] = self.w[:3]",
        "def load_own_variables(self, store):",
        "    self.w.assign([*store['half'][:], *store['half'][:]])",
    ),
    "softmax layer": "return keras.Sequential([images(), Flatten(), Dense(10), keras.layers.Softmax()])",
    "softmax by name": "return keras.Sequential([images(), Flatten(), Dense(10), keras.layers.Activation('softmax')])",
    "softmax in its precision": "return keras.Sequential([images(), Flatten(), Dense(10, 'softmax')])",
    "mean of two": functional("y = Flatten()(x)", "a, b = Dense(10, 'softmax')(y), Dense(10, 'softmax')(y)")
    + "\nreturn keras.Model(x, keras.layers.Average()([a, b]))",
    "lengths": functional(
        "y = Dense(10, activation='exponential', dtype='float32')(Flatten()(x))",
        "return keras.Model(x, y / keras.ops.sum(y, axis=1, keepdims=True))",
    ),
    "several outputs": functional(
        "y, h, c = keras.layers.LSTM(4, return_state=True)(keras.layers.Reshape((28, 28))(x))",
        "return keras.Model(x, classes()(keras.layers.Concatenate()([y, h, c])))",
    ),
    "compiled": "net = keras.Sequential([images(), Flatten(), classes()])\n"
    "net.compile('adam', 'categorical_crossentropy')\nreturn net",
    "random when it predicts": functional(
        "y = Dropout(0.5)(Flatten()(x), training=True)", "return keras.Model(x, classes()(y))"
    ),
    "preprocessed": sequential("keras.layers.RandomRotation(0.1)", "keras.layers.GaussianNoise(0.1)", "Flatten()"),
    "own layer": registered(INIT, CALL, config("{'n': self.n}"), use="Mine(3)"),
    "own layer without a config": registered(INIT, CALL, use="Mine(3)"),
    "own function": f"{REGISTER}def twice(x):\n    return x * 2\n{TOP}"
    + sequential("Conv2D(8, 3, activation=twice)", "Flatten()"),
}


def identifier(name):
    return "net_" + name.replace(" ", "_")


def added(nets):
    """The code of architectures. nets: {name: body}; what belongs to the top level comes first, before TOP."""
    text = ""
    for name, body in nets.items():
        *top, body = body.split(TOP)
        text += "\n\n".join(["", *top, f"@architecture\ndef {identifier(name)}():\n{textwrap.indent(body, '    ')}\n"])
    return text


def train(scripts, *arguments, cwd):
    command = [sys.executable, str(scripts / "train.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def lines_of(name):
    """The line numbers of net `name` in the copy of models.py, with those of the classes and functions that it uses."""
    nets = {name: body for name, (body, _) in WRONG.items()} | RIGHT
    before = dict(itertools.takewhile(lambda net: net[0] != name, nets.items()))
    first, last = (
        ((ROOT / "models.py").read_text() + added(text)).count("\n") for text in (before, before | {name: nets[name]})
    )
    return range(first, last + 1)


@pytest.fixture(scope="module")
def told(made_once):
    """(exit code, stdout, stderr) of `train.py --model NAME --check` by each net's name."""

    def check_all(folder):
        scripts = copied(folder, added({name: body for name, (body, _) in WRONG.items()} | RIGHT))
        names = [identifier(name) for name in (*WRONG, *RIGHT)]
        check = ["--batch-size", "8", "--check", "--data", "digits"]
        answers = driver.told(scripts, [["train.py", "linear", "--model", name, *check] for name in names], folder)
        assert not (folder / "runs").exists()
        (folder / "told.json").write_text(json.dumps(dict(zip(names, answers, strict=True))))

    return json.loads((made_once("own-nets", check_all) / "told.json").read_text())


@pytest.mark.parametrize("name", WRONG)
def test_a_net_that_cannot_be_used_is_refused_in_a_line_that_says_why(name, told):
    code, _, error = told[identifier(name)]
    assert code == 2, error
    start, line = error.split(": ", 1)
    assert start == "train.py"
    assert line.startswith(f"architecture '{identifier(name).replace('_', '-')}' ")
    assert error.count("\n") == 1, error
    assert len(error) <= 301, error
    for part in WRONG[name][1]:
        assert part in error
    assert int(re.search(r" \(models\.py, line (\d+)\)$", error.strip())[1]) in lines_of(name)
    for noise in ("Exception encountered", "Arguments received", "\x1b", ".py:", "site-packages", "0x", "{{"):
        assert noise not in line


@pytest.mark.parametrize("name", RIGHT)
def test_a_net_that_can_be_used_passes(name, told):
    code, out, error = told[identifier(name)]
    assert (code, error) == (0, ""), error
    assert f"{identifier(name).replace('_', '-')} can be trained" in out
    assert ("calls compile(), which has no effect" in out) == (name == "compiled")
    assert " ms a step of 8 images" in out
    assert "Total params" in out
    assert "trainable" in out


@pytest.mark.slow
def test_a_note_says_that_no_layer_has_the_name_that_the_recipe_excludes_from_muon(tmp_path):
    scripts = copied(tmp_path, added({"dense": "return keras.Sequential([images(), Flatten(), Dense(10, 'softmax')])"}))
    for name, count in ((identifier("dense"), 1), ("linear", 0)):
        process = train(scripts, "single", "--model", name, "--check", "--data", "digits", cwd=tmp_path)
        assert process.stdout.count("no layer is named 'classes', so this name excludes no layer from muon") == count


@pytest.mark.slow
def test_nets_of_ones_own_are_trained_and_predict(tmp_path):
    """Of several kinds, as the members of one run."""
    kinds = ["adapted", "spectral normalization", "whole weights", "224 pixels"]
    scripts = copied(tmp_path, added({name: RIGHT[name] for name in kinds}))
    members = json.dumps([{"model": identifier(name)} for name in kinds])
    tiny = ["--epochs", 1, "--batch-size", 8, "--set", "steps_per_epoch=2"]
    options = [*tiny, "--nets", 4, "--set", f"members={members}", "--data", "digits", "--run", "own"]
    process = train(scripts, "linear", *options, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    command = [sys.executable, str(scripts / "predict.py"), "own", "--probabilities"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    table = np.loadtxt(tmp_path / "submissions" / "own-probabilities.csv", delimiter=",", skiprows=1)[:, 1:]
    with np.load(tmp_path / "runs" / "own" / "predictions.npz") as arrays:
        expected = np.mean([arrays[name] for name in arrays.files if name.startswith("test_")], axis=0)
    temperature = run_folder.temperature(tmp_path / "runs" / "own")
    np.testing.assert_allclose(table, metrics.sharpened(expected, temperature), atol=2e-3)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("def mine(:\n", ["models.py, line +1", "syntax"]),
        pytest.param(
            "@architecture\ndef mine():\nreturn 1\n",
            ["models.py, line +3", "expected an indented block"],
            marks=pytest.mark.slow,
        ),
        ("import no_such_module\n", ["models.py, line +1", "No module named 'no_such_module'"]),
        pytest.param(
            "from keras.layers import Conv3d\n",
            ["models.py, line +1", "cannot import name 'Conv3d'"],
            marks=pytest.mark.slow,
        ),
        ("HIDDEN = NEURONS + 1\n", ["models.py, line +1", "NameError: name 'NEURONS' is not defined"]),
    ],
    ids=["syntax", "indentation", "module", "name to import", "name"],
)
def test_a_models_py_that_cannot_be_imported_is_a_line(text, parts, tmp_path):
    scripts = copied(tmp_path, "\n\n" + text)
    process = train(scripts, "--model", "mine", "--data", "digits", cwd=tmp_path)
    lines = (ROOT / "models.py").read_text().count("\n") + 2
    assert_one_line_error(process, *(re.sub(r"\+(\d)", lambda n: str(lines + int(n[1])), part) for part in parts))
    assert not (tmp_path / "runs").exists()


def test_a_broken_net_does_not_hide_the_others_from_the_list(tmp_path):
    broken = {"unfinished": "...", "wrong": sequential("Conv2D(8, 29)", "Flatten()")}
    scripts = copied(tmp_path, added(broken | {"right": sequential("Flatten()")}))
    with open(scripts / "recipes.py", "a") as file:
        file.write("\n\nRECIPES['of-mine'] = dict(model='net_wrong')\n")
    process = train(scripts, "--list", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    lines = {line.split()[0]: line for line in process.stdout.splitlines() if line}
    assert "returned None" in lines["net-unfinished"]
    assert "zero or negative" in lines["net-wrong"]
    assert "zero or negative" in lines["of-mine"]
    assert "7,850" in lines["net-right"]
    assert {"linear", "deotte", "vgg-dropout"} <= lines.keys()


@pytest.mark.slow
def test_hyphens_and_underscores_are_the_same_in_names(tmp_path):
    scripts = copied(tmp_path, added({"right one": sequential("Flatten()")}))
    with open(scripts / "recipes.py", "a") as file:
        file.write("\n\nRECIPES['of_mine'] = RECIPES['linear'] | dict(model='net_right_one')\n")
    process = train(scripts, "of-mine", "--data", "digits", *TINY, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert json.loads((tmp_path / "runs" / "of_mine-1" / "config.json").read_text())["model"] == "net-right-one"
    for option in (["--model", "net_right-one"], ["--set", "model=net_right_one"]):
        process = train(scripts, "linear_augmented", *option, "--check", "--data", "digits", cwd=tmp_path)
        assert "net-right-one can be trained" in process.stdout, process.stderr
    assert resolve("vgg_bn-dropout") == resolve("vgg-bn-dropout")
    members = [("members", [{"model": "vgg_dropout"}])]
    assert resolve("linear", members)["members"] == [{"model": "vgg-dropout"}]
    process = script("plot", "layers", "--recipe", "vgg_dropout", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert_one_line_error(script("train.py", "vgg_dropuot", cwd=tmp_path), "did you mean 'vgg-dropout'")


def test_two_nets_of_one_name_are_refused():
    importlib.import_module("models")  # registers vgg-dropout
    with pytest.raises(ValueError, match="already an architecture 'vgg-dropout'"):

        @parts.architecture
        def vgg_dropout():
            pass


COMPILED = {
    "compiled sequential": "net = keras.Sequential([images(), Flatten(), classes()])\nnet.compile('sgd')\nreturn net",
    "compiled functional": functional("net = keras.Model(x, classes()(Flatten()(x)))", "net.compile()", "return net"),
    "compiled subclass": f"{REGISTER}class Compiled(keras.Model):\n    def __init__(self, **kwargs):\n"
    "        super().__init__(**kwargs)\n        self.flat, self.ends = Flatten(), classes()\n"
    f"    def call(self, x):\n        return self.ends(self.flat(x))\n{TOP}"
    "net = Compiled()\nnet.compile(optimizer=keras.optimizers.Adam(0.1))\nreturn net",
    "not compiled": sequential("Flatten()"),
}


RECIPES = {  # recipe: (options, the optimizer and the loss that are used)
    "linear": (["--set", "loss=mse"], "optimizer sgd and loss MeanSquaredError"),
    "grenholm": (["--nets", "1"], "optimizer adam and loss CategoricalCrossentropy"),
    "mirrored": (["--set", "optimizer=adamw"], "optimizer adamw and loss CategoricalCrossentropy"),
}


@pytest.fixture(scope="module")
def told_of_compile(made_once):
    """{"NET, RECIPE": [exit code, stdout, stderr]} of `train.py RECIPE --model NET --check`, for each of COMPILED."""

    def check_all(folder):
        scripts = copied(folder, added(COMPILED))
        commands = {
            f"{name}, {recipe}": ["train.py", recipe, "--model", identifier(name), *RECIPES[recipe][0], *check]
            for check in [["--batch-size", "8", "--check", "--data", "digits"]]
            for name in COMPILED
            for recipe in RECIPES
        }
        answers = driver.told(scripts, commands.values(), folder)
        (folder / "told.json").write_text(json.dumps(dict(zip(commands, answers, strict=True))))

    return json.loads((made_once("compiled-nets", check_all) / "told.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "recipe"),  # joint_flips, of `mirrored`, takes no net whose classes are inside a layer
    [case for case in itertools.product(COMPILED, RECIPES) if case != ("compiled subclass", "mirrored")],
)
def test_a_line_says_what_is_used_in_place_of_the_arguments_of_compile(name, recipe, told_of_compile):
    code, out, error = told_of_compile[f"{name}, {recipe}"]
    assert (code, error) == (0, ""), error
    lines = [line.strip() for line in out.splitlines() if "compile()" in line]
    expected = (
        f"architecture '{identifier(name).replace('_', '-')}' calls compile(), which has no effect: the recipe's "
    )
    assert len(lines) == (name != "not compiled")
    assert all(line.startswith(f"{expected}{RECIPES[recipe][1]} are used (") for line in lines)
