"""The errors that a user can mend, and how others become such errors."""

import contextlib
import re

from recognizer.base.reasons import reason

LONGEST_LINE = 280  # characters of an error's line, without the script's name


class UserError(Exception):
    """An error that the user can mend: cli.run prints it as one line, and exits with code 2."""


class Terminated(BaseException):
    """SIGTERM was received. Like KeyboardInterrupt, it is not caught by `except Exception`."""


@contextlib.contextmanager
def refused(told, hostile=True):
    """Turns any exception in the block into a UserError: `told`, and the reason in parentheses.

    For reading a file that may be damaged or malicious: NumPy, Keras, Pillow and zipfile raise nearly every kind of
    exception for one.

    hostile: whether a file can be the cause if memory runs out.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or (out_of_memory(error) and not hostile):
            raise
        raise UserError(f"{told} ({reason(error, max(100, LONGEST_LINE - len(told)))})") from error


def out_of_memory(error):
    """Returns whether an exception says that the machine's or a GPU's memory ran out.

    It compares the text: TensorFlow raises ResourceExhaustedError for a full disk as well, and cuDNN, cuBLAS and XLA
    have no class of their own.
    """
    words = "[Oo]ut of memory|OUT_OF_MEMORY|OOM when|[Ff]ailed to allocate|[Uu]nable to allocate|Cannot allocate"
    return isinstance(error, MemoryError) or re.search(f"{words}|_ALLOC_FAILED|MemoryError", str(error)) is not None


@contextlib.contextmanager
def enough_memory(told):
    """Raises UserError if memory runs out in the block. told: what the user can do then."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not out_of_memory(error):
            raise
        raise UserError(f"out of memory: {told}") from error
