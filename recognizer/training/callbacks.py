"""Callbacks that control training: batches, seeds, learning rates, and a stop if the loss is NaN or infinite."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from recognizer.base import program
from recognizer.config import schedules
from recognizer.data import streams
from recognizer.training.batches import TrainingBatches
from recognizer.training.model import SMALLEST_SCALE


class NotFinite(Exception):
    """The loss, its gradients or a weight is NaN or infinite."""


class FiniteLoss(keras.callbacks.Callback):
    """Raises NotFinite as soon as the running mean of an epoch's loss is NaN or infinite.

    With a scaled loss, steps that are not finite are skipped. NotFinite is then raised after an epoch that ends with
    a scale below SMALLEST_SCALE, or after the last epoch if all its steps were skipped. This callback must come after
    the callback that stops training.
    """

    def on_train_batch_end(self, batch: int, logs: dict) -> None:
        if not math.isfinite(logs["loss"]):
            raise NotFinite(f"the loss became {logs['loss']}")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if not self.model.scale_loss:
            return
        last = epoch + 1 == self.params["epochs"] or self.model.stop_training
        all_skipped = last and not np.isfinite(keras.ops.convert_to_numpy(self.model.epoch.losses)).any()
        if all_skipped or float(self.model.optimizer.dynamic_scale) < SMALLEST_SCALE:
            raise NotFinite("the loss or its gradients became infinite or NaN, whatever the loss scale,")


class Epochs(keras.callbacks.Callback):
    """Sets the TrainingBatches and the dropout seed of each epoch, both functions of (seed, net, epoch)."""

    def __init__(self, batches: TrainingBatches) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.batches.set_epoch(epoch)
        seed_dropout(self.model, self.batches.settings["seed"], self.batches.net, epoch)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        program.stop_if_asked()


def seed_dropout(model: keras.Model, seed: int, net: int, epoch: int) -> None:
    """Seeds the keras.random.SeedGenerators of a model, which dropout uses."""
    weights = {id(weight) for weight in model.weights}
    generators = [variable for variable in model.variables if id(variable) not in weights]
    rng = streams.rng("dropout", seed, net, epoch)
    for state in generators:  # [seed, draws so far]
        state.assign(np.array([rng.integers(2**32), 0], np.uint32))


class Recalibration(keras.callbacks.Callback):
    """Validates with recomputed batch-norm statistics, like those of the saved net, and then restores all weights.

    A pass of training that recomputes statistics changes other weights, too: SpectralNormalization divides its kernel.

    Arguments:
        recalibrate: a function that recomputes the statistics of the model's net. It may change the dropout seed, since
            `Epochs` sets it before the next training step.
    """

    def __init__(self, recalibrate: Callable[[], None]) -> None:
        super().__init__()
        self.recalibrate = recalibrate

    def on_test_begin(self, logs: dict | None = None) -> None:
        self.weights = self.model.network.weights
        self.before = [keras.ops.convert_to_numpy(weight) for weight in self.weights]
        self.recalibrate()

    def on_test_end(self, logs: dict | None = None) -> None:
        for weight, value in zip(self.weights, self.before, strict=True):
            weight.assign(value)


class Schedule(keras.callbacks.Callback):
    """Sets each epoch's learning rates.

    Attributes:
        rate: float, the learning rate of the epoch's last step, rounded to six digits.
        state: the schedule's state, JSON-able.
    """

    def __init__(self, settings: dict, steps: int) -> None:
        super().__init__()
        self.rates = schedules.make(settings, steps)
        self.state: dict | None = None
        self.logs: dict = {}

    def restore(self, state: dict | None, rows: list[dict]) -> None:
        """Restores the schedule's state. rows: the rows of EpochLog for the finished epochs."""
        self.state, self.logs = state, rows[-1] if rows else {}

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        rates, self.state = self.rates(epoch, self.state, self.logs)
        self.model.epoch.rates.assign(rates)
        self.rate = float(f"{rates[-1]:.6g}")

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        self.logs = {key: float(value) for key, value in logs.items()}


class TensorBoard(keras.callbacks.TensorBoard):
    """keras.callbacks.TensorBoard that logs the learning rate of the epoch's last step, rounded as in the logs."""

    def __init__(self, schedule: Schedule, folder: Path) -> None:
        super().__init__(str(folder))
        self.schedule = schedule

    def _collect_learning_rate(self, logs):
        return logs | {"learning_rate": self.schedule.rate}
