"""How the scripts talk to the person who runs them: errors, exit codes, options, times.

Imports the standard library and reasons.py only, so that `--help` and a mistyped option answer at once.
"""

import argparse
import gc
import os
import signal
import sys
import traceback
from pathlib import Path

from recognizer.base.errors import Terminated, UserError, enough_memory
from recognizer.base.reasons import failed_import, reason


class Parser(argparse.ArgumentParser):
    """ArgumentParser whose errors are one line, and whose help keeps the script's docstring as written.

    Where argcomplete is installed and activated, the shell completes a script's options by it.
    """

    def __init__(self, **arguments):
        epilog = "Exit codes: 0 done, 1 failed, 2 to be mended (one line says how), 130 interrupted, 143 terminated."
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=form, allow_abbrev=False, epilog=epilog, **arguments)
        self.add_argument("--debug", action="store_true", help="show the traceback behind an error's line")

    def parse_args(self, *arguments):
        if "_ARGCOMPLETE" in os.environ:
            import argcomplete

            argcomplete.autocomplete(self)
        return super().parse_args(*arguments)

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


_received = []  # signals that were to end the program


def _stop(signum, frame):
    _received.append(signum)
    stop_if_asked()


def stop_if_asked():
    """Raises again what SIGINT or SIGTERM raised: JAX's C++, which calls Python, now and then swallows it."""
    if _received:
        raise KeyboardInterrupt if _received[-1] == signal.SIGINT else Terminated


def run(main):
    """Runs a script's `main` and exits: 0 done, 1 failed, 2 the user can mend it, 130 or 143 interrupted."""
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else ignored, as by a shell's background jobs
        signal.signal(signal.SIGINT, _stop)
    program = Path(sys.argv[0]).name.replace("__main__.py", "recognizer")
    try:
        with enough_memory(
            "close other programs that use this machine's memory or its GPU's, or set CUDA_VISIBLE_DEVICES=-1 to "
            "compute without a GPU"
        ):
            code = main() or 0
    except UserError as error:
        code = _mendable(program, error, str(error))
    except BrokenPipeError:  # the reader, `head` say, has gone
        sys.stdout = None
        code = 1
    except KeyboardInterrupt as interrupt:
        print(f"\n{program}: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        code = 130
    except Terminated as interrupt:
        print(f"\n{program}: {str(interrupt) or 'terminated'}", file=sys.stderr)
        code = 143
    except Exception as error:
        if where := failed_import(error, Path(__file__).parents[2]):
            code = _mendable(program, error, where)
        elif isinstance(error, OSError):
            where = f"{error.filename}: " if error.filename else ""
            code = _mendable(program, error, f"{where}{reason(error)}")
        else:
            raise
    gc.freeze()  # the collection at the end would walk through all of Keras: up to a second
    sys.exit(code)


def _mendable(program, error, line):
    """Prints the line of an error that the user can mend, by --debug after its traceback; returns the exit code."""
    if "--debug" in sys.argv:
        traceback.print_exception(error)
    print(f"{program}: {line}", file=sys.stderr)
    return 2
