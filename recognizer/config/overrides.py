import copy
import json
import math

import recipes
from recognizer.base.errors import UserError
from recognizer.base.words import choose_name, hyphens
from recognizer.config import checks, earlier, schema


def config_from_arguments(arguments):
    """Returns what train.py's parsed arguments ask for: (config, data source, name to number the run by).

    config: every setting of the recipe, with the run's own: recipe, seed, precision, augment_engine, deterministic,
    tensorboard.
    Raises UserError like resolve and parse_override.
    """
    name = choose_name("recipe", arguments.recipe or "single", recipes.RECIPES)
    overrides = []
    if arguments.model:
        overrides += [("model", arguments.model), ("model_config", {})]
    for key in ("nets", "epochs", "batch_size", "weights", "validation_split"):
        if (value := getattr(arguments, key)) is not None:
            overrides.append((key, value))
    if arguments.learning_rate is not None:
        overrides.append(("schedule.learning_rate", arguments.learning_rate))
    if arguments.shared_split:
        overrides.append(("bagging", False))
    overrides += map(parse_override, arguments.set or [])
    if dict(overrides).get("steps_per_epoch") and "min_steps_per_epoch" not in dict(overrides):
        overrides.append(("min_steps_per_epoch", 1))  # the number that was asked for
    config = {"recipe": name} | resolve(name, overrides)
    config["augment_engine"] = arguments.augment_engine or "batch"
    config["precision"] = arguments.precision or "auto"
    config["seed"] = arguments.seed or 0
    config["deterministic"] = arguments.deterministic
    config["tensorboard"] = arguments.tensorboard
    checks.check_seed("--seed", config["seed"])
    return config, arguments.data or "auto", name if arguments.recipe else hyphens(arguments.model or name)


def resolve(name, overrides=()):
    """Returns recipe `name` with every setting filled in, as a dict of its own.

    overrides: (key, value) pairs; a key may reach into a setting by a dot, "schedule.decay".
    A key that some of the recipe's `members` have as well is set for every net: theirs are no longer used.
    Names of recipes and nets may have `_` for `-`.
    Raises UserError for a name, key or value that is not valid, with the valid ones; and for a setting of which some
    members have a part of their own, or that is a part of one of theirs, unless `members` are given anew.
    """
    name = choose_name("recipe", name, recipes.RECIPES)
    config, overrides = copy.deepcopy(schema.DEFAULTS | recipes.RECIPES[name]), list(earlier.renamed(overrides))
    keys = dict(overrides).keys()
    config["members"] = [{key: own[key] for key in own if key not in keys} for own in config["members"]]
    own = [] if "members" in keys else sorted({key for member in config["members"] for key in member})
    for key in keys:
        if clash := [inner for inner in own if _overlap(key, inner) or (key == "model" and "model_config" in inner)]:
            raise UserError(
                f"{key} cannot be set for {name!r} as it is: some of its nets have a setting {clash[0]} of "
                "their own; --set members=[] takes that from them"
            )
    for key, value in overrides:
        schema.override(config, key, value, schema.DEFAULTS.keys() - schema.DESCRIPTIONS)
    checks.check(config)
    for settings in (config, *config["members"]):
        if "model" in settings:
            settings["model"] = hyphens(settings["model"])
    return config


def _overlap(key, other):
    """Whether one of two keys is the other or a part of it: "schedule" and "schedule.decay"."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


PYTHON = {"True": "true", "False": "false", "None": "null"}  # as JSON


def parse_override(text):
    """'schedule.decay=0.9' -> ('schedule.decay', 0.9): the value is JSON where it can be, else text.

    Python's True, False and None are taken for JSON's, and its numbers (.9) too.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set takes KEY=VALUE, not {text!r}")
    try:
        return key, json.loads(PYTHON.get(value, value), parse_constant=_no_constant)
    except ValueError:
        pass
    try:
        number = float(value)
    except ValueError:
        return key, value
    return key, number if math.isfinite(number) else _no_constant(value)


def _no_constant(name):
    raise UserError(f"a setting must be a finite number, not {name}")
