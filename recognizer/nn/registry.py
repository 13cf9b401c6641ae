from keras.layers import (
    Dense,
    Input,
    Rescaling,
)

from recognizer.base.words import hyphens

ARCHITECTURES = {}


def architecture(function):
    """Registers an architecture under its function's name. Raises ValueError if there is one of that name."""
    name = hyphens(function.__name__)
    if name in ARCHITECTURES:
        raise ValueError(f"there is already an architecture {name!r}: give this function another name")
    ARCHITECTURES[name] = function
    return function


def images():
    """The input: float32 (n, 28, 28, 1) in 0..1."""
    return Input((28, 28, 1))


def standardized(mean, std):
    """The input less its mean, over its standard deviation (both of the training pixels, in 0..1)."""
    return [images(), Rescaling(1 / std, offset=-mean / std)]


def classes():
    """The output: ten probabilities, in float32 whatever the precision of the net."""
    return Dense(10, activation="softmax", dtype="float32", name="classes")
