"""An architecture that was edited while its run was stopped is recognised; a run of an unedited one resumes."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT
from keras import layers as k

from recognizer.base.errors import UserError
from recognizer.nn import building, edits, layers, parts
from recognizer.runs import checkpoints

HALF = [1.0]


@keras.saving.register_keras_serializable("test_edits")
class Scaled(k.Layer):
    """Its call() is in no Keras config."""

    def call(self, x):
        return x * HALF[0]


@keras.saving.register_keras_serializable("test_edits")
def swish_like(x):
    return x * keras.ops.sigmoid(x)


def sequential(size=3, rate=0.25, activation="relu", momentum=0.9, init="glorot_uniform", name=None, noise=0.1, l2=0.0):
    regular = {"kernel_regularizer": keras.regularizers.L2(l2)} if l2 else {}
    found = [
        layers.Conv2D(4, size, activation=activation, kernel_initializer=init, name=name, **regular),
        layers.BatchNormalization(momentum=momentum),
        layers.Dropout(rate),
        k.GaussianNoise(noise),
        k.Flatten(),
    ]
    return keras.Sequential([parts.images(), *found, parts.classes()])


def functional(shortcut=True, activation=None, scale=1.0, name=None):
    inputs = parts.images()
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    y = k.Activation(activation or swish_like)(x)
    HALF[0] = scale  # used by Scaled.call: changes what it computes, like an edit of call()
    x = Scaled(name=name)(x + y if shortcut else y + y)
    inner = keras.Sequential([k.Flatten(), k.Dense(8, "relu"), k.Dropout(0.5)])
    return keras.Model(inputs, parts.classes()(inner(x)))


def recorded(net, **arguments):
    inputs = np.random.default_rng(1).random((8, 28, 28, 1), np.float32)
    building.ARCHITECTURES["edited"] = lambda: net(**arguments)
    try:
        return json.loads(json.dumps(edits.record(building.build("edited", 0), inputs)))
    finally:
        del building.ARCHITECTURES["edited"]


EDITS = {
    "activation": (sequential, {"activation": "tanh"}, "layer 'conv2d': activation 'tanh' now, 'relu' then"),
    "dropout": (sequential, {"rate": 0.4}, "layer 'dropout': rate 0.4 now, 0.25 then"),
    "kernel": (sequential, {"size": 5}, "layer 'conv2d': kernel_size [5, 5] now, [3, 3] then"),
    "momentum": (sequential, {"momentum": 0.5}, "layer 'batch_normalization': momentum 0.5 now, 0.9 then"),
    "noise": (sequential, {"noise": 0.2}, "layer 'gaussian_noise': stddev 0.2 now, 0.1 then"),
    "regulariser": (sequential, {"l2": 0.1}, "layer 'conv2d': kernel_regularizer L2 now, None then"),
    "initializer": (
        sequential,
        {"init": "he_normal"},
        "layer 'conv2d': kernel_initializer HeNormal now, GlorotUniform then",
    ),
    "shortcut": (functional, {"shortcut": False}, "layer 'add'"),
    "own activation": (
        functional,
        {"activation": "relu"},
        "layer 'activation': activation 'relu' now, test_edits>swish_like then",
    ),
    "own call": (functional, {"scale": 1.01}, "the call() of one of them was edited"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_named(name):
    net, arguments, told = EDITS[name]
    then = recorded(net)
    keras.backend.clear_session()  # names begin anew, as in another process
    assert told in edits.difference(then, recorded(net, **arguments))


def test_a_layer_more_is_named():
    then = recorded(sequential)
    more = lambda: keras.Sequential([*sequential().layers[:-1], k.Dense(8), parts.classes()])  # noqa: E731
    assert edits.difference(then, recorded(more)).endswith("layers now, 7 then, the first different one 'dense_1'")


@pytest.mark.parametrize("net", [sequential, functional, lambda: building.build("residual"), lambda: dropping()])
def test_what_is_the_same_has_no_difference(net):
    """Built twice in a process: Keras names its layers otherwise then."""
    first, again = recorded(net), recorded(net)
    assert first["config"] != again["config"]
    assert edits.difference(first, again) == ""
    if net in (sequential, functional):  # a name changes nothing that is computed
        assert edits.difference(first, recorded(net, name="mine")) == ""


def dropping():
    """A net that draws random numbers when it predicts."""
    inputs = parts.images()
    return keras.Model(inputs, parts.classes()(k.Flatten()(k.Dropout(0.5)(inputs, training=True))))


def test_another_version_of_keras_is_compared_by_outputs_alone():
    then = recorded(sequential) | {"keras": "3.0"}
    assert edits.difference(then, recorded(sequential, rate=0.4)) == ""
    assert "call()" in edits.difference(then, recorded(sequential, activation="tanh"))
    assert "call()" in edits.difference(then, recorded(sequential, size=5))


ELSEWHERE = """
import json, sys; sys.path.insert(0, sys.argv[1])
from recognizer.base import environment; environment.import_keras()
import numpy as np
from recognizer.nn import building, edits
x = np.random.default_rng(1).random((8, 28, 28, 1), np.float32)
print(json.dumps({name: edits.record(building.build(name, 1), x) for name in sys.argv[2:]}))
"""


@pytest.mark.slow
def test_another_backend_and_fewer_threads_make_no_difference():
    names = ["residual", "deotte", "linear"]

    def found(**elsewhere):
        command = [sys.executable, "-c", ELSEWHERE, str(ROOT), *names]
        process = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | elsewhere)
        assert process.returncode == 0, process.stderr[-2000:]
        return json.loads(process.stdout)

    then = found()
    for elsewhere in ({"TF_NUM_INTRAOP_THREADS": "1", "TF_ENABLE_ONEDNN_OPTS": "0"}, {"KERAS_BACKEND": "jax"}):
        if elsewhere.get("KERAS_BACKEND"):
            pytest.importorskip("jax")
        now = found(**elsewhere)
        assert {name: edits.difference(then[name], now[name]) for name in names} == dict.fromkeys(names, "")


def test_a_run_goes_on_only_with_the_architecture_that_it_was_started_with(tmp_path, monkeypatch, no_pictures):
    import train

    monkeypatch.chdir(tmp_path)
    write, run = checkpoints.write, tmp_path / "runs" / "stopped"

    def stop_after(net, epoch):
        def stop(folder, number, arrays, state):
            write(folder, number, arrays, state)
            if (number, state["epoch"]) == (net, epoch):
                raise KeyboardInterrupt

        monkeypatch.setattr(checkpoints, "write", stop)

    def written(**arguments):
        monkeypatch.setitem(building.ARCHITECTURES, "mine", lambda: sequential(**arguments))

    tiny = ["--epochs", "2", "--batch-size", "8", "--set", "steps_per_epoch=2", "--data", "digits"]
    written()
    stop_after(1, 1)
    with pytest.raises(KeyboardInterrupt):
        train.main(["linear", "--model", "mine", *tiny, "--nets", "2", "--run", "stopped"])
    before = sorted((path.name, path.stat().st_mtime_ns) for path in run.iterdir())
    written(activation="tanh")
    told = r"net 1 of run 'stopped' cannot resume: architecture 'mine' was edited .*'tanh' now.*undo the edit, or train"
    with pytest.raises(UserError, match=told):
        train.main(["--resume"])
    assert sorted((path.name, path.stat().st_mtime_ns) for path in run.iterdir()) == before
    written()
    stop_after(2, 1)
    with pytest.raises(KeyboardInterrupt):
        train.main(["--resume"])
    for path in run.glob("net-02.*"):  # as if net 2 had not begun: net 1 is finished
        path.unlink()
    written(rate=0.4)
    with pytest.raises(UserError, match=r"net 2 of run 'stopped' .* rate 0.4 now, 0.25 then"):
        train.main(["--resume"])
    (run / "architectures.json").write_text('[{"keras": 3}]')
    with pytest.raises(UserError, match="damaged record"):
        train.main(["--resume"])
    (run / "architectures.json").unlink()  # as of an earlier version
    stop_after(0, 0)
    train.main(["--resume"])
    assert (run / "result.json").is_file()


def test_a_finished_run_predicts_and_repeats_only_as_it_was_trained(tmp_path, monkeypatch, no_pictures, capsys):
    import train
    from recognizer.training import predicting

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(building.ARCHITECTURES, "mine", functional)
    tiny = ["--epochs", "1", "--batch-size", "8", "--set", "steps_per_epoch=2", "--data", "digits"]
    train.main(["linear", "--model", "mine", *tiny, "--run", "own"])
    folder = tmp_path / "runs" / "own"
    with monkeypatch.context() as edit:
        edit.setattr(Scaled, "call", lambda self, x: x * 1.01)
        with pytest.raises(UserError, match=r"net-01.keras computes other outputs than when it was saved: undo what"):
            predicting.saved_model(folder, 1)
        train.main(["--repeat", "own"])
    assert "Different from own: an architecture (it has the same layers, but they compute" in capsys.readouterr().out
    predicting.saved_model(folder, 1)
