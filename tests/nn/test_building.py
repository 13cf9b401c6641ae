"""Architectures are built as published, from a seed, and refused if they are of another form."""

import random
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import models
from recognizer.base.errors import LONGEST_LINE, UserError
from recognizer.base.reasons import reason
from recognizer.nn import building

PARAMETERS = {
    "grenholm": (814_970, 814_778),
    "codeastar": (203_933, 203_933),
    "vgg-rmsprop": (594_922, 594_922),
    "linear": (7_850, 7_850),
    "vgg": (594_922, 594_922),
    "vgg-dropout": (594_922, 594_922),
    "vgg-bn-dropout": (597_738, 596_330),
    "deotte": (327_242, 326_410),
    "quick": (213_898, 213_290),
    "residual": (1_095_178, 1_093_450),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_architecture_has_its_published_number_of_parameters(name):
    model = building.build(name)
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert (model.count_params(), trainable) == PARAMETERS[name]


def test_initial_weights_follow_from_the_seed_and_leave_global_randomness_alone():
    random.seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist()
    first, again, other = (building.build("codeastar", seed).get_weights() for seed in (1, 1, 2))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_an_architecture_of_the_wrong_form_or_with_a_wrong_argument_is_refused():
    with pytest.raises(UserError, match="takes no argument 'drop'; it takes: dropout"):
        building.build("deotte", arguments={"drop": 0.1})
    building.ARCHITECTURES["wrong"] = lambda: keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])
    try:
        with pytest.raises(UserError, match=r"\(None, 784\)"):
            building.build("wrong")
    finally:
        del building.ARCHITECTURES["wrong"]


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("stages", {"filters": "two"}, "'stages' cannot be built with filters='two': layer"),
        ("residual", {"kernel_size": "x"}, "'residual' cannot be built with kernel_size='x': layer"),
        ("vgg-dropout", {"dropout": 7, "mean": 0.1, "std": 0.3}, "'vgg-dropout' cannot be built with dropout=7: "),
        ("deotte", {"dropout": "0.4" * 200}, r"cannot be built with dropout='0\.40\.4.*: .*\(models\.py, line \d+\)$"),
        ("residual", {"filters": [32, 128, 256], "padding": "sane"}, "cannot be built with padding='sane': layer"),
    ],
)
def test_the_message_on_a_net_that_cannot_be_built_has_the_changed_arguments(name, arguments, told):
    with pytest.raises(UserError, match=told) as error:
        building.build(name, arguments=arguments)
    assert len(str(error.value)) <= LONGEST_LINE


def test_any_layer_that_is_made_from_a_tensor_is_told_how_layers_are_called():
    x, told = keras.Input((28, 28, 1)), {}
    for name, layer in vars(keras.layers).items():
        if isinstance(layer, type) and issubclass(layer, keras.layers.Layer) and layer is not keras.layers.Layer:
            for arguments in ((x,), (x, x), (32, x)):
                try:
                    layer(*arguments)  # some layers take any value here, and tell of it only when they are called
                except Exception as error:
                    told[name, len(told)] = reason(error)
    assert len(told) > 200
    advice = (
        r"call it: \w+\(arguments\)\(x\)$|if one of them is a tensor, write \w+\(arguments\)|: Add\(\)\(\[x, y\]\)$"
    )
    assert not [line for line in told.values() if not re.search(rf"{advice}|missing \d required positional", line)]


class Unregistered(keras.Model):
    """A class that `@architecture` registers in place of a function."""


def test_a_class_that_cannot_be_used_as_an_architecture_is_refused_with_its_line(monkeypatch):
    monkeypatch.setitem(building.ARCHITECTURES, "unregistered", Unregistered)
    line = 1 + Path(__file__).read_text().splitlines().index("class Unregistered(keras.Model):")
    with pytest.raises(UserError, match=rf"is not registered: .* \(test_building.py, line {line}\)$"):
        building.build("unregistered")


def test_a_function_without_its_decorator_is_told(monkeypatch):
    monkeypatch.setattr(models, "mine", lambda: None, raising=False)
    with pytest.raises(UserError, match="a function of this name, without @architecture"):
        building.build("mine")


def small(kind=keras.Model, trainable=True):
    inputs = keras.Input((28, 28, 1))
    model = kind(inputs, keras.layers.Dense(10, "softmax")(keras.layers.Flatten()(inputs)))
    model.trainable = trainable
    return model


def with_own(method):
    return type("Own", (keras.Model,), {method: lambda self, *_: None})


POOLED = [keras.layers.AveragePooling2D((14, 5)), keras.layers.Flatten(), keras.layers.Softmax()]
USELESS = {  # words of the refusal: function that returns the net
    "Own has its own train_step(), which is never called": lambda: small(with_own("train_step")),
    "Own has its own compute_loss()": lambda: small(with_own("compute_loss")),
    "Own has its own fit()": lambda: small(with_own("fit")),
    "Own has its own train_step()": lambda: with_own("train_step")(),
    "no weights to train: its layers have trainable=False": lambda: small(trainable=False),
    "no weights to train: end it with classes()": lambda: keras.Sequential([keras.Input((28, 28, 1)), *POOLED]),
}


@pytest.mark.parametrize("words", USELESS)
def test_a_net_that_cannot_learn_or_has_its_own_training_is_refused(words, monkeypatch):
    monkeypatch.setitem(building.ARCHITECTURES, "mine", USELESS[words])
    with pytest.raises(UserError, match=re.escape(words)) as refused:
        building.build("mine")
    assert len(f"train.py: {refused.value}") < 300
