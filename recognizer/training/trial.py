"""Tries a net before its run is made, so that problems do not show up only after training.

The net makes some training steps, is saved, and is read like predict.py reads it. It must then predict the same.
"""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras.src.backend.common import global_state  # Keras has no public name for it

from recognizer.base.errors import UserError, refused
from recognizer.base.words import hyphens
from recognizer.config import members
from recognizer.data.arrays import Digits, Images
from recognizer.nn import building, copies, edits, flip_classes, portable, saved_net
from recognizer.nn.flip_classes import with_flips
from recognizer.runs import run_folder
from recognizer.training import callbacks

if TYPE_CHECKING:
    from recognizer.training.trainer import Trainer

DIGITS = 8  # for the trial
APART = 1e-3  # largest allowed difference of probabilities between a net and its saved copy, both in float32
REPEATED = 1e-4  # largest allowed difference of probabilities between two training passes with the same seeds
# Largest allowed mean difference between the probabilities in a precision and in float32.
ROUNDED = {"float32": APART, "float16": 0.02, "bfloat16": 0.05}


def untrained(settings: dict, digits: Digits) -> tuple[keras.Model, np.ndarray, list[np.ndarray], dict]:
    """Returns the arguments of `try_net`: (the net in float32, a few digits, its weights, its edits.record).

    settings: one of members.kinds. Raises UserError if its outputs are not probabilities.
    """
    told, x = _told(settings), some_digits(digits.train, settings["joint_flips"])
    own = own_net(settings)
    if own.calls_compile:
        used = f"the recipe's optimizer {settings['optimizer']} and loss {settings['loss']} are used"
        used += " (to change: --set optimizer=NAME --set loss=NAME)"
        print(f"        {told} calls compile(), which has no effect: {used}")
    with saved_net.whole_tracebacks(), refused(f"{told} cannot predict", False, building.PLACE):
        outputs = probabilities(own, x)
    check_outputs(outputs, told)
    return own, x, own.get_weights(), edits.record(own, x)


def try_net(
    trainer: Trainer, net: int, own: keras.Model, x: np.ndarray, initial: list[np.ndarray], architecture: dict
) -> None:
    """Tries net number `net` of a Trainer, and compiles its training step.

    own, x, initial, architecture: from `untrained`. Raises UserError if the net would fail in training, or could not be
    used afterwards.
    """
    settings = trainer.settings
    told, flips = _told(settings), settings["joint_flips"]
    trainer.architecture = architecture
    with saved_net.whole_tracebacks(), refused(f"{told} cannot take a training step", False, building.PLACE):
        trainer.begin(net)
    unseeded = global_state.get_global_attribute("global_seed_generator") is not None
    if unseeded or not is_repeatable(own, x, initial):
        do = "draw them by keras.random, and give it as `seed` a keras.random.SeedGenerator() made in __init__"
        raise UserError(f"{told} draws random numbers without a seed, which cannot be repeated: {do}")
    if [weight.shape for weight in own.weights] != [weight.shape for weight in trainer.model.network.weights]:
        do = "draw no random numbers in its function, but give it arguments, which model_config sets"
        raise UserError(f"{told} has weights of other shapes for another seed: {do}")
    copies.set_weights(own, [moved(weight) for weight in initial])
    copies.set_weights(trainer.model.network, own.get_weights())
    own, plain = flip_classes.aggregated(own, flips), trainer.plain()
    dtypes = copies.explicit_dtypes(trainer.model.network, settings["precision"])
    with tempfile.TemporaryDirectory() as folder:
        check_saving(own, plain, settings["precision"], dtypes, x, Path(folder) / "net.keras", told)


def is_repeatable(own: keras.Model, x: np.ndarray, initial: list[np.ndarray]) -> bool:
    """Returns whether two training passes of a net agree if they begin with the same weights and seeds.

    They do not if a layer draws from a generator that Keras does not know, such as TensorFlow's or NumPy's.
    """

    def outputs():
        copies.set_weights(own, initial)
        callbacks.seed_dropout(own, 0, 0, 0)
        with keras.device("cpu"):
            return keras.ops.convert_to_numpy(own(x, training=True))

    return np.allclose(outputs(), outputs(), rtol=0, atol=REPEATED, equal_nan=True)


def _told(settings):
    return f"architecture {hyphens(settings['model'])!r}"


def own_net(settings: dict) -> keras.Model:
    """Returns a net in float32 as its function makes it. settings: one of members.kinds."""
    return building.build(settings["model"], 0, "float32", settings["joint_flips"], settings["model_config"])


def check_unchanged(folder: Path, config: dict, digits: Digits) -> None:
    """Raises UserError if the architecture of a net that is still to train was edited since the run was started.

    Runs of earlier versions have no record of their architectures.
    """
    first = 1
    for settings, then in zip(members.kinds(config), run_folder.read_architectures(folder), strict=False):
        nets = range(first, first + settings["nets"])
        first += settings["nets"]
        if not (left := [net for net in nets if not run_folder.net_file(folder, net, ".json").is_file()]):
            continue
        now = edits.record(own_net(settings), some_digits(digits.train, settings["joint_flips"]))
        with refused(f"{folder} has a damaged record of its architectures"):
            found = edits.difference(then, now)
        if found:
            told = f"net {left[0]} of run {folder.name!r} cannot resume: architecture {hyphens(settings['model'])!r}"
            raise UserError(f"{told} was edited ({found}): undo the edit, or train a new run")


def some_digits(images: Images, flips: Sequence[str]) -> np.ndarray:
    """Returns a few digits and their flips, float32 (n, 28, 28, 1) in 0..1."""
    x = images.x[np.arange(DIGITS) % len(images.x), ..., None] / np.float32(255)
    return keras.ops.convert_to_numpy(with_flips(x, flips))


def moved(weight: np.ndarray) -> np.ndarray:
    """Returns a slightly changed weight, as after training, so that a weight that is not saved is noticed."""
    if weight.dtype.kind != "f":
        return weight
    by = np.random.default_rng(0).random(weight.shape).astype(weight.dtype)
    return weight * (1 + by / 10) + by / 100  # a variance stays above 0


def description(trainer: Trainer) -> list[str]:
    """Returns lines about a net that passed the trial: Keras's summary, the parameters, the time of a step."""
    network, settings = trainer.model.network, trainer.settings
    name, milliseconds = settings["model"], 1000 * trainer.model.step_seconds
    trainable = sum(math.prod(weight.shape) for weight in network.trainable_weights)
    total = network.count_params()
    return [
        _summary(network),
        f"{name}: {total:,} parameters ({trainable:,} trainable, {total - trainable:,} not)",
        f"{name}: {milliseconds:,.1f} ms a step of {settings['batch_size']} images in {settings['precision']}",
        f"{name} can be trained: it took some steps, and predicts the same once saved and loaded",
    ]


def _summary(network):
    """Returns Keras's summary of a net in ASCII, not wider than the terminal."""
    lines, width = [], min(100, shutil.get_terminal_size().columns)
    network.summary(line_length=width, print_fn=lambda line, **_: lines.append(line))
    text = "\n".join(lines)
    text = re.sub("[━─]", "-", re.sub("[┃│]", "|", re.sub("[┏┓┗┛┡┩├┤┼┬┴┳┻╇└┘┌┐]", "+", text.replace("…", "~"))))
    return text.encode("ascii", "replace").decode().strip("\n")


def probabilities(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(x, training=False))


def check_outputs(outputs: np.ndarray, told: str) -> None:
    """Raises UserError if outputs are not rows of probabilities."""
    if not np.isfinite(outputs).all():
        raise UserError(f"{told} gives NaN or infinity for a digit, before any training")
    low, high, sums = outputs.min(), outputs.max(), outputs.sum(axis=1)
    if low < 0 or np.abs(sums - 1).max() > APART:
        numbers = f"numbers from {low:.3g} to {high:.3g} that sum to {sums[0]:.3g}"
        raise UserError(f"{told} gives {numbers} for a digit, not ten probabilities: end it with classes()")


def check_saving(
    own: keras.Model, plain: keras.Model, precision: str, dtypes: dict[str, str], x: np.ndarray, path: Path, told: str
) -> None:
    """Raises UserError if a net predicts differently after it is saved, and read like predict.py reads it.

    own: the net in float32 as its function made it. plain: the copy to save at `path`. dtypes: from
    copies.explicit_dtypes.
    """
    with refused(f"{told} cannot be used once it is saved", False, building.PLACE):
        plain.save(path)
        portable.make_portable(path)
        read = saved_net.read(path, plain.count_params())
        loaded = probabilities(read, x)
        rounded = probabilities(copies.fast(read, precision, dtypes), x)
    expected, again = probabilities(own, x), probabilities(own, x)
    if not np.array_equal(expected, again, equal_nan=True):
        return  # the net draws random numbers when it predicts
    if (apart := np.abs(loaded - expected).max()) > APART:
        changed = f"{told} predicts differently after it is saved and loaded (by up to {apart:.2g})"
        general = "get_config() of its layers must return all arguments that they compute with"
        raise UserError(f"{changed}: {building.lacking_arguments(own) or general}")
    if (apart := np.abs(rounded - loaded).mean()) > ROUNDED[precision]:
        raise UserError(f"{told} predicts differently in {precision} (by {apart:.2g} on average)")
