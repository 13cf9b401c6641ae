"""Applies the overrides from --set and from train.py's options to a recipe, and checks the result."""

import argparse
import ast
import contextlib
import copy
import json
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from recognizer.base import cli
from recognizer.base.errors import UserError, about
from recognizer.base.rules import OBJECT
from recognizer.base.words import choose_name, decimal_comma, hyphens
from recognizer.config import checks, earlier, keras_classes, schema, signatures

# The settings that determine the learning rate.
RATES = ["schedule.learning_rate", "schedule.initial_learning_rate", "schedule.warmup_target"]
RATES += ["schedule.learning_rates", "schedule.values", "schedule"]


def all_recipes(**_: object) -> dict[str, dict]:
    """Returns {name: recipe} from recipes.py. Imported here, so that an error in that file is shown as one line."""
    import recipes

    return recipes.RECIPES


def recipe_name(name: str, studies: Collection[str] = ()) -> str:
    """Returns the recipe's name, or the study's, treating `-` and `_` as the same.

    Raises UserError if there is none. The message says so if it is the name of an architecture, or of data.
    """
    valid = [*all_recipes(), *studies]
    if hyphens(name) not in map(hyphens, valid):
        told = f"no recipe {name!r}, but"
        if hyphens(name) in map(hyphens, signatures.architectures()):
            raise UserError(f"{told} an architecture: write --model {name}, or --set model={name}")
        if cli.is_data(name):
            raise UserError(f"{told} data: write --data {name}")
    return choose_name("recipe or study" if studies else "recipe", name, valid)


def add_set_argument(group: "argparse._ActionsContainer", told: str, more: Collection[str] = ()) -> None:
    """Adds --set to a parser or to an argument group. told: its help text.

    more: the settings that it takes besides those of recipes. If an unknown option has the name of one of all these
    settings, such as --batch-size, the error message suggests --set.
    """
    option = group.add_argument("--set", action="append", metavar="KEY=VALUE", help=told)
    settings = {*schema.SETTINGS, "learning_rate", *more} - schema.DESCRIPTIONS
    option.settings = settings  # type: ignore[attr-defined]  # cli.Parser reads it


def config_from_arguments(arguments: argparse.Namespace) -> tuple[dict, str, str]:
    """Returns (config, data source, base of the run's name) for train.py's parsed arguments.

    config: every setting of the recipe, resolved, with the recipe's name as `recipe`, and schema.RUN_SETTINGS.
    Prints the settings that were dropped because the architecture, optimizer, loss or schedule was replaced.
    Raises UserError like resolve and parse_override.
    """
    name = recipe_name(arguments.recipe or "single")
    options = ("model", "nets", "epochs", "batch_size", "weights", "early_stopping", "validation_split")
    given = [(key, getattr(arguments, key)) for key in options if getattr(arguments, key) is not None]
    given += map(parse_override, arguments.set or [])
    if arguments.learning_rate is not None:
        given.append(("learning_rate", arguments.learning_rate))
    config = configured(name, given)
    rate = [RATES[0]] if "learning_rate" in dict(given) else []
    print(*_replaced(_filled(name), config, {*dict(given), *rate}), sep="", end="")
    for key, setting in schema.RUN_SETTINGS.items():
        given = getattr(arguments, key)
        config[key] = setting.default if given is None else given
    schema.SEED.check("--seed", config["seed"])
    return config, arguments.data or "auto", name if arguments.recipe else hyphens(arguments.model or name)


def configured(name: str, given: Sequence[tuple[str, Any]], recipe: dict | None = None) -> dict:
    """Returns recipe `name` with changed settings, as a config without schema.RUN_SETTINGS.

    given: the `overrides` of `resolve`, and the key "learning_rate" for the schedule's peak, or its initial rate if
    it has no warm-up. recipe: see `resolve`.
    """
    rate = dict(given).get("learning_rate")
    given = [(key, value) for key, value in given if key != "learning_rate"]
    overrides = [*([("model_config", {})] if "model" in dict(given) else []), *given]  # clears it in `members`, too
    steps = dict(given).get("steps_per_epoch") or dict(given).get("max_rows_per_epoch")
    if steps and "min_steps_per_epoch" not in dict(given):
        overrides.append(("min_steps_per_epoch", 1))  # so that the recipe's minimum does not raise it
    return {"recipe": name} | _with_learning_rate(name, overrides, rate, recipe)


def _with_learning_rate(name, overrides, rate, recipe):
    """Resolves a recipe. rate: the "learning_rate" of `configured`, or None for the recipe's."""
    if rate is None:
        return resolve(name, overrides, recipe)
    config = resolve(name, [*overrides, ("schedule.learning_rate", rate)], recipe)
    if config["schedule"].get("warmup_target") is not None:  # the peak; learning_rate is where the warm-up starts
        config = resolve(name, [*overrides, ("schedule.warmup_target", rate)], recipe)
    return config


def resolve(name: str, overrides: Iterable[tuple[str, Any]] = (), recipe: dict | None = None) -> dict:
    """Returns recipe `name` with every setting filled in, as a new dict.

    overrides: (key, value) pairs; a dotted key, "schedule.decay", sets a part of a setting. Whole settings are set
    before their parts, and a schedule's name before its settings. An override applies to every net: `members` lose the
    key.
    Names of recipes, architectures and schedules may have `_` for `-`.
    recipe: the recipe's entry in recipes.py at an earlier time, or None for its current entry.
    Raises UserError for an invalid name, key or value, and lists the valid ones. If the recipe's
    entry is invalid, the message names the recipe. Raises UserError if a key and a member's setting overlap only in
    part, as "schedule" and "schedule.decay" do, unless `members` is overridden, too.
    """
    name = recipe_name(name) if recipe is None else name
    config, overrides = _filled(name, recipe), list(earlier.renamed(overrides))
    keys = dict(overrides).keys()
    _give_way(name, config, keys)
    schema.override_all(config, overrides, schema.DEFAULTS.keys() - schema.DESCRIPTIONS)
    return _completed(config, keys)


def _completed(config, keys=()):
    """Checks a config. Returns it with `weights` set if other settings decide it, and with `-` in architectures' names.

    keys: the settings that are overridden.
    """
    OBJECT.check("optimizer_config", config["optimizer_config"])
    if config["weights"] == "last" and "weights" not in keys:
        if config["early_stopping"] is not None:
            config["weights"] = "best"
        elif config["optimizer_config"].get("use_ema") is True:  # Keras ends training with the EMA weights
            config["weights"] = "averaged"
    checks.check(config)
    for settings in (config, *config["members"]):
        if "model" in settings:
            settings["model"] = hyphens(settings["model"])
    return config


def _filled(name, recipe=None):
    """Returns a recipe with every setting filled in, and the names of Keras's classes as config.json spells them.

    Raises UserError, which names the recipe, if its entry in recipes.py is not valid.
    """
    recipe, config = all_recipes()[name] if recipe is None else recipe, copy.deepcopy(schema.DEFAULTS)
    with about(f"recipe {name!r} in recipes.py"):
        OBJECT.check("it", recipe)
        schema.override_all(config, earlier.renamed(copy.deepcopy(recipe).items()), schema.DEFAULTS)
        if config["model"] is None:
            raise UserError('it has no model: add model="NAME", an architecture of models.py')
        _completed(copy.deepcopy(config))
    return config


def _give_way(name, config, keys):
    """Removes the settings `keys`, which are overridden for every net, from a config's members.

    Raises UserError if a key and a member's setting overlap only in part. name: the recipe's, for the message.
    """
    config["members"] = [{key: own[key] for key in own if key not in keys} for own in config["members"]]
    own = [] if "members" in keys else sorted({key for member in config["members"] for key in member})
    drops = keras_classes.drops
    for key in keys:
        if clash := [inner for inner in own if _overlap(key, inner) or drops(key, inner) or drops(inner, key)]:
            told = f"{key} cannot be set for {name!r}: some of its nets have their own {clash[0]}"
            raise UserError(f"{told}; --set members=[] removes their settings")


def _overlap(key, other):
    """Returns whether two keys are equal, or one is a part of the other: "schedule" and "schedule.decay"."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _replaced(before, after, given):
    """Returns lines on the settings dropped because an architecture, optimizer, loss or schedule was replaced.

    before, after: configs. given: the keys that the user set.
    """
    lines = []
    for key, arguments in keras_classes.CONFIG_OF.items():
        if before[key] == after[key]:
            continue
        lost = _lost(before, after, arguments, given)
        if key == "loss" and "label_smoothing" not in given and before["label_smoothing"] != after["label_smoothing"]:
            lost["label_smoothing"] = before["label_smoothing"]
        rate = key == "optimizer" and given.isdisjoint(RATES)
        lines += [_line(key, before[key], after[key], lost) + f"; {_rate(after['schedule'])}" * rate] * bool(
            lost or rate
        )
    old, new = before["schedule"]["name"], after["schedule"]["name"]
    if old != new and (lost := _lost(before, after, "schedule", given)):
        lines.append(_line("schedule", old, new, lost))
    return [line + "\n" for line in lines]


def _lost(before, after, key, given):
    """Returns {key: value} for the parts of setting `key` that config `before` has and config `after` lacks."""
    if key in given:
        return {}
    return {f"{key}.{inner}": value for inner, value in before[key].items() if inner not in after[key]}


def _line(key, old, new, lost):
    parts = ", ".join(f"{inner}={json.dumps(value)}" for inner, value in lost.items())
    return f"Set:    {key} {new} instead of {old}" + f", which drops {parts:.160}" * bool(parts)


def _rate(schedule):
    rate = schedule.get("warmup_target") or schedule.get("learning_rate")
    if rate is None:
        change = "--set schedule=NAME --learning-rate R"
        return f"the learning rates stay those of schedule {schedule['name']} (to change: {change})"
    return f"the learning rate stays {rate} (to change: --learning-rate)"


def parse_override(text: str) -> tuple[str, Any]:
    """Returns (key, value) from "KEY=VALUE": 'schedule.decay=0.9' gives ('schedule.decay', 0.9).

    The value is JSON or a Python literal (True, None, .9, [.1, .01]). Any other value is a string.
    Raises UserError if there is no "=", or if the value is infinite, NaN or a number with a decimal comma.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        colon = re.fullmatch(r"([\w.]+):(\S+)", text)
        meant = f"; did you mean --set {colon[1]}={colon[2]}?" if colon else ""
        raise UserError(f"--set takes KEY=VALUE, not {text!r:.60}{meant}")
    return key, parse_value(value)


def parse_value(value: str) -> Any:
    """Returns the value that a text stands for; see `parse_override`."""
    if value.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise UserError(f"a setting must be a finite number, not {value}")
    if told := decimal_comma(value):  # Python would read 0,1 as a list
        raise UserError(f"{told} (a list is in brackets: [1, 2])")
    for read in (json.loads, lambda text: json.loads(json.dumps(ast.literal_eval(text)))):  # tuples become lists
        with contextlib.suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return read(value)
    return value
