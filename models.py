"""The architectures, one function each.

To add yours, write a function below under `@architecture`; that is the whole edit:

    @architecture
    def mine(dropout=0.5):
        return keras.Sequential([images(), Conv2D(32, 3, activation="relu"), Flatten(), Dropout(dropout), classes()])

then `python train.py --model mine`. An architecture returns an uncompiled keras.Model whose input is float32
(n, 28, 28, 1) in 0..1 and whose output is float32 probabilities (n, 10). Its arguments are the recipe's `model_config`
(`--set model_config.dropout=0.3`); `_` and `-` are the same in its name.
"""

import contextlib
import inspect
import random
import warnings

import keras
from keras.layers import (
    Add,
    Dense,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    LayerNormalization,
    MaxPooling2D,
    ReLU,
    Rescaling,
)

import layers
import nets
from augment import flipped
from console import LONGEST_LINE, UserError, choose_name, hyphens
from layers import BatchNormalization, Conv2D, Dropout
from reasons import place, reason

ARCHITECTURES = {}


def architecture(function):
    """Registers an architecture under its function's name. Raises ValueError if there is one of that name."""
    name = hyphens(function.__name__)
    if name in ARCHITECTURES:
        raise ValueError(f"there is already an architecture {name!r}: give this function another name")
    ARCHITECTURES[name] = function
    return function


def build(name, seed=None, precision="float32", joint_flips=(), **arguments):
    """Returns architecture `name`, built, its initial weights a function of `seed` (an int; None: unseeded).

    precision: that of its layers, "float32" or "bfloat16"; weights and probabilities are float32 in either.
    joint_flips: as Augmentation's; with k of them the net has 10 * (1 + k) classes, and `aggregated` is what predicts.
    Raises UserError for a name or an argument it does not have, or a net of another form.
    """
    name = choose_name("architecture", name, ARCHITECTURES)
    function = ARCHITECTURES[name]
    valid = inspect.signature(function).parameters
    for key in arguments:
        if key not in valid:
            accepts = ", ".join(valid) or "nothing"
            raise UserError(f"architecture {name!r} takes no argument {key!r}; it takes: {accepts}")
    with _globals(seed, precision):
        try:
            model = function(**arguments)
            _check_kind(name, model)
            _complete(model)
            # As it is to be saved: what cannot be is found now, not after training.
            nets.check_classes(layers.plain_config(model))
            layers.plain(model)
        except UserError:
            raise
        except Exception as error:
            told, where = f"architecture {name!r} cannot be built: ", place(error, __file__, but=("build", "_complete"))
            where = f" ({where})" * bool(where)
            raise UserError(told + reason(error, max(100, LONGEST_LINE - len(told + where))) + where) from error
    _check_form(name, model)
    return _joint(model, name, len(joint_flips), seed) if joint_flips else model


@contextlib.contextmanager
def _globals(seed, precision):
    """Keras's global state while a net is built; it is put back afterwards.

    Keras seeds its initialisers and dropout from Python's global generator. What Keras warns of is either found by the
    trial of a net or of no consequence.
    """
    state, policy = random.getstate(), keras.config.dtype_policy()
    random.seed(seed)
    keras.config.set_dtype_policy(layers.POLICIES[precision])
    try:
        with warnings.catch_warnings(), nets.whole_tracebacks():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        random.setstate(state)
        keras.config.set_dtype_policy(policy)


def _check_kind(name, model):
    """Raises UserError if what an architecture returned is no Sequential or functional model."""
    told = f"architecture {name!r} returned"
    end = "end it with `return keras.Model(inputs, outputs)` or `return keras.Sequential([...])`"
    if not isinstance(model, keras.Model):
        raise UserError(f"{told} {'None' if model is None else f'a {type(model).__name__}, no keras.Model'}: {end}")
    if not (isinstance(model, keras.Sequential) or hasattr(model, "operations")):  # it cannot be saved without its code
        raise UserError(f"{told} a {type(model).__name__}, a subclass of keras.Model with a call() of its own: {end}")


def _complete(model):
    """Builds a model; an error in a layer's call, which a Sequential postpones, is raised now."""
    if not model.built:
        model.build((None, 28, 28, 1))
    if getattr(model, "inputs", None) is None:
        model(images())


def _check_form(name, model):
    """Raises UserError if a model does not map digits to ten numbers."""
    shapes = model.input_shape, model.output_shape
    told = f"architecture {name!r} maps {shapes[0]} to {shapes[1]}; a net here maps (None, 28, 28, 1) to (None, 10)"
    if shapes[0] != (None, 28, 28, 1):
        raise UserError(f"{told}: begin it with images()")
    if shapes[1] != (None, 10):
        flat = "Flatten() and " if len(shapes[1]) != 2 else ""
        raise UserError(f"{told}: end it with {flat}classes()")
    if (dtype := model.inputs[0].dtype) != "float32":
        raise UserError(f"architecture {name!r} takes {dtype} pixels; a net here takes float32 in 0..1: use images()")


def _joint(model, name, flips, seed):
    last = model.layers[-1]
    if not isinstance(last, Dense):
        raise UserError(f"architecture {name!r} does not end with classes(), which augmentation.joint_flips needs")
    own = dict(units=10 * (1 + flips), kernel_initializer=keras.initializers.GlorotUniform(seed))
    outputs = Dense.from_config(last.get_config() | own)
    return keras.Model(model.inputs, outputs(last.input), name=layers.CORE)


def aggregated(model, flips):
    """The net that predicts by one that was built with joint_flips=`flips`: the mean of what it says of an image as it
    is and flipped so, each by its own ten classes."""
    if not flips:
        return model
    inputs = images()
    views = [model(inputs), *(model(flipped(inputs, flip)) for flip in flips)]
    parts = [p[:, 10 * i : 10 * i + 10] for i, p in enumerate(views)]
    return keras.Model(inputs, sum(p / keras.ops.sum(p, axis=1, keepdims=True) for p in parts) / len(parts))


def all_arguments(name, arguments, statistics):
    """Returns all arguments of an architecture: those given, else the pixels' `mean` and `std`, else its defaults.

    statistics: a function that returns the training pixels' mean and standard deviation.
    """
    takes = inspect.signature(ARCHITECTURES[choose_name("architecture", name, ARCHITECTURES)]).parameters
    defaults = {key: parameter.default for key, parameter in takes.items() if parameter.default is not parameter.empty}
    if "mean" in takes and "std" in takes:
        defaults |= zip(("mean", "std"), statistics(), strict=True)
    return defaults | arguments


def images():
    """The input: float32 (n, 28, 28, 1) in 0..1."""
    return Input((28, 28, 1))


def standardized(mean, std):
    """The input less its mean, over its standard deviation (both of the training pixels, in 0..1)."""
    return [images(), Rescaling(1 / std, offset=-mean / std)]


def classes():
    """The output: ten probabilities, in float32 whatever the precision of the net."""
    return Dense(10, activation="softmax", dtype="float32", name="classes")


@architecture
def grenholm():
    """Peter Grenholm, "Welcome to deep learning (CNN 99%)", Kaggle: 814,970 parameters."""
    return keras.Sequential(
        [
            images(),
            Conv2D(16, 3, activation="relu"),
            BatchNormalization(),
            Conv2D(16, 3, activation="relu"),
            BatchNormalization(),
            MaxPooling2D(),
            Dropout(0.25),
            Conv2D(32, 3, activation="relu"),
            BatchNormalization(),
            Conv2D(32, 3, activation="relu"),
            BatchNormalization(),
            MaxPooling2D(),
            Dropout(0.25),
            Flatten(),
            Dense(512, activation="relu"),
            Dropout(0.25),
            Dense(1024, activation="relu"),
            Dropout(0.5),
            classes(),
        ]
    )


@architecture
def codeastar():
    """codeastar, "Convolutional Neural Network 99.47%", Kaggle: 203,933 parameters."""
    return keras.Sequential(
        [
            images(),
            Conv2D(30, 5),
            MaxPooling2D(),
            ReLU(),  # there before the pooling: the same maths, on a quarter of the numbers
            Conv2D(15, 3, activation="relu"),
            Dropout(0.2),
            Flatten(),
            Dense(128, activation="relu"),
            Dense(50, activation="relu"),
            classes(),
        ]
    )


@architecture
def vgg_rmsprop():
    """A VGG-like net with light dropout, Kaggle: 594,922 parameters."""
    return keras.Sequential(
        [
            images(),
            Conv2D(32, 3, activation="relu"),
            Conv2D(32, 3, activation="relu"),
            MaxPooling2D(),
            Dropout(0.05),
            Conv2D(64, 3, activation="relu"),
            Conv2D(64, 3, activation="relu"),
            MaxPooling2D(),
            Dropout(0.05),
            Flatten(),
            Dense(512, activation="relu"),
            Dropout(0.05),
            classes(),
        ]
    )


@architecture
def linear(mean=0.0, std=1.0):
    """Softmax regression, rahular's 'Digit Recognition - 2': 7,850 parameters."""
    return keras.Sequential([*standardized(mean, std), Flatten(), classes()])


@architecture
def vgg(mean=0.0, std=1.0, dropout=0.0):
    """The VGG-like net of rahular's 'Digit Recognition - 2', after fast.ai's lesson 3 of 2016: 594,922 parameters."""
    return keras.Sequential(
        [
            *standardized(mean, std),
            Conv2D(32, 3, activation="relu"),
            Conv2D(32, 3, activation="relu"),
            MaxPooling2D(),
            Dropout(dropout),
            Conv2D(64, 3, activation="relu"),
            Conv2D(64, 3, activation="relu"),
            MaxPooling2D(),
            Dropout(dropout),
            Flatten(),
            Dense(512, activation="relu"),
            classes(),
        ]
    )


@architecture
def vgg_dropout(mean=0.0, std=1.0, dropout=0.5):
    """`vgg` with dropout after each pooling, rahular's 'Digit Recognition - 2': 594,922 parameters."""
    return vgg(mean, std, dropout)


@architecture
def vgg_bn_dropout(mean=0.0, std=1.0, dropout=0.5):
    """`vgg` with batch normalisation and one dropout, rahular's 'Digit Recognition - 2': 597,738 parameters."""
    return keras.Sequential(
        [
            *standardized(mean, std),
            Conv2D(32, 3, activation="relu"),
            BatchNormalization(),
            Conv2D(32, 3, activation="relu"),
            BatchNormalization(),
            MaxPooling2D(),
            Conv2D(64, 3, activation="relu"),
            BatchNormalization(),
            Conv2D(64, 3, activation="relu"),
            BatchNormalization(),
            MaxPooling2D(),
            Flatten(),
            Dense(512, activation="relu"),
            BatchNormalization(),
            Dropout(dropout),
            classes(),
        ]
    )


@architecture
def deotte(dropout=0.4, momentum=0.99):
    """Chris Deotte, "25 Million Images! [0.99757] MNIST", Kaggle: 327,242 parameters."""
    return keras.Sequential(
        [
            images(),
            Conv2D(32, 3, activation="relu"),
            BatchNormalization(momentum=momentum),
            Conv2D(32, 3, activation="relu"),
            BatchNormalization(momentum=momentum),
            Conv2D(32, 5, strides=2, padding="same", activation="relu"),
            BatchNormalization(momentum=momentum),
            Dropout(dropout),
            Conv2D(64, 3, activation="relu"),
            BatchNormalization(momentum=momentum),
            Conv2D(64, 3, activation="relu"),
            BatchNormalization(momentum=momentum),
            Conv2D(64, 5, strides=2, padding="same", activation="relu"),
            BatchNormalization(momentum=momentum),
            Dropout(dropout),
            Conv2D(128, 4, activation="relu"),
            BatchNormalization(momentum=momentum),
            Flatten(),
            Dropout(dropout),
            classes(),
        ]
    )


@architecture
def quick(momentum=0.9):
    """The net of tuomaso/train_mnist_fast (GitHub), with batch normalisation and fewer filters: 213,898 parameters."""
    return keras.Sequential(
        [
            images(),
            Conv2D(16, 5),
            MaxPooling2D(),
            ReLU(),  # after the pooling, which leaves a quarter of the work
            BatchNormalization(momentum=momentum),
            Conv2D(32, 3),
            MaxPooling2D(),
            ReLU(),
            BatchNormalization(momentum=momentum),
            Flatten(),
            Dense(256, activation="relu"),
            BatchNormalization(momentum=momentum),
            classes(),
        ]
    )


@architecture
def residual(filters=(32, 128, 256), kernel_size=5, padding="valid", momentum=0.95):
    """A residual net of the shape of ttdoucet/mnist's (GitHub), narrower: 1,095,178 parameters.

    Each image is standardised by itself, as there. padding: "valid", or "same" as there, for larger maps (28, 14, 7, 4
    for 24, 12, 5, 2 pixels) at 1.6 times the time.
    """

    def block(x):
        x = BatchNormalization(momentum=momentum)(x)
        return Add()([x, Conv2D(x.shape[-1], 3, padding="same", activation="relu")(x)])

    inputs = images()
    x = LayerNormalization(axis=(1, 2, 3), center=False, scale=False)(inputs)
    for i, n in enumerate(filters):
        if i:
            x = BatchNormalization(momentum=momentum)(x)
        x = Conv2D(n, 3 if i else kernel_size, padding=padding, activation="relu")(x)
        x = MaxPooling2D(padding="same")(x if i else block(x))
        x = block(x)
    x = GlobalAveragePooling2D()(BatchNormalization(momentum=momentum)(x))
    return keras.Model(inputs, classes()(x))
