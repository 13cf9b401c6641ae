"""The list of all recipes and architectures, for `train.py --list`."""

from collections.abc import Iterator

import recipes
from recognizer.base.errors import UserError
from recognizer.config import members
from recognizer.config.overrides import resolve
from recognizer.nn import building


def lines() -> Iterator[str]:
    """Yields the lines of the list, each as soon as its net is built."""
    yield f"{'RECIPE':<24}{'nets':>5}{'epochs':>7}{'parameters':>12}  source; figure reported"
    for name in recipes.RECIPES:
        config = resolve(name)
        try:
            built = [building.build(kind["model"], arguments=kind["model_config"]) for kind in members.kinds(config)]
        except UserError as error:
            yield f"{name:<24}{error}"
            continue
        numbers = f"{config['nets']:>5}{config['epochs']:>7}{built[0].count_params():>12,}"
        figure = f"; {config['reported']}" if config["reported"] else ""
        yield f"{name:<24}{numbers}  {config['source']}{figure}"
    yield "(how long a recipe takes here: python train.py RECIPE --check)\n"
    yield f"{'ARCHITECTURE':<24}{'parameters':>24}  (functions of models.py)"
    for name, function in building.ARCHITECTURES.items():
        first = (function.__doc__ or "").strip().split("\n")[0]
        try:
            yield f"{name:<24}{building.build(name).count_params():>24,}  {first}"
        except UserError as error:
            yield f"{name:<24}{error}"
