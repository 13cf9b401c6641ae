"""Shows the progress of nets that train in parallel: a bar on a terminal, a line for each epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Hashable
from typing import TYPE_CHECKING

from recognizer.base.words import duration

if TYPE_CHECKING:
    import rich.progress


class Overview:
    """Prints the progress of a run's nets, and the training time left for all of them.

    Arguments:
        nets: int, the number of nets to train.
        verbose: see progress.Progress.
        what: what to call the nets, e.g. "trials".
        started: time.perf_counter() before the nets start, to count the time that a net needs before its first step,
            too. The time left is then shown only after one net has ended. None: time is counted from the first
            progress. The time from the last progress in the first epoch to the end of that epoch is left out, since
            Keras compiles then.
    """

    def __init__(self, nets: int, verbose: int | None = None, what: str = "nets", started: float | None = None) -> None:
        self.what, self.started, self.early, self.compiled = what, started, started is not None, started is not None
        self.nets, self.verbose = nets, (1 if sys.stdout.isatty() else 2) if verbose is None else verbose
        self.first: dict[Hashable, int] = {}
        self.done: dict[Hashable, int] = {}
        self.totals: dict[Hashable, int] = {}
        self.heard: dict[Hashable, float] = {}  # when the last progress came
        self.ended = 0
        self.bar: rich.progress.Progress | None = None

    def update(self, net: Hashable, progress: tuple[int, int, str | None]) -> None:
        """Records the progress of a net, as sent by progress.Reports."""
        (done, total, line), now = progress, time.perf_counter()
        if self.started is None:
            self.started = now
        self.first.setdefault(net, done)
        if line and not self.compiled:
            self.started += now - self.heard.get(net, now)
            self.first[net] += done - self.done.get(net, done)
            self.compiled = True
        self.done[net], self.totals[net], self.heard[net] = done, total, now
        if self.verbose == 2 and line:
            print(f"        {line}{self.left(', about {} of training left')}", flush=True)
        elif self.verbose == 1:
            self._draw()

    def end(self, net: Hashable) -> None:
        """Records that a net has ended, which may be early, or before its first step."""
        self.early = False
        if net in self.totals:
            self.ended += 1
            self.done[net] = self.totals[net]
        else:
            self.nets -= 1

    def close(self) -> None:
        """Removes the bar, and shows the cursor that it had hidden."""
        if self.bar:
            self.bar.stop()

    def _all(self):
        """Returns the total steps of all nets. A net that has not begun counts with the mean of the others."""
        return self.nets * sum(self.totals.values()) / len(self.totals)

    def left(self, words: str = "{}") -> str:
        """Returns the time left for all nets, as text in `words`; "" if none is left, or if it is not known yet."""
        if self.early or not self.totals or self.started is None:
            return ""
        made, left = sum(self.done.values()) - sum(self.first.values()), self._all() - sum(self.done.values())
        seconds = time.perf_counter() - self.started
        return words.format(duration(seconds / made * left)) if left and made else ""

    def _draw(self):
        from recognizer.training.progress import bar

        if self.bar is None:
            self.bar, self.task = bar(self._all())
        where = f"{self.ended}/{self.nets} {self.what}"
        told = f"{self.left('{} of training left, ')}{len(self.done) - self.ended} in training"
        self.bar.update(self.task, completed=sum(self.done.values()), total=self._all(), description=where, told=told)
