"""Keras 3.12 and later: the scripts run with the versions in Kaggle's image, and nets pass between versions.

`make .venv-kaggle/installed` makes the environment of requirements/kaggle.txt; without it the slow tests are skipped.
"""

import inspect
import json
import os
import shutil
import subprocess
import zipfile

import keras
import numpy as np
import pytest
from conftest import ROOT, TINY, load, read_submission, script

from recognizer.nn import batch_norm, building, copies, flip_classes, layers, portable, saved_net

KAGGLE = ROOT / ".venv-kaggle" / "bin" / "python"


@pytest.fixture(scope="module")
def kaggle():
    """Runs Kaggle's Python: kaggle(arguments, cwd, environment variables) returns its output."""
    if not (KAGGLE.parent.parent / "installed").is_file():
        pytest.skip("needs .venv-kaggle (make .venv-kaggle/installed, with Python 3.12 or 3.13)")

    def run(*arguments, cwd, **environment):
        command = [str(KAGGLE), *map(str, arguments)]
        process = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=600, env=os.environ | environment
        )
        assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
        return process.stdout

    return run


# What a user does, by tests that are there already: (file, tests, environment variables).
PARTS = {
    "TensorFlow": ("test_scripts.py", "every_recipe_trains or interrupted_run or needs_nothing_but_keras", {}),
    "JAX": ("test_scripts.py", "every_recipe_trains", {"KERAS_BACKEND": "jax"}),
    "JAX alone": ("test_jax.py", "resumes or without_tensorflow", {}),
    "the notebook": ("test_notebook.py", "notebook", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_the_scripts_run_with_kaggles_versions(part, kaggle):
    file, tests, environment = PARTS[part]
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=", "-k", tests]
    told = kaggle(*command, ROOT / "tests" / file, cwd=ROOT, **environment)
    assert " passed" in told
    assert "skipped" not in told


LOAD = "import keras, sys; [keras.saving.load_model(path, safe_mode=True) for path in sys.argv[1:]]"


@pytest.mark.slow
def test_nets_pass_between_kaggles_versions_and_these(kaggle, tmp_path):
    train = [ROOT / "train.py", "ensemble", "--nets", 4, *TINY, "--data", "digits", "--run"]
    process = script(*train, "here", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    kaggle(*train, "kaggles", cwd=tmp_path)
    for run in ("here", "kaggles"):
        arrays = load(tmp_path / "runs" / run / "predictions.npz")
        expected = np.mean([arrays[f"test_{net:02d}"] for net in range(1, 5)], axis=0).argmax(1)
        assert script("predict.py", run, "--out", "a.csv", cwd=tmp_path).returncode == 0
        kaggle(ROOT / "predict.py", run, "--out", "b.csv", cwd=tmp_path)
        for name in ("a.csv", "b.csv"):
            assert np.mean(read_submission(tmp_path / name) == expected) > 0.99  # rounding may decide between two
    files = [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.glob("runs/*/net-*.keras"))]
    assert len(files) == 8
    kaggle("-I", "-c", LOAD, *files, cwd=tmp_path)  # plain Keras, without the scripts
    told = kaggle(ROOT / "train.py", "--repeat", "kaggles", cwd=tmp_path)
    assert "kaggles-repeat" in told


STEPS = """
import sys; sys.path.insert(0, sys.argv[1])
from recognizer.base import environment; environment.import_keras()
import keras, numpy as np
from recognizer.config.overrides import resolve
from recognizer.nn import building, optimizers
rng = np.random.default_rng(0)
net = building.build("residual", seed=1)
optimizer = optimizers.make("muon", **resolve("single")["optimizer_config"])
optimizer.build(net.trainable_variables)
for variable in net.trainable_variables:
    variable.assign(0.1 * rng.normal(size=variable.shape))
for rate in np.linspace(1e-3, 6e-3, 10):
    optimizer.learning_rate = rate
    optimizer.apply([keras.ops.convert_to_tensor(rng.normal(size=v.shape), "float32") for v in net.trainable_variables])
np.savez(sys.argv[2], *map(keras.ops.convert_to_numpy, net.trainable_variables))
"""


@pytest.mark.slow
def test_muon_takes_the_same_steps_with_kaggles_versions_on_both_backends(kaggle, tmp_path):
    (tmp_path / "steps.py").write_text(STEPS)
    process = script(tmp_path / "steps.py", ROOT, "here.npz", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    expected = load(tmp_path / "here.npz")
    for backend in ("tensorflow", "jax"):
        kaggle("steps.py", ROOT, f"{backend}.npz", cwd=tmp_path, KERAS_BACKEND=backend)
        found = load(tmp_path / f"{backend}.npz")
        for key in expected:
            np.testing.assert_allclose(found[key], expected[key], atol=1e-6)


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
    model.save(tmp_path / "net.keras")  # not by fit.save
    x = digits.test.x[:20, ..., None] / np.float32(255)
    shutil.copy(tmp_path / "net.keras", tmp_path / "portable.keras")
    portable.make_portable(tmp_path / "portable.keras")
    for name in ("net.keras", "portable.keras"):
        read = saved_net.read_net(tmp_path / name)
        np.testing.assert_array_equal(read.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_model_two_models_deep_is_copied_into_plain_layers():
    def outer(net):
        inputs = keras.Input((28, 28, 1))
        return keras.Model(inputs, net(inputs))

    inner = keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(2, 28), layers.BatchNormalization()])
    copy = copies.plain(outer(outer(outer(inner))))
    kinds = {type(layer) for layer in batch_norm.all_layers(copy)}
    assert not kinds & set(layers.PLAIN)
    assert keras.layers.Conv2D in kinds
