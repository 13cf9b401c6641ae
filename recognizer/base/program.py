"""Runs a script's `main()`: exit codes, signals, and errors as one line on stderr.

Imports only the standard library, so that `--help` answers at once.
"""

import _thread
import contextlib
import gc
import io
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from recognizer.base.errors import Terminated, UserError, enough_memory
from recognizer.base.reasons import failed_import, reason

ROOT = Path(__file__).parents[2]
LACK_OF_MEMORY = "close other programs, or set CUDA_VISIBLE_DEVICES=-1 to compute without a GPU"
STOP_WITHIN = 4  # seconds
_received: list[int] = []  # the signals received: SIGINT or SIGTERM
_to_say: list[str] = []  # messages for stderr if a signal ends the program; the innermost block's is last
_said = threading.Event()  # set after the message is printed


def _stop(signum, frame):
    _received.append(signum)
    stop_if_asked()


def stop_if_asked() -> None:
    """Raises KeyboardInterrupt or Terminated if a signal was received.

    Call it again later, too: JAX's C++ code sometimes swallows the first exception.
    """
    if _received:
        raise KeyboardInterrupt if _received[-1] == signal.SIGINT else Terminated


@contextlib.contextmanager
def stopping(told: str) -> Iterator[None]:
    """Prints `told` on stderr if a signal ends the program inside the block."""
    _to_say.append(told)
    try:
        yield
    except (KeyboardInterrupt, Terminated) as stop:
        raise type(stop)(told) from None
    finally:
        _to_say.pop()


def _watch():
    """Starts a thread that ends the process if it does not stop within STOP_WITHIN seconds of a signal.

    Python handles a signal only when TensorFlow or XLA returns control to it, for example after a slow step or after
    compiling. Ending the process is safe at any time, because files are written atomically.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    stderr = os.dup(2)  # environment.quiet may have redirected it when the signal comes
    threading.Thread(target=_end, args=(reader, writer, stderr), daemon=True).start()
    return before


def _end(reader, writer, stderr):
    while (number := reader.recv(1)[0]) not in (signal.SIGINT, signal.SIGTERM):
        pass
    code, told = _ending(Terminated if number == signal.SIGTERM else KeyboardInterrupt)
    told = _to_say[-1] if _to_say else told
    time.sleep(STOP_WITHIN)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    if not _said.is_set():
        os.write(stderr, f"\n{_program()}: {told}\n".encode())
    os._exit(code)


def _raise_again(unraisable):
    """Raises a signal's exception again if Python ignored it, as in a weakref callback or a `__del__`."""
    if not (_received and isinstance(unraisable.exc_value, (KeyboardInterrupt, Terminated))):
        return sys.__unraisablehook__(unraisable)
    again = threading.Timer(0.05, _thread.interrupt_main, [_received[-1]])
    again.daemon = True
    again.start()


def _ending(stop):
    """Returns (exit code, message) for the exception class `stop`: KeyboardInterrupt or Terminated."""
    return (143, "terminated") if issubclass(stop, Terminated) else (130, "interrupted")


def run(main: Callable[[], int | None]) -> NoReturn:
    """Calls a script's `main()` and exits: 0 done, 1 failed, 2 wrong input, 130 interrupted, 143 terminated.

    `main` returns the exit code, or None for 0. Exceptions that the user cannot fix are raised, with a traceback.
    """
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # background jobs of a shell ignore SIGINT
        signal.signal(signal.SIGINT, _stop)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name may have characters that its encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    before = _watch()
    sys.unraisablehook = _raise_again
    try:
        with enough_memory(LACK_OF_MEMORY):
            code = main() or 0
    except BrokenPipeError:  # the program that reads stdout, such as `head`, has ended
        sys.stdout = None
        code = 1
    except (KeyboardInterrupt, Terminated) as stop:
        code, told = _ending(type(stop))
        print(f"\n{_program()}: {str(stop) or told}", file=sys.stderr, flush=True)
        _said.set()
    except Exception as error:
        line = _line(error)
        if not line:
            raise
        if "--debug" in sys.argv:
            traceback.print_exception(error)
        print(f"{_program()}: {line}", file=sys.stderr)
        code = 2
    if not _received:
        signal.set_wakeup_fd(before)
    gc.freeze()  # the garbage collection at exit would walk through all of Keras: up to a second
    sys.exit(code)


def _missing(error):
    """Returns the error line for a package that this Python lacks, or ""."""
    if not isinstance(error, ModuleNotFoundError) or (error.name or "recognizer").startswith("recognizer"):
        return ""
    remedy = "activate this project's environment (. .venv/bin/activate), or python -m pip install -r requirements.txt"
    return f"{sys.executable} has no package {error.name!r}: {remedy}"


def _tell_missing(kind, error, trace):
    """Says in a line that a package is missing, and exits with code 2. For the imports before `run` is called."""
    line = _missing(error)
    if not line:
        return sys.__excepthook__(kind, error, trace)
    print(f"{_program()}: {line}", file=sys.stderr, flush=True)
    os._exit(2)


sys.excepthook = _tell_missing


def _program():
    return Path(sys.argv[0]).name.replace("__main__.py", "recognizer")


def _line(error):
    """Returns the error line for an exception that the user can fix, or "" for any other exception."""
    if isinstance(error, UserError):
        return str(error)
    if line := failed_import(error, ROOT) or _missing(error):
        return line
    if isinstance(error, OSError):
        return f"{error.filename}: {reason(error)}" if error.filename else reason(error)
    return ""
