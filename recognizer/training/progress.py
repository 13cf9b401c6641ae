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
    """Prints the progress of a net, and the time left for all nets.

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
        if self.started is None:  # the first step compiles
            self.started, self.first = now, done
        elif self.bar:
            at_most = "at most " * (self.about == "at most")
            told = f"{at_most}{self._left(now, done)} left  {self._metrics(logs)}"
            self.bar.update(self.task, completed=done, description=self._where(), told=told)

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        if self.show_validation and "val_accuracy" in logs:
            self.validation = f"  validation {logs['val_accuracy']:.2%}"
        if self.verbose == 2:
            now, done = time.perf_counter(), (epoch + 1) * self.steps
            more = self.net < self.nets or (done < self.total and not self.model.stop_training)
            left = f", {self.about} {self._left(now, done)} left" if more else ""
            print(
                f"        {self._where()}  {self._metrics(logs)}  "
                f"{duration(now - self.epoch_started)}{left if done > self.first else ''}",
                flush=True,
            )

    def close(self) -> None:
        """Removes the bar, and shows the cursor that it had hidden."""
        if self.bar:
            self.bar.stop()

    def _where(self):
        net = f"net {self.net}/{self.nets}  " if self.nets > 1 else ""
        return f"{net}epoch {self.epoch + 1}/{self.params['epochs']}"

    def _metrics(self, logs):
        metrics = f"loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.2%}{self.validation}"
        return f"{metrics}  rate {self.schedule.rate:.3g}"

    def _left(self, now, done):
        """Returns the time left for all nets at the current pace."""
        left = 0 if self.model.stop_training else self.total - done
        left += (self.nets - self.net) * self.total
        return duration((now - self.started) / max(1, done - self.first) * left)


class Reports(Progress):
    """Sends the progress of a net to the process that shows the progress of all nets.

    Arguments:
        send: a function of (number of steps so far, the net's total steps, a finished epoch's line or None).
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
        if time.perf_counter() > self.sent + self.EVERY:
            self._send(self.epoch * self.steps + min(batch + 1, self.steps))

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        super().on_epoch_end(epoch, logs)
        took = duration(time.perf_counter() - self.epoch_started)
        self._send((epoch + 1) * self.steps, f"{self._where()}  {self._metrics(logs)}  {took}")
        last = epoch + 1 == self.params["epochs"] or self.model.stop_training
        if self.ask and self.show_validation and not last:
            self.ask(epoch + 1, float(logs["val_accuracy"]))

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
