"""Over forty nets as people write them in models.py: each is usable from training to export, or refused before a run.

What a converter cannot export is listed. JAX trains a step of each that is not refused.
"""

import functools
import json
import os
from pathlib import Path

import driver
import numpy as np
import pytest
from conftest import load, write_csv

from recognizer.base.files import read_json
from recognizer.runs import metrics, run_folder

FILE = Path(__file__).with_name("forty_nets.py")
NETS = [line.split("(")[0].removeprefix("def ") for line in FILE.read_text().splitlines() if line[:10] == "def forty_"]
PARTS = 4  # that are each trained by a process of its own: TensorFlow frees little memory
BY_HAND = {True: pytest.mark.by_hand, False: ()}
REGISTER = "write @keras.saving.register_keras_serializable() above"
# What the line says of a net that is refused.
REFUSED = {
    "forty_forgotten_argument": ["get_config() of Forgetful lacks 'units'", "every argument of __init__"],
    "forty_unregistered_model": ["Unregistered", "subclass of keras.Model", REGISTER],
    "forty_unregistered_block": ["Unregistered is not registered", REGISTER],
    "forty_lambda": ["Lambda cannot be saved safely: use keras.ops, Rescaling or a registered layer"],
    "forty_function_as_default": ["activation=relu is no JSON", "write activation='relu'"],
    "forty_layer_as_default": ["norm=BatchNormalization is no JSON", "make the object in the function"],
}
# Nets that cannot be computed in half precision.
EXACT = {"forty_kan", "forty_fourier", "forty_activity"}
# {format: {net: the operation that its converter does not support, as the message names it}}
NOT_EXPORTED = {
    "onnx": {
        "forty_depthwise": "StatefulPartitionedCall",  # groups of channels, which Keras compiles by XLA
        "forty_fourier": "Complex",
    },
    "litert": {"forty_fourier": "Complex"},
    "saved_model": {},
}
QUICK = [
    *REFUSED,
    "forty_conv_bn_layer",  # which other tests read
    "forty_model_alone",
    "forty_activity",
    "forty_shared",
    "forty_spectral",
]
TINY = ["linear", "--data", "digits", "--batch-size", 8, "--epochs", 2]
TINY += ["--set=steps_per_epoch=3", "--set=update_bn=2", "--set=optimizer=adam"]
MORE = ["--validation-split", 0.1, "--weights", "averaged", "--set=replicas=2"]


def life(name, formats):
    """The commands of a net's life, by what they are for."""
    train = ["train.py", *TINY, *(MORE if formats else []), "--model", name, "--run", name]
    if name in REFUSED:
        return {"train": train}
    commands = {
        "train": ["interrupted", *train],
        "resume": ["train.py", "--resume", "--run", name],
        "repeat": ["train.py", "--repeat", name],
        "predict": ["predict.py", name, "--test", "own.csv", "--probabilities"],
        "draw": ["draw", name],
    }
    return commands | {form: ["export", name, "--format", form] for form in formats}


@pytest.fixture(scope="session")
def lives(made_once, digits):
    """lives(what, names, formats): (the folder of the runs, {name: {command: its answer}}), by one process for all.

    what: a name for this group of nets.
    """

    @functools.cache
    def lived(what, names, formats=()):
        def live(folder):
            scripts = driver.copied(folder, FILE.read_text())
            write_csv(folder / "own.csv", digits.test.x)
            commands = [command for name in names for command in life(name, formats).values()]
            told = driver.told(scripts, commands, folder)
            (folder / "told.json").write_text(json.dumps(told))

        folder = made_once(f"forty-{what}", live)
        told = iter(json.loads((folder / "told.json").read_text()))
        return folder, {name: {what: next(told) for what in life(name, formats)} for name in names}

    return lived


@pytest.fixture(scope="session")
def quick(lives):
    return lives("quick", tuple(QUICK))


@pytest.mark.parametrize("name", QUICK)
def test_a_net_is_usable_or_refused(name, quick):
    check_life(name, *quick)


def parts():
    """The names of all nets, part by part; all parts but the first are left to `make slow-test` by hand."""
    part = {name: i % PARTS for i, name in enumerate(NETS)}
    return [pytest.param(name, marks=BY_HAND[bool(part[name])]) for name in sorted(NETS, key=part.get)]


@pytest.mark.slow
@pytest.mark.parametrize("name", parts())
def test_each_of_forty_nets_is_usable_or_refused(name, lives):
    part = NETS.index(name) % PARTS
    check_life(name, *lives(f"part-{part}", tuple(NETS[part::PARTS]), tuple(NOT_EXPORTED)))


def check_life(name, folder, told):
    code, _, error = told[name]["train"]
    if name in REFUSED:
        assert code == 2, error
        assert error.count("\n") == 1, error
        assert len(error) <= 301
        for part in REFUSED[name]:
            assert part in error
        assert not (folder / "runs" / name).exists()
        return
    assert code == 130, error
    for what in ("resume", "repeat", "predict", "draw"):
        code, _, error = told[name][what]
        assert code == 0, f"{what}: {error}"
    # The run was interrupted and resumed, its repetition was not.
    assert "Net 1: weights and predictions identical, bit for bit" in told[name]["repeat"][1]
    if name in EXACT:
        assert "Run:" in told[name]["train"][1]
        assert "in float32" in told[name]["train"][1] or "bfloat16" not in told[name]["train"][1]
        assert read_json(folder / "runs" / name / "config.json")["precision"] == "float32"
    table = np.loadtxt(folder / "submissions" / f"{name}-own-probabilities.csv", delimiter=",", skiprows=1)[:, 1:]
    stored = load(folder / "runs" / name / "predictions.npz")["test_01"]
    temperature = run_folder.temperature(folder / "runs" / name)
    np.testing.assert_allclose(table, metrics.sharpened(stored, temperature), atol=1e-6)
    for form in NOT_EXPORTED.keys() & told[name].keys():
        code, _, error = told[name][form]
        operation = NOT_EXPORTED[form].get(name)
        assert code == (2 if operation else 0), error
        assert (operation or "") in error


@pytest.mark.slow
@pytest.mark.parametrize("part", [pytest.param(part, marks=BY_HAND[bool(part)]) for part in range(PARTS)])
def test_forty_nets_build_and_train_a_step_on_jax(part, tmp_path):
    pytest.importorskip("jax")
    names = NETS[part::PARTS]
    scripts = driver.copied(tmp_path, FILE.read_text())
    commands = [["train.py", *TINY, *MORE, "--model", name, "--check"] for name in names]
    told = driver.told(scripts, commands, tmp_path, env=os.environ | {"KERAS_BACKEND": "jax"})
    failed = {name: error for name, (code, _, error) in zip(names, told, strict=True) if code}
    assert failed.keys() == REFUSED.keys() & set(names), failed
    for name, error in failed.items():
        for part in REFUSED[name]:
            assert part in error


READERS = {
    "predict": ["predict.py", "RUN", "--test", "own.csv", "--out", "again.csv"],
    "draw": ["draw", "RUN"],
    "export": ["export", "RUN"],
    "plot": ["plot", "layers", "RUN"],
    "report": ["report", "RUN"],
}


@pytest.mark.parametrize(
    "command", [pytest.param(key, marks=[pytest.mark.slow][key == "predict" :]) for key in READERS]
)
def test_a_new_process_reads_a_net_of_ones_own(command, quick):
    folder, _ = quick
    words = [word.replace("RUN", "forty_conv_bn_layer") for word in READERS[command]]
    ((code, _, error),) = driver.told(folder / "copy", [words], folder)
    assert code == 0, error
