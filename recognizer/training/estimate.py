"""How long training will take on this machine's processor, estimated without training, for `train.py --list`.

A step costs so much for each layer, an image so much for itself, for its multiplications, for the activations of all
layers, and again for those of batch normalisation and dropout. The prices were fitted to `make bench`'s rates of five
architectures at batches of 16 to 512, augmentation included, on two cores with AVX512-BF16 (within a seventh of what
was measured); a short product of matrices then tells how fast the machine at hand is beside that one.
"""

import functools
import time

import numpy as np

ROWS = 42_000  # Kaggle's labelled rows, for which `train.py --list` estimates


PRICES = {  # seconds for each of what `costs` counts
    "float32": np.array([1.47e-4, 2.38e-11, 1.47e-9, 7.92e-10, 0.0]),
    "bfloat16": np.array([1.50e-4, 1.55e-11, 1.12e-9, 0.0, 1.08e-6]),
}


REFERENCE = 0.0042  # seconds of `_matrices` on the machine that the prices are from


def training_seconds(plan, speed=None):
    """Seconds to train all nets of a run; None on a GPU, where nothing was measured.

    plan: for each of recipes.kinds, (model, settings, steps an epoch).
    """
    seconds = 0.0
    for model, config, steps in plan:
        step = step_seconds(model, config, speed)
        if step is None:
            return None
        seconds += config["nets"] * config["epochs"] * steps * step
    return seconds


def step_seconds(model, config, speed=None):
    """Seconds of one training step; None on a GPU."""
    import keras

    if not all(device.startswith("cpu") for device in keras.distribution.list_devices()):
        return None
    images = config["batch_size"] * (1 + len(config["joint_flips"]))
    step = PRICES[config["precision"]] @ (costs(model) * [1, *4 * [images]])
    return step / (speed or machine_speed())


def costs(model):
    """A model's layers; and for an image: multiplications, activations, those normalised or dropped, 1. float (5,)."""
    import keras

    from recognizer.nn import batch_norm

    slow = (keras.layers.BatchNormalization, keras.layers.Dropout)
    macs = activations = normalised = 0
    leaves = [layer for layer in batch_norm.all_layers(model) if not hasattr(layer, "layers")]
    for layer in leaves:
        shapes = [output.shape[1:] for output in keras.tree.flatten(layer.output)]
        outputs = sum(int(np.prod([size or 1 for size in shape])) for shape in shapes)
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            macs += outputs * int(np.prod(kernel.shape[:-1]))
        activations += outputs
        if isinstance(layer, slow):
            normalised += outputs
    return np.array([len(leaves), macs, activations, normalised, 1], float)


def _matrices():
    a = np.full((768, 768), 0.5, np.float32)
    times = []
    for _ in range(25):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return min(times)  # the least disturbed by whatever else runs


@functools.cache
def machine_speed():
    """How fast this machine multiplies matrices, as a multiple of the one the prices are from."""
    return REFERENCE / _matrices()
