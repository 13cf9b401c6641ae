"""Keras's losses by name, adapted to logits: nets train on logits here, but few of Keras's losses accept them."""

from typing import Any

import keras
import numpy as np
from keras import ops

from recognizer.base.errors import UserError
from recognizer.base.reasons import reason
from recognizer.config.keras_classes import LOGITS, LOSSES

DEFAULT = "CategoricalCrossentropy"


def make(name: str = DEFAULT, label_smoothing: float = 0.0, classes: int = 10, **arguments: Any) -> keras.losses.Loss:
    """Returns Keras's loss `name` as a function of labels (n, classes) and logits (n, classes).

    name: a key of LOSSES. A loss of probabilities is applied to the softmax of the logits.
    Raises UserError if Keras does not have the loss or refuses an argument, or if the loss is not one finite number.
    """
    told = f"loss {name!r} cannot be used with loss_config {arguments}"
    for key, value in arguments.items():
        if isinstance(value, str) and key != "reduction":  # "no" would count as true
            raise UserError(f"loss_config.{key} must be a number, true, false or a list, not {value!r}")
    kind = getattr(keras.losses, name, None)
    if kind is None:
        raise UserError(f"loss {name!r} is not in Keras {keras.__version__}: it needs a later one")
    own = {"label_smoothing": label_smoothing} if "label_smoothing" in LOSSES[name] else {}
    own |= {"from_logits": True} if name in LOGITS else {}
    try:
        loss = kind(**own, **arguments)
        if name not in LOGITS:
            of_probabilities = loss.call
            loss.call = lambda labels, logits: of_probabilities(labels, ops.softmax(logits))
        value = ops.convert_to_numpy(loss(np.eye(4, classes), np.zeros((4, classes))))
    except Exception as error:
        raise UserError(f"{told}: {reason(error)}") from error
    if value.shape:
        raise UserError(f"{told}: it must give one number for a batch, not one for each image: leave out reduction")
    if not np.isfinite(value):
        raise UserError(f"{told}: it gives {value} if all classes have equal probabilities")
    return loss
