"""Keras 3.12 and later: the scripts run with the versions in Kaggle's image, and nets pass between versions.

`make .venv-kaggle/installed` makes the environment of requirements/kaggle.txt; without it the slow tests are skipped.
"""

import os
import subprocess

import numpy as np
import pytest
from conftest import ROOT, TINY, load, read_submission, script

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


# What a user does, by tests that exist already: (files, tests, environment variables).
PARTS = {
    "TensorFlow": (
        "scripts/test_scripts.py nn/test_saved_net.py",
        "every_recipe_trains or interrupted_run or needs_nothing_but_keras",
        {},
    ),
    "JAX": ("scripts/test_scripts.py", "every_recipe_trains", {"KERAS_BACKEND": "jax"}),
    "JAX alone": ("scripts/test_jax.py", "resumes or without_tensorflow", {}),
    "the notebook": ("scripts/test_notebook.py", "notebook", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=[pytest.mark.by_hand] * (part != "TensorFlow")) for part in PARTS]
)
def test_the_scripts_run_with_kaggles_versions(part, kaggle):
    paths, tests, environment = PARTS[part]
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=", "-k", tests]
    told = kaggle(*command, *(ROOT / "tests" / path for path in paths.split()), cwd=ROOT, **environment)
    assert " passed" in told
    assert "skipped" not in told


LOAD = "import keras, sys; [keras.saving.load_model(path, safe_mode=True) for path in sys.argv[1:]]"


@pytest.mark.slow
@pytest.mark.by_hand
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
