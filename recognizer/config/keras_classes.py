"""The Keras classes for the settings `optimizer` and `loss`, with the arguments of each class.

The spelling of a class ignores case, `-` and `_`: "AdamW", "adam_w". Its arguments are in optimizer_config or
loss_config. The lists are written out here, since Keras takes seconds to import.
"""

import textwrap
from typing import Any

from recognizer.base.errors import LONGEST_LINE, UserError
from recognizer.base.words import choose, letters

# The arguments of every optimizer, without the learning rate.
EVERY_OPTIMIZER = {"weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema", "ema_momentum"}
EVERY_OPTIMIZER |= {"ema_overwrite_frequency", "gradient_accumulation_steps", "loss_scale_factor", "name"}
ADAM = {"beta_1", "beta_2", "epsilon"}
OPTIMIZERS = {
    "Adadelta": {"rho", "epsilon"},
    "Adafactor": {"beta_2_decay", "epsilon_1", "epsilon_2", "clip_threshold", "relative_step"},
    "Adagrad": {"initial_accumulator_value", "epsilon"},
    "Adam": ADAM | {"amsgrad"},
    "Adamax": ADAM,
    "AdamW": ADAM | {"amsgrad"},
    "Ftrl": {"learning_rate_power", "initial_accumulator_value", "beta"}
    | {f"{kind}_regularization_strength" for kind in ("l1", "l2", "l2_shrinkage")},
    "Lamb": ADAM,
    "Lion": {"beta_1", "beta_2"},
    "Muon": {"adam_beta_1", "adam_beta_2", "adam_weight_decay", "adam_lr_ratio", "epsilon", "exclude_layers"}
    | {"exclude_embeddings", "muon_a", "muon_b", "muon_c", "momentum", "ns_steps", "nesterov", "rms_rate"},
    "Nadam": ADAM,
    "RMSprop": {"rho", "momentum", "epsilon", "centered"},
    "ScheduleFreeAdamW": ADAM | {"warmup_steps"},  # in Keras 3.14 and later
    "SGD": {"momentum", "nesterov"},
}

# The arguments of each loss: `label_smoothing` is a separate setting, the others are in loss_config.
SMOOTHED = {"label_smoothing", "axis"}
LOSSES = {
    "BinaryCrossentropy": SMOOTHED,
    "BinaryFocalCrossentropy": SMOOTHED | {"apply_class_balancing", "alpha", "gamma"},
    "CategoricalCrossentropy": SMOOTHED,
    "CategoricalFocalCrossentropy": SMOOTHED | {"alpha", "gamma"},
    "CategoricalHinge": set(),
    "CosineSimilarity": {"axis"},
    "Dice": {"axis"},
    "Hinge": set(),
    "Huber": {"delta"},
    "KLDivergence": set(),
    "LogCosh": set(),
    "MeanAbsoluteError": set(),
    "MeanAbsolutePercentageError": set(),
    "MeanSquaredError": set(),
    "MeanSquaredLogarithmicError": set(),
    "Poisson": set(),
    "SquaredHinge": set(),
    "Tversky": {"alpha", "beta", "axis"},
}
LOGITS = {"CategoricalCrossentropy", "CategoricalFocalCrossentropy"}  # these take logits without a softmax
SHORT = {"mse": "MeanSquaredError", "mae": "MeanAbsoluteError", "mape": "MeanAbsolutePercentageError"}
SHORT |= {"msle": "MeanSquaredLogarithmicError", "kld": "KLDivergence", "bce": "BinaryCrossentropy"}
NUMBERS = "needs labels as numbers, but they are one-hot here: set loss=CategoricalCrossentropy"
UNFIT = {  # why other classes of Keras cannot be used
    "lossscaleoptimizer": "is not needed: --precision float16 scales the loss by itself",
    "multioptimizer": "takes optimizers, which a setting cannot hold",
    "sparsecategoricalcrossentropy": NUMBERS,
    "categoricalgeneralizedcrossentropy": NUMBERS,
    "ctc": "compares sequences, not labels of digits: set loss=CategoricalCrossentropy",
    "circle": "compares embeddings, not the probabilities that a net gives: set loss=CategoricalCrossentropy",
}
LEFT_OUT = {  # arguments that are separate settings, or follow from other settings
    "optimizer_config.learning_rate": "belongs to the schedule: set schedule.learning_rate instead",
    "loss_config.label_smoothing": "is a setting of its own: set label_smoothing instead",
    "loss_config.from_logits": "follows from the loss: leave it out",
}

ARGUMENTS = {"optimizer_config": set().union(*OPTIMIZERS.values()), "loss_config": set().union(*LOSSES.values())}
CONFIG_OF = {"model": "model_config", "optimizer": "optimizer_config", "loss": "loss_config"}
CLASSES = {"optimizer": {name.lower(): name for name in OPTIMIZERS}, "loss": {name: name for name in LOSSES}}
# The arguments that a new model, optimizer or loss keeps. An optimizer's kept arguments act on gradients and weights in
# the same way in every optimizer. Weight decay is not kept, since a value that suits Muon is far from one that suits
# SGD.
KEPT = {"model": set(), "optimizer": EVERY_OPTIMIZER - {"weight_decay", "name"}, "loss": {"reduction"}}


def canonical(key: str, name: Any) -> Any:
    """Returns a name as a config stores it: an optimizer's in lower case, a loss's in Keras's spelling.

    Returns a value that is not a string unchanged.
    """
    names = {letters(name): name for name in CLASSES.get(key, ())} | (SHORT if key == "loss" else {})
    return names.get(letters(name), name) if isinstance(name, str) else name


def replace(config: dict, key: str, name: str) -> None:
    """Sets a config's `model`, `optimizer` or `loss`, and drops the arguments of the previous one.

    A new optimizer or loss keeps the arguments in KEPT. A model keeps none, even if its name is the same as before.
    """
    before, config[key] = canonical(key, config[key]), canonical(key, name)
    if key == "model" or config[key] != before:
        arguments = config[CONFIG_OF[key]]
        config[CONFIG_OF[key]] = {inner: arguments[inner] for inner in arguments if inner in KEPT[key]}
    if key == "loss" and config[key] != before and not smooths(config):
        config["label_smoothing"] = 0.0


def arguments(config: dict) -> dict[str, set[str]]:
    """Returns which arguments a config's optimizer and loss take: {"optimizer_config": names, "loss_config": names}."""
    optimizer = OPTIMIZERS.get(CLASSES["optimizer"].get(str(config["optimizer"]), ""), set())
    return {
        "optimizer_config": optimizer | EVERY_OPTIMIZER,
        "loss_config": LOSSES.get(str(config["loss"]), set()) | {"reduction"},
    }


def drops(key: str, other: str) -> bool:
    """Returns whether a new value of `key` drops the setting `other`: "optimizer" drops "optimizer_config.momentum"."""
    outer, _, inner = other.partition(".")
    return CONFIG_OF.get(key) == outer and inner not in KEPT[key]


def smooths(config: dict) -> bool:
    """Returns whether a config's loss takes label smoothing."""
    return "label_smoothing" in LOSSES.get(str(config["loss"]), ())


def check(config: dict) -> None:
    """Raises UserError if a config's optimizer or loss is not one of Keras's, or does not take its arguments."""
    _check_class(config, "optimizer", OPTIMIZERS, EVERY_OPTIMIZER)
    _check_class(config, "loss", LOSSES, {"reduction"})
    if config["label_smoothing"] and not smooths(config):
        raise UserError(f"loss {config['loss']!r} takes no label_smoothing: set label_smoothing to 0")


def _check_class(config, key, arguments, every):
    name, classes = config[key], CLASSES[key]
    if reason := UNFIT.get(letters(name)):
        raise UserError(f"{key} {name!r} {reason}")
    own = arguments[classes[choose(key, name, classes)]] | every
    for inner in config[CONFIG_OF[key]]:
        if reason := LEFT_OUT.get(f"{CONFIG_OF[key]}.{inner}"):
            raise UserError(f"{CONFIG_OF[key]}.{inner} {reason}")
        if inner not in own and (others := [other for other, taken in arguments.items() if inner in taken]):
            told = f"is a setting of {', '.join(others)}, not of {name}, which has {', '.join(sorted(own))}"
            raise UserError(textwrap.shorten(f"{CONFIG_OF[key]}.{inner} {told}", LONGEST_LINE, placeholder=" ..."))
        choose(f"{name} setting", inner, own)
