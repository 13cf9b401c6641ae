"""The recipes: each published notebook's architecture, data protocol, augmentation, optimizer and schedule.

Plain data, no Keras. A recipe is the differences from DEFAULTS; `python train.py --list` shows them all, and
`python train.py NAME --set KEY=VALUE` changes any setting (`--set augmentation.rotation_range=15`).
To add one, add an entry to RECIPES.
"""

import copy
import itertools
import json
import math

import schedules
from console import UserError, choose, choose_name, hyphens

DEFAULTS = dict(
    model=None,  # a function of models.py
    model_config={},  # its keyword arguments; `mean` and `std`, where it takes them, are the training pixels'
    nets=1,  # how many nets, averaged
    members=[],  # what sets them apart: so many objects of settings, each for its share of the nets, in turn
    validation_split=0.1,  # share of the labelled rows, 0 for none
    split_seed=None,  # scikit-learn's random_state, where the source states one; None: from the run's seed
    bagging=False,  # a split of its own for each net
    validation_rows=None,  # validate on so many rows while training, on all at the end
    augmentation={},  # augment.Augmentation's arguments, which are ImageDataGenerator's
    optimizer="adam",  # keras.optimizers' name
    optimizer_config={},  # its keyword arguments, but for the learning rate
    schedule=dict(name="constant", learning_rate=1e-3),  # schedules.py
    label_smoothing=0.0,
    batch_size=64,
    replicas=1,  # parts of a batch that are trained on side by side, a core each: trainer.Trainer
    steps_per_epoch=None,  # None: every row once; "full": full batches only; a number: as many, reshuffling
    min_steps_per_epoch=1,  # so that a small data set is not left with a handful of steps
    epochs=10,
    # Which weights count: "last"; "averaged", Keras's moving average over the steps (optimizer_config.ema_momentum), to
    # be had with update_bn; or "best" (epoch on validation: a figure biased upward).
    weights="last",
    update_bn=0,  # batches of training images, not augmented, to take batch normalisation's statistics from at the end
    test_shift=0,  # pixels: predict an image as the mean over itself and its shifts by so many, each of four ways
    score_augmented=False,  # score the test images augmented as well, as the source did
    source="",  # whose work it is
    reported="",  # the figure its author gave
)
DESCRIPTIONS = {"source", "reported"}  # not settings: they change nothing
MAY_DIFFER = {  # from net to net, by `members`
    *("model", "model_config", "augmentation", "optimizer", "optimizer_config", "schedule", "label_smoothing"),
    *("batch_size", "steps_per_epoch", "min_steps_per_epoch", "epochs", "update_bn"),
}

SHIFT_10 = dict(rotation_range=10, zoom_range=0.1, width_shift_range=0.1, height_shift_range=0.1)
# Keras 1 took shear_range in radians, ImageDataGenerator takes degrees now: .3 rad = 17.19 degrees.
SHIFT_8 = dict(rotation_range=8, width_shift_range=0.08, height_shift_range=0.08, zoom_range=0.08, shear_range=17.19)
# Ours, tuned on tuning.npz (benchmarks/ACCURACY.md).
SINGLE = dict(
    model="residual",
    augmentation=SHIFT_10 | dict(shear_range=10),
    optimizer="muon",
    # The last layer's weights are left to Adam, as is usual with Muon.
    optimizer_config=dict(weight_decay=0.1, adam_weight_decay=None, exclude_layers=["classes"]),
    schedule=dict(name="one_cycle", learning_rate=6e-3, warmup=0.2),
    label_smoothing=0.1,
    batch_size=256,
    replicas=2,
    steps_per_epoch="full",
    min_steps_per_epoch=30,
    epochs=7,
    update_bn=50,
    test_shift=1,
    source="this project",
)
# A batch and its flips are as many images as a batch of `single`; in about its time.
MIRRORED = {"augmentation.joint_flips": ["horizontal"], "batch_size": 128, "epochs": 4}
# rahular's notebook assigned optimizer.lr, which had no effect there: it ran at .01 throughout. Both the
# recipe as run and the recipe as written ("-phases") are kept.
AS_RUN = dict(name="constant", learning_rate=0.01)
AS_WRITTEN = [[1, 0.01], [5, 0.1], [5, 0.01]]
RAHULAR = dict(
    validation_split=0.0,
    optimizer="sgd",
    schedule=AS_RUN,
    batch_size=64,
    epochs=11,
    source="rahular, 'Digit Recognition - 2', after fast.ai's lesson 3 of 2016 (MNIST 60,000/10,000)",
)
RAHULAR_WRITTEN = RAHULAR | dict(
    schedule=dict(name="phases", learning_rates=AS_WRITTEN), reported="as written; not run there"
)
AUGMENTED_FIGURE = "on augmented test images"

RECIPES = {
    "single": SINGLE,
    # Nets that err differently: a committee of them gains more than that of nets of one kind.
    "ensemble": SINGLE
    | dict(
        nets=8,
        members=[
            MIRRORED,
            MIRRORED,
            MIRRORED | {"augmentation.joint_flips": ["horizontal_and_vertical"]},
            {"augmentation.erasing_range": [3, 9]},
        ],
    ),
    # 99 % as fast as can be: less than one pass over MNIST, after tuomaso/train_mnist_fast.
    "quick": dict(
        model="quick",
        optimizer_config=dict(beta_1=0.7, beta_2=0.9),
        schedule=dict(name="one_cycle", learning_rate=0.02, warmup=0.3),
        label_smoothing=0.1,
        batch_size=256,
        steps_per_epoch=150,
        epochs=1,
        source="this project",
    ),
    "grenholm": dict(
        model="grenholm",
        validation_rows=400,
        augmentation=SHIFT_10,
        schedule=dict(name="exponential", learning_rate=1e-3, decay=0.9),
        batch_size=16,
        steps_per_epoch=500,
        epochs=20,
        source="Peter Grenholm, 'Welcome to deep learning (CNN 99%)', Kaggle",
        reported="99.17 % validation, about 99 % Kaggle, 99.3 % for 5 nets",
    ),
    "codeastar": dict(
        model="codeastar",
        validation_split=0.08,
        split_seed=7,
        augmentation=SHIFT_10,
        optimizer="rmsprop",
        schedule=dict(name="plateau", learning_rate=1e-3, factor=0.3, patience=3, min_lr=1e-4, monitor="val_accuracy"),
        batch_size=64,
        replicas=2,
        steps_per_epoch=640,
        epochs=30,
        source="codeastar, 'Convolutional Neural Network 99.47%', Kaggle",
        reported="99.14-99.29 % validation, 99.471 % Kaggle",
    ),
    "vgg-rmsprop": dict(
        model="vgg-rmsprop",
        validation_split=0.2,
        split_seed=0,
        augmentation=dict(rotation_range=15, zoom_range=1),
        optimizer="rmsprop",
        batch_size=256,
        steps_per_epoch="full",
        epochs=20,
        source="a VGG-like net with RMSprop, Kaggle",
        reported="99.14 % validation (76 wrong of 8,400, by rounded probabilities)",
    ),
    "linear": RAHULAR | dict(model="linear", reported="92.51 %"),
    "linear-phases": RAHULAR_WRITTEN | dict(model="linear"),
    "linear-augmented": RAHULAR
    | dict(
        model="linear",
        augmentation=SHIFT_8,
        score_augmented=True,
        reported=f"73.61 % {AUGMENTED_FIGURE}",
    ),
    "vgg": RAHULAR | dict(model="vgg", reported="98.60 %"),
    "vgg-phases": RAHULAR_WRITTEN | dict(model="vgg"),
    "vgg-augmented": RAHULAR
    | dict(model="vgg", augmentation=SHIFT_8, score_augmented=True, reported=f"97.56 % {AUGMENTED_FIGURE}"),
    "vgg-dropout": RAHULAR | dict(model="vgg-dropout", reported="98.78 %"),
    "vgg-dropout-phases": RAHULAR_WRITTEN | dict(model="vgg-dropout"),
    "vgg-bn-dropout": RAHULAR
    | dict(model="vgg-bn-dropout", epochs=16, reported="99.43 % last epoch, 99.55 % best (on the test set)"),
    "vgg-bn-dropout-phases": RAHULAR_WRITTEN
    | dict(
        model="vgg-bn-dropout",
        schedule=dict(name="phases", learning_rates=[*AS_WRITTEN, [5, 0.001]]),
        epochs=16,
    ),
    "deotte": dict(
        model="deotte",
        nets=15,
        bagging=True,
        augmentation=SHIFT_10,
        schedule=dict(name="exponential", learning_rate=1e-3, decay=0.95),
        batch_size=64,
        steps_per_epoch="full",
        epochs=45,
        source="Chris Deotte, '25 Million Images! [0.99757] MNIST', Kaggle",
        reported="99.75 % Kaggle; MNIST: 15 nets 99.745 ± .020 %, one net 99.641 ± .047 %",
    ),
}


def resolve(name, overrides=()):
    """Returns recipe `name` with every setting filled in, as a dict of its own.

    overrides: (key, value) pairs; a key may reach into a setting by a dot, "schedule.decay".
    A key that some of the recipe's `members` have as well is set for every net: theirs are no longer used.
    Names of recipes and nets may have `_` for `-`.
    Raises UserError for a name, key or value that is not valid, with the valid ones; and for a setting of which some
    members have a part of their own, or that is a part of one of theirs, unless `members` are given anew.
    """
    name = choose_name("recipe", name, RECIPES)
    config, overrides = copy.deepcopy(DEFAULTS | RECIPES[name]), list(overrides)
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
        _override(config, key, value, DEFAULTS.keys() - DESCRIPTIONS)
    check(config)
    for settings in (config, *config["members"]):
        if "model" in settings:
            settings["model"] = hyphens(settings["model"])
    return config


def _overlap(key, other):
    """Whether one of two keys is the other or a part of it: "schedule" and "schedule.decay"."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def _override(config, key, value, valid):
    outer, _, inner = key.partition(".")
    choose("setting", outer, valid)
    if not inner:
        config[outer] = value
    elif isinstance(config[outer], dict):
        config[outer][inner] = value
    else:
        raise UserError(f"setting {outer!r} has no parts, so {key!r} cannot be set")


def member(config, net):
    """Returns the settings that net `net` (from 1) of a run is trained by: the run's, as its one of `members` has them.

    Nets of a kind follow one another: of 4 nets and 2 members, the first two nets are of the first kind. A member with
    a `model` of its own takes none of the run's `model_config`.
    """
    config = copy.deepcopy(config)
    members = config["members"] or [{}]
    own = members[(net - 1) * len(members) // config["nets"]]
    if "model" in own:
        config["model_config"] = {}
    for key, value in own.items():
        _override(config, key, value, MAY_DIFFER)
    return config


def kinds(config):
    """Returns the different settings of a run's nets, in the nets' order; `nets` in each is how many have them."""
    all_members = [member(config, net) for net in range(1, config["nets"] + 1)]
    return [settings | {"nets": len(list(nets))} for settings, nets in itertools.groupby(all_members)]


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
    for settings in kinds(config):
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
