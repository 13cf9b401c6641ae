"""Builds an architecture of models.py, and checks that it classifies digits and can be saved."""

import contextlib
import inspect
import json
import random
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

import models
import recipes
from recognizer.base.errors import LONGEST_LINE, UserError
from recognizer.base.reasons import REGISTER, place, reason
from recognizer.base.words import choose_name, hyphens
from recognizer.nn import copies, flip_classes, layers, saved_net
from recognizer.nn.parts import ARCHITECTURES, images
from recognizer.nn.precision import POLICIES

PLACE = len(" (models.py, line 1000)")
STATISTICS = ("mean", "std")  # arguments of an architecture that are of the training pixels
TRAINING = ("train_step", "compute_loss", "fit")  # methods of keras.Model that people override to train differently


def build(
    name: str,
    seed: int | None = None,
    precision: str = "float32",
    joint_flips: Sequence[str] = (),
    arguments: dict | None = None,
) -> keras.Model:
    """Returns architecture `name` as a built keras.Model. Its `calls_compile` says whether the function compiled it.

    seed: int, determines the initial weights; None: they are random.
    precision: the precision of the layers, a key of POLICIES. Layers with a dtype of their own keep it; `classes()`
        always computes in float32.
    joint_flips: a list of flip_classes.FLIPS. With k flips the net has 10 * (1 + k) classes, see flip_classes.
    arguments: dict, the keyword arguments of the architecture's function.

    Raises UserError if there is no such architecture or argument, or if the net cannot be built, saved or used.
    """
    name, arguments = _registered(name), arguments or {}
    _check_arguments(name, arguments)
    with located(name):
        with _globals(seed, precision):
            with _refused(name, f"be built{_changed(name, arguments)}"):
                returned = ARCHITECTURES[name](**arguments)
                model = _with_layers(name, returned)
                _complete(model)
            with _refused(name, "be saved and loaded"):
                _check_saving(name, model)
        _check_form(name, model)
        if joint_flips:
            model = flip_classes.with_classes(model, name, joint_flips, seed)
        layers.make_strides_safe(model)
        model.calls_compile = returned.compiled
        return model


@contextlib.contextmanager
def located(name: str) -> Iterator[None]:
    """Adds "(models.py, line N)" to the message of a UserError that is about architecture `name`.

    Line N is the innermost line of models.py that led to the error, or else the `def` of the architecture.
    """
    try:
        yield
    except UserError as error:
        if f"architecture {name!r}" not in str(error) or re.search(r", line \d+\)$", str(error)):
            raise
        found = place(error.__cause__ or error, models.__file__) or _definition(ARCHITECTURES[name])
        where = f" ({found})" * bool(found)
        text = textwrap.shorten(str(error), LONGEST_LINE - len(where), placeholder=" ...")
        raise UserError(text + where) from error


def _definition(function):
    """Returns "FILE, line N" for the `def` or `class` of an architecture, after its decorators; "" without a file."""
    function = inspect.unwrap(function)
    try:
        lines, first = inspect.getsourcelines(function)
        file = Path(inspect.getfile(function))
    except (OSError, TypeError):  # as in a notebook
        return ""
    after = next((i for i, line in enumerate(lines) if re.match("\\s*(def|class) ", line)), 0)
    return f"{file.name}, line {first + after}"


def _changed(name, arguments):
    """Returns " with KEY=VALUE, ..." of the arguments whose values are not the function's defaults, or ""."""
    unchanged = {key: list(v) if isinstance(v, tuple) else v for key, v in _defaults(name).items()}
    own = {key: value for key, value in arguments.items() if key not in STATISTICS}
    parts = [f"{key}={value!r:.40}" for key, value in own.items() if key not in unchanged or value != unchanged[key]]
    return f" {textwrap.shorten('with ' + ', '.join(parts), LONGEST_LINE // 3, placeholder=' ...')}" * bool(parts)


def _defaults(name):
    """Returns the default values of an architecture's arguments."""
    takes = inspect.signature(ARCHITECTURES[name]).parameters
    return {key: parameter.default for key, parameter in takes.items() if parameter.default is not parameter.empty}


@contextlib.contextmanager
def _refused(name, what):
    """Turns any exception in the block into a UserError, which says that architecture `name` cannot do `what`."""
    told = f"architecture {name!r} cannot {what}: "
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(told + reason(error, max(100, LONGEST_LINE - len(told) - PLACE))) from error


def all_arguments(name: str, arguments: dict, statistics: Callable[[], tuple[float, float]]) -> dict:
    """Returns all arguments of an architecture's function: `arguments`, else the pixels' statistics, else defaults.

    statistics: a function that returns the mean and standard deviation of the training pixels. It is called only if
        the architecture has the arguments `mean` and `std`.
    """
    name = _registered(name)
    _check_arguments(name, arguments)
    takes = inspect.signature(ARCHITECTURES[name]).parameters
    defaults = _defaults(name)
    if all(key in takes for key in STATISTICS):
        defaults |= zip(STATISTICS, statistics(), strict=True)
    with located(name):
        return {key: _recorded(name, key, value) for key, value in (defaults | arguments).items()}


def _recorded(name, key, value):
    """Returns an argument as a run's config.json stores it: tuples as lists, NumPy numbers as Python numbers.

    Raises UserError if the value cannot be written as JSON.
    """

    def number(value):
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError

    try:
        return json.loads(json.dumps(value, allow_nan=False, default=number))
    except (TypeError, ValueError):
        kind = repr(value) if isinstance(value, float) else getattr(value, "__name__", type(value).__name__)
        told = f"architecture {name!r}: {key}={kind} is no JSON and cannot be kept in config.json"
        by_name = getattr(value, "__module__", "").startswith("keras.src.activations")
        instead = f"write {key}={kind!r}" if by_name else "give a name or a number, and make the object in the function"
        raise UserError(f"{told}: {instead}") from None


def _registered(name):
    """Returns the key of an architecture in ARCHITECTURES. Raises UserError if there is none of that name."""
    if hyphens(name) not in ARCHITECTURES and callable(getattr(models, name.replace("-", "_"), None)):
        raise UserError(f"no architecture {name!r}: models.py has a function of this name, without @architecture above")
    if hyphens(name) not in ARCHITECTURES and hyphens(name) in map(hyphens, recipes.RECIPES):
        raise UserError(
            f"no architecture {name!r}, but a recipe: leave out --model, or write the recipe's architecture"
        )
    return choose_name("architecture", name, ARCHITECTURES)


@contextlib.contextmanager
def _globals(seed, precision):
    """Sets Keras's global state to build a net within the block, and restores it afterwards.

    Keras seeds its initialisers and dropout from Python's global generator. Keras's warnings are hidden, since trial.py
    finds the problems that matter.
    """
    state, policy = random.getstate(), keras.config.dtype_policy()
    random.seed(seed)
    keras.config.set_dtype_policy(POLICIES[precision])
    try:
        with warnings.catch_warnings(), saved_net.whole_tracebacks():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        random.setstate(state)
        keras.config.set_dtype_policy(policy)


def _check_arguments(name, arguments):
    """Raises UserError for the first argument that an architecture does not have."""
    valid = inspect.signature(ARCHITECTURES[name]).parameters
    for key in arguments:
        if key not in valid:
            accepts = ", ".join(valid) or "nothing"
            raise UserError(f"architecture {name!r} takes no argument {key!r}; it takes: {accepts}")


def _with_layers(name, model):
    """Returns the model that an architecture returned. A subclass of keras.Model becomes the only layer of a model.

    Raises UserError if it is not a keras.Model, brings its own training, or is of a class that is not registered.
    """
    told = f"architecture {name!r} returned"
    end = "end it with `return keras.Model(inputs, outputs)` or `return keras.Sequential([...])`"
    if not isinstance(model, keras.Model):
        raise UserError(f"{told} {'None' if model is None else f'a {type(model).__name__}, no keras.Model'}: {end}")
    _check_training(name, model)
    if isinstance(model, keras.Sequential) or hasattr(model, "operations"):
        return model
    kind = type(model)
    if keras.saving.get_registered_object(keras.saving.get_registered_name(kind)) is not kind:
        write = f"write {REGISTER} above the class, at the top level of models.py"
        raise UserError(f"{told} a {kind.__name__}, a subclass of keras.Model that is not registered: {write}")
    inputs = images()
    return keras.Model(inputs, model(inputs))


def _check_training(name, model):
    """Raises UserError if a model brings its own training, which would be ignored: the recipe determines training."""
    told, kinds = f"architecture {name!r}", _own_classes(type(model))
    if own := next((method for method in TRAINING if any(method in vars(kind) for kind in kinds)), None):
        told += f": {type(model).__name__} has its own {own}(), which is never called here: remove it"
        raise UserError(f"{told}; a layer can call add_loss(), and --set loss=NAME chooses one of Keras's losses")


def _complete(model):
    """Builds a model, so that an error in a layer's call is raised now; a Sequential model would raise it later."""
    if not model.built:
        model.build((None, 28, 28, 1))
    if getattr(model, "inputs", None) is None:
        model(images())


def _check_saving(name, model):
    """Raises an error if a model cannot be saved and rebuilt from its config: better now than after training."""
    saved_net.check_classes(copies.plain_config(model))
    for layer in model._flatten_layers():
        activation = getattr(layer, "activation", None)
        if isinstance(activation, keras.Layer) and not activation.built:
            kind = type(activation).__name__
            told = f"{kind} has weights, which Keras does not save in an activation"
            raise ValueError(f"{told}: add {kind}() as a layer after {layer.name!r}")
    try:
        copies.plain(model)
    except Exception as error:
        if lacking := lacking_arguments(model):
            raise UserError(f"architecture {name!r} cannot be saved and loaded: {lacking}") from error
        raise


def lacking_arguments(model: keras.Model) -> str:
    """Returns a text about the first layer that Keras cannot rebuild from get_config(), or "" if there is none."""
    for layer in model._flatten_layers():
        kind = type(layer)
        if kind in _own_classes(kind):
            if isinstance(layer, keras.Sequential):  # Keras's from_config() adds the layers again
                return f"{kind.__name__} subclasses keras.Sequential: make it by a function that returns a Sequential"
            parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
            names = {one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}
            kept = layer.get_config().keys()
            if isinstance(layer, keras.Model) and not any("get_config" in vars(own) for own in _own_classes(kind)):
                kept = {"name", "trainable", "dtype"}  # Keras's get_config() omits all others
            if lacking := sorted(names - kept):
                told = f"get_config() of {kind.__name__} lacks {', '.join(map(repr, lacking))}"
                return f"{told}: it should return every argument of __init__"
    return ""


def _own_classes(kind):
    """Returns a class and its base classes, except those of Python, Keras, TensorFlow and this package."""
    others = ("builtins", "keras", "recognizer", "tensorflow")
    return [one for one in kind.__mro__ if one.__module__.split(".")[0] not in others]


def _check_form(name, model):
    """Raises UserError if a model does not map digits to ten numbers, or cannot learn to."""
    shapes = model.input_shape, model.output_shape
    told = f"architecture {name!r} maps {shapes[0]} to {shapes[1]}; a net here maps (None, 28, 28, 1) to (None, 10)"
    if shapes[0] != (None, 28, 28, 1):
        raise UserError(f"{told}: begin it with images()")
    if shapes[1] != (None, 10):
        flat = "Flatten() and " if len(shapes[1]) != 2 else ""
        raise UserError(f"{told}: end it with {flat}classes()")
    if (dtype := model.inputs[0].dtype) != "float32":
        raise UserError(f"architecture {name!r} takes {dtype} pixels; a net here takes float32 in 0..1: use images()")
    if not model.trainable_weights:
        frozen = "its layers have trainable=False" if model.weights else "end it with classes()"
        raise UserError(f"architecture {name!r} has no weights to train: {frozen}")
