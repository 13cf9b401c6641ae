"""Callbacks that save logs, best weights and checkpoints, so that training resumes exactly where it stopped."""

import time
from pathlib import Path

import keras
import numpy as np

from recognizer.base.errors import UserError
from recognizer.base.files import read_rows, write_rows
from recognizer.base.reasons import reason
from recognizer.runs import checkpoints, run_folder
from recognizer.training.callbacks import NotFinite, Schedule
from recognizer.training.model import TrainingModel


class EpochLog(keras.callbacks.Callback):
    """Collects a row for each epoch: epoch (from 1), learning rate, Keras's metrics, seconds.

    Arguments:
        path: the CSV file for `write`.
        schedule: callbacks.Schedule, which knows the learning rate.
    """

    def __init__(self, path: Path, schedule: Schedule) -> None:
        super().__init__()
        self.path, self.schedule = path, schedule
        self.rows: list[dict] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        logs = {key: float(value) for key, value in logs.items()}
        seconds = round(time.perf_counter() - self.started, 3)
        self.rows.append({"epoch": epoch + 1, "learning_rate": self.schedule.rate, **logs, "seconds": seconds})

    def write(self) -> None:
        if self.rows:
            write_rows(self.path, self.rows)


class StepLog(keras.callbacks.Callback):
    """Writes the loss and the learning rate of every step to a CSV after each epoch. Skipped steps have no row.

    Arguments:
        path: the CSV file. When training resumes, rows after the last finished epoch are dropped.
        steps: int, the number of steps in an epoch.
    """

    def __init__(self, path: Path, steps: int) -> None:
        super().__init__()
        self.path, self.steps = path, steps
        self.rows: list[dict] = []

    def restore(self, epoch: int) -> None:
        """Reads the rows of the first `epoch` epochs from the CSV."""
        keys = run_folder.STEP_COLUMNS
        rows = read_rows(self.path, *keys) if epoch and self.path.is_file() else []
        self.rows = [_step_row(*(row[key] for key in keys)) for row in rows if row["step"] <= epoch * self.steps]

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        losses, rates = (keras.ops.convert_to_numpy(v) for v in (self.model.epoch.losses, self.model.epoch.rates))
        for i in np.flatnonzero(np.isfinite(losses)):
            self.rows.append(_step_row(epoch * self.steps + i + 1, losses[i], rates[i]))
        if self.rows:
            write_rows(self.path, self.rows)


def _step_row(step, loss, learning_rate):
    return {"step": int(step), "loss": f"{loss:.6g}", "learning_rate": f"{learning_rate:.6g}"}


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the best validation accuracy; of equal epochs, the first.

    Like keras.callbacks.EarlyStopping(monitor="val_accuracy", mode="max", restore_best_weights=True).

    Arguments:
        patience: int, training stops after this number of epochs without improvement; None: it does not stop.

    Attributes:
        best: {"epoch": from 1, "val_accuracy": ...}, or None before the first epoch.
        weights: a list of arrays.
    """

    def __init__(self, patience: int | None = None) -> None:
        super().__init__()
        self.patience = patience
        self.best: dict | None = None
        self.weights: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        accuracy = float(logs["val_accuracy"])
        if self.best is None or accuracy > self.best["val_accuracy"]:
            self.best = {"epoch": epoch + 1, "val_accuracy": accuracy}
            self.weights = [_storable(weight) for weight in self.model.weights]
        if self.is_over(epoch + 1):
            self.model.stop_training = True

    def is_over(self, epoch: int) -> bool:
        """Returns whether training stops after `epoch` epochs."""
        return (
            self.patience is not None and self.best is not None and epoch - self.best["epoch"] >= max(1, self.patience)
        )

    def use(self, model: TrainingModel) -> None:
        """Sets the weights of a model to the best weights."""
        for weight, value in zip(model.weights, self.weights, strict=True):
            weight.assign(value)


class Checkpoint(keras.callbacks.Callback):
    """Saves a checkpoint after each epoch, with all that training needs to resume; then writes the epoch's log row.

    It must come after the callbacks whose state it saves. Raises NotFinite if a variable that was finite before
    training is no longer so.

    Arguments:
        folder, net: the run's folder and the net's number.
        schedule, log: callbacks.Schedule and EpochLog.
        best: BestWeights, or None.
    """

    def __init__(
        self, folder: Path, net: int, schedule: Schedule, log: EpochLog, best: BestWeights | None = None
    ) -> None:
        super().__init__()
        self.folder, self.net = folder, net
        self.schedule, self.log, self.best = schedule, log, best
        self.epoch = 0  # number of finished epochs
        self.infinite: set[str] = set()  # variables that are not finite from the start, such as a mask of -inf

    def restore(self, model: TrainingModel) -> None:
        """Sets the model and the callbacks to their state after the last finished epoch, if there is a checkpoint.

        Raises UserError if the checkpoint does not fit the model.
        """
        if not self.epoch:  # the model is in its initial state
            self.infinite = _not_finite(_arrays(model))
        found = checkpoints.read(self.folder, self.net)
        if found is None:
            return
        arrays, state = found
        try:
            for i, variable in enumerate(model.state()):
                variable.assign(arrays[f"variable_{i:04d}"])
            self.epoch, self.log.rows = state["epoch"], state["log"]
            self.schedule.restore(state["schedule"], state["log"])
            if self.best and state["best"]:
                self.best.best = state["best"]
                self.best.weights = [arrays[f"best_{i:04d}"] for i in range(len(model.weights))]
        except (KeyError, ValueError) as error:
            raise UserError(
                f"the checkpoints of net {self.net} in {self.folder} do not fit its architecture ({reason(error)}): "
                "undo the changes in models.py, or remove the checkpoints"
            ) from error
        self.log.write()  # the process may have died between the checkpoint and its row

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        arrays = _arrays(self.model)
        if _not_finite(arrays) - self.infinite:  # the loss predates the last update
            raise NotFinite("weights became infinite or NaN")
        self.epoch = epoch + 1
        best = self.best.best if self.best else None
        if self.best and best:
            arrays |= {f"best_{i:04d}": weight for i, weight in enumerate(self.best.weights)}
        state = {"epoch": self.epoch, "log": self.log.rows, "schedule": self.schedule.state, "best": best}
        checkpoints.write(self.folder, self.net, arrays, state)
        self.log.write()


def _arrays(model):
    """Returns the variables of a TrainingModel's state, {name in the checkpoint: array}."""
    return {f"variable_{i:04d}": _storable(variable) for i, variable in enumerate(model.state())}


def _not_finite(arrays):
    return {name for name, array in arrays.items() if not np.isfinite(array).all()}


def _storable(variable):
    """Returns a variable's value as an array. bfloat16, which an .npz cannot hold, becomes float32 without loss."""
    array = keras.ops.convert_to_numpy(variable)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
