"""The setting `joint_flips`: flipped digits are classes of their own.

A net trains on each image and on its k flips. Each flip adds ten classes, and a prediction is the mean over the image
and its flips. Source: Lee, Hwang and Shin, "Self-supervised label augmentation via input transformations", 2020. One
flip doubles the time of training and predicting.
"""

from collections.abc import Sequence

import keras
from keras import ops

from recognizer.base.backend import Tensor
from recognizer.base.errors import UserError
from recognizer.base.words import choose
from recognizer.nn.graph import Call, call_of, number_of_calls
from recognizer.nn.parts import images

# The flips by their names in keras.layers.RandomFlip, and the axes of images that each reverses.
FLIPS = {"horizontal": (2,), "vertical": (1,), "horizontal_and_vertical": (1, 2)}
CORE = "joint_flips"  # a layer name that no architecture uses by chance


def checked(settings: dict) -> list[str]:
    """Returns `joint_flips` from a net's settings, a list of FLIPS. Raises UserError if it is not valid."""
    flips, augmentation = settings["joint_flips"], settings["augmentation"]
    for flip in flips:
        choose("flip in joint_flips", flip, FLIPS)
    if len(set(flips)) < len(flips):
        raise UserError(f"joint_flips must name each flip once at most, not {flips!r}")
    if flips and (augmentation.get("horizontal_flip") or augmentation.get("vertical_flip")):
        raise UserError("joint_flips flips each digit: set horizontal_flip and vertical_flip to false")
    return flips


def flipped(images: Tensor, flip: str) -> Tensor:
    """Returns images (n, h, w, c), flipped axis by axis, since Keras < 3.14 on TensorFlow cannot flip two at once."""
    for axis in FLIPS[flip]:
        images = ops.flip(images, axis)
    return images


def with_flips(images: Tensor, flips: Sequence[str]) -> Tensor:
    """Returns each of the images, float32 (n, h, w, c), followed by its k flips: (n * (1 + k), h, w, c)."""
    views = ops.stack([images, *(flipped(images, flip) for flip in flips)], axis=1)
    return ops.reshape(views, [-1, *images.shape[1:]])


def joint_labels(labels: Tensor, flips: Sequence[str]) -> Tensor:
    """Returns the labels of the images of `with_flips`: from (n, 10) to (n * (1 + k), 10 * (1 + k))."""
    k = len(flips)
    views = [ops.pad(labels, [[0, 0], [10 * i, 10 * (k - i)]]) for i in range(1 + k)]
    return ops.reshape(ops.stack(views, axis=1), [-1, 10 * (1 + k)])


def with_classes(model: keras.Model, name: str, flips: Sequence[str], seed: int | None) -> keras.Model:
    """Returns a model with ten more classes for each flip.

    The layer that computes the classes, Dense or convolutional, becomes wider. The layers after it, such as a softmax
    or a pooling, are made again. Raises UserError if the model does not end so, or if it calls one of these layers more
    than once. name: the architecture's name.
    """
    wide = 10 * (1 + len(flips))
    after: list[Call] = []
    call = call_of(model.outputs[0])
    while True:
        if number_of_calls(model, call.operation) > 1 or len(call.input_tensors) != 1:
            raise _cannot_widen(name, model)
        if width := _width(call.operation):
            break
        after.insert(0, call)
        call = call_of(call.input_tensors[0])
    own = {width: wide, "kernel_initializer": _seeded(call.operation.kernel_initializer, seed)}
    outputs = _again(call, own, call.input_tensors[0])
    try:
        for call in after:
            outputs = _again(call, {}, outputs)
    except Exception as error:  # from any layer, for example a Reshape to ten values
        raise _cannot_widen(name, model) from error
    if outputs.shape != (None, wide):
        raise _cannot_widen(name, model)
    return keras.Model(model.inputs[0], outputs, name=CORE)  # [0], since Keras warns about a list


def _again(call, own, tensor):
    """Returns the output of a new layer for a tensor, called with the same other arguments. own: its new arguments."""
    arguments, named = call.arguments.fill_in({id(call.input_tensors[0]): tensor})
    return type(call.operation).from_config(call.operation.get_config() | own)(*arguments, **named)


def _seeded(initializer, seed):
    """Returns an initializer with a seed of ours, where it draws at random: a copy would have the seed of the first."""
    config = initializer.get_config() if isinstance(initializer, keras.initializers.Initializer) else {}
    return type(initializer).from_config(config | {"seed": seed}) if "seed" in config else initializer


def _width(layer):
    """Returns the name of the argument that sets how many classes a layer computes; None if it does not compute ten."""
    for kind, width in ((keras.layers.Dense, "units"), (keras.layers.Conv2D, "filters")):
        if isinstance(layer, kind) and getattr(layer, width) == 10:
            return width
    return None


def _cannot_widen(name, model):
    last = type(model.outputs[0]._keras_history.operation).__name__
    return UserError(
        f"architecture {name!r} ends with {last}, and joint_flips needs a Dense or Conv2D layer of 10 classes at the "
        "end, called once (a softmax or pooling may follow it): change the end, or train without flips "
        "(--set joint_flips=[])"
    )


def aggregated(model: keras.Model, flips: Sequence[str]) -> keras.Model:
    """Returns a model that predicts ten classes from a model of `with_classes`; `model` itself if `flips` is empty.

    Its probabilities (n, 10) are the mean over an image and its flips, each from its own ten classes.
    """
    if not flips:
        return model
    inputs = images()
    views = [model(inputs), *(model(flipped(inputs, flip)) for flip in flips)]
    parts = [p[:, 10 * i : 10 * i + 10] for i, p in enumerate(views)]
    return keras.Model(inputs, sum(p / ops.sum(p, axis=1, keepdims=True) for p in parts) / len(parts))


def core(model: keras.Model) -> keras.Model:
    """Returns the model of `with_classes` inside a model of `aggregated`. Returns any other model unchanged."""
    return next((layer for layer in model.layers if layer.name == CORE), model)
