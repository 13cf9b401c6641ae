"""The precision that nets compute in is the fastest that the processor has."""

import json

import keras
import pytest

from recognizer.base.errors import UserError
from recognizer.config import members, schema
from recognizer.config.overrides import resolve
from recognizer.nn import building, parts, precision
from recognizer.nn.precision import _native_precisions, native_precision
from recognizer.training import plan, trial


@pytest.mark.parametrize(
    ("flags", "native"),
    [
        ("fpu sse2 avx512f avx512_bf16", True),
        ("fpu amx_bf16 amx_tile", True),
        ("fpu avx512f avx512_vnni", False),
        ("", False),
    ],
)
def test_bfloat16_is_chosen_where_the_processor_computes_it(flags, native, tmp_path):

    if any(not device.startswith("cpu") for device in keras.distribution.list_devices()):
        pytest.skip("a GPU decides for itself")
    cpuinfo = tmp_path / "cpuinfo"
    assert not _native_precisions(cpuinfo)  # a system that does not tell
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n")
    assert _native_precisions(cpuinfo) == ["bfloat16"] * native
    assert native_precision("float32") == "float32"


def penalized():
    """A net whose penalty on activities TensorFlow does not compute in half precision."""
    return keras.Sequential(
        [parts.images(), parts.Flatten(), parts.Dense(4, activity_regularizer="l2"), parts.classes()]
    )


@pytest.fixture
def half(monkeypatch):
    """A processor with bfloat16, and the net `penalized`."""
    monkeypatch.setattr(precision, "_native_precisions", lambda: ["bfloat16"])
    monkeypatch.setitem(building.ARCHITECTURES, "penalized", penalized)


def config(chosen, **settings):
    run = {key: setting.default for key, setting in schema.RUN_SETTINGS.items()} | {"precision": chosen}
    return {"recipe": "linear"} | resolve("linear", [*settings.items(), ("steps_per_epoch", 2)]) | run


def test_only_nets_that_half_precision_cannot_compute_are_trained_in_float32(half, monkeypatch, capsys, digits):
    def try_net(trainer, net, *untrained):
        settings = trainer.settings
        if settings["model"] == "penalized" and settings["precision"] != "float32":
            raise UserError("cannot")

    monkeypatch.setattr(trial, "untrained", lambda *_: ())
    monkeypatch.setattr(trial, "try_net", try_net)
    for own, expected in (
        ([{"model": "penalized"}, {"model": "linear"}], ["float32", "float32", "bfloat16", "bfloat16"]),
        ([{"model": "linear"}, {"model": "penalized"}], ["bfloat16", "bfloat16", "float32", "float32"]),
        ([{"batch_size": 8}, {"batch_size": 16}], ["float32"] * 4),
        ([], ["float32"] * 4),
    ):
        settings = config("auto", model="penalized", nets=4, members=own)
        plan.complete(settings, digits)
        plan.tried(settings, digits, chosen=False)
        assert "in float32, since in bfloat16 cannot" in capsys.readouterr().out
        recorded = json.loads(json.dumps(settings))
        assert [members.member(recorded, net)["precision"] for net in (1, 2, 3, 4)] == expected
        plan.tried(recorded, digits, chosen=True)  # as --repeat does
        assert not capsys.readouterr().out


def test_a_precision_that_the_processor_has_and_a_net_has_not(half, capsys):
    settings = config("auto", model="penalized")
    plan.prepared(settings, "digits")
    assert settings["precision"] == "float32"
    told = "in float32, since in bfloat16 architecture 'penalized' cannot take a training step"
    assert told in capsys.readouterr().out
    for chosen, own in (("bfloat16", []), ("auto", [{"precision": "bfloat16"}])):  # a precision that the user gives
        with pytest.raises(UserError, match=r"cannot take a training step .*: use --precision float32") as error:
            plan.prepared(config(chosen, model="penalized", members=own), "digits")
        assert len(str(error.value)) < 300
    with pytest.raises(UserError, match="precision must be 'float32' or 'bfloat16'"):
        config("auto", members=[{"precision": "half"}])


def test_a_long_reason_leaves_room_for_the_precision_to_choose(half, monkeypatch, digits):
    def try_net(trainer, net, *untrained):
        if trainer.settings["precision"] != "float32":
            raise UserError("architecture 'linear' cannot" + 150 * " x")

    monkeypatch.setattr(trial, "untrained", lambda *_: ())
    monkeypatch.setattr(trial, "try_net", try_net)
    settings = config("bfloat16")
    plan.complete(settings, digits)
    with pytest.raises(UserError, match=r" x \.\.\.: use --precision float32 \(models\.py, line \d+\)$") as error:
        plan.tried(settings, digits, chosen=True)
    assert len(str(error.value)) <= 280
