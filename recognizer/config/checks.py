"""The recipes: each published notebook's architecture, data protocol, augmentation, optimizer and schedule.

Plain data, no Keras. A recipe is the differences from DEFAULTS; `python train.py --list` shows them all, and
`python train.py NAME --set KEY=VALUE` changes any setting (`--set augmentation.rotation_range=15`).
To add one, add an entry to RECIPES.
"""

import json

from recognizer.base.errors import UserError
from recognizer.base.words import choose
from recognizer.config import members, schedules


def _number(low, high=None, whole=False, optional=False):
    def check(key, value):
        if value is None and optional:
            return
        kinds = int if whole else (int, float)
        if (
            isinstance(value, bool)
            or not isinstance(value, kinds)
            or value < low
            or (high is not None and value >= high)
        ):
            what = "a whole number" if whole else "a number"
            limit = f"of {low} or more" + (f" and below {high}" if high is not None else "")
            raise UserError(f"{key} must be {what} {limit}, not {value!r}")

    return check


def _kind(kind, name):
    def check(key, value):
        if not isinstance(value, kind):
            raise UserError(f"{key} must be {name}, not {value!r}")

    return check


def _steps(key, value):
    if value != "full":
        _number(1, 10**6, whole=True, optional=True)(f'{key} (when neither null nor "full")', value)


def _members(key, value):
    if not isinstance(value, list) or not all(isinstance(member, dict) for member in value):
        raise UserError(f"{key} must be a list of objects of settings, not {value!r}")


def _one_of(*valid):
    return lambda key, value: choose(f"value for {key}:", value, valid)


check_seed = _number(0, 2**32, whole=True)


CHECKS = dict(
    model=_kind(str, "the name of an architecture"),
    model_config=_kind(dict, "an object of keyword arguments"),
    nets=_number(1, 10_000, whole=True),
    members=_members,
    validation_split=_number(0, 1),
    split_seed=_number(0, 2**32, whole=True, optional=True),
    bagging=_kind(bool, "true or false"),
    validation_rows=_number(1, whole=True, optional=True),
    augmentation=_kind(dict, "an object of ImageDataGenerator's arguments"),
    joint_flips=_kind(list, 'a list, for example ["horizontal"]'),
    optimizer=_kind(str, "the name of a Keras optimizer"),
    optimizer_config=_kind(dict, "an object of keyword arguments"),
    schedule=_kind(dict, "an object with a name"),
    label_smoothing=_number(0, 1),
    batch_size=_number(1, 10**6, whole=True),
    replicas=_number(1, 1000, whole=True),
    steps_per_epoch=_steps,
    min_steps_per_epoch=_number(1, 10**6, whole=True),
    epochs=_number(1, 10**6, whole=True),
    weights=_one_of("last", "averaged", "best"),
    update_bn=_number(0, whole=True),
    test_shift=_number(0, 28, whole=True),
    score_augmented=_kind(bool, "true or false"),
)


def check(config):
    """Raises UserError at the first setting of `config`, or of one of its nets, that is not valid."""
    _check(config)
    for settings in members.kinds(config):
        _check(settings)


def _check(config):
    try:
        json.dumps({key: config[key] for key in CHECKS}, allow_nan=False)
    except ValueError as error:
        raise UserError(f"a setting must be a finite number, not infinite or nan ({error})") from error
    for key, check_value in CHECKS.items():
        check_value(key, config[key])
    schedules.check(config["schedule"])
    measured = ["loss", "accuracy", *["val_loss", "val_accuracy"] * bool(config["validation_split"])]
    monitor = schedules.monitored(config["schedule"])
    if monitor not in [None, *measured]:
        raise UserError(
            f"schedule.monitor {monitor!r} is not measured: set it to one of {', '.join(measured)}"
            + " (a validation_split above 0 gives val_loss and val_accuracy)" * (len(measured) == 2)
        )
    replicas, size = config["replicas"], config["batch_size"]
    if replicas > 1 and (size % replicas or config["steps_per_epoch"] is None):
        raise UserError(
            f'replicas {replicas} share full batches equally: set replicas to 1, or steps_per_epoch to "full" or a '
            f"number, and batch_size (now {size}) to a multiple of {replicas}"
        )
    if config["weights"] == "best" and not config["validation_split"]:
        raise UserError("weights 'best' are chosen on a validation split: set validation_split above 0")
