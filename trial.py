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
    x, _ = some_digits(settings, images, DIGITS)
    flips = settings["augmentation"].get("joint_flips", ())
    own = models.build(settings["model"], 0, "float32", flips, **settings["model_config"])
    with nets.whole_tracebacks(), refused(f"{told} cannot predict"):
        own.set_weights(model.net.get_weights())
        outputs = probabilities(own, x)
    check_outputs(outputs, told)
    with nets.whole_tracebacks(), refused(f"{told} cannot take a training step"):
        step(model, *some_digits(settings, images, settings["batch_size"]))
    own.set_weights(model.net.get_weights())
    own, plain = models.aggregated(own, flips), models.aggregated(layers.plain(model.net), flips)
    with tempfile.TemporaryDirectory() as folder:
        check_saving(own, plain, settings["precision"], x, Path(folder) / "net.keras", told)
    return model


def some_digits(settings, images, n):
    """Returns `n` digits, or the next number that replicas share equally, with their flips, and one-hot labels."""
    n = math.ceil(n / settings["replicas"]) * settings["replicas"]
    rows = np.arange(n) % len(images.x)
    flips = settings["augmentation"].get("joint_flips", ())
    x, y = images.x[rows, ..., None] / np.float32(255), np.eye(10, dtype=np.float32)[images.y[rows]]
    return [keras.ops.convert_to_numpy(part) for part in (with_flips(x, flips), joint_labels(y, flips))]


def step(model, x, y):
    """Takes a traced training step; returns its loss. Raises whatever fails in it."""
    rates = model.optimizer.rates
    rates.assign(np.full(rates.shape, 1e-3, np.float32))
    loss = float(model.train_on_batch(x, y)[0])
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss}")
    return loss


def step_seconds(model, settings, images):
    """Returns the median seconds of a step, on digits that are not augmented, of a model that has taken one."""
    x, y = some_digits(settings, images, settings["batch_size"])
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
    text = re.sub("[━─]", "-", re.sub("[┃│]", "|", re.sub("[┏┓┗┛┡┩├┤┼┬┴┳┻╇└┘┌┐]", "+", text.replace("…", "~"))))
    return text.encode("ascii", "replace").decode().strip("\n")


def parameters(net):
    """Returns a net's numbers of parameters in words."""
    trainable = sum(math.prod(weight.shape) for weight in net.trainable_weights)
    return f"{net.count_params():,} parameters ({trainable:,} trainable, {net.count_params() - trainable:,} not)"


def probabilities(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


def check_outputs(outputs, told):
    """Raises UserError if outputs are not rows of probabilities."""
    if not np.isfinite(outputs).all():
        raise UserError(f"{told} gives NaN or infinity for a digit, before any training")
    low, sums = outputs.min(), outputs.sum(axis=1)
    if low < 0 or np.abs(sums - 1).max() > APART:
        raise UserError(
            f"{told} gives numbers from {low:.3g} to {outputs.max():.3g} that sum to {sums[0]:.3g} for a digit, "
            "not ten probabilities: end it with classes()"
        )


def check_saving(own, plain, precision, x, path, told):
    """Raises UserError unless a net predicts the same after it is saved as in fit.py, and read as in predict.py.

    own: the net as its function made it, in float32. plain: the same net as it is saved, at `path`.
    """
    with refused(f"{told} cannot be used once it is saved"):
        plain.save(path)
        read = nets.read(path, plain.count_params())
        saved = probabilities(read, x)
        rounded = probabilities(layers.fast(read, precision), x)
    expected, again = probabilities(own, x), probabilities(own, x)
    if not np.array_equal(expected, again, equal_nan=True):
        return  # a net that draws random numbers when it predicts
    if (apart := np.abs(saved - expected).max()) > APART:
        raise UserError(
            f"{told} predicts differently after it is saved and loaded (probabilities differ by up to {apart:.2g}): "
            "get_config() of its layers must return all arguments that they compute with"
        )
    if (apart := np.abs(rounded - saved).mean()) > ROUNDED[precision]:
        raise UserError(
            f"{told} predicts differently in {precision} (probabilities differ by {apart:.2g} on average): use "
            "--precision float32"
        )
