import math
import shutil
import sys
import time

import keras
import numpy as np

from recognizer.base.errors import UserError
from recognizer.base.files import read_rows, write_rows
from recognizer.base.reasons import reason
from recognizer.base.words import duration
from recognizer.config import schedules
from recognizer.data import streams
from recognizer.runs import checkpoints, run_folder
from recognizer.training.model import SMALLEST_SCALE


class NotFinite(Exception):
    """The loss is NaN or infinite."""


class FiniteLoss(keras.callbacks.Callback):
    """Raises NotFinite as soon as the mean loss of an epoch is NaN or infinite.

    With a scaled loss single steps may be: they are skipped, unless no scale helps.
    """

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            raise NotFinite(f"the loss became {logs['loss']}")

    def on_epoch_end(self, epoch, logs=None):
        if not self.model.scale_loss:
            return
        last = epoch + 1 == self.params["epochs"]
        unmade = last and not np.isfinite(keras.ops.convert_to_numpy(self.model.epoch.losses)).any()
        if unmade or float(self.model.optimizer.dynamic_scale) < SMALLEST_SCALE:
            raise NotFinite("the loss or its gradients became infinite or NaN, whatever the loss scale,")


class Randomness(keras.callbacks.Callback):
    """Seeds dropout anew each epoch, from (seed, net, epoch)."""

    def __init__(self, seed, net):
        super().__init__()
        self.seed, self.net = seed, net

    def on_epoch_begin(self, epoch, logs=None):
        seed_dropout(self.model, self.seed, self.net, epoch)


def seed_dropout(model, seed, net, epoch):
    weights = {id(weight) for weight in model.weights}
    generators = [variable for variable in model.variables if id(variable) not in weights]
    rng = streams.rng("dropout", seed, net, epoch)
    for state in generators:  # keras.random.SeedGenerator's [seed, draws so far]
        state.assign(np.array([rng.integers(2**32), 0], np.uint32))


class Schedule(keras.callbacks.Callback):
    """Sets each epoch's learning rates."""

    def __init__(self, config, checkpoint, steps):
        super().__init__()
        self.rates = schedules.make(config, steps)
        self.checkpoint = checkpoint

    def on_epoch_begin(self, epoch, logs=None):
        logs = self.checkpoint.log[-1] if self.checkpoint.log else {}
        rates, self.checkpoint.schedule_state = self.rates(epoch, self.checkpoint.schedule_state, logs)
        self.model.epoch.rates.assign(rates)
        self.checkpoint.rate = float(f"{rates[-1]:.6g}")


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras's, with the epoch's learning rate as the log has it: the optimizer's is the next epoch's by then."""

    def __init__(self, checkpoint, folder):
        super().__init__(str(folder))
        self.checkpoint = checkpoint

    def _collect_learning_rate(self, logs):
        return logs | {"learning_rate": self.checkpoint.rate}


class Checkpoint(keras.callbacks.Callback):
    """After each epoch: the log, and all that is needed to go on from there."""

    def __init__(self, config, net, folder):
        super().__init__()
        self.folder, self.net = folder, net
        self.log_path = run_folder.net_file(folder, net, ".csv")
        self.keep_best = config["weights"] == "best"
        self.epoch, self.log, self.schedule_state = 0, [], None
        self.best, self.best_weights = None, []

    def restore(self, model):
        """Sets the model, and this object, to the last finished epoch's."""
        found = checkpoints.read(self.folder, self.net)
        if found is None:
            return
        arrays, state = found
        try:
            self.epoch, self.log = state["epoch"], state["log"]
            self.schedule_state, self.best = state["schedule"], state["best"]
            for i, variable in enumerate(model.state()):
                variable.assign(arrays[f"variable_{i:04d}"])
            if self.best:
                self.best_weights = [arrays[f"best_{i:04d}"] for i in range(len(model.weights))]
        except (KeyError, ValueError) as error:
            raise UserError(
                f"the checkpoints of net {self.net} in {self.folder} are of another net ({reason(error)}): undo what "
                "changed in models.py since, or remove them"
            ) from error
        if self.log:
            write_rows(self.log_path, self.log)  # what died after the checkpoint and before its log

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        variables = self.model.state()
        arrays = {f"variable_{i:04d}": _storable(variable) for i, variable in enumerate(variables)}
        if not all(np.isfinite(array).all() for array in arrays.values()):  # the loss was that before the last update
            raise NotFinite("weights became infinite or no number")
        logs = {key: float(value) for key, value in logs.items()}
        seconds = time.perf_counter() - self.started
        self.log.append({"epoch": epoch + 1, "learning_rate": self.rate, **logs, "seconds": round(seconds, 3)})
        self.epoch = epoch + 1
        if self.keep_best and (self.best is None or logs["val_accuracy"] > self.best["val_accuracy"]):
            self.best = {"epoch": epoch + 1, "val_accuracy": logs["val_accuracy"]}
            self.best_weights = [_storable(weight) for weight in self.model.weights]
        arrays |= {f"best_{i:04d}": weight for i, weight in enumerate(self.best_weights)}
        state = {"epoch": self.epoch, "log": self.log, "schedule": self.schedule_state, "best": self.best}
        checkpoints.write(self.folder, self.net, arrays, state)
        write_rows(self.log_path, self.log)

    def use_best(self, model):
        """Gives the model the weights of its best epoch on the validation rows."""
        for weight, value in zip(model.weights, self.best_weights, strict=True):
            weight.assign(value)


def _storable(variable):
    """Returns a variable's value as an array; bfloat16, which an .npz cannot hold, as float32, which is exact."""
    array = keras.ops.convert_to_numpy(variable)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


class Steps(keras.callbacks.Callback):
    """Writes the loss and the learning rate of every step to a CSV, after each epoch. Skipped steps have no row."""

    def __init__(self, checkpoint, path, steps):
        super().__init__()
        self.path, self.steps = path, steps
        rows = read_rows(path) if checkpoint.epoch and path.is_file() else []
        self.rows = [row | {"step": int(row["step"])} for row in rows if row["step"] <= checkpoint.epoch * steps]

    def on_epoch_end(self, epoch, logs=None):
        losses, rates = (keras.ops.convert_to_numpy(v) for v in (self.model.epoch.losses, self.model.epoch.rates))
        for i in np.flatnonzero(np.isfinite(losses)):
            row = {"step": epoch * self.steps + int(i) + 1, "loss": f"{losses[i]:.6g}"}
            self.rows.append(row | {"learning_rate": f"{rates[i]:.6g}"})
        if self.rows:
            write_rows(self.path, self.rows)


class Progress(keras.callbacks.Callback):
    """On a terminal one line that says where training is; elsewhere, after the first epoch, the time left."""

    WIDTH = 16
    WORTH_SAYING = 20  # seconds

    def __init__(self, config, net, checkpoint, steps):
        super().__init__()
        self.net, self.nets, self.epochs = net, config["nets"], config["epochs"]
        self.steps = steps
        self.checkpoint = checkpoint
        self.shown, self.said = 0.0, False

    def on_train_begin(self, logs=None):
        self.started = None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        done = self.epoch * self.steps + min(batch + 1, self.steps)
        if self.started is None:  # the first step compiles
            self.started, self.first = now, done
        elif sys.stdout.isatty() and now - self.shown > 0.2:
            self.shown = now
            rest = self._rest(now, done)
            bar = "#" * int(done / (self.epochs * self.steps) * self.WIDTH)
            log = self.checkpoint.log
            validation = f"  validation {log[-1]['val_accuracy']:.2%}" if log and "val_accuracy" in log[-1] else ""
            line = (
                f"net {self.net}/{self.nets}  epoch {self.epoch + 1}/{self.epochs}  [{bar:<{self.WIDTH}}] "
                f"{duration(rest)} left  loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.2%}{validation}"
            )
            self._print(line)

    def on_epoch_end(self, epoch, logs=None):
        done = (epoch + 1) * self.steps
        if self.said or done == self.first or sys.stdout.isatty():
            return
        self.said, rest = True, self._rest(time.perf_counter(), done)
        if rest > self.WORTH_SAYING:
            where = f"net {self.net} of {self.nets}, " * (self.nets > 1)
            print(f"        {where}epoch {epoch + 1} of {self.epochs} is done; about {duration(rest)} left", flush=True)

    def _rest(self, now, done):
        """Seconds until all nets are trained, if the steps go on as they went so far."""
        total = self.epochs * self.steps
        return (now - self.started) / (done - self.first) * (total - done + (self.nets - self.net) * total)

    def on_train_end(self, logs=None):
        if sys.stdout.isatty():
            self._print("")

    def _print(self, line):
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{line[:width]:<{width}}\r", end="", flush=True)
