import contextlib
import re

from recognizer.base.reasons import reason

LONGEST_LINE = 280  # characters of an error's line, beside the script's name


class UserError(Exception):
    """Something the user can mend: printed as one line, exit code 2."""


class Terminated(BaseException):
    """SIGTERM was received; like KeyboardInterrupt it passes every `except Exception`."""


@contextlib.contextmanager
def refused(told, hostile=True):
    """Whatever is raised in the block becomes one line: `told`, and why.

    For reading a file that may be damaged or made to do harm: the readers of such files (NumPy's, Keras's, Pillow's,
    zipfile) raise nearly every kind of exception. hostile: whether a lack of memory is the file's fault, too.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not hostile and out_of_memory(error):
            raise
        raise UserError(f"{told} ({reason(error, max(100, LONGEST_LINE - len(told)))})") from error


def out_of_memory(error):
    """Whether an exception says that memory, the machine's or a GPU's, ran out.

    By its text, since TensorFlow's class ResourceExhaustedError also stands for a full disk, and cuDNN, cuBLAS and XLA
    have no class of their own.
    """
    words = "[Oo]ut of memory|OUT_OF_MEMORY|OOM when|[Ff]ailed to allocate|[Uu]nable to allocate|Cannot allocate"
    return isinstance(error, MemoryError) or re.search(f"{words}|_ALLOC_FAILED|MemoryError", str(error)) is not None


@contextlib.contextmanager
def enough_memory(told):
    """If memory runs out in the block, raises a UserError. told: what the user can do then."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"out of memory: {told}") from error
