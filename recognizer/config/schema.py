"""Every setting: its default, what values are valid, and what it means. A recipe gives those that differ.

The names of settings and their defaults are also the keys of a run's config.json.
"""

from typing import NamedTuple

from recognizer.base.errors import UserError
from recognizer.base.rules import FLAG, NULL, OBJECT, TEXT, Rule, list_of, number, one_of, whole
from recognizer.base.words import choose
from recognizer.config import keras_classes, schedules


class Setting(NamedTuple):
    """A setting's default and the rule for its values. by_net: whether `members` may set it for some of the nets."""

    default: object
    rule: Rule
    by_net: bool = False


COUNT = whole(1, 10**6)
SEED = whole(0, 2**32)
TEMPERATURES = 0.05, 20  # the least, and more than any
TEN_NUMBERS = Rule("a list of ten numbers, some above 0", lambda value: _are_weights(value))

SETTINGS = {
    # The architecture, a function of models.py, and its keyword arguments. `mean` and `std`, where it has them, are
    # those of the training pixels.
    "model": Setting(None, TEXT, by_net=True),
    "model_config": Setting({}, OBJECT, by_net=True),
    # How many nets are trained and averaged. `members` lists what sets them apart: each member is an object of
    # settings, for an equal share of the nets.
    "nets": Setting(1, whole(1, 10_000)),
    "members": Setting([], list_of(OBJECT, "a list of objects of settings")),
    # The share of the labelled images to validate on; scikit-learn's random_state for that split (null: from the run's
    # seed); whether each net has a split of its own; on how many images to validate while training (null: on all).
    "validation_split": Setting(0.1, number(0, 1)),
    "split_seed": Setting(None, SEED | NULL),
    "bagging": Setting(False, FLAG),
    "validation_rows": Setting(None, COUNT | NULL),
    # Augmentation's arguments, which are those of ImageDataGenerator and more: augment.py.
    "augmentation": Setting({}, OBJECT, by_net=True),
    # Flips of each image that are trained on too, as ten classes of their own: nn/flip_classes.py.
    "joint_flips": Setting([], list_of(TEXT, 'a list, for example ["horizontal"]'), by_net=True),
    # The name of a Keras optimizer, in any spelling (AdamW, adam_w), and its keyword arguments except the learning
    # rate. Naming another one keeps the arguments that every optimizer takes, without weight_decay: keras_classes.py.
    "optimizer": Setting("adam", TEXT, by_net=True),
    "optimizer_config": Setting({}, OBJECT, by_net=True),
    # The learning rate: schedules.py lists the schedules and their settings.
    "schedule": Setting({"name": "constant", "learning_rate": 1e-3}, OBJECT, by_net=True),
    # The name of a Keras loss, in any spelling (MeanSquaredError, mean_squared_error, mse), and its keyword arguments.
    # A loss of probabilities gets the softmax of the logits. label_smoothing is for the losses that take it.
    "loss": Setting("CategoricalCrossentropy", TEXT, by_net=True),
    "loss_config": Setting({}, OBJECT, by_net=True),
    "label_smoothing": Setting(0.0, number(0, 1), by_net=True),
    # How much the images of each digit count in the loss: null (all the same), "balanced" (the rarer, the more, as
    # scikit-learn's compute_class_weight on a net's own training rows), or a list of ten weights. Accuracy and
    # validation are not weighted, as in keras.Model.fit.
    "class_weight": Setting(None, one_of("balanced") | TEN_NUMBERS | NULL, by_net=True),
    "batch_size": Setting(64, COUNT, by_net=True),
    # Equal parts of a batch that are computed side by side, each on a core of its own.
    "replicas": Setting(1, whole(1, 1000)),
    # null: every training image once; "full": the same in full batches only; a number: so many steps, reshuffling.
    # min_steps_per_epoch keeps a small data set from having a handful of steps.
    "steps_per_epoch": Setting(None, COUNT | one_of("full") | NULL, by_net=True),
    "min_steps_per_epoch": Setting(1, COUNT, by_net=True),
    "epochs": Setting(10, COUNT, by_net=True),
    # Which weights to keep: "last"; "averaged", Keras's moving average over the steps (optimizer_config.ema_momentum),
    # which needs update_bn; "best", those of the best epoch on validation, whose figure is biased upward.
    "weights": Setting("last", one_of("last", "averaged", "best")),
    # Stop a net's training when its validation accuracy has not risen for so many epochs, and keep the weights of the
    # best epoch (weights "best"), as keras.callbacks.EarlyStopping with this patience. null: train all epochs.
    "early_stopping": Setting(None, whole(0, 10**6) | NULL),
    # Recompute batch-norm statistics at the end on so many batches of unaugmented images, which match test inputs.
    "update_bn": Setting(0, whole(0, 10**6), by_net=True),
    # Predict an image as the mean over itself and its shifts by so many pixels in four directions.
    "test_shift": Setting(0, whole(0, 28)),
    # The mean probabilities are sharpened to p ** (1 / temperature), normalised, which changes no label. It is fitted
    # on the validation rows: this is where the fit starts, and what counts without such rows. Nets trained with
    # label smoothing are too unsure of themselves, so their recipes have less than 1.
    "temperature": Setting(1, number(*TEMPERATURES)),
    # Whether the test images are also scored augmented, as the source did.
    "score_augmented": Setting(False, FLAG),
    # Whose work it is, and the figure its author gave.
    "source": Setting("", TEXT),
    "reported": Setting("", TEXT),
}
NAMES = {*keras_classes.CONFIG_OF, "schedule.name"}
DESCRIPTIONS = {"source", "reported"}  # they change nothing that is computed
DEFAULTS = {key: setting.default for key, setting in SETTINGS.items()}

# What a run has besides its recipe's settings; train.py has an option for each.
RUN_SETTINGS = {
    "seed": Setting(0, SEED),
    # Of the layers' arithmetic. "auto" (bfloat16 or float16 where the processor computes it natively) is resolved
    # before a run starts.
    "precision": Setting("auto", one_of("float32", "bfloat16", "float16"), by_net=True),
    # "batch": augment.py's own transforms of whole batches; "keras": ImageDataGenerator, image by image.
    "augment_engine": Setting("batch", one_of("batch", "keras")),
    # Whether a GPU computes the same bits each time, by slower kernels.
    "deterministic": Setting(False, FLAG),
    # Whether curves, graph and pictures are written for TensorBoard, too.
    "tensorboard": Setting(False, FLAG),
}
BY_NET = {key for key, setting in (SETTINGS | RUN_SETTINGS).items() if setting.by_net}
# What a run's config.json records besides, and what it records of the run's data.
RECORDED = {
    "recipe": Setting(None, TEXT),
    "created": Setting(None, TEXT),
    "command": Setting(None, list_of(TEXT, "a list of strings")),
    "data": Setting(None, OBJECT),
}
RECORDED_DATA = dict.fromkeys(("source", "origin", "fingerprint"), Setting(None, TEXT))


def _are_weights(value):
    valid = isinstance(value, list) and len(value) == 10 and all(map(number().valid, value))
    return valid and any(value)


def place(key):
    """Returns where a setting, "schedule.decay" for example, is in this file's order; what is no setting comes last."""
    keys = [*SETTINGS, *RUN_SETTINGS]
    outer = key.partition(".")[0]
    return keys.index(outer) if outer in keys else len(keys)


def check_values(config, settings, prefix=""):
    """Raises UserError at the first of `settings` ({name: Setting}) that `config` does not have, or not as valid.

    prefix: what the error puts before a setting's name.
    """
    for key, setting in settings.items():
        if key not in config:
            raise UserError(f"{prefix}{key} is missing")
        setting.rule.check(prefix + key, config[key])


def override(config, key, value, valid):
    """Sets setting `key` of a config; a key may reach into a setting by a dot, "schedule.decay".

    Raises UserError unless the setting is one of `valid`.
    """
    outer, _, inner = key.partition(".")
    if key == "schedule" and isinstance(value, str):
        inner = "name"
    if outer not in valid and (whole := _setting_with(key)):
        raise UserError(f"{key} is a part of a setting: write {whole}.{key}")
    choose("setting", outer, valid)
    if inner and not isinstance(config[outer], dict):
        raise UserError(f"setting {outer!r} has no parts, so {key!r:.60} cannot be set")
    if outer == "schedule":
        config[outer] = schedules.override(config[outer], inner, value)
    elif inner:
        config[outer][inner] = value
    elif outer in keras_classes.CONFIG_OF:
        keras_classes.replace(config, outer, value)
    else:
        config[outer] = value


def _setting_with(part):
    """Returns the name of the setting that has a part of this name, or None."""
    if part in schedules.RULES:
        return "schedule"
    return keras_classes.has_part(part) or ("augmentation" if part.endswith(("_range", "_flip")) else None)


def override_all(config, pairs, valid):
    """Sets the settings of (key, value) `pairs`, like `override`, whatever their order.

    Whole settings are set before parts of them, and names, which may drop settings, before those.
    """
    for key, value in sorted(pairs, key=lambda pair: ("." in pair[0], pair[0] not in NAMES)):
        override(config, key, value, valid)
