"""Flipped digits as classes of their own: the setting `joint_flips`, whole: its check, its batches, its nets.

With k flips each image is trained on as it is and in each flip, whose digits are ten more classes; a prediction is the
mean over all of them. After Lee, Hwang and Shin, "Self-supervised label augmentation via input transformations", 2020.
One flip makes training and predicting take twice as long.
"""

import keras
from keras import ops

from recognizer.base.errors import UserError
from recognizer.base.words import choose
from recognizer.nn.parts import images

# The flips, as keras.layers.RandomFlip names them, and the axes of images that each turns round.
FLIPS = {"horizontal": (2,), "vertical": (1,), "horizontal_and_vertical": (1, 2)}
CORE = "joint_flips"  # a name that no layer of an architecture has by chance


def checked(settings):
    """Returns the setting `joint_flips` of a net's settings, a list of FLIPS. Raises UserError if it is not valid."""
    flips, augmentation = settings["joint_flips"], settings["augmentation"]
    for flip in flips:
        choose("flip in joint_flips", flip, FLIPS)
    if len(set(flips)) < len(flips):
        raise UserError(f"joint_flips must name each flip once at most, not {flips!r}")
    if flips and (augmentation.get("horizontal_flip") or augmentation.get("vertical_flip")):
        raise UserError("joint_flips flips each digit: set horizontal_flip and vertical_flip to false")
    return flips


def flipped(images, flip):
    """Returns images (n, h, w, c) in one of FLIPS, an axis at a time: Keras before 3.14 flips no two on TensorFlow."""
    for axis in FLIPS[flip]:
        images = ops.flip(images, axis)
    return images


def with_flips(images, flips):
    """Returns each image, float32 (n, h, w, c), followed by itself in each of k flips: (n * (1 + k), h, w, c)."""
    views = ops.stack([images, *(flipped(images, flip) for flip in flips)], axis=1)
    return ops.reshape(views, [-1, *images.shape[1:]])


def joint_labels(labels, flips):
    """Returns the labels of `with_flips`, of ten classes for each flip: (n, 10) to (n * (1 + k), 10 * (1 + k))."""
    k = len(flips)
    views = [ops.pad(labels, [[0, 0], [10 * i, 10 * (k - i)]]) for i in range(1 + k)]
    return ops.reshape(ops.stack(views, axis=1), [-1, 10 * (1 + k)])


def with_classes(model, name, flips, seed):
    """Returns a net with ten more classes for each flip: a new last layer on the other layers of architecture `name`.

    Raises UserError if the last layer is not Dense.
    """
    last = model.layers[-1]
    if not isinstance(last, keras.layers.Dense):
        raise UserError(f"architecture {name!r} does not end with classes(), which joint_flips needs")
    own = dict(units=10 * (1 + len(flips)), kernel_initializer=keras.initializers.GlorotUniform(seed))
    outputs = keras.layers.Dense.from_config(last.get_config() | own)
    return keras.Model(model.inputs[0], outputs(last.input), name=CORE)  # [0]: Keras warns of a list


def aggregated(model, flips):
    """Returns the net that predicts by one of `with_classes`; the model itself without flips.

    Its probabilities (n, 10) are the mean of the model's for an image and for its flips, each by its own ten classes.
    """
    if not flips:
        return model
    inputs = images()
    views = [model(inputs), *(model(flipped(inputs, flip)) for flip in flips)]
    parts = [p[:, 10 * i : 10 * i + 10] for i, p in enumerate(views)]
    return keras.Model(inputs, sum(p / ops.sum(p, axis=1, keepdims=True) for p in parts) / len(parts))


def core(model):
    """Returns the net of `with_classes` inside one of `aggregated`; any other model itself."""
    return next((layer for layer in model.layers if layer.name == CORE), model)
