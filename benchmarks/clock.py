"""Times several ways of training in turn: each calls its Clock after every batch, and the Clock waits for its turn.

A Clock prints "ready" once all is compiled, and reads a line. Then it lets the way run for `warm` seconds, counts
images for `window` seconds, prints images a second, and reads the next line. It ends the process when its input ends.
"""

import os
import sys
import time


class Clock:
    """Counts images, and waits for its turn. It is called after each batch, with the number of images in it."""

    def __init__(self, window, warm=0.5, first=3):
        self.window, self.warm = window, warm
        self.before = first  # calls until everything is compiled

    def __call__(self, images):
        now = time.perf_counter()
        if self.before:
            self.before -= 1
            if not self.before:
                self.wait("ready")
        elif self.start is None:
            if now - self.turn >= self.warm:
                self.start, self.images = now, 0
        else:
            self.images += images
            if now - self.start >= self.window:
                self.wait(f"{self.images / (now - self.start):.6g}")

    def wait(self, said):
        print(said, flush=True)
        if not sys.stdin.readline():
            sys.stdout.flush()
            os._exit(0)
        self.turn, self.start = time.perf_counter(), None
