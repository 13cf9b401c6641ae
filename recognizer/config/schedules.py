"""Learning-rate schedules.

A rate depends only on the settings and, for `plateau`, on the metrics so far. So a resumed run has the same rates.

A config's "schedule" is {"name": NAME, SETTING: VALUE, ...}. NAME is one of
  - our own: constant, exponential, phases, plateau, one_cycle: the functions below, with their keyword arguments;
  - a class of keras.optimizers.schedules: CosineDecay (`cosine` for short), ExponentialDecay, PolynomialDecay ... with
    Keras's arguments (KERAS below). Times are in epochs, which may be fractions, not in steps: decay_epochs for
    decay_steps, and so on. Keras's initial_learning_rate is `learning_rate`, as in every schedule.
Names ignore case, `-` and `_`.

Our own functions are called as `schedule(epoch, state, logs, epochs, **settings)` and return (learning rate, state):
    epoch     float, epochs done so far (with a fraction if the schedule is in STEPWISE)
    state     the state that the last call returned, JSON-serializable; None at first
    logs      the last epoch's metrics, as in Keras's callbacks; {} in the first epoch
    epochs    int, epochs of the whole training
"""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from recognizer.base.errors import UserError
from recognizer.base.rules import FLAG, NULL, TEXT, Rule, list_of, number
from recognizer.base.words import choose, letters

State = dict | None  # of a schedule of our own
Rate = tuple[float, State]  # the learning rate, and the state for the next call
Schedule = Callable[[int, State, dict], tuple[np.ndarray, State]]


def constant(epoch: float, state: State, logs: dict, epochs: int, *, learning_rate: float) -> Rate:
    """The same rate throughout."""
    return learning_rate, state


def exponential(epoch: float, state: State, logs: dict, epochs: int, *, learning_rate: float, decay: float) -> Rate:
    """learning_rate * decay^epoch: the notebooks' "annealing"."""
    return learning_rate * decay**epoch, state


def phases(epoch: float, state: State, logs: dict, epochs: int, *, learning_rates: Sequence[Sequence[float]]) -> Rate:
    """One rate after another. learning_rates: [[epochs, rate], ...]; the last rate stays."""
    for length, rate in learning_rates:
        if epoch < length:
            return rate, state
        epoch -= length
    return rate, state


def plateau(
    epoch: float,
    state: State,
    logs: dict,
    epochs: int,
    *,
    learning_rate: float,
    factor: float = 0.1,
    patience: float = 10,
    min_delta: float = 1e-4,
    min_lr: float = 0,
    monitor: str = "val_accuracy",
) -> Rate:
    """keras.callbacks.ReduceLROnPlateau with its defaults and comparisons. Its memory is in `state`.

    A `monitor` that ends in "loss" should fall, any other should rise.
    """
    state = state or {"learning_rate": learning_rate, "best": None, "wait": 0}
    if not logs:
        return state["learning_rate"], state
    sign = -1 if monitor.endswith("loss") else 1
    rate, best, wait = state["learning_rate"], state["best"], state["wait"]
    if best is None or sign * (logs[monitor] - best) > min_delta:
        best, wait = logs[monitor], 0
    else:
        wait += 1
        if wait >= patience and rate > min_lr:
            rate, wait = max(rate * factor, min_lr), 0
    return rate, {"learning_rate": rate, "best": best, "wait": wait}


def one_cycle(
    epoch: float,
    state: State,
    logs: dict,
    epochs: int,
    *,
    learning_rate: float,
    warmup: float = 0.2,
    final: float = 0.0,
) -> Rate:
    """Linear warm-up to `learning_rate` during the share `warmup` of training, then a cosine down to `final`.

    Source: Smith, "Super-convergence", 2018, with the cosine descent that fast.ai made usual.
    """
    share = min(epoch / epochs, 1.0)
    if share < warmup:
        return learning_rate * share / warmup, state
    cosine = 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))
    return final + (learning_rate - final) * cosine, state


OWN = {f.__name__: f for f in (constant, exponential, phases, plateau, one_cycle)}
STEPWISE = {"one_cycle"}  # computed for every step; the others once an epoch

# Keras's classes: (required settings, settings with a default).
DECAY = {"learning_rate", "decay_rate"}, {"decay_epochs", "staircase"}
KERAS = {
    "CosineDecay": ({"learning_rate"}, {"decay_epochs", "alpha", "warmup_target", "warmup_epochs"}),
    "CosineDecayRestarts": ({"learning_rate", "first_decay_epochs"}, {"t_mul", "m_mul", "alpha"}),
    "ExponentialDecay": DECAY,
    "InverseTimeDecay": DECAY,
    "PiecewiseConstantDecay": ({"boundaries", "values"}, set()),
    "PolynomialDecay": ({"learning_rate"}, {"decay_epochs", "end_learning_rate", "power", "cycle"}),
}
SHORT = {"cosine": "CosineDecay"}

RATE, EPOCHS, SHARE = number(), number(0.001, 10**6), number(0, 1)
PHASE = Rule("", lambda value: isinstance(value, list) and len(value) == 2 and all(map(RATE.valid, value)))
RATES = ("learning_rate", "end_learning_rate", "decay", "decay_rate", "min_lr", "final", "alpha", "m_mul", "power")
RULES = {  # for the settings of all schedules
    **dict.fromkeys(RATES, RATE),
    **dict.fromkeys(["decay_epochs", "first_decay_epochs", "warmup_epochs"], EPOCHS),
    **dict.fromkeys(["factor", "warmup"], SHARE),
    **dict.fromkeys(["patience", "min_delta"], number()),
    **dict.fromkeys(["staircase", "cycle"], FLAG),
    "warmup_target": RATE | NULL,
    "t_mul": number(1, 10**6),
    "monitor": TEXT,
    "learning_rates": list_of(PHASE, "a list of [epochs, rate], each 0 or more"),
    "boundaries": list_of(number(), "a list of epochs"),
    "values": list_of(RATE, "a list of learning rates"),
}


def make(config: dict, steps: int) -> Schedule:
    """Returns a net's schedule: a function of (epoch, state, logs) that returns (rates, state).

    rates: float32 (steps,), the learning rates of the epoch's steps. config: the net's settings.
    """
    settings = dict(config["schedule"])
    name = settings.pop("name")
    if name in KERAS:
        table = _keras_rates(_keras_schedule(name, settings, config["epochs"], steps), config["epochs"] * steps)
        return lambda epoch, state, logs: (table[epoch * steps : (epoch + 1) * steps], None)
    schedule = functools.partial(OWN[name], epochs=config["epochs"], **settings)

    def rates(epoch, state, logs):
        rate, state = schedule(epoch, state, logs)
        if name in STEPWISE:
            return np.array([schedule(epoch + i / steps, None, {})[0] for i in range(steps)], np.float32), state
        return np.full(steps, rate, np.float32), state

    return rates


def _keras_schedule(name, settings, epochs, steps):
    """Returns an instance of Keras's class `name`. Converts settings in epochs to arguments in steps."""
    import keras

    if "decay_epochs" in KERAS[name][1]:
        settings = {"decay_epochs": epochs - settings.get("warmup_epochs", 0)} | settings
    arguments = {}
    for key, value in settings.items():
        if key.endswith("_epochs"):
            arguments[key.replace("_epochs", "_steps")] = value * steps
        elif key == "boundaries":
            arguments[key] = [boundary * steps for boundary in value]
        elif key == "values":
            arguments[key] = [float(rate) for rate in value]  # Keras computes in the dtype of the values
        elif key == "learning_rate":
            arguments["initial_learning_rate"] = float(value)
        else:
            arguments[key] = value
    return getattr(keras.optimizers.schedules, name)(**arguments)


def _keras_rates(schedule, steps):
    """Returns a Keras schedule's learning rates for the first `steps` steps, float32 (steps,).

    One vectorized call computes all of them; separate calls would take a millisecond for each step.
    """
    import keras

    with keras.device("cpu"):
        rates = keras.ops.vectorized_map(schedule, keras.ops.arange(steps))
        return keras.ops.convert_to_numpy(rates).astype(np.float32)


def _settings(name):
    """Returns (names of the required settings, names of the settings with a default) of schedule `name`."""
    if name in KERAS:
        return KERAS[name]
    own = [p for p in inspect.signature(OWN[name]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    needed = {p.name for p in own if p.default is p.empty}
    return needed, {p.name for p in own} - needed


def settings(schedule: Any) -> set[str]:
    """Returns the names of all settings that a config's schedule takes; an empty set if its name is not valid."""
    name = schedule.get("name") if isinstance(schedule, dict) else None
    return {"name"}.union(*_settings(name)) if name in [*OWN, *KERAS] else set()


def monitored(schedule: dict) -> str | None:
    """Returns the metric that a config's schedule monitors, or None."""
    parameter = inspect.signature(OWN[schedule["name"]]).parameters.get("monitor") if schedule["name"] in OWN else None
    return schedule.get("monitor", parameter.default) if parameter else None


def peak(schedule: dict) -> float:
    """Returns the highest learning rate that a config's schedule names."""
    rates = [schedule.get(key) or 0 for key in ("learning_rate", "end_learning_rate", "warmup_target")]
    rates += schedule.get("values", [])
    return max(*rates, *(rate for _, rate in schedule.get("learning_rates", [])))


def override(schedule: dict, key: str, value: Any) -> dict:
    """Returns a config's schedule with setting `key` set to `value`. If `key` is "", `value` is the whole schedule.

    A new name keeps the settings that the new schedule also has, and drops the others.
    """
    if not key:
        return canonical(value)
    schedule = canonical(schedule) | canonical({key: value})
    if key == "name" and schedule["name"] in [*OWN, *KERAS]:
        kept = settings(schedule)
        schedule = {key: value for key, value in schedule.items() if key in kept}
    return schedule


def canonical(schedule: Any) -> Any:
    """Returns a config's schedule with its name as in OWN or KERAS, and learning_rate for initial_learning_rate."""
    if not isinstance(schedule, dict):
        return schedule  # its rule in schema.py rejects it
    schedule = dict(schedule)
    if "initial_learning_rate" in schedule and "learning_rate" not in schedule:
        schedule["learning_rate"] = schedule.pop("initial_learning_rate")
    if "name" in schedule:
        names = {letters(name): name for name in (*OWN, *KERAS)} | SHORT
        schedule["name"] = names.get(letters(schedule["name"]), schedule["name"])
    return schedule


def check(schedule: dict, epochs: int) -> None:
    """Raises UserError if a config's schedule, from `canonical`, is not valid. epochs: of the whole training."""
    names = [*OWN, *KERAS, *SHORT]
    if "name" not in schedule:
        raise UserError(f"the schedule needs a name, one of: {', '.join(sorted(names))}")
    name = choose("schedule", schedule["name"], names)
    needed, optional = _settings(name)
    for key in [key for key in schedule if key != "name"]:
        choose(f"{name} setting", key, needed | optional)
        RULES[key].check(f"schedule.{key}", schedule[key])
    if missing := needed - schedule.keys():
        raise UserError(f"schedule {name!r} needs {', '.join(sorted(missing))}")
    if schedule.get("learning_rates") == []:
        raise UserError("schedule.learning_rates must have at least one [epochs, rate]")
    if name == "CosineDecay":
        _check_warm_up(schedule, epochs)
    if name == "PiecewiseConstantDecay":
        boundaries, values = schedule["boundaries"], schedule["values"]
        if not boundaries or boundaries != sorted(set(boundaries)) or len(values) != len(boundaries) + 1:
            told = "schedule.values must have one more entry than schedule.boundaries"
            raise UserError(f"schedule.boundaries must rise, and {told}")
    if not peak(schedule):
        raise UserError("the highest learning rate of the schedule is 0, so no net would learn: make it larger")


def _check_warm_up(schedule, epochs):
    """Raises UserError if CosineDecay's warm-up lacks a setting, or leaves no epochs for the decay."""
    warmup = schedule.get("warmup_epochs")
    if (warmup is None) != (schedule.get("warmup_target") is None):
        raise UserError(
            "schedule.warmup_epochs and schedule.warmup_target (the rate to rise to) go together: set both or neither"
        )
    if warmup and "decay_epochs" not in schedule and warmup >= epochs:
        raise UserError(f"schedule.warmup_epochs must be below the {epochs} epochs of the training, not {warmup}")
