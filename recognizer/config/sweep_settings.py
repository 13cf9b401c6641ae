"""What a sweep varies: grids, seeds, ranges and the studies in recipes.py, in the form of sweep.json.

An axis of a grid is {"name": ..., "values": [...], "settings": [{key: value}, ...]}, with the settings for each value.
A range is {"key": ..., "low": ..., "high": ..., "log": ..., "step": ...}.
"""

import argparse
import collections
import copy
import itertools
import math
import random
import re
from collections.abc import Iterator, Sequence

from recognizer.base.errors import UserError, about
from recognizer.base.rules import NUMBER, OBJECT, TEXT, Rule, one_of
from recognizer.base.words import choose
from recognizer.config import overrides, schema

DRAWN = 20  # random values of a range to check before training
FEWEST = 3  # at least this many values of an axis, and runs of a cell, remain after scaling
GRIDS = Rule("a list of grids {AXIS: {VALUE: SETTINGS, ...}, ...}", lambda grids: _are_grids(grids))
# The keys of a study in recipes.py.
STUDY = {
    "recipe": schema.Setting(None, TEXT),
    "settings": schema.Setting(None, OBJECT),
    "grids": schema.Setting(None, GRIDS),
    "seeds": schema.Setting(None, schema.COUNT),
    "score": schema.Setting(None, one_of("test", "validation")),
}


def _are_grids(value):
    return isinstance(value, list) and bool(value) and all(map(_is_grid, value))


def _is_grid(value):
    """Returns whether a value is a grid of a study: {axis: {value: settings}}."""
    axes = list(value.values()) if OBJECT.valid(value) else [None]
    return all(OBJECT.valid(axis) and axis and all(map(OBJECT.valid, axis.values())) for axis in axes)


def asked(arguments: argparse.Namespace) -> dict:
    """Returns a sweep's description, as in sweep.json, from the parsed arguments. Raises UserError if it is not valid.

    "base" is the recipe's current entry in recipes.py. "settings" and "grids" are like those of a study there. "own"
    are the user's settings for all trials; they are applied last. "score" says which rows score the trials. "note" says
    how the sweep differs from the source's study.
    """
    for key in ("seeds", "trials"):
        if getattr(arguments, key) is not None:
            schema.COUNT.check(f"--{key}", getattr(arguments, key))
    found = _study(arguments) or _own(arguments)
    keys = ("epochs", "validation_split", "precision", "augment_engine")
    given = [(key, getattr(arguments, key)) for key in keys if getattr(arguments, key) is not None]
    found["own"] = [*given, *map(overrides.parse_override, arguments.set or [])]
    found["base"] = overrides.all_recipes()[found["recipe"]]
    found["note"] = _scale_note(found, arguments.scale) if found["study"] else ""
    found["seed"] = arguments.seed or 0
    schema.SEED.check("--seed", found["seed"])
    _check_keys(found)
    return found


def _own(arguments):
    """Returns the description of a sweep over a recipe."""
    if not (arguments.grid or arguments.seeds or arguments.range):
        raise UserError("nothing varies: give --grid KEY=V1,V2, --seeds R, or --range KEY=LOW..HIGH with --trials T")
    if bool(arguments.range) != bool(arguments.trials):
        raise UserError("--range KEY=LOW..HIGH and --trials T go together")
    if arguments.range and arguments.seeds:
        raise UserError("--seeds does not go with --range: use --grid to train each setting by several seeds")
    if arguments.scale is not None:
        raise UserError("--scale is for studies: give --epochs and fewer values instead")
    return {
        "recipe": overrides.recipe_name(arguments.recipe or "single"),
        "study": None,
        "settings": [],
        "grids": [[_axis(text) for text in arguments.grid or []]],
        "ranges": [_range(text) for text in arguments.range or []],
        "trials": arguments.trials,
        "seeds": arguments.seeds or 1,
        "score": "validation",
    }


def studies(**_: object) -> dict[str, dict]:
    """Returns {name: study} from recipes.py."""
    import recipes

    return recipes.STUDIES


def names(**_: object) -> list[str]:
    """Returns the names of all recipes and studies, for shell completion."""
    return [*overrides.all_recipes(), *studies()]


def _study(arguments):
    """Returns the description of a study's sweep, scaled by --scale, or None if the name is not a study's."""
    name = overrides.recipe_name(arguments.recipe or "single", studies())
    if name not in studies():
        return None
    if arguments.grid or arguments.range or arguments.trials:
        raise UserError(f"study {name!r} varies its own settings: leave out --grid, --range and --trials")
    scale = 1 if arguments.scale is None else arguments.scale
    if not 0 < scale <= 1:
        raise UserError(f"--scale must be above 0 and at most 1, not {scale}")
    found = _described(name)
    fewest = min(FEWEST, found["seeds"])
    return found | {
        "settings": list(_scaled(dict(found["settings"]), scale).items()),
        "grids": [[_scaled_axis(axis, scale) for axis in grid] for grid in found["grids"]],
        "seeds": arguments.seeds or max(fewest, round(scale * found["seeds"])),
    }


def _described(name):
    """Returns the description of a study's sweep. Raises UserError, which names the study, if it is not valid."""
    study = copy.deepcopy(studies()[name])
    with about(f"study {name!r} in recipes.py"):
        OBJECT.check("it", study)
        for key in study:
            choose("key", key, STUDY)
        schema.check_values(study, STUDY)
        found = {
            "recipe": overrides.recipe_name(study["recipe"]),
            "study": name,
            "settings": list(study["settings"].items()),
            "grids": [[_axis_of_study(axis, values) for axis, values in grid.items()] for grid in study["grids"]],
            "ranges": [],
            "trials": None,
            "seeds": study["seeds"],
            "score": study["score"],
        }
        more = {"base": overrides.all_recipes()[found["recipe"]], "own": [], "seed": 0, "seeds": 1}
        for _, _, settings, seed in points(found | more):
            config(found | more, settings, seed)
    return found


def _axis_of_study(name, values):
    return {"name": name, "values": list(values), "settings": list(values.values())}


def _scale_note(asked, scale):
    """Returns a text that says how much smaller a study is than its source's, or "" if it is not."""
    if scale is None or scale == 1:
        return ""
    study = studies()[asked["study"]]
    whole = [
        [{"values": list(axis), "settings": list(axis.values())} for axis in grid.values()] for grid in study["grids"]
    ]
    told = f"scale {scale:g}: {_cell_count(asked['grids'])} of {_cell_count(whole)} cells, "
    told += f"{asked['seeds']} of {study['seeds']} runs each"
    then, now = _epochs(study["settings"], whole), _epochs(dict(asked["settings"]), asked["grids"])
    own = dict(asked["own"]).get("epochs")
    return f"{told}, {own or now} of {then} epochs" if own or now else told


def _epochs(settings, grids):
    """Returns the epochs in settings and grids as text: "20", "20 to 35", or "" if none are set."""
    found = [settings.get("epochs")] + [
        one.get("epochs") for grid in grids for axis in grid for one in axis["settings"]
    ]
    found = sorted({epochs for epochs in found if epochs})
    return " to ".join(map(str, dict.fromkeys(found[:1] + found[-1:])))


def _cell_count(grids):
    return sum(math.prod(len(axis["values"]) for axis in grid) for grid in grids)


def _scaled(settings, scale):
    """Returns a study's settings with `epochs` multiplied by `scale`."""
    if "epochs" not in settings:
        return settings
    return settings | {"epochs": max(1, round(scale * settings["epochs"]))}


def _scaled_axis(axis, scale):
    """Returns an axis with fewer values, evenly spaced, and fewer epochs."""
    count = len(axis["values"])
    left = max(min(FEWEST, count), round(scale * count))
    kept = [round(i * (count - 1) / max(1, left - 1)) for i in range(left)]
    settings = [_scaled(axis["settings"][i], scale) for i in kept]
    return axis | {"values": [axis["values"][i] for i in kept], "settings": settings}


def _axis(text):
    """Returns the axis for the text "KEY=V1,V2"."""
    key, equals, values = text.partition("=")
    if re.fullmatch(r"[^\[,]+\.\.[^,]+", values):
        raise UserError(f"--grid takes KEY=V1,V2; for a range write --range {text:.60} and --trials T")
    values = [overrides.parse_value(value) for value in _split(values)] if values else []
    if not (equals and key and values):
        raise UserError(f"--grid takes KEY=V1,V2, not {text!r:.60}")
    if twice := [value for i, value in enumerate(values) if value in values[:i]]:
        raise UserError(f"--grid {key} has {twice[0]!r:.60} twice: for several runs of a setting give --seeds R")
    return {"name": key, "values": values, "settings": [{key: value} for value in values]}


def _split(text):
    """Splits a text at its commas, except those inside brackets."""
    depth = list(itertools.accumulate((c in "[{(") - (c in "]})") for c in text))
    cuts = [-1, *(i for i, c in enumerate(text) if c == "," and depth[i] <= 0), len(text)]
    return [text[i + 1 : j] for i, j in itertools.pairwise(cuts)]


def _range(text):
    """Returns the range for the text "KEY=LOW..HIGH", "KEY=LOW..HIGH:log" or "KEY=LOW..HIGH:STEP"."""
    if not (found := re.fullmatch(r"([^=]+)=(.+?)\.\.([^:]+)(?::(.+))?", text)):
        raise UserError(f"--range takes KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=LOW..HIGH:STEP, not {text!r:.60}")
    key = found[1]
    low, high = map(overrides.parse_value, found.group(2, 3))
    if not (NUMBER.valid(low) and NUMBER.valid(high) and low < high):
        raise UserError(f"--range {key} must go from a number to a larger one, not {text.partition('=')[2]!r:.60}")
    log = found[4] == "log"
    step = None if log or not found[4] else overrides.parse_value(found[4])
    if log and low <= 0:
        raise UserError(f"--range {key} with :log must begin above 0, not at {low}")
    if step is not None and not (NUMBER.valid(step) and step > 0):
        raise UserError(f"--range {key} ends in :{found[4]:.20}: only :log or a step above 0 can follow the numbers")
    if step is not None and abs((high - low) / step - round((high - low) / step)) > 1e-6:
        raise UserError(
            f"--range {key} must go from {low} to {low} plus a whole number of steps of {step}, not to {high}"
        )
    return {"key": key, "low": low, "high": high, "log": log, "step": step}


def _check_keys(found):
    """Raises UserError if a setting is given twice, or if `seed` is given as a setting."""
    ranges = [entry["key"] for entry in found["ranges"]]
    for grid in found["grids"]:
        varied = [key for axis in grid for key in _varied(axis["settings"])] + ranges
        given = varied + list(dict(found["own"]))
        if "seed" in given:
            raise UserError("seed is not a setting of a recipe: --seeds R trains with R seeds; --seed is the first")
        twice = [key for key, count in collections.Counter(given).items() if count > 1]
        if "learning_rate" in given:  # it stands for one of these
            twice += [key for key in ("schedule.learning_rate", "schedule.warmup_target") if key in given]
        if twice:
            raise UserError(f"{twice[0]} is given twice: name each setting once in --grid, --range, --set and --epochs")


def _varied(settings):
    """Returns the keys that vary along an axis. A study's axis may have constant keys, too, which the user may set."""
    keys = dict.fromkeys(key for one in settings for key in one)
    return [key for key in keys if len(settings) == 1 or any(one.get(key) != settings[0].get(key) for one in settings)]


def points(asked: dict) -> Iterator[tuple[int, dict, dict, int]]:
    """Yields (grid's index, {axis: value}, settings, seed) for each trial of a sweep's grids."""
    for i, grid in enumerate(asked["grids"]):
        for seed in range(asked["seed"], asked["seed"] + asked["seeds"]):
            for chosen in itertools.product(*(range(len(axis["values"])) for axis in grid)):
                yield i, *point(grid, chosen), seed


def point(grid: list[dict], chosen: Sequence[int]) -> tuple[dict, dict]:
    """Returns ({axis: value}, settings) of one cell of a grid. chosen: the index of each axis's value."""
    settings: dict = {}
    for axis, j in zip(grid, chosen, strict=True):
        settings |= axis["settings"][j]
    return {axis["name"]: axis["values"][j] for axis, j in zip(grid, chosen, strict=True)}, settings


def samples(asked: dict) -> Iterator[dict]:
    """Yields settings to check before a sweep: each value of a grid, both ends of each range, random values between.

    For a sweep without ranges it yields all its settings.
    """
    if not asked["ranges"]:
        for _, _, settings, seed in points(asked):
            if seed == asked["seed"]:
                yield settings
        return
    (grid,), drawn = asked["grids"], random.Random(0)
    for i in range(max([2 + DRAWN, *(len(axis["values"]) for axis in grid)])):
        _, settings = point(grid, [min(i, len(axis["values"]) - 1) for axis in grid])
        yield settings | {entry["key"]: _inside(entry, i, drawn) for entry in asked["ranges"]}


def _inside(entry, i, drawn):
    """Returns value number `i` of a range: its ends for 0 and 1, then random values. drawn: a random.Random."""
    low, high = entry["low"], entry["high"]
    if i < 2:
        return (low, high)[i]
    if step := entry.get("step"):
        return low + step * drawn.randint(0, round((high - low) / step))
    return drawn.randint(low, high) if isinstance(low, int) and isinstance(high, int) else drawn.uniform(low, high)


def config(asked: dict, settings: dict, seed: int) -> dict:
    """Returns the config of a trial with these settings and this seed. Raises UserError if they conflict."""
    given = dict(map(tuple, asked["settings"])) | settings | dict(map(tuple, asked["own"]))
    run = {key: setting.default for key, setting in schema.RUN_SETTINGS.items()} | {"seed": seed}
    for key in run.keys() & given.keys():
        run[key] = given.pop(key)
        if run[key] != schema.RUN_SETTINGS[key].default:
            schema.RUN_SETTINGS[key].rule.check(key, run[key])
    found = overrides.configured(asked["recipe"], list(given.items()), recipe=asked["base"])
    return found | run | {key: asked[key] for key in ("sweep", "threads") if key in asked}


def told(settings: dict) -> str:
    """Returns settings, or {axis: value}, as text: "rotation 10, shift 0.1"."""
    return ", ".join(f"{key} {value_text(value)}" for key, value in settings.items())


def value_text(value: object) -> str:
    """Returns a setting's value as a table shows it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
