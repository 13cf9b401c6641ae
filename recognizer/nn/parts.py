"""The building blocks of models.py: `@architecture`, a net's input and output, and every layer of Keras.

Conv1D, Conv2D, BatchNormalization and Dropout are those of layers.py.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import keras
from keras.layers import *  # noqa: F403 (all of them, so that models.py needs no other import)
from keras.layers import Dense, Input, Rescaling

from recognizer.base.words import hyphens
from recognizer.nn.layers import BatchNormalization, Conv1D, Conv2D, Dropout  # noqa: F401 (for models.py)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...  # a type checker cannot list the layers that `*` imports


Architecture = TypeVar("Architecture", bound=Callable[..., keras.Model])
ARCHITECTURES: dict[str, Callable[..., keras.Model]] = {}


def architecture(function: Architecture) -> Architecture:
    """Registers an architecture under its function's name. Raises ValueError if the name is taken."""
    name = hyphens(function.__name__)
    if name in ARCHITECTURES:
        raise ValueError(f"there is already an architecture {name!r}: give this function another name")
    ARCHITECTURES[name] = function
    return function


def images() -> keras.KerasTensor:
    """Returns a net's input layer: float32 (n, 28, 28, 1) in 0..1."""
    return Input((28, 28, 1))


def standardized(mean: float, std: float) -> list:
    """Returns the first layers of a Sequential model, which standardise images: (x - mean) / std.

    mean, std: mean and standard deviation of the training pixels, in 0..1.
    """
    return [images(), Rescaling(1 / std, offset=-mean / std)]


def classes() -> Dense:
    """Returns a net's last layer: ten probabilities, always in float32."""
    return Dense(10, activation="softmax", dtype="float32", name="classes")
