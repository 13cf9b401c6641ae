from recognizer.base.errors import UserError
from recognizer.base.words import choose

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
    joint_flips=[],  # flips of each image that are trained on too, as ten classes of their own: nn/flip_classes.py
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
    *("model", "model_config", "augmentation", "joint_flips", "optimizer", "optimizer_config", "schedule"),
    *("label_smoothing", "batch_size", "steps_per_epoch", "min_steps_per_epoch", "epochs", "update_bn"),
}


def override(config, key, value, valid):
    outer, _, inner = key.partition(".")
    choose("setting", outer, valid)
    if not inner:
        config[outer] = value
    elif isinstance(config[outer], dict):
        config[outer][inner] = value
    else:
        raise UserError(f"setting {outer!r} has no parts, so {key!r} cannot be set")
