"""Saved nets pass between Keras 3.12 and later versions."""

import inspect
import json
import shutil
import zipfile

import keras
import numpy as np

from recognizer.nn import building, copies, flip_classes, portable, saved_net


def saved_config(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def arguments_in(config):
    """All names of arguments in a Keras config."""
    if isinstance(config, list):
        return set().union(*map(arguments_in, config))
    if isinstance(config, dict):
        return set(config).union(*map(arguments_in, config.values()))
    return set()


def test_a_saved_net_has_no_argument_that_keras_3_12_does_not_know(tmp_path):
    for name in building.ARCHITECTURES:
        saved_net.save(copies.plain(building.build(name)), tmp_path / f"{name}.keras")
        config = saved_config(tmp_path / f"{name}.keras")
        assert not arguments_in(config) & set(portable.NEWER)
    flipped = flip_classes.aggregated(
        copies.plain(building.build("linear", joint_flips=["horizontal_and_vertical"])), ["horizontal_and_vertical"]
    )
    saved_net.save(flipped, tmp_path / "flipped.keras")
    flips = [
        layer for layer in saved_config(tmp_path / "flipped.keras")["config"]["layers"] if layer["class_name"] == "Flip"
    ]
    assert [layer["config"]["axis"] for layer in flips] == [1, 2]


def test_an_argument_that_is_not_at_its_default_is_kept():
    layer = keras.layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(seed=1))
    config = keras.saving.serialize_keras_object(layer)
    config["config"]["kernel_initializer"]["config"]["input_axes"] = [0]
    kept = portable.portable(config)["config"]["kernel_initializer"]["config"]
    assert kept == {"seed": 1, "input_axes": [0]}


def test_the_defaults_that_are_left_out_are_keras_own():
    found = set()
    for space in (keras.layers, keras.initializers):
        for kind in vars(space).values():
            if inspect.isclass(kind):
                for name, parameter in inspect.signature(kind.__init__).parameters.items():
                    if name in portable.NEWER:
                        found.add(name)
                        assert parameter.default == portable.NEWER[name]
    assert found <= set(portable.NEWER)
    if keras.__version__ >= "3.15":
        assert found == set(portable.NEWER)


def test_a_net_as_keras_itself_saves_it_is_read_with_its_weights(tmp_path, digits):
    model = copies.plain(building.build("residual", seed=3))
    model.save(tmp_path / "net.keras")  # not by saved_net.save
    x = digits.test.x[:20, ..., None] / np.float32(255)
    shutil.copy(tmp_path / "net.keras", tmp_path / "portable.keras")
    portable.make_portable(tmp_path / "portable.keras")
    for name in ("net.keras", "portable.keras"):
        read = saved_net.read_net(tmp_path / name)
        np.testing.assert_array_equal(read.predict(x, verbose=0), model.predict(x, verbose=0))
