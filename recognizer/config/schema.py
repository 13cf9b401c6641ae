"""Every setting: its default, its valid values and its meaning. A recipe lists only the settings that differ.

SETTINGS are the keys that a recipe in recipes.py can have. A recipe can also set a part of a setting: "schedule.decay".
The names of the settings are also the keys of a run's config.json.
"""

import textwrap
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from recognizer.base.errors import LONGEST_LINE, UserError
from recognizer.base.rules import FLAG, NULL, OBJECT, TEXT, Rule, list_of, number, one_of, whole
from recognizer.base.words import SHORT, choose, hyphens
from recognizer.config import keras_classes, schedules, signatures


class Setting(NamedTuple):
    """A setting's default and the rule for its values. by_net: whether `members` may set it for some of the nets."""

    default: object
    rule: Rule
    by_net: bool = False


COUNT = whole(1, 10**6)
SEED = whole(0, 2**32)
TEMPERATURES = 0.05, 20  # low <= temperature < high
TEN_NUMBERS = Rule("a list of ten numbers of 0 or more, not all 0", lambda value: _are_weights(value))

SETTINGS = {
    # The architecture, a function of models.py, and its keyword arguments. If it takes `mean` and `std`, their defaults
    # are those of the training pixels.
    "model": Setting(None, TEXT, by_net=True),
    "model_config": Setting({}, OBJECT, by_net=True),
    # The number of nets to train and average. Each of `members` is an object of settings for an equal share of the
    # nets.
    "nets": Setting(1, whole(1, 10_000)),
    "members": Setting([], list_of(OBJECT, "a list of objects of settings")),
    # The share of labelled images to validate on; scikit-learn's random_state for this split (null: from the run's
    # seed); whether each net has its own split; the number of images to validate on during training (null: all).
    "validation_split": Setting(0.1, number(0, 1)),
    "split_seed": Setting(None, SEED | NULL),
    "bagging": Setting(False, FLAG),
    "validation_rows": Setting(None, COUNT | NULL),
    # The arguments of the augmentation, those of ImageDataGenerator and more; see augment.py.
    "augmentation": Setting({}, OBJECT, by_net=True),
    # Each net also trains on these flips of each image. Each flip adds ten classes; see nn/flip_classes.py.
    "joint_flips": Setting([], list_of(TEXT, 'a list, for example ["horizontal"]'), by_net=True),
    # The name of a Keras optimizer, in any spelling (AdamW, adam_w), and its keyword arguments except the learning
    # rate. A new optimizer keeps the arguments that every optimizer takes, except weight_decay; see keras_classes.py.
    "optimizer": Setting("adam", TEXT, by_net=True),
    "optimizer_config": Setting({}, OBJECT, by_net=True),
    # The learning rate: schedules.py lists the schedules and their settings.
    "schedule": Setting({"name": "constant", "learning_rate": 1e-3}, OBJECT, by_net=True),
    # The name of a Keras loss, in any spelling (MeanSquaredError, mean_squared_error, mse), and its keyword arguments.
    # Losses of probabilities get the softmax of the logits. Only some losses take label_smoothing.
    "loss": Setting("CategoricalCrossentropy", TEXT, by_net=True),
    "loss_config": Setting({}, OBJECT, by_net=True),
    "label_smoothing": Setting(0.0, number(0, 1), by_net=True),
    # The weight of each digit's images in the loss: null (all equal), "balanced" (rarer digits weigh more:
    # scikit-learn's compute_class_weight on a net's own training rows), or a list of ten weights. Accuracy and
    # validation are not weighted, as in keras.Model.fit.
    "class_weight": Setting(None, one_of("balanced") | TEN_NUMBERS | NULL, by_net=True),
    "batch_size": Setting(64, COUNT, by_net=True),
    # The number of equal parts of a batch to compute in parallel, each on its own core.
    "replicas": Setting(1, whole(1, 1000)),
    # null: every training image once; "full": the same in full batches only; a number: that many steps, and the images
    # are reshuffled after each pass over them. min_steps_per_epoch is for small data sets, whose epochs would have only
    # a few steps. max_rows_per_epoch (null: no limit) is for large ones: an epoch takes at most that many images, and
    # the next epoch goes on with the others, so training takes no longer than on a data set of that size.
    # max_rows_per_epoch has no effect if steps_per_epoch is a number.
    "steps_per_epoch": Setting(None, COUNT | one_of("full") | NULL, by_net=True),
    "min_steps_per_epoch": Setting(1, COUNT, by_net=True),
    "max_rows_per_epoch": Setting(None, COUNT | NULL, by_net=True),
    "epochs": Setting(10, COUNT, by_net=True),
    # Which weights to keep: "last"; "averaged", Keras's EMA over the steps (optimizer_config.ema_momentum), for which a
    # net with batch normalization needs update_bn above 0; "best", those of the best epoch on validation, whose
    # validation accuracy is biased upward.
    "weights": Setting("last", one_of("last", "averaged", "best")),
    # Stop training a net when its validation accuracy has not risen for this many epochs, and keep the weights of the
    # best epoch (weights "best"), like keras.callbacks.EarlyStopping with this patience. null: train all epochs.
    "early_stopping": Setting(None, whole(0, 10**6) | NULL),
    # After training, recompute batch-norm statistics on this many batches of unaugmented images, like test inputs.
    "update_bn": Setting(0, whole(0, 10**6), by_net=True),
    # Average the predictions for an image and for its shifts by this many pixels in four directions.
    "test_shift": Setting(0, whole(0, 28)),
    # The mean probabilities p become p ** (1 / temperature), normalised, which changes no label. The temperature is
    # fitted on the validation rows, with a prior around this value; without them this value is used.
    # Recipes with label smoothing, which makes nets underconfident, have a value below 1.
    "temperature": Setting(1, number(*TEMPERATURES)),
    # Whether to score augmented test images, too, as the source did.
    "score_augmented": Setting(False, FLAG),
    # The source of the recipe, and the accuracy that its author reported.
    "source": Setting("", TEXT),
    "reported": Setting("", TEXT),
}
NAMES = {*keras_classes.CONFIG_OF, "schedule.name"}
DESCRIPTIONS = {"source", "reported"}  # without effect on the results
DEFAULTS = {key: setting.default for key, setting in SETTINGS.items()}

# The settings of a run that are not in its recipe. train.py has an option for each.
RUN_SETTINGS = {
    "seed": Setting(0, SEED),
    # The dtype in which layers compute. "auto" is resolved before a run starts: to bfloat16 or float16 if the processor
    # computes it natively.
    "precision": Setting("auto", one_of("float32", "bfloat16", "float16"), by_net=True),
    # "batch": augment.py's own transforms of whole batches; "keras": ImageDataGenerator, image by image.
    "augment_engine": Setting("batch", one_of("batch", "keras")),
    # Whether a GPU must compute the same bits in every run, with slower kernels.
    "deterministic": Setting(False, FLAG),
    # Whether to write curves, graph and pictures for TensorBoard.
    "tensorboard": Setting(False, FLAG),
}
BY_NET = {key for key, setting in (SETTINGS | RUN_SETTINGS).items() if setting.by_net}
# The other entries of a run's config.json, and the entries of its "data".
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


def place(key: str) -> int:
    """Returns the position of a setting, such as "schedule.decay", in this file. Unknown keys come last."""
    keys = [*SETTINGS, *RUN_SETTINGS]
    outer = key.partition(".")[0]
    return keys.index(outer) if outer in keys else len(keys)


def check_values(config: dict, settings: dict[str, Setting], prefix: str = "") -> None:
    """Raises UserError at the first of `settings` ({name: Setting}) that is missing in `config`, or not valid.

    prefix: text before a setting's name in the message.
    """
    for key, setting in settings.items():
        if key not in config:
            raise UserError(f"{prefix}{key} is missing")
        setting.rule.check(prefix + key, config[key])


def override(config: dict, key: str, value: Any, valid: Collection[str]) -> None:
    """Sets setting `key` of a config. A dotted key, "schedule.decay", sets a part of a setting.

    Raises UserError if the setting is not one of `valid`.
    """
    outer, _, inner = str(key).partition(".")
    if key == "schedule" and isinstance(value, str):
        inner = "name"
    if outer not in valid:
        if full := _full_keys(config, key) or _full_keys(config, SHORT.get(key, key)):
            whole, part = full[0].split(".")
            name = config[whole].get("name") if whole == "schedule" and isinstance(config[whole], dict) else None
            parts = f"name={name!r}, {part}=..." if name else f"{part}=..., ..."
            of_recipe = f"in recipes.py {whole}=dict({parts})"
            raise UserError(f"{key} is a part of a setting: write {' or '.join(full)}; {of_recipe}")
        _argument_of_others(config["model"], key)
    choose("setting", outer, valid)
    if inner and not isinstance(config[outer], dict):
        instead = f": write {keras_classes.CONFIG_OF[outer]}.{inner:.60}" if outer in keras_classes.CONFIG_OF else ""
        raise UserError(f"setting {outer!r} has no parts, so {key!r:.60} cannot be set{instead}")
    if outer == "schedule":
        config[outer] = schedules.override(config[outer], inner, value)
    elif inner:
        config[outer][inner] = value
    elif outer in keras_classes.CONFIG_OF:
        keras_classes.replace(config, outer, value)
    else:
        config[outer] = value


def _full_keys(config, part):
    """Returns the full keys of the parts with the name `part`: ["model_config.dropout"] for "dropout".

    These are parts of the config's architecture, augmentation, schedule, optimizer and loss. If none of these has such
    a part, those of all other schedules, optimizers and losses are returned.
    """
    chosen = {
        "model_config": signatures.architectures().get(str(config["model"]).replace("-", "_"), ()),
        "augmentation": signatures.augmentation(),
        "schedule": schedules.settings(config["schedule"]),
        **keras_classes.arguments(config),
    }
    others = {"schedule": schedules.RULES, **keras_classes.ARGUMENTS}
    for names in (chosen, others):
        if found := [f"{whole}.{part}" for whole in names if part in names[whole]]:
            return found
    return []


def _argument_of_others(model, part):
    """Raises UserError if some architectures have an argument `part`. model: the one in use, which lacks it."""
    arguments = signatures.architectures()
    own, others = arguments.get(str(model).replace("-", "_")), [name for name in arguments if part in arguments[name]]
    if own is not None and others:
        told = f"architecture {model!r} has no argument {part!r}; it has: {', '.join(own) or 'none'}"
        told += f". Architectures with model_config.{part}: {', '.join(map(hyphens, others))}"
        raise UserError(textwrap.shorten(told, LONGEST_LINE, placeholder=" ..."))


def override_all(config: dict, pairs: Iterable[tuple[str, Any]], valid: Collection[str]) -> None:
    """Applies `override` to (key, value) `pairs`. If a key occurs twice, its last value counts.

    Whole settings are set before their parts. A new model, optimizer, loss or schedule.name may drop other settings, so
    it is set before them. An unknown key comes after the whole settings, since its error message depends on them.
    """
    for key, value in sorted(pairs, key=lambda pair: (pair[0] not in valid, pair[0] not in NAMES)):
        override(config, key, value, valid)
