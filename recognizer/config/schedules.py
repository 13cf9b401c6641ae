"""Learning-rate schedules as pure functions, so that a resumed run takes up exactly where it stopped.

Each is called as `schedule(epoch, state, logs, epochs, **settings)` and returns (learning rate, state):
    epoch     float, epochs done so far (a fraction within an epoch where STEPWISE has the schedule)
    state     what the schedule returned the last time, JSON-able; None at first
    logs      the last epoch's metrics as Keras gives them, {} before the first epoch has ended
    epochs    int, epochs of the whole training
"""

import inspect
import math

from recognizer.base.errors import UserError
from recognizer.base.words import choose, is_number


def constant(epoch, state, logs, epochs, *, learning_rate):
    """The same rate throughout."""
    return learning_rate, state


def exponential(epoch, state, logs, epochs, *, learning_rate, decay):
    """learning_rate * decay^epoch: the notebooks' "annealing"."""
    return learning_rate * decay**epoch, state


def phases(epoch, state, logs, epochs, *, learning_rates):
    """One rate after another; learning_rates: [[epochs, rate], ...], the last rate stays."""
    for length, rate in learning_rates:
        if epoch < length:
            return rate, state
        epoch -= length
    return rate, state


def plateau(
    epoch,
    state,
    logs,
    epochs,
    *,
    learning_rate,
    factor=0.1,
    patience=10,
    min_delta=1e-4,
    min_lr=0.0,
    monitor="val_accuracy",
):
    """keras.callbacks.ReduceLROnPlateau (defaults and comparisons as there), its memory held in `state`.

    `monitor` ending in "loss" is to fall, any other is to rise.
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


def one_cycle(epoch, state, logs, epochs, *, learning_rate, warmup=0.2, final=0.0):
    """Linear warm-up over the share `warmup` of training to `learning_rate`, then a cosine to `final`.

    After Smith, "Super-convergence", 2018, with the cosine descent that fast.ai made usual.
    """
    share = min(epoch / epochs, 1.0)
    if share < warmup:
        return learning_rate * share / warmup, state
    cosine = 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))
    return final + (learning_rate - final) * cosine, state


SCHEDULES = {f.__name__: f for f in (constant, exponential, phases, plateau, one_cycle)}


STEPWISE = {"one_cycle"}  # asked at every step; the others once an epoch


def settings(schedule):
    """The names of a schedule's settings, e.g. {'learning_rate', 'decay'}, and those that have no default."""
    parameters = inspect.signature(schedule).parameters.values()
    own = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    return {p.name for p in own}, {p.name for p in own if p.default is p.empty}


def monitored(config):
    """The metric that a schedule {"name": ..., setting: value} follows; None where it follows none."""
    parameter = inspect.signature(SCHEDULES[config["name"]]).parameters.get("monitor")
    return parameter and config.get("monitor", parameter.default)


def check(config):
    """Raises UserError unless `config`, {"name": ..., setting: value}, is a schedule with its settings."""
    if "name" not in config:
        raise UserError(f"the schedule needs a name, one of: {', '.join(sorted(SCHEDULES))}")
    schedule = SCHEDULES[choose("schedule", config["name"], SCHEDULES)]
    valid, needed = settings(schedule)
    for key in set(config) - {"name"}:
        choose(f"setting of schedule {config['name']!r}", key, valid)
    if missing := needed - set(config):
        raise UserError(f"schedule {config['name']!r} needs {', '.join(sorted(missing))}")
    for key, value in config.items():
        if key == "learning_rates":
            pairs = value if isinstance(value, list) and value else [None]
            if not all(isinstance(pair, list) and len(pair) == 2 and all(map(_sound, pair)) for pair in pairs):
                raise UserError(f"schedule.{key} must be a list of [epochs, rate], each 0 or more, not {value!r}")
        elif key not in ("name", "monitor"):
            share = key in ("factor", "warmup")
            if not _sound(value) or (share and value >= 1):
                limit = " and below 1" if share else ""
                raise UserError(f"schedule.{key} must be a finite number, 0 or more{limit}, not {value!r}")


def _sound(value):
    return is_number(value) and value >= 0
