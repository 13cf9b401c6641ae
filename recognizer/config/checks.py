"""Checks a whole config: each setting by its rule, then the settings that depend on each other."""

import json
import re

from recognizer.base.errors import UserError, about
from recognizer.config import keras_classes, members, schedules, schema

# What to write in a recipe in place of an object that config.json cannot hold.
ONLY_PLAIN = "a recipe has only numbers, strings, booleans, lists and dicts"
PLAIN = {
    "optimizer": 'a recipe has its name, such as "sgd", and its arguments in optimizer_config',
    "loss": 'a recipe has its name, such as "MeanSquaredError", and its arguments in loss_config',
    "schedule": 'a recipe has its name and arguments: dict(name="cosine", learning_rate=0.01)',
    "model": "a recipe has the name of a function in models.py, in quotes",
}


def check(config: dict) -> None:
    """Raises UserError at the first invalid setting of `config` or of a member, even if no net uses that member."""
    _check(config)
    for number in range(1, len(config["members"]) + 1):
        with about(f"member {number}"):
            _check(members.member(config | {"nets": len(config["members"])}, number))


def recalibrates(settings: dict) -> bool:
    """Returns whether batch-norm statistics are recomputed before each validation.

    They are recomputed if validation decides anything: which weights to keep, when to stop, or the learning rate.
    """
    monitor = schedules.monitored(settings["schedule"]) or ""
    return bool(settings["update_bn"]) and (settings["weights"] == "best" or monitor.startswith("val_"))


def _check(config):
    for key in sorted(schema.SETTINGS.keys() - {"members"}):  # members are checked one by one
        _check_plain(key, config[key])
    schema.check_values(config, schema.SETTINGS)
    if "precision" in config:
        schema.RUN_SETTINGS["precision"].rule.check("precision", config["precision"])
    schedules.check(config["schedule"], config["epochs"])
    keras_classes.check(config)
    _check_monitor(config)
    replicas, size = config["replicas"], config["batch_size"]
    if replicas > 1 and (size % replicas or config["steps_per_epoch"] is None):
        needed = f'steps_per_epoch to "full" or a number, and batch_size (now {size}) to a multiple of {replicas}'
        raise UserError(f"replicas={replicas} divides full batches into equal parts: set {needed}")
    stopping, weights = config["early_stopping"] is not None, config["weights"]
    if stopping and weights != "best":
        raise UserError(f"early_stopping keeps the weights of the best epoch: leave out weights {weights!r}")
    averages = config["optimizer_config"].get("use_ema")
    if (weights, averages) in (("averaged", False), ("last", True)):
        told = f"keeps {'no' if weights == 'averaged' else 'the'} average of the weights"
        raise UserError(f"optimizer_config.use_ema={averages} {told}: leave it out, or weights {weights!r}")
    if weights == "best" and not config["validation_split"]:
        chosen = "early_stopping is decided" if stopping else "weights 'best' are chosen"
        raise UserError(f"{chosen} on a validation split: set validation_split above 0")


def _check_plain(key, value):
    """Raises UserError if a run's config.json cannot hold the value of a setting."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise UserError(f"{key}: each number must be finite, not infinite or nan ({error})") from error
    except TypeError as error:
        found = re.search(r"Object of type (\w+)", str(error))
        kind = found[1] if found else type(value).__name__
        raise UserError(f"{key} has an object of type {kind}, but {PLAIN.get(key, ONLY_PLAIN)}") from error


def _check_monitor(config):
    """Raises UserError if the schedule monitors a metric that training does not measure."""
    measured = ["loss", "accuracy", *["val_loss", "val_accuracy"] * bool(config["validation_split"])]
    monitor = schedules.monitored(config["schedule"])
    if monitor not in [None, *measured]:
        raise UserError(
            f"schedule.monitor {monitor!r:.60} is not measured: set it to one of {', '.join(measured)}"
            + " (a validation_split above 0 gives val_loss and val_accuracy)" * (len(measured) == 2)
        )
