"""Tries a net before a run of it is made, so that none trains for minutes and can then not be used.

It takes a training step on a few digits, is saved, and read back as predict.py reads it: it must predict the same.
"""

import math
import re
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

import fit
import layers
import models
import nets
from augment import joint_labels, with_flips
from console import UserError, hyphens, refused

DIGITS = 8  # that a net is tried on
APART = 1e-3  # how far the probabilities of a net and of its saved copy may be apart, both in float32
# Mean difference between the probabilities in a precision and in float32.
ROUNDED = {"float32": APART, "float16": 0.02, "bfloat16": 0.05}
PATIENCE = 20  # seconds for measuring steps


def tried(settings, steps, images):
    """Returns a net as fit.compiled_model makes it, once it has passed the trial; it has taken a training step.

    settings: one of recipes.kinds. steps: those of an epoch. images: a dataset.Images with labels. Raises UserError for
    a net that would fail in training, or could not be used afterwards.
    """
    told = f"architecture {hyphens(settings['model'])!r}"
    model = fit.compiled_model(settings, 1, steps)
    x, y = some_digits(settings, images, DIGITS)
    check_outputs(probabilities(in_float32(settings, model.net), x), told)
    with refused(f"{told} cannot take a training step"):
        step(model, x, y)
    with tempfile.TemporaryDirectory() as folder:
        check_saving(settings, model.net, x, Path(folder) / "net.keras", told)
    return model


def some_digits(settings, images, n):
    """Returns `n` digits, or the next number that replicas share equally, with their flips, and one-hot labels."""
    n = math.ceil(n / settings["replicas"]) * settings["replicas"]
    rows = np.arange(n) % len(images.x)
    flips = settings["augmentation"].get("joint_flips", ())
    x, y = images.x[rows, ..., None] / np.float32(255), np.eye(10, dtype=np.float32)[images.y[rows]]
    return [keras.ops.convert_to_numpy(part) for part in (with_flips(x, flips), joint_labels(y, flips))]


def step(model, x, y):
    """Takes a traced training step; returns its loss. Raises whatever fails in it, FloatingPointError for a NaN."""
    rates = model.optimizer.rates
    rates.assign(np.full(rates.shape, 1e-3, np.float32))
    loss = float(model.train_on_batch(x, y)[0])
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss}")
    return loss


def step_seconds(settings, steps, images):
    """Returns the median seconds of a training step after the first, on digits that are not augmented."""
    model = fit.compiled_model(settings, 1, steps)
    x, y = some_digits(settings, images, settings["batch_size"])
    step(model, x, y)
    times, end = [], time.perf_counter() + PATIENCE
    while not times or (len(times) < 10 and time.perf_counter() < end):
        start = time.perf_counter()
        step(model, x, y)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def summary(net):
    """Returns Keras's summary of a net in ASCII, as wide as the terminal at most."""
    lines, width = [], min(100, shutil.get_terminal_size().columns)
    net.summary(line_length=width, print_fn=lambda line, **_: lines.append(line))
    text = "\n".join(lines)
    text = re.sub("[━─]", "-", re.sub("[┃│]", "|", re.sub("[┏┓┗┛┡┩├┤┼┬┴┳┻╇└┘┌┐]", "+", text.replace("…", "..."))))
    return text.encode("ascii", "replace").decode().strip("\n")


def parameters(net):
    """Returns a net's numbers of parameters in words."""
    trainable = sum(math.prod(weight.shape) for weight in net.trainable_weights)
    return f"{net.count_params():,} parameters ({trainable:,} trainable, {net.count_params() - trainable:,} not)"


def in_float32(settings, net):
    """Returns the architecture of a net, in float32 whatever the run's precision, with the net's weights."""
    flips = settings["augmentation"].get("joint_flips", ())
    copy = models.build(settings["model"], 0, "float32", flips, **settings["model_config"])
    copy.set_weights(net.get_weights())
    return copy


def probabilities(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def check_outputs(outputs, told):
    """Raises UserError if outputs are not rows of probabilities."""
    if not np.isfinite(outputs).all():
        raise UserError(f"{told} gives NaN or infinity for a digit, before any training")
    low, sums = outputs.min(), outputs.sum(axis=1)
    if low < 0 or np.abs(sums - 1).max() > APART:
        raise UserError(
            f"{told} gives no probabilities: its outputs begin at {low:.3g}, and those for a digit sum to "
            f"{sums.min():.3g} to {sums.max():.3g}, not 1: end it with classes(), or another softmax"
        )


def check_saving(settings, net, x, path, told):
    """Raises UserError unless a net predicts the same once it was saved as fit.py does, and read as predict.py does."""
    flips = settings["augmentation"].get("joint_flips", ())
    with refused(f"{told} cannot be used once it is saved"):
        models.aggregated(layers.plain(net), flips).save(path)
        read = nets.read(path, net.count_params())
        rounded = probabilities(layers.fast(read, settings["precision"]), x)
        saved = probabilities(read, x)
    own = models.aggregated(in_float32(settings, net), flips)
    expected, again = probabilities(own, x), probabilities(own, x)
    if not np.array_equal(expected, again, equal_nan=True):
        return  # a net that draws random numbers when it predicts
    if (apart := np.abs(saved - expected).max()) > APART:
        raise UserError(
            f"{told} predicts otherwise once it is saved and loaded (its probabilities differ by up to {apart:.2g}): "
            "what its own layers compute with must be in their get_config() or in weights"
        )
    if (apart := np.abs(rounded - saved).mean()) > ROUNDED[settings["precision"]]:
        raise UserError(
            f"{told} predicts otherwise in {settings['precision']} (its probabilities differ by {apart:.2g} on "
            "average): use --precision float32"
        )
