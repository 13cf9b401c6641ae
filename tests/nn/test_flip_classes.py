"""Flipped digits as classes of their own: the batches, the nets, the setting and its earlier name."""

import copy
import json
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import recipes
from augment import Augmentation
from recognizer.base.errors import UserError
from recognizer.config import members
from recognizer.config.overrides import resolve
from recognizer.nn import building, copies, flip_classes, saved_net
from recognizer.runs import run_folder
from recognizer.training.batches import TrainingBatches
from recognizer.training.trainer import Trainer


@pytest.mark.parametrize("engine", ["batch", "keras"])
def test_each_digit_comes_with_its_flips_as_classes_of_their_own(engine, digits):
    x, y = digits.train.x, digits.train.y
    config = resolve("grenholm", [("batch_size", 50), ("steps_per_epoch", 2)]) | {"seed": 0, "augment_engine": engine}
    for flips, views in (
        (["horizontal"], [x, x[:, :, ::-1]]),
        (["horizontal_and_vertical", "vertical"], [x, x[:, ::-1, ::-1], x[:, ::-1]]),
    ):
        settings = config | {"joint_flips": flips, "augmentation": {}}
        batches = TrainingBatches(settings, 1, digits.train, np.arange(100)).data
        images, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
        k = len(views)
        assert len(images) == len(labels) == 100 * k
        assert labels.shape[1] == 10 * k
        pixels = np.rint(images[..., 0] * 255)
        shown = {image.tobytes(): label for image, label in zip(pixels, labels.argmax(1), strict=True)}
        for i, view in enumerate(views):
            for image, label in zip(view[:100].astype(np.float32), y[:100], strict=True):
                assert shown[image.tobytes()] == label + 10 * i
            np.testing.assert_array_equal(labels[i::k].argmax(1) - 10 * i, labels[::k].argmax(1))


def test_a_net_of_joint_flips_ends_as_its_architecture_does_but_for_the_number_of_classes(monkeypatch):
    last = dict(activation="softmax", dtype="float32", use_bias=False, name="mine")
    net = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10, **last)])
    monkeypatch.setitem(building.ARCHITECTURES, "mine", lambda: net)
    joint = building.build("mine", seed=2, joint_flips=["vertical"])
    assert [weight.shape for weight in joint.weights] == [(784, 20)]
    assert joint.layers[-1].name == "mine"


@keras.saving.register_keras_serializable("test_flip_classes")
def _diagonal(shape, dtype=None):
    return keras.ops.eye(*shape, dtype=dtype)


@pytest.mark.parametrize(
    ("initializer", "deviation", "random"),
    [
        (None, np.sqrt(2 / (784 + 20)), True),  # Keras's default, Glorot's uniform distribution
        ("zeros", 0, False),
        (keras.initializers.RandomNormal(stddev=0.001), 0.001, True),
        (keras.initializers.RandomUniform(-0.5, 0.5, seed=1), 0.289, True),
        (_diagonal, np.sqrt(1 / 784 - 1 / 784**2), False),
    ],
    ids=["none", "zeros", "normal", "seeded", "function"],
)
def test_wider_classes_start_as_the_architecture_sets(initializer, deviation, random, monkeypatch):
    own = {"kernel_initializer": initializer} if initializer is not None else {}
    monkeypatch.setitem(building.ARCHITECTURES, "mine", lambda: _net([layers.Flatten, lambda: layers.Dense(10, **own)]))
    one, other = (
        keras.ops.convert_to_numpy(building.build("mine", seed=seed, joint_flips=["horizontal"]).weights[0])
        for seed in (1, 2)
    )
    assert one.shape == (784, 20)
    assert one.std() == pytest.approx(deviation, rel=0.03)
    assert np.array_equal(one, other) != random


def _average(x):
    return layers.Average()([layers.Dense(10, activation="softmax")(x) for _ in range(2)])


def dense():
    return layers.Dense(10)


# The layers after the input of a net that joint flips can widen, and of one that they cannot.
ENDS = {
    "softmax layer": [layers.Flatten, dense, layers.Softmax],
    "activation": [layers.Flatten, dense, lambda: layers.Activation("softmax")],
    "operation": [layers.Flatten, dense, lambda: keras.ops.softmax],
    "convolution": [
        lambda: layers.Conv2D(10, 3),
        layers.BatchNormalization,
        layers.GlobalAveragePooling2D,
        layers.Softmax,
    ],
    "dropout after": [layers.Flatten, dense, lambda: layers.Dropout(0.1), layers.Softmax],
    "an argument in the call": [layers.Flatten, dense, lambda: lambda x: Scaled()(x, by=5.0), layers.Softmax],
}
NARROW = {
    "average": [layers.Flatten, lambda: _average],
    "reshape": [layers.Flatten, dense, lambda: layers.Reshape((10,)), layers.Softmax],
    "one layer twice": [layers.Flatten, lambda: _twice],
    "one head twice": [layers.Flatten, lambda: _refined],
    "nested": [lambda: keras.Sequential([layers.Flatten(), layers.Dense(10, activation="softmax")])],
    "a part": [layers.Flatten, lambda: layers.Dense(20), lambda: lambda x: x[:, :10], layers.Softmax],
}


def _twice(x):
    last = layers.Softmax()
    return last(dense()(last(dense()(x))))


def _refined(x):
    """The head sees its own first guess."""
    head = layers.Dense(10, activation="softmax")
    return head(layers.Dense(784, activation="relu")(layers.Concatenate()([x, head(x)])))


@keras.saving.register_keras_serializable("test_flip_classes")
class Scaled(layers.Layer):
    def call(self, x, by=1.0):
        return x * by


def _net(end):
    x = inputs = keras.Input((28, 28, 1))
    for layer in end:
        x = layer()(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("end", ENDS)
def test_nets_with_other_ends_train_with_joint_flips(end, digits, monkeypatch, tmp_path):
    monkeypatch.setitem(building.ARCHITECTURES, "mine", lambda: _net(ENDS[end]))
    settings = [("model", "mine"), ("epochs", 1), ("min_steps_per_epoch", 2), ("max_rows_per_epoch", 128)]
    made = {"seed": 1, "precision": "float32", "augment_engine": "batch", "tensorboard": False}
    trainer = Trainer(resolve("single", [("joint_flips", ["horizontal"]), *settings]) | made, digits)
    trainer.fit(1, tmp_path, verbose=0)
    assert trainer.model.softmax is not None  # trained on logits
    read = saved_net.read_net(tmp_path / "net-01.keras", trainer.plain().count_params())
    assert flip_classes.core(read).output_shape == (None, 20)
    x = digits.test.x[:32, ..., None] / np.float32(255)
    np.testing.assert_allclose(read.predict(x, verbose=0).sum(1), 1, rtol=1e-5)


def test_a_layer_after_the_classes_keeps_the_arguments_of_its_call(digits, monkeypatch):
    monkeypatch.setitem(building.ARCHITECTURES, "mine", lambda: _net(ENDS["an argument in the call"]))
    joint, x = building.build("mine", joint_flips=["horizontal"]), digits.test.x[:16, ..., None] / np.float32(255)
    logits = keras.Model(joint.inputs[0], joint.layers[2].output)(x)
    np.testing.assert_allclose(joint(x), keras.ops.softmax(5 * logits), atol=1e-6)


def test_a_net_whose_layers_are_added_one_by_one_trains_with_joint_flips(monkeypatch):
    net = keras.Sequential()
    for layer in (keras.Input((28, 28, 1)), layers.Flatten(), dense(), layers.Dropout(0.1), layers.Softmax()):
        net.add(layer)  # Keras calls all layers again
    monkeypatch.setitem(building.ARCHITECTURES, "mine", lambda: net)
    assert building.build("mine", joint_flips=["horizontal"]).output_shape == (None, 20)


@pytest.mark.parametrize("end", NARROW)
def test_a_net_that_cannot_have_more_classes_is_refused_with_the_remedy(end, monkeypatch):
    monkeypatch.setitem(building.ARCHITECTURES, "mine", lambda: _net(NARROW[end]))
    assert building.build("mine").output_shape == (None, 10)
    with pytest.raises(UserError, match=r"'mine' ends with \w+, and joint_flips needs .*--set\s+joint_flips=\[\]"):
        building.build("mine", joint_flips=["horizontal"])


@pytest.mark.parametrize("name", ["linear", "residual"])  # a Sequential and a functional model
def test_a_net_of_joint_flips_predicts_by_each_flip_in_its_own_classes(name, digits, tmp_path):
    x = digits.test.x[:64, ..., None] / np.float32(255)
    net = building.build(name, seed=2, joint_flips=["vertical", "horizontal"])
    assert net.output_shape == (None, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        net(x)
    parts = [
        net.predict(view, verbose=0)[:, 10 * i : 10 * i + 10] for i, view in enumerate((x, x[:, ::-1], x[:, :, ::-1]))
    ]
    expected = np.mean([part / part.sum(1, keepdims=True) for part in parts], axis=0)
    plain = flip_classes.aggregated(copies.plain(net), ["vertical", "horizontal"])
    plain.save(tmp_path / "net.keras")
    read = saved_net.read_net(tmp_path / "net.keras", net.count_params())
    np.testing.assert_allclose(read.predict(x, verbose=0), expected, atol=1e-5)
    fast = copies.fast(read, "bfloat16")
    np.testing.assert_allclose(fast.predict(x, verbose=0), expected, atol=0.05)
    assert flip_classes.core(fast).layers[-1].compute_dtype == "float32"


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("joint_flips", "horizontal", "joint_flips must be a list, for example [\"horizontal\"], not 'horizontal'"),
        ("joint_flips", ["vertical", "vertical"], "each flip once at most"),
        ("joint_flips", ["horizontally"], "did you mean 'horizontal'"),
        ("joint_flips", [[1]], 'must be a list, for example ["horizontal"], not [[1]]'),
        ("augmentation.horizontal_flip", True, "set horizontal_flip and vertical_flip to false"),
        ("augmentation.vertical_flip", True, "set horizontal_flip and vertical_flip to false"),
    ],
)
def test_a_bad_setting_is_told_in_one_line(setting, value, told):
    with pytest.raises(UserError) as error:
        Trainer(resolve("single", [("joint_flips", ["vertical"]), (setting, value)]), None)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


BOTH = ["horizontal", "vertical"]
EARLIER = [  # (settings as they were given by earlier versions, joint_flips of the two nets)
    ([("augmentation.joint_flips", BOTH)], [BOTH, BOTH]),
    ([("augmentation", {"rotation_range": 3, "joint_flips": BOTH})], [BOTH, BOTH]),
    ([("members", [{}, {"augmentation.joint_flips": BOTH}])], [[], BOTH]),
    ([("members", [{"augmentation": {"joint_flips": BOTH}}, {}])], [BOTH, []]),
    ([("augmentation.joint_flips", BOTH), ("members", [{"augmentation.joint_flips": []}, {}])], [[], BOTH]),
]


@pytest.mark.parametrize(("settings", "flips"), EARLIER)
def test_joint_flips_may_be_set_as_a_part_of_augmentation_as_in_earlier_versions(settings, flips):
    config = resolve("quick", [("nets", 2), *settings])
    nets = [members.member(config, net) for net in (1, 2)]
    assert [net["joint_flips"] for net in nets] == flips
    for net in nets:
        Augmentation(**net["augmentation"])


@pytest.mark.parametrize(("settings", "flips"), EARLIER)
def test_a_run_of_an_earlier_version_has_its_flips(settings, flips, tmp_path):
    data = dict(source="digits", origin="digits", fingerprint="0")
    recorded = dict(recipe="quick", seed=0, precision="float32", augment_engine="batch", created="2026", data=data)
    config = resolve("quick", [("nets", 2)]) | recorded
    del config["joint_flips"]
    for key, value in copy.deepcopy(settings):
        outer, _, inner = key.partition(".")
        (config[outer] if inner else config)[inner or outer] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = run_folder.read_config(tmp_path)
    nets = [members.member(read, net) for net in (1, 2)]
    assert [net["joint_flips"] for net in nets] == flips
    for net in nets:
        Augmentation(**net["augmentation"])


def test_flips_set_under_the_earlier_name_replace_those_of_every_net_of_a_recipe():
    assert any("joint_flips" in own for own in recipes.RECIPES["ensemble"]["members"])
    config = resolve("ensemble", [("augmentation.joint_flips", [])])
    assert all(net["joint_flips"] == [] for net in members.kinds(config))
