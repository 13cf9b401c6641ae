import keras
from keras import ops
from keras.layers import (
    Dense,
)

from recognizer.base.errors import UserError
from recognizer.nn.registry import images


def with_classes(model, name, flips, seed):
    last = model.layers[-1]
    if not isinstance(last, Dense):
        raise UserError(f"architecture {name!r} does not end with classes(), which augmentation.joint_flips needs")
    own = dict(units=10 * (1 + flips), kernel_initializer=keras.initializers.GlorotUniform(seed))
    outputs = Dense.from_config(last.get_config() | own)
    return keras.Model(model.inputs, outputs(last.input), name=CORE)


def aggregated(model, flips):
    """The net that predicts by one that was built with joint_flips=`flips`: the mean of what it says of an image as it
    is and flipped so, each by its own ten classes."""
    if not flips:
        return model
    inputs = images()
    views = [model(inputs), *(model(flipped(inputs, flip)) for flip in flips)]
    parts = [p[:, 10 * i : 10 * i + 10] for i, p in enumerate(views)]
    return keras.Model(inputs, sum(p / keras.ops.sum(p, axis=1, keepdims=True) for p in parts) / len(parts))


CORE = "joint_flips"  # a name that no layer of an architecture has by chance


def core(model):
    """The net within one that shows it an image and its flips (models.aggregated), or the model itself."""
    return next((layer for layer in model.layers if layer.name == CORE), model)


# The flips, as keras.layers.RandomFlip names them, and the axes of images that each turns round.
FLIPS = {"horizontal": (2,), "vertical": (1,), "horizontal_and_vertical": (1, 2)}


def flipped(images, flip):
    """Images (n, h, w, 1) in one of FLIPS, an axis at a time: Keras before 3.14 flips no two at once on TensorFlow."""
    for axis in FLIPS[flip]:
        images = ops.flip(images, axis)
    return images


def with_flips(images, flips):
    """Each image, float32 (n, h, w, c), followed by itself in each of the k `flips`: (n * (1 + k), h, w, c)."""
    views = ops.stack([images, *(flipped(images, flip) for flip in flips)], axis=1)
    return ops.reshape(views, [-1, *images.shape[1:]])


def joint_labels(labels, flips):
    """The labels of `with_flips`, of ten classes for each flip: (n, 10) to (n * (1 + k), 10 * (1 + k))."""
    k = len(flips)
    views = [ops.pad(labels, [[0, 0], [10 * i, 10 * (k - i)]]) for i in range(1 + k)]
    return ops.reshape(ops.stack(views, axis=1), [-1, 10 * (1 + k)])
