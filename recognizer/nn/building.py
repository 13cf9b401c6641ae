import contextlib
import inspect
import random
import warnings

import keras

import models
from recognizer.base.errors import LONGEST_LINE, UserError
from recognizer.base.reasons import place, reason
from recognizer.base.words import choose_name
from recognizer.nn import copies, flip_classes, saved_net
from recognizer.nn.precision import POLICIES
from recognizer.nn.registry import ARCHITECTURES, images


def build(name, seed=None, precision="float32", joint_flips=(), **arguments):
    """Returns architecture `name`, built, its initial weights a function of `seed` (an int; None: unseeded).

    precision: that of its layers, "float32" or "bfloat16"; weights and probabilities are float32 in either.
    joint_flips: a list of flip_classes.FLIPS. With k of them the net has 10 * (1 + k) classes, and predicts by
        `flip_classes.aggregated`.
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
            saved_net.check_classes(copies.plain_config(model))
            copies.plain(model)
        except UserError:
            raise
        except Exception as error:
            told, where = (
                f"architecture {name!r} cannot be built: ",
                place(error, models.__file__, but=("build", "_complete")),
            )
            where = f" ({where})" * bool(where)
            raise UserError(told + reason(error, max(100, LONGEST_LINE - len(told + where))) + where) from error
    _check_form(name, model)
    return flip_classes.with_classes(model, name, joint_flips, seed) if joint_flips else model


@contextlib.contextmanager
def _globals(seed, precision):
    """Keras's global state while a net is built; it is put back afterwards.

    Keras seeds its initialisers and dropout from Python's global generator. What Keras warns of is either found by the
    trial of a net or of no consequence.
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


def all_arguments(name, arguments, statistics):
    """Returns all arguments of an architecture: those given, else the pixels' `mean` and `std`, else its defaults.

    statistics: a function that returns the training pixels' mean and standard deviation.
    """
    takes = inspect.signature(ARCHITECTURES[choose_name("architecture", name, ARCHITECTURES)]).parameters
    defaults = {key: parameter.default for key, parameter in takes.items() if parameter.default is not parameter.empty}
    if "mean" in takes and "std" in takes:
        defaults |= zip(("mean", "std"), statistics(), strict=True)
    return defaults | arguments
