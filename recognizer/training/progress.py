"""Shows the progress of training: a bar on a terminal, a line for each epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras

from recognizer.base.words import duration
from recognizer.training.callbacks import Schedule

if TYPE_CHECKING:
    import rich.progress


class Progress(keras.callbacks.Callback):
    """Prints the progress of a net, and the training time left for all nets.

    The estimate leaves out those parts of the first epoch that compile: its first step, its last step, which may have
    a smaller batch, and its validation.

    Arguments:
        net, nets: int, the net's number, and the number of nets in the run.
        steps: int, the number of steps in an epoch.
        schedule: callbacks.Schedule, which knows the learning rate.
        verbose: as in keras.Model.fit, 0: nothing, 1: a bar, 2: a line for each epoch. None: 1 on a terminal, 2
            elsewhere.
        settings: the net's settings.
        show_validation: bool, whether to show an epoch's validation accuracy.
    """

    def __init__(
        self,
        net: int,
        nets: int,
        steps: int,
        schedule: Schedule,
        verbose: int | None,
        settings: dict,
        show_validation: bool = True,
    ) -> None:
        super().__init__()
        self.net, self.nets, self.steps, self.schedule = net, nets, steps, schedule
        self.verbose = (1 if sys.stdout.isatty() else 2) if verbose is None else verbose
        self.show_validation = show_validation
        self.about = "about" if settings["early_stopping"] is None else "at most"
        self.started: float | None = None
        self.compiled = False
        self.bar: rich.progress.Progress | None = None
        self.validation = ""

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.total = self.params["epochs"] * self.steps
        if self.verbose == 1:
            self.bar, self.task = bar(self.total)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch, self.epoch_started = epoch, time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict) -> None:
        now, done = time.perf_counter(), self.epoch * self.steps + min(batch + 1, self.steps)
        if self.started is None:
            self.started, self.first = self.before = now, done
        elif done < (self.epoch + 1) * self.steps:
            self.before = now, done
        if self.bar:
            at_most = "at most " * (self.about == "at most")
            left = self._left(now, done, at_most + "{} of training left  ")
            self.bar.update(self.task, completed=done, description=self._where(), told=left + self._metrics(logs))

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        self._read_validation(logs)
        now, done = time.perf_counter(), (epoch + 1) * self.steps
        if not self.compiled and self.started is not None:
            before, made = self.before
            self.started, self.first, self.compiled = self.started + now - before, self.first + done - made, True
        if self.verbose == 2:
            left = self._left(now, done, f", {self.about} {{}} of training left")
            took = duration(now - self.epoch_started)
            print(f"        {self._where()}  {self._metrics(logs)}  {took}{left}", flush=True)

    def say(self, line: str) -> None:
        """Prints a line about the net."""
        if self.verbose:
            print(f"        {self._net()}{line}", flush=True)

    def close(self) -> None:
        """Removes the bar, and shows the cursor that it had hidden."""
        if self.bar:
            self.bar.stop()

    def _net(self):
        return f"net {self.net}/{self.nets}  " if self.nets > 1 else ""

    def _where(self):
        return f"{self._net()}epoch {self.epoch + 1}/{self.params['epochs']}"

    def _read_validation(self, logs):
        if self.show_validation and "val_accuracy" in logs:
            self.validation = f"  validation {logs['val_accuracy']:.2%}"

    def _metrics(self, logs):
        metrics = f"loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.2%}{self.validation}"
        return f"{metrics}  rate {self.schedule.rate:.3g}"

    def _left(self, now, done, words):
        """Returns the training time left for all nets, as text in `words`; "" if none is left, or it is not known."""
        left = 0 if self.model.stop_training else self.total - done
        left += (self.nets - self.net) * self.total
        made = done - self.first
        return words.format(duration((now - self.started) / made * left)) if left and made else ""


class Reports(Progress):
    """Sends the progress of a net to the process that shows the progress of all nets.

    Arguments:
        send: a function of (number of steps so far, the net's total steps, a line or None). The line is about a
            finished epoch, or about what follows the last epoch.
        ask: None, or a function of (epoch, validation accuracy) that may raise an error to end training. It is called
            after each epoch except the last, but never if an epoch's validation is meaningless (validates_late).
    """

    EVERY = 0.5  # seconds

    def __init__(
        self,
        send: Callable[[tuple], None],
        net: int,
        nets: int,
        steps: int,
        schedule: Schedule,
        verbose: int | None,
        *others: Any,
        ask: Callable[[int, float], None] | None = None,
    ) -> None:
        super().__init__(net, nets, steps, schedule, 0, *others)
        self.send, self.ask, self.sent = send, ask, 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if time.perf_counter() > self.sent + self.EVERY and batch + 1 < self.steps:  # on_epoch_end sends the last
            self._send(self.epoch * self.steps + batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        self._read_validation(logs)
        took = duration(time.perf_counter() - self.epoch_started)
        self._send((epoch + 1) * self.steps, f"{self._where()}  {self._metrics(logs)}  {took}")
        last = epoch + 1 == self.params["epochs"] or self.model.stop_training
        if self.ask and self.show_validation and not last:
            self.ask(epoch + 1, float(logs["val_accuracy"]))

    def say(self, line: str) -> None:
        """Sends a line about the net, whose training has ended."""
        self._send(self.total, self._net() + line)

    def _send(self, done, line=None):
        self.send((done, self.total, line))
        self.sent = time.perf_counter()


def bar(total: float) -> tuple[rich.progress.Progress, rich.progress.TaskID]:
    """Returns (a rich.progress.Progress on the terminal, its task)."""
    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(bar_width=16), TextColumn("{task.fields[told]}")
    shown = Progress(*columns, transient=True)
    shown.start()
    return shown, shown.add_task("", total=total, told="")
