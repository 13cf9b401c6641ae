"""The list of all recipes and architectures, for `train.py --list`."""

import re
from collections.abc import Iterator

import recipes
from augment import Augmentation
from recognizer.base.errors import UserError
from recognizer.config import members
from recognizer.config.overrides import resolve
from recognizer.nn import building, flip_classes


def lines() -> Iterator[str]:
    """Yields the lines of the list, each as soon as its net is built. The line of a wrong recipe or net says why."""
    yield f"{'RECIPE':<24}{'nets':>5}{'epochs':>7}{'parameters':>12}  source; figure reported"
    for name in recipes.RECIPES:
        try:
            yield f"{name:<24}{_described(resolve(name))}"
        except UserError as error:
            yield f"{name:<24}{error}"
    yield "(how long a recipe takes here: python train.py RECIPE --check)\n"
    yield f"{'ARCHITECTURE':<24}{'parameters':>24}  (functions of models.py)"
    for name, function in building.ARCHITECTURES.items():
        first = (function.__doc__ or "").strip().split("\n")[0]
        first = re.sub(r"(: |; by default )[\d,]+ parameters\.$", ".", first)  # the column before has them
        try:
            yield f"{name:<24}{building.build(name).count_params():>24,}  {first}"
        except UserError as error:
            yield f"{name:<24}{error}"


def _described(config):
    """Returns a recipe's line without its name.

    Raises UserError if the recipe's augmentation or one of its nets cannot be used.
    """
    built = []
    for kind in members.kinds(config):
        Augmentation(**kind["augmentation"])
        flip_classes.checked(kind)
        built.append(building.build(kind["model"], arguments=kind["model_config"]))
    numbers = f"{config['nets']:>5}{config['epochs']:>7}{built[0].count_params():>12,}"
    figure = f"; {config['reported']}" if config["reported"] else ""
    return f"{numbers}  {config['source']}{figure}"
