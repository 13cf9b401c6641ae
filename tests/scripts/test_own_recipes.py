"""A recipe or a study of one's own with a mistake is refused in one line that names it, the key and what to write."""

import re

import keras
import numpy as np
import pytest
from driver import copied, told

import recipes
import train
from recognizer.base.errors import UserError
from recognizer.commands import plot, sweep
from recognizer.config import schema
from recognizer.config.overrides import resolve

MINE = dict(model="vgg", epochs=3)


def refused(name):
    """The line that refuses recipe `name`, which is checked before Keras is imported."""
    with pytest.raises(UserError) as error:
        train.main([name, "--data", "nowhere.csv"])
    line = str(error.value)
    assert "\n" not in line
    assert len(line) <= 280
    return line


@pytest.mark.parametrize(
    ("wrong", "key", "meant"),
    [
        ({"epoch": 4}, "epoch", "did you mean 'epochs'?"),
        ({"batchsize": 64}, "batchsize", "did you mean 'batch_size'?"),
        ({"val_split": 0.2}, "val_split", "did you mean 'validation_split'?"),
        ({"augmentations": {}}, "augmentations", "did you mean 'augmentation'?"),
        ({"Model": "vgg"}, "Model", "did you mean 'model'?"),
        ({"optimiser": "sgd"}, "optimiser", "did you mean 'optimizer'?"),
        ({"sources": "me"}, "sources", "did you mean 'source'?"),
        ({"report": "99 %"}, "report", "did you mean 'reported'?"),
        ({"learning_rate": 0.1}, "learning_rate", "write schedule.learning_rate"),
        ({"dropouts": 0.1}, "dropouts", "There are: "),
        ({"seed": 3}, "seed", "There are: "),
        ({"recipe": "vgg"}, "recipe", "There are: "),
        ({3: 4}, "3", "There are: "),
        ({"schedule.decy": 0.9}, "decy", "constant setting"),
        ({"epochs.more": 3}, "epochs.more", "has no parts"),
        ({"optimizer_config": {"beta1": 0.5}}, "beta1", "did you mean 'beta_1'?"),
        ({"schedule": {"nam": "cosine"}}, "schedule", "needs a name"),
        ({"schedule": {"name": "cosine", "learning_rate": 1, "warm": 1}}, "warm", "CosineDecay setting"),
        ({"members": [{}, {"epoch": 4}]}, "member 2: no setting 'epoch'", "did you mean 'epochs'?"),
        ({"nets": 2, "members": [{}, {"epochs": "4"}]}, "member 2: epochs", "must be a whole number"),
        ({"nets": 2, "members": [{"nets": 4}, {}]}, "member 1: no setting 'nets'", "There are: "),
        ({"members": [{"model_confg": {}}]}, "model_confg", "did you mean 'model_config'?"),
        ({"members": [{3: 4}]}, "member 1: no setting '3'", "There are: "),
        ({"members": [3]}, "members", "must be a list of objects"),
    ],
    ids=str,
)
def test_a_mistyped_key_of_a_recipe_is_refused(wrong, key, meant, monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "mine", MINE | wrong)
    line = refused("mine")
    assert line.startswith("recipe 'mine' in recipes.py: ")
    assert key in line
    assert meant in line


WRONG = (None, True, -3, 2.5, float("nan"), "some", [1], {"a": 1}, {1, 2}, object(), b"x")


PLACES = [("recipe", key) for key in schema.SETTINGS]
PLACES += [("member", key) for key, setting in schema.SETTINGS.items() if setting.by_net]


@pytest.mark.parametrize(("where", "key"), PLACES)
def test_a_wrong_value_in_a_recipe_names_recipe_and_key(key, where, monkeypatch):
    setting, refusals = schema.SETTINGS[key], 0
    for value in WRONG:
        if setting.rule.valid(value) and value == value and isinstance(value, (bool, float, int, str, type(None))):
            continue
        wrong = {key: value} if where == "recipe" else {"members": [{key: value}]}
        monkeypatch.setitem(recipes.RECIPES, "mine", MINE | wrong)
        if setting.rule.valid(value):  # resolve does not check the parts of every object
            try:
                resolve("mine")
                continue
            except UserError as error:
                line = str(error)
        else:
            line = refused("mine")
        refusals += 1
        assert line.startswith("recipe 'mine' in recipes.py: ")
        assert key in line or "setting 'a'" in line, line
    assert refusals > 3


@pytest.mark.parametrize("recipe", [{}, {"epochs": 3}, {"model": None}, [], "vgg", None], ids=str)
def test_a_recipe_without_a_model_is_refused_in_a_line_that_names_it(recipe, monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "mine", recipe)
    line = refused("mine")
    assert re.match(r"recipe 'mine' in recipes.py: it (has no model: add model=|must be an object)", line)


def test_the_parts_of_settings_can_be_set_in_a_recipe_as_in_its_members(monkeypatch):
    own = {"schedule.learning_rate": 0.5, "augmentation.shear_range": 3, "optimizer": "Muon"}
    monkeypatch.setitem(recipes.RECIPES, "mine", recipes.OURS | own)
    config = resolve("mine")
    assert config["schedule"] == recipes.OURS["schedule"] | {"learning_rate": 0.5}
    assert config["augmentation"] == recipes.OURS["augmentation"] | {"shear_range": 3}
    assert config["optimizer"] == "muon"


STUDY = dict(recipe="linear", settings={}, grids=[{"rate": {1: {"schedule.learning_rate": 1}}}], seeds=2, score="test")


@pytest.mark.parametrize(
    ("wrong", "key", "meant"),
    [
        ({"seed": 3}, "no key 'seed'", "did you mean 'seeds'?"),
        ({"grid": []}, "no key 'grid'", "did you mean 'grids'?"),
        ({"epochs": 4}, "no key 'epochs'", "There are: grids, recipe, score, seeds, settings"),
        ({"score": "tset"}, "score", "must be 'test' or 'validation', not 'tset'"),
        ({"seeds": "3"}, "seeds", "must be a whole number"),
        ({"recipe": "liner"}, "no recipe 'liner'", "did you mean 'linear'?"),
        ({"settings": {"epoch": 4}}, "no setting 'epoch'", "did you mean 'epochs'?"),
        ({"settings": {"epochs": 0}}, "epochs", "must be a whole number"),
        ({"settings": {"epochs": "4"}}, "epochs", "must be a whole number"),
        ({"settings": [("epochs", 4)]}, "settings", "must be an object"),
        ({"settings": {"members": [{"epoch": 4}]}}, "member 1: no setting 'epoch'", "did you mean 'epochs'?"),
        ({"grids": [{"size": {1: {"batchsize": 1}}}]}, "no setting 'batchsize'", "did you mean 'batch_size'?"),
        ({"grids": [{"size": {1: {}, 2: {"batch_size": -1}}}]}, "batch_size", "must be a whole number"),
        ({"grids": []}, "grids", "must be a list of grids {AXIS:"),
        ({"grids": {"size": {1: {}}}}, "grids", "must be a list of grids {AXIS:"),
        ({"grids": [{"size": [1, 2]}]}, "grids", "must be a list of grids {AXIS:"),
        ({"grids": [{"size": {1: 16}}]}, "grids", "must be a list of grids {AXIS:"),
    ],
    ids=str,
)
def test_a_wrong_study_is_refused_in_a_line_that_names_it(wrong, key, meant, monkeypatch):
    monkeypatch.setitem(recipes.STUDIES, "my_study", STUDY | wrong)
    with pytest.raises(UserError) as error:
        sweep.main(["my-study", "--data", "nowhere.csv"])
    line = str(error.value)
    assert line.startswith("study 'my_study' in recipes.py: ")
    assert key in line
    assert meant in line
    assert len(line) <= 280


@pytest.mark.parametrize("key", STUDY)
def test_a_study_that_lacks_a_key_is_refused_in_a_line_that_names_both(key, monkeypatch):
    monkeypatch.setitem(recipes.STUDIES, "mine", {inner: STUDY[inner] for inner in STUDY if inner != key})
    with pytest.raises(UserError, match=f"study 'mine' in recipes.py: {key} is missing"):
        sweep.main(["mine", "--data", "nowhere.csv"])


OBJECTS = {
    "optimizer": (lambda: keras.optimizers.SGD(0.1), "of type SGD, but a recipe has its name,", "optimizer_config"),
    "loss": (keras.losses.Huber, "of type Huber, but a recipe has its name,", "loss_config"),
    "schedule": (lambda: keras.optimizers.schedules.CosineDecay(0.1, 9), "of type CosineDecay", "dict(name="),
    "model": (lambda: print, "of type builtin_function_or_method", "in quotes"),
    "class_weight": (lambda: np.ones(10), "of type ndarray", "lists and dicts"),
}


@pytest.mark.parametrize("of_member", [False, True])
@pytest.mark.parametrize("key", OBJECTS)
def test_an_object_in_a_recipe_is_refused_with_what_to_write(key, of_member, monkeypatch):
    make, kind, instead = OBJECTS[key]
    wrong = {key: make()}
    monkeypatch.setitem(recipes.RECIPES, "mine", MINE | ({"members": [wrong]} if of_member else wrong))
    line = refused("mine")
    assert f"{key} has an object {kind}" in line
    assert instead in line


@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("train --model vggg", "--model: no architecture 'vggg'; did you mean 'vgg'?"),
        ("train --set model=vggg", "--model: no architecture 'vggg'; did you mean 'vgg'?"),
        (
            "train ensemble --set model_config.dropuot=1",
            "--set model_config: architecture 'residual' takes no argument",
        ),
        ("train --set augmentation.rotation=1", "--set augmentation: no augmentation setting 'rotation'; did you mean"),
        ("train ensemble --set augmentation.zoom_range=x", "--set augmentation: augmentation.zoom_range must be"),
        ('train --set joint_flips=["up"]', "--set joint_flips: no flip in joint_flips 'up'."),
        ('train --set members=[{"model":"vggg"}]', "--set members: no architecture 'vggg'; did you mean 'vgg'?"),
        ("plot lr --model vggg", "--model: no architecture 'vggg'; did you mean 'vgg'?"),
        ("plot augmented --set augmentation.rotation=1", "--set augmentation: no augmentation setting 'rotation'"),
        ("sweep --grid model=vgg,vggg", "sweep 'single-sweep-1': no architecture 'vggg'; did you mean 'vgg'?"),
        ("train mine --epochs 1", "recipe 'mine' in recipes.py: no architecture 'vggg'; did you mean 'vgg'?"),
        ("plot augmented --recipe mine", "recipe 'mine' in recipes.py: no flip in joint_flips 'up'."),
        (
            "plot augmented --recipe mine --set joint_flips=[]",
            "recipe 'mine' in recipes.py: no augmentation setting 'zoom'",
        ),
    ],
)
def test_the_message_on_a_wrong_value_begins_with_the_option_recipe_or_sweep_that_gives_it(
    line, start, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(recipes.RECIPES, "mine", {"model": "vggg", "augmentation": {"zoom": 1}, "joint_flips": ["up"]})
    name, *arguments = line.split()
    with pytest.raises(UserError) as error:
        {"train": train, "plot": plot, "sweep": sweep}[name].main([*arguments, "--data", "digits"])
    assert str(error.value).startswith(start)
    assert len(str(error.value)) <= 280
    assert not (tmp_path / "runs").exists()


LATE = {
    "epoch": ("epoch=4", "no setting 'epoch'; did you mean 'epochs'?"),
    "no-model": ("epochs=4, model=None", "it has no model"),
    "no-such-model": ("model='vggg'", "no architecture 'vggg'; did you mean 'vgg'?"),
    "argument": ("model_config=dict(dropuot=0.5)", "takes no argument 'dropuot'"),
    "augmented": (
        "augmentation=dict(rotation=10)",
        "no augmentation setting 'rotation'; did you mean 'rotation_",
    ),
    "zoomed": ("augmentation=dict(zoom_range='x')", "augmentation.zoom_range must be"),
    "flipped": ("joint_flips=['horizontally']", "no flip in joint_flips 'horizontally'; did you mean 'horizontal'?"),
    "member": ("members=[{'augmentation.shear': 3}]", "no augmentation setting 'shear'; did you mean 'shear_range'?"),
}


def test_list_shows_what_is_wrong_with_recipes_and_training_refuses_them(tmp_path):
    scripts = copied(tmp_path)
    with open(scripts / "recipes.py", "a") as file:
        file.write("\n\nLINEAR = RECIPES['linear']\nRECIPES.clear()\nRECIPES['linear'] = LINEAR\n")
        for name, (wrong, _) in LATE.items():
            file.write(f"RECIPES['{name}'] = dict(model='linear') | dict({wrong})\n")
    commands = [["train.py", "--list"], *(["train.py", name, "--data", "digits"] for name in LATE)]
    (code, out, error), *answers = told(scripts, commands, tmp_path)
    assert (code, error) == (0, "")
    lines = {line.split()[0]: line for line in out.split("ARCHITECTURE")[0].splitlines() if line.strip()}
    assert "7,850" in lines["linear"]
    for (name, (_, meant)), (code, _, error) in zip(LATE.items(), answers, strict=True):
        assert meant in lines[name]
        assert code == 2, error
        assert error.count("\n") == 1
        assert error.startswith(f"train.py: recipe '{name}'")
        assert meant in error
    assert not (tmp_path / "runs").exists()
