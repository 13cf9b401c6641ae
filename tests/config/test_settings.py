"""Settings are checked, overridden and given to each net; train.py's arguments become settings."""

import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT, assert_one_line_error, script

import recipes
import train
from recognizer.base import program
from recognizer.base.errors import UserError
from recognizer.base.files import read_json
from recognizer.commands import sweep
from recognizer.config import members, schema, signatures, sweep_settings
from recognizer.config.overrides import config_from_arguments, parse_override, resolve

PIECEWISE = 'schedule={"name": "PiecewiseConstantDecay", "boundaries": [1], "values": [1, 0.1]}'


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([("epocs", 3)], "did you mean 'epochs'"),
        ([("schedule", "cosin")], "did you mean 'cosine'"),
        ([("epochs", 0)], "epochs must be a whole number"),
        ([("epochs", True)], "epochs must be a whole number"),
        ([("validation_split", 1.0)], "below 1"),
        ([("steps_per_epoch", "some")], "steps_per_epoch"),
        ([("epochs.more", 3)], "has no parts"),
        ([("weights", "bset")], "weights must be 'last' or 'averaged' or 'best', not 'bset'"),
        ([("weights", "best"), ("validation_split", 0)], "set validation_split above 0"),
        ([("source", "me")], "no setting 'source'"),
        ([("members", {"epochs": 3})], "members must be a list"),
        ([("epochs", 10**400)], "epochs must be a whole number"),
        ([("epochs", 3.0)], "epochs must be a whole number of 1 or more and below 1000000, not 3.0"),
        ([("nets", "3")], "nets must be a whole number"),
        ([("model", 3)], "model must be a string"),
        ([("model_config", [])], "model_config must be an object"),
        ([("bagging", 1)], "bagging must be true or false"),
        ([("split_seed", -1)], "split_seed must be a whole number of 0 or more and below 4294967296, or null, not -1"),
        ([("validation_rows", 0)], "validation_rows must be a whole number of 1 or more"),
        ([("joint_flips", "horizontal")], "joint_flips must be a list"),
        ([("label_smoothing", float("nan"))], "each number must be finite"),
        ([("optimizer_config.beta_1", float("inf"))], "each number must be finite"),
        ([("steps_per_epoch", 0)], "a whole number of 1 or more and below 1000000, or 'full', or null, not 0"),
        ([("x" * 5000, 3)], "no setting 'xxx"),
        ([("epochs", "x" * 5000)], "epochs must be a whole number"),
        ([("schedule", 5)], "schedule must be an object"),
        ([("schedule.name", ["cosine"])], "no schedule ['cosine']"),
        ([("members", [{"schedule": 5, "schedule.decay": 1}])], "'schedule' has no parts"),
        ([("members", [{"schedule.name": "cosine", "schedule.decay": 1}])], "no CosineDecay setting 'decay'"),
        ([("members", [{"epocs": 3}])], "did you mean 'epochs'"),
        ([("members", [{"epochs": 0}])], "epochs must be a whole number"),
        ([("members", [{"nets": 2}])], "no setting 'nets'"),
        ([("schedule.learning_rate", float("inf"))], "each number must be finite"),
        ([("augmentation.rotation_range", float("nan"))], "each number must be finite"),
        ([("schedule", {"name": "plateau", "learning_rate": 1}), ("validation_split", 0)], "loss, accuracy (a valid"),
        ([("optimizer", "sdg")], "did you mean 'sgd'"),
        ([("optimizer", "LossScaleOptimizer")], "--precision float16"),
        ([("optimizer_config.beta1", 0.5)], "no adam setting 'beta1'; did you mean 'beta_1'"),
        ([("optimizer", "sgd"), ("optimizer_config.beta_1", 0.5)], "ScheduleFreeAdamW, not of sgd, which has clipnorm"),
        (
            [("optimizer_config", {"adam_weight_decay": None})],
            "optimizer_config.adam_weight_decay is a setting of Muon, not of adam, which has",
        ),
        (
            [("loss", "huber"), ("loss_config", {"gamma": 2})],
            "loss_config.gamma is a setting of BinaryFocalCrossentropy",
        ),
        ([("optimizer_config.learning_rate", 0.5)], "set schedule.learning_rate"),
        ([("members", [{"optimizer": "adamm"}])], "did you mean 'adam'"),
        ([("members", [{"optimizer_config.momentum": 0.5}])], "a setting of Muon, RMSprop, SGD, not of adam"),
        ([("loss", "mean_squared_eror")], "did you mean 'MeanSquaredError'"),
        ([("loss", "sparse_categorical_crossentropy")], "set loss=CategoricalCrossentropy"),
        ([("loss", "CTC")], "set loss=CategoricalCrossentropy"),
        ([("loss", "huber"), ("loss_config.delt", 1)], "did you mean 'delta'"),
        ([("loss_config", {"from_logits": False})], "leave it out"),
        ([("loss_config", {"label_smoothing": 0.1})], "set label_smoothing"),
        ([("loss", "mse"), ("label_smoothing", 0.1)], "takes no label_smoothing"),
        ([("class_weight", [1, 2])], "a list of ten numbers"),
        ([("class_weight", [0] * 10)], "of 0 or more, not all 0"),
        ([("replicas", 0)], "replicas must be a whole number"),
        ([("replicas", 3)], "batch_size (now 16) to a multiple of 3"),
        ([("replicas", 2), ("steps_per_epoch", None)], 'steps_per_epoch to "full"'),
    ],
)
def test_a_mistyped_setting_or_value_is_one_line_that_says_what_is_valid(overrides, told):
    with pytest.raises(UserError) as error:
        resolve("grenholm", overrides)
    assert told in str(error.value)
    assert len(str(error.value)) < 290
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("recipe", "overrides", "full"),
    [
        ("vgg", [("dropout", 0.3)], "model_config.dropout"),
        ("single", [("dropout", 0.3), ("model", "vgg_dropout")], "model_config.dropout"),
        ("grenholm", [("kernel_size", 3), ("model", "residual")], "model_config.kernel_size"),
        ("grenholm", [("members", [{"model": "stages", "strides": True}])], "model_config.strides"),
        ("single", [("momentum", 0.9)], "model_config.momentum or optimizer_config.momentum"),
        ("grenholm", [("momentum", 0.9)], "optimizer_config.momentum"),
        ("grenholm", [("weight_decay", 0.01)], "optimizer_config.weight_decay"),
        ("grenholm", [("ns_steps", 3)], "optimizer_config.ns_steps"),
        ("single", [("final", 0.01)], "schedule.final"),
        ("grenholm", [("warmup_epochs", 2)], "schedule.warmup_epochs"),
        ("grenholm", [("alpha", 0.1), ("loss", "categorical_focal_crossentropy")], "loss_config.alpha"),
        ("grenholm", [("alpha", 0.1), ("schedule", "cosine")], "schedule.alpha"),
        ("grenholm", [("gamma", 2)], "loss_config.gamma"),
        ("grenholm", [("reduction", "sum")], "loss_config.reduction"),
        ("grenholm", [("name", "cosine")], "schedule.name or optimizer_config.name"),
        ("quick", [("warmup", 0.2)], "schedule.warmup"),
        ("grenholm", [("rotation_range", 2)], "augmentation.rotation_range"),
        ("grenholm", [("fill_mode", "wrap")], "augmentation.fill_mode"),
        ("grenholm", [("elastic_alpha", 34)], "augmentation.elastic_alpha"),
        ("grenholm", [("cval", 1)], "augmentation.cval"),
    ],
)
def test_the_message_names_the_full_key_of_a_part_without_its_prefix(recipe, overrides, full):
    part, of_member = overrides[0][0], ""
    if part == "members":
        part, of_member = list(overrides[0][1][0])[-1], "member 1: "
    with pytest.raises(UserError) as error:
        resolve(recipe, overrides)
    whole, inner = full.split(" or ")[0].split(".")
    parts = rf"name='\w+', {inner}=\.\.\." if whole == "schedule" else rf"{inner}=\.\.\., \.\.\."
    told = f"{of_member}{part} is a part of a setting: write {full}; in recipes.py {whole}="
    assert re.fullmatch(rf"{re.escape(told)}dict\({parts}\)", str(error.value))


@pytest.mark.parametrize(
    ("recipe", "overrides", "told"),
    [
        ("single", [("dropout", 0.3)], "Architectures with model_config.dropout: vgg, "),
        ("ensemble", [("dropout", 0.3)], "architecture 'residual' has no argument 'dropout'; it has: "),
        ("linear", [("dropout", 0.3)], "architecture 'linear' has no argument 'dropout'; it has: "),
        ("vgg", [("strides", True)], "Architectures with model_config.strides: stages"),
        ("deotte", [("kernels", [3])], "Architectures with model_config.kernels: stages"),
        ("vgg", [("dropout", 0.3), ("model", "residual")], "architecture 'residual' has no argument 'dropout'"),
        ("single", [("members", [{"dropout": 0.3}])], "architecture 'residual' has no argument 'dropout'"),
        (
            "single",
            [("members", [{"model": "linear", "dropout": 0.3}])],
            "architecture 'linear' has no argument 'dropout'",
        ),
        ("grenholm", [("dense", 3), ("model", "mine")], "no setting 'dense'. There are: "),  # a mistyped model
    ],
)
def test_an_argument_of_other_architectures_is_refused_with_the_arguments_of_this_one(recipe, overrides, told):
    with pytest.raises(UserError) as error:
        resolve(recipe, overrides)
    assert told in str(error.value)
    assert len(str(error.value)) <= 280


@pytest.mark.parametrize("key", ["model.dropout", "optimizer.momentum", "loss.gamma"])
def test_a_part_of_model_optimizer_or_loss_is_refused_with_the_key_to_write(key):
    name, _, part = key.partition(".")
    with pytest.raises(UserError) as error:
        resolve("single", [(key, 0.5)])
    told = f"setting '{name}' has no parts, so '{key}' cannot be set: write {name}_config.{part}"
    assert str(error.value) == told


def test_the_nets_of_a_kind_follow_one_another_and_differ_in_what_members_say():
    kinds = [{}, {"epochs": 3, "augmentation.shear_range": 20}]
    config = resolve("grenholm", [("nets", 5), ("members", kinds)])
    nets = [members.member(config, net) for net in range(1, 6)]
    assert [net["epochs"] for net in nets] == [20, 20, 20, 3, 3]
    assert [net["augmentation"].get("shear_range") for net in nets] == [None, None, None, 20, 20]
    assert nets[3] | {"epochs": 20, "augmentation": config["augmentation"]} == config
    assert [(settings["epochs"], settings["nets"]) for settings in members.kinds(config)] == [(20, 3), (3, 2)]


def test_a_setting_that_some_nets_have_of_their_own_is_set_for_every_net(monkeypatch):
    kinds = [{"epochs": 4}, {}, {"epochs": 4, "augmentation.shear_range": 20}]
    monkeypatch.setitem(recipes.RECIPES, "mixed", recipes.OURS | dict(nets=3, members=kinds))
    nets = [members.member(resolve("mixed", [("epochs", 2)]), net) for net in (1, 2, 3)]
    assert [(net["epochs"], net["augmentation"]["shear_range"]) for net in nets] == [(2, 10), (2, 10), (2, 20)]
    assert recipes.RECIPES["mixed"]["members"] == kinds


@pytest.mark.parametrize("key", ["augmentation", "schedule.learning_rate", "model", "model_config"])
def test_a_setting_that_some_nets_have_of_their_own_is_not_half_overridden(key, monkeypatch):
    own = {
        "augmentation.elastic_alpha": 20,
        "model_config.padding": "same",
        "schedule": {"name": "constant", "learning_rate": 0.1},
    }
    monkeypatch.setitem(recipes.RECIPES, "mixed", recipes.OURS | dict(nets=2, members=[{}, own]))
    with pytest.raises(UserError, match=f"{key} cannot be set for 'mixed'.*--set members=\\[\\]"):
        resolve("mixed", [(key, "deotte" if key == "model" else 30)])
    assert resolve("mixed", [("augmentation.elastic_alpha", 30), ("members", [])])["members"] == []
    assert resolve("mixed", [("augmentation.shear_range", 5)])["augmentation"]["shear_range"] == 5


def test_a_value_on_the_command_line_is_json_or_a_literal_of_python_or_text():
    given = [
        "a=1e-3",
        "a=.05",
        "a=-.5",
        "a=[1, 2]",
        "a=true",
        "a=False",
        "a=None",
        "a=sgd",
        "a=[.1, (1, True)]",
        "a=1-2",
    ]
    expected = [1e-3, 0.05, -0.5, [1, 2], True, False, None, "sgd", [0.1, [1, True]], "1-2"]
    assert [parse_override(text)[1] for text in given] == expected
    for text in ("a=nan", "a=NaN", "a=-inf"):
        with pytest.raises(UserError, match="a setting must be a finite number"):
            parse_override(text)


@pytest.mark.parametrize(
    ("setting", "meant"),
    [
        ("augmentation.zoom_range=0,1", "0.1"),
        ("augmentation.shear_range=2,5", "2.5"),
        ("augmentation.rotation_range=7,5", "7.5"),
        ("augmentation.width_shift_range=0,08", "0.08"),
        ("augmentation.brightness_range=0,5", "0.5"),
        ("augmentation.erasing_range=3,9", "3.9"),
        ("model_config.dropout=,5", ".5"),
        ("label_smoothing=0,1", "0.1"),
        ("learning_rate=0,001", "0.001"),
        ("learning_rate=1,5e-3", "1.5e-3"),
        ("optimizer_config.weight_decay=-0,1", "-0.1"),
    ],
)
def test_a_decimal_comma_is_not_taken_for_a_list(setting, meant):
    with pytest.raises(UserError) as error:
        given("--set", setting)
    wrong = meant.replace(".", ",")
    assert str(error.value) == f"decimals take a point: {meant}, not {wrong} (a list is in brackets: [1, 2])"
    assert parse_override("a=.9,1.1") == ("a", [0.9, 1.1])
    assert parse_override("a=32,64,128") == ("a", [32, 64, 128])


@pytest.mark.parametrize("option", ["learning-rate", "validation-split"])
def test_an_option_with_a_decimal_comma_says_so(option, capsys):
    with pytest.raises(SystemExit):
        given(f"--{option}", "0,1")
    told = f"argument --{option}: invalid float value: '0,1': decimals take a point: 0.1, not 0,1"
    assert capsys.readouterr().err == f"train.py: error: {told} (see train.py --help)\n"


def test_every_default_is_valid_and_plain_data():
    config = resolve("linear")
    assert json.loads(json.dumps(config)) == config
    for name, setting in schema.SETTINGS.items():
        assert name == "model" or setting.rule.valid(setting.default), name


def given(*arguments):
    return config_from_arguments(train.parser().parse_args(arguments))


def test_arguments_become_settings():
    config, source, name = given()
    assert (config["recipe"], source, name) == ("single", "auto", "single")
    run = ("seed", "precision", "augment_engine", "deterministic", "tensorboard")
    assert [config[key] for key in run] == [0, "auto", "batch", False, False]
    config, source, name = given("deotte", "--nets", "3", "--seed", "7", "--data", "kaggle", "--set", "bagging=false")
    assert (config["nets"], config["seed"], config["bagging"]) == (3, 7, False)
    assert (source, name) == ("kaggle", "deotte")
    config, _, name = given("--model", "my_net", "--set", "model_config.dropout=.3", "--deterministic")
    assert (config["model"], config["model_config"], name) == ("my-net", {"dropout": 0.3}, "my-net")
    assert config["deterministic"]


@pytest.mark.parametrize("option", [["--learning-rate", "0.3"], ["--set", "learning_rate=0.3"]], ids=" ".join)
@pytest.mark.parametrize(
    ("schedule", "key"),
    [
        ('{"name": "cosine", "learning_rate": 0.1}', "learning_rate"),
        ('{"name": "cosine", "learning_rate": 0, "warmup_target": 0.1, "warmup_epochs": 1}', "warmup_target"),
        ('{"name": "exponential", "learning_rate": 0.1, "decay": 0.9}', "learning_rate"),
        ('{"name": "one_cycle", "learning_rate": 0.1, "warmup": 0.2}', "learning_rate"),
    ],
    ids=["cosine", "warm-up", "exponential", "one_cycle"],
)
def test_the_learning_rate_is_the_peak_of_a_schedule_however_it_is_given(option, schedule, key):
    setting = ["--set", f"schedule={schedule}"]
    before, after = (given("deotte", *setting, *more)[0]["schedule"] for more in ([], option))
    assert after == before | {key: 0.3}
    asked = sweep_settings.asked(sweep.parser().parse_args(["deotte", *setting, "--grid", "learning_rate=0.2,0.3"]))
    assert sweep_settings.config(asked, {"learning_rate": 0.3}, 0)["schedule"] == after


def test_the_learning_rate_that_stays_is_the_peak_of_a_warm_up(monkeypatch, capsys):
    schedule = dict(name="cosine", learning_rate=0, warmup_target=0.3, warmup_epochs=1)
    monkeypatch.setitem(recipes.RECIPES, "mine", dict(model="vgg", schedule=schedule))
    given("mine", "--set", "optimizer=sgd")
    assert "the learning rate stays 0.3 (to change: --learning-rate)" in capsys.readouterr().out


MUON = {"weight_decay": 0.1, "adam_weight_decay": None, "exclude_layers": ["classes"]}


@pytest.mark.parametrize(
    ("arguments", "config", "told"),
    [
        (["optimizer=muon"], MUON, []),
        (
            ["optimizer=sgd"],
            {},
            ["optimizer sgd instead of muon, which drops optimizer_config.weight_decay=0.1,", "0.006"],
        ),
        (["optimizer=adam_w", "schedule.learning_rate=1"], {}, ["optimizer adamw instead of muon"]),
        (["optimizer=Ftrl", "optimizer_config.clipnorm=1"], {"clipnorm": 1}, ["exclude_layers", "stays 0.006"]),
        (["optimizer=SGD", "optimizer_config.momentum=.9"], {"momentum": 0.9}, ["weight_decay=0.1", "0.006"]),
        (
            ["optimizer=adam", "optimizer_config.weight_decay=.2"],
            {"weight_decay": 0.2},
            ["adam_weight_decay=null", "0.006"],
        ),
        (
            ["optimizer=sgd", "optimizer_config={}"],
            {},
            ["optimizer sgd instead of muon; the learning rate stays 0.006"],
        ),
        (["optimizer_config.clipnorm=1"], MUON | {"clipnorm": 1}, []),
        (
            ["schedule.name=cosine"],
            MUON,
            ["schedule CosineDecay instead of one_cycle, which drops schedule.warmup=0.2"],
        ),
        (
            ["loss=mse"],
            MUON,
            ["loss MeanSquaredError instead of CategoricalCrossentropy, which drops label_smoothing=0.1"],
        ),
        (["loss=categorical_focal_crossentropy", "loss_config.gamma=3"], MUON, []),
    ],
    ids=str,
)
def test_what_another_optimizer_loss_or_schedule_drops_is_said(arguments, config, told, capsys):
    for order in (arguments, arguments[::-1]):
        found = given("single", *(part for text in order for part in ("--set", text)))[0]
        assert found["optimizer_config"] == config
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == bool(told)
        for part in told:
            assert part in lines[0]
        assert ("learning rate" in "".join(lines)) == ("0.006" in " ".join(told))


def test_the_advice_to_change_the_rates_of_a_schedule_without_learning_rate_works(capsys):
    given("linear-phases", "--set", "optimizer=adam")
    advice = "(to change: --set schedule=NAME --learning-rate R)"
    assert f"the learning rates stay those of schedule phases {advice}" in capsys.readouterr().out
    rate = ["--learning-rate", "0.1"]
    config = given("linear-phases", "--set", "optimizer=adam", "--set", "schedule=constant", *rate)[0]
    assert config["schedule"] == {"name": "constant", "learning_rate": 0.1}


def test_what_another_model_drops_is_said(monkeypatch, capsys):
    monkeypatch.setitem(recipes.RECIPES, "deep", recipes.OURS | dict(model_config={"depth": 3}))
    for arguments in (["--model", "mine"], ["--set", "model=mine"]):
        assert given("deep", *arguments)[0]["model_config"] == {}
        assert capsys.readouterr().out == "Set:    model mine instead of residual, which drops model_config.depth=3\n"
    assert given("deep", "--model", "mine", "--set", "model_config.depth=4")[0]["model_config"] == {"depth": 4}


def test_a_member_with_another_optimizer_or_loss_takes_nothing_of_the_runs():
    kinds = [{}, {"optimizer_config.momentum": 0.5, "optimizer": "SGD"}, {"loss": "mse"}]
    first, second, third = members.kinds(resolve("single", [("nets", 3), ("members", kinds)]))
    assert (first["optimizer"], first["optimizer_config"], first["label_smoothing"]) == ("muon", MUON, 0.1)
    assert (second["optimizer"], second["optimizer_config"]) == ("sgd", {"momentum": 0.5})
    assert (third["loss"], third["label_smoothing"], third["optimizer_config"]) == ("MeanSquaredError", 0.0, MUON)


@pytest.mark.parametrize(
    ("own", "key"),
    [
        ({"optimizer_config.momentum": 0.5}, "optimizer"),
        ({"optimizer": "sgd"}, "optimizer_config.weight_decay"),
        ({"loss": "mse"}, "loss_config"),
    ],
)
def test_an_optimizer_or_loss_that_some_nets_have_of_their_own_is_not_half_overridden(own, key, monkeypatch):
    recipe = recipes.OURS | dict(optimizer="rmsprop", optimizer_config={}, nets=2, members=[{}, own])
    monkeypatch.setitem(recipes.RECIPES, "mixed", recipe)
    with pytest.raises(UserError, match=f"{key} cannot be set for 'mixed'"):
        resolve("mixed", [(key, {"optimizer": "sgd", "loss_config": {}}.get(key, 0.1))])
    clipped = resolve("mixed", [("optimizer_config.clipnorm", 1)])  # every optimizer takes it
    assert [kind["optimizer_config"]["clipnorm"] for kind in members.kinds(clipped)] == [1, 1]


def test_the_weights_that_are_kept_are_those_that_are_recorded():
    ema = ("optimizer_config.use_ema", True)
    assert resolve("single", [ema])["weights"] == "averaged"
    assert resolve("single", [ema, ("weights", "best")])["weights"] == "best"
    assert resolve("single", [ema, ("early_stopping", 2)])["weights"] == "best"
    assert resolve("single", [ema, ("weights", "averaged")])["weights"] == "averaged"
    assert resolve("single")["weights"] == "last"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            [("weights", "averaged"), ("optimizer_config.use_ema", False)],
            "use_ema=False keeps no average of the weights",
        ),
        ([("weights", "last"), ("optimizer_config.use_ema", True)], "use_ema=True keeps the average of the weights"),
        (
            [("nets", 2), ("members", [{}, {"optimizer_config.use_ema": True}])],
            "member 2: .*leave it out, or weights 'last'",
        ),
    ],
)
def test_weights_that_the_optimizer_would_not_keep_are_refused(overrides, told):
    with pytest.raises(UserError, match=told):
        resolve("single", overrides)


def test_as_many_steps_as_are_set_are_made():
    steps = ["single", "--set", "steps_per_epoch=5"]
    assert given(*steps)[0]["min_steps_per_epoch"] == 1
    assert given(*steps, "--set", "min_steps_per_epoch=7")[0]["min_steps_per_epoch"] == 7
    assert given("single", "--set", "max_rows_per_epoch=1000")[0]["min_steps_per_epoch"] == 1
    assert given("single")[0]["min_steps_per_epoch"] == 30


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["grenholm"], "learning_rate"),
        (["single"], "learning_rate"),
        (["codeastar"], "learning_rate"),
        (["single", "--set", "schedule.name=cosine"], "learning_rate"),
        (["single", "--set", "schedule.name=PolynomialDecay"], "learning_rate"),
        (
            [
                "single",
                *("--set", "schedule.name=cosine"),
                *("--set", "schedule.warmup_target=1"),
                *("--set", "schedule.warmup_epochs=1"),
            ],
            "warmup_target",
        ),
    ],
)
def test_the_option_learning_rate_sets_the_peak(arguments, key):
    plain, changed = (given(*arguments, *option)[0]["schedule"] for option in ([], ["--learning-rate", ".25"]))
    assert changed == plain | {key: 0.25}


@pytest.mark.parametrize("arguments", [["linear-phases"], ["single", "--set", PIECEWISE]])
def test_the_option_learning_rate_is_refused_by_a_schedule_without_one(arguments):
    with pytest.raises(UserError, match=r"no (phases|PiecewiseConstantDecay) setting 'learning_rate'"):
        given(*arguments, "--learning-rate", ".1")


def test_a_mistyped_setting_answers_without_importing_keras(tmp_path):
    for arguments, told in (
        (["grenhol"], "did you mean 'grenholm'"),
        (["--set", "epocs=3"], "did you mean 'epochs'"),
        (["--set", "schedule.name=cosin"], "did you mean 'cosine'"),
        (["--set", "schedule.name=cosine", "--set", "schedule.decay_steps=3"], "did you mean 'decay_epochs'"),
        (["--epochz", "3"], "--epochz"),
        (["--seed", "-1"], "--seed"),
        (["--epochs", "0"], "epochs"),
    ):
        assert_one_line_error(script("train.py", *arguments, cwd=tmp_path), told)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import train\n"
        "try: train.main(['--set', 'schedule.name=cosine', '--set', 'schedule.alpha=low'])\n"
        "except Exception as error: assert 'alpha' in str(error)\n"
        "assert not {'keras', 'tensorflow', 'jax', 'matplotlib', 'pandas', 'sklearn'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(ROOT)], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    "start", [b"", b"\xef\xbb\xbf", b"# coding: latin-1\n# \xe9\n"], ids=["plain", "signed", "latin-1"]
)
def test_models_py_is_read_in_any_encoding_that_python_reads(start, tmp_path, monkeypatch):
    own = b"@architecture\ndef mine(depth=3):\n    pass\n\n\nclass Augmentation:\n    zoom: float = 0\n"
    for name in ("models.py", "augment.py"):
        (tmp_path / name).write_bytes(start + own)
    monkeypatch.setattr(program, "ROOT", tmp_path)
    assert signatures.architectures() == {"mine": ["depth"]}
    with pytest.raises(UserError, match="no setting 'dept'"):
        resolve("single", [("dept", 3)])


@pytest.mark.parametrize("signature", [b"", b"\xef\xbb\xbf"], ids=["plain", "signed"])
def test_a_config_that_was_edited_on_windows_is_read(signature, tmp_path):
    (tmp_path / "config.json").write_bytes(signature + '{"data": "C:/Ziffern/ä"}'.encode())
    assert read_json(tmp_path / "config.json") == {"data": "C:/Ziffern/ä"}
