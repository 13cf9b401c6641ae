"""The learning-rate range test: the training loss while the learning rate rises from step to step.

Source: Smith, "Cyclical learning rates for training neural networks", 2017 (arXiv 1506.01186). fast.ai's lr_find is
similar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np

from recognizer.base.backend import TENSORFLOW
from recognizer.base.errors import UserError
from recognizer.training import callbacks

if TYPE_CHECKING:
    from recognizer.training.trainer import Trainer

SETTINGS = {"steps_per_epoch": 150, "min_steps_per_epoch": 1, "epochs": 1}  # of the tested net
LOWEST, HIGHEST = 1e-6, 10.0  # learning rates of the first and the last step
WIDTH = 4  # steps: standard deviation of the Gaussian that smooths the losses
FALL = 0.02  # relative to the first loss; a smaller fall may be noise


class UntilDivergence(keras.callbacks.Callback):
    """Sets the learning rate of each step, and stops training once the loss has diverged.

    Attributes:
        losses: float32 (n,), the losses of the steps so far.
    """

    def __init__(self, rates: np.ndarray) -> None:
        super().__init__()
        self.rates = rates

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.model.epoch.rates.assign(self.rates)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if not TENSORFLOW:
            self.model.jax_state_sync()  # copies the step's state to the variables
        self.losses = keras.ops.convert_to_numpy(self.model.epoch.losses)[: batch + 1]
        self.model.stop_training = has_diverged(self.losses, self.model.scale_loss)


def losses_by_rate(trainer: Trainer) -> tuple[np.ndarray, np.ndarray]:
    """Trains net 1 of a Trainer from its initial state with a rising learning rate. Its settings must include SETTINGS.

    Returns (rates, losses), float32 (n,) each, of the steps until the loss diverges. A step's loss is computed before
    the step changes the weights. Raises UserError if no loss is finite.
    """
    trainer.begin(1)
    model, batches = trainer.model, trainer.batches
    model.steps_per_execution = 1  # so that the loss is checked after each step
    watched = UntilDivergence(np.geomspace(LOWEST, HIGHEST, batches.steps, dtype=np.float32))
    model.fit(batches.data, callbacks=[callbacks.Epochs(batches), watched], shuffle=False, verbose=0)
    finite = np.flatnonzero(np.isfinite(watched.losses))  # float16 may have skipped steps
    if not len(finite):
        raise UserError(f"the loss of {trainer.settings['model']!r} is NaN or infinite at a rate of {LOWEST:g}")
    return watched.rates[finite], watched.losses[finite]


def has_diverged(losses: np.ndarray, skips: bool) -> bool:
    """Returns whether the last loss is NaN or infinite, or the smoothed loss is above four times its minimum.

    skips: bool, whether steps whose loss is not finite are skipped, as with a scaled loss.
    """
    if not np.isfinite(losses[-1]) and not skips:
        return True
    losses = losses[np.isfinite(losses)]
    if not len(losses):
        return False
    smoothed = smooth(losses)
    return bool(smoothed[-1] > smoothed.min() + 3 * abs(smoothed.min()))  # some losses are negative


def smooth(losses: np.ndarray) -> np.ndarray:
    """Returns losses smoothed without a lag, float64 (n,). A median filter comes first, against single outliers."""
    from scipy import ndimage

    # "nearest" would repeat the first and the last loss, and an outlier there would pass the filter.
    medians = ndimage.median_filter(losses.astype(np.float64), 5, mode="mirror")
    return ndimage.gaussian_filter1d(medians, WIDTH, mode="nearest")


def suggestions(rates: np.ndarray, losses: np.ndarray) -> dict[str, float]:
    """Returns the rates to "start with" and of the "lowest" smoothed loss; {} if the loss does not fall.

    The first is the geometric mean of the second and of the rate where the loss has made half of its fall. The rate
    where the loss falls fastest is too low for nets with batch normalization, whose loss then stays low for long. A
    fixed fraction of the rate of the lowest loss is too low for nets whose loss falls shortly before it diverges.
    """
    smoothed = smooth(losses)
    lowest = int(smoothed.argmin())
    fall = smoothed[0] - smoothed[lowest]
    if fall < FALL * abs(smoothed[0]):
        return {}
    half = np.flatnonzero(smoothed[: lowest + 1] > smoothed[lowest] + fall / 2)[-1]
    return {"start with": float(np.sqrt(rates[half] * rates[lowest])), "lowest": float(rates[lowest])}
