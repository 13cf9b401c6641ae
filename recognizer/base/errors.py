"""Errors that the user can fix, and context managers that turn other exceptions into them."""

import contextlib
import re
import textwrap
from collections.abc import Iterator

from recognizer.base.reasons import reason

LONGEST_LINE = 280  # characters of an error's line, without the script's name


class UserError(Exception):
    """An error that the user can fix. program.run prints it as one line and exits with code 2."""


class Terminated(BaseException):
    """Raised on SIGTERM. Like KeyboardInterrupt, it is not caught by `except Exception`."""


@contextlib.contextmanager
def refused(told: str, hostile: bool = True, room: int = 0) -> Iterator[None]:
    """Turns any exception in the block into a UserError: the text `told`, and the reason in parentheses.

    For reading files that may be damaged or malicious: for them, NumPy, Keras, Pillow and zipfile raise nearly every
    kind of exception.

    hostile: whether the file itself may cause an out-of-memory error. If False, such an error is raised unchanged.
    room: the number of characters to leave for text after the reason.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or (out_of_memory(error) and not hostile):
            raise
        raise UserError(f"{told} ({reason(error, max(100, LONGEST_LINE - room - len(told)))})") from error


@contextlib.contextmanager
def about(what: str) -> Iterator[None]:
    """Puts `what` before the message of a UserError that is raised in the block."""
    try:
        yield
    except UserError as error:
        raise UserError(textwrap.shorten(f"{what}: {error}", LONGEST_LINE, placeholder=" ...")) from error


def out_of_memory(error: BaseException) -> bool:
    """Returns whether an exception means that the machine or a GPU ran out of memory.

    Checks the exception's text: TensorFlow raises ResourceExhaustedError for a full disk as well, and cuDNN, cuBLAS and
    XLA have no exception class for it.
    """
    words = "[Oo]ut of memory|OUT_OF_MEMORY|OOM when|[Ff]ailed to allocate|[Uu]nable to allocate|Cannot allocate"
    return isinstance(error, MemoryError) or re.search(f"{words}|_ALLOC_FAILED|MemoryError", str(error)) is not None


@contextlib.contextmanager
def enough_memory(told: str) -> Iterator[None]:
    """Raises UserError if memory runs out in the block. told: advice to the user."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or not out_of_memory(error):
            raise
        raise UserError(f"out of memory: {told}") from error
