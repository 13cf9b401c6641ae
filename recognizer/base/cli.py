"""The command line: options, exit codes, signals, and errors as one line on stderr.

Imports only the standard library, so that `--help` and a mistyped option answer at once.
"""

import _thread
import argparse
import contextlib
import gc
import itertools
import math
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from recognizer.base.errors import Terminated, UserError, enough_memory
from recognizer.base.reasons import failed_import, reason
from recognizer.base.words import choose, closest, decimal_comma, listed

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
ENGINES = ("batch", "keras")
SOURCES = ("auto", "kaggle", "mnist", "digits")  # what --data takes besides paths
OTHER_NAMES = {"--data": "--test", "--run": "--sweep"}  # options that predict.py and sweep have under other names
NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)(e-?\d+)?")
ROOT = Path(__file__).parents[2]
LACK_OF_MEMORY = "close other programs, or set CUDA_VISIBLE_DEVICES=-1 to compute without a GPU"


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with one-line errors. Its help shows the script's docstring as written.

    If argcomplete is installed and activated, the shell completes the options.
    """

    def __init__(self, **arguments: Any) -> None:
        epilog = "Exit codes: 0 done, 1 failed, 2 wrong input (one line says what), 130 interrupted, 143 terminated."
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=form, allow_abbrev=False, epilog=epilog, **arguments)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error, too")

    # argparse's own method also takes a namespace to fill; this one does not.
    def parse_args(self, args: Sequence[str] | None = None) -> argparse.Namespace:  # type: ignore[override]
        if "_ARGCOMPLETE" in os.environ:
            import argcomplete

            argcomplete.autocomplete(self)
        return super().parse_args(args)

    # Each parser refuses its own unknown arguments: argparse's subparsers leave theirs to the parser above.
    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        args = sys.argv[1:] if args is None else list(args)
        self._check_empty(args)
        self._check_blanks(args)
        found, unknown = super().parse_known_args(args, namespace)
        self._check_finite(found)
        if not any(word.startswith("-") for word in unknown):
            self._check_names(found)
        if unknown:
            usage = "" if all(word.startswith("--") for word in unknown) else self._usage()
            self.error(f"unrecognized arguments: {' '.join(unknown)}{_hint(self._all_instead(unknown, args)) or usage}")
        return found, unknown

    def _check_empty(self, given):
        """Refuses an empty argument, for example of a variable that is not set: --data "$DATA", --data=$DATA."""
        for before, word in itertools.pairwise(["", *given]):
            if not word and not before.startswith("-"):
                self.error("an argument is empty: leave it out")
            if option := re.fullmatch(r"(--[\w-]+)=", word or f"{before}="):
                self.error(f"the value of {option[1]} is empty: give one, or leave out {option[1]}")

    def _check_finite(self, found):
        """Refuses nan and inf, which float() takes for numbers."""
        for action in self._actions:
            value = getattr(found, action.dest, None)
            if action.type is float and value is not None and not math.isfinite(value):
                self.error(f"argument {action.option_strings[0]}: {value} is not a finite number")

    def _check_names(self, found):
        """Refuses a word that was read as a name, such as a run's, but is meant for an option: `draw 8000`."""
        for action in self._get_positional_actions():
            if completer := getattr(action, "completer", None):
                given = getattr(found, action.dest) or []
                for name in given if isinstance(given, list) else [given]:
                    if (meant := self._value_instead(name)) and name not in completer():
                        self.error(f"no {action.metavar} {name!r}{_hint([meant])}")

    def _check_blanks(self, given):
        """Refuses an option's KEY=VALUE that is written with blanks, such as --set KEY VALUE or --set KEY = VALUE."""
        for i, option in enumerate(given):
            form = str(getattr(self._option_string_actions.get(option), "metavar", None))
            words = list(itertools.takewhile(_is_value, given[i + 1 :]))
            meant = _without_blanks(words)
            if form.startswith("KEY=") and meant != "".join(words[:1]) and re.match(r"[\w.]+=[^=]", meant):
                self.error(f"{option} takes {form} without blanks{_hint([f'{option} {meant}'])}")

    def _all_instead(self, unknown, given):
        """Returns what to write instead of each argument that this parser lacks, as far as it is known."""
        found = []
        for i, (before, word) in enumerate(itertools.pairwise(["", *given])):
            if word not in unknown:
                continue
            if word.startswith("-"):
                found.append(self._option_instead(word, [after for after in given[i + 1 : i + 2] if after[:1] != "-"]))
            elif before not in unknown or not before.startswith("-") or "=" in before:  # not an unknown option's value
                found.append(self._instead(word))
        return list(dict.fromkeys(filter(None, found)))

    def _instead(self, word):
        """Returns what to write instead of a word without its option, or ""."""
        if (meant := self._value_instead(word)) or NUMBER.fullmatch(word):
            return meant
        options = self._option_string_actions
        models = getattr(options.get("--model"), "completer", tuple)()
        option = "--data" if is_data(word) else "--model" if word in models else "--recipe"
        return f"{option} {word}" if option in options else ""

    def _value_instead(self, word):
        """Returns what to write if a word is an option's value without the option, or a flag without `--`; else ""."""
        options = self._option_string_actions
        if (option := options.get(f"--{word}")) and option.nargs == 0:
            return f"--{word}"
        kind = None if not NUMBER.fullmatch(word) else int if word.isdigit() else float
        fitting = [
            action.option_strings[0]
            for action in self._actions
            if action.option_strings and (word in action.choices if action.choices else kind and action.type is kind)
        ]
        return " or ".join(f"{option} {word}" for option in fitting[:3])

    def _option_instead(self, unknown, after):
        """Returns what to write instead of an option that this parser lacks, or "".

        after: [the word after the option], or [].
        """
        options = self._option_string_actions
        option, _, value = unknown.partition("=")
        value = value or "".join(after) or "VALUE"
        key = option.lstrip("-").replace("-", "_")
        settings = [f"--{name}" for name in getattr(options.get("--set"), "settings", ())]
        if any(key == action.dest for action in self._get_positional_actions()):
            return f"{value} without {option}"
        if (other := OTHER_NAMES.get(option)) in options and not self._subparsers:
            return f"{other} {value}"
        meant = closest(option, [*settings, *options])
        if not meant:
            return self._value_instead(option.removeprefix("--"))
        if meant not in options:
            return f"--set {meant.removeprefix('--')}={value}"
        return meant if options[meant].nargs == 0 else f"{meant} {value}"

    def _usage(self):
        """Returns the end of an error message: the words that this parser takes besides options."""
        forms = {None: "{}", "?": "[{}]", "*": "[{} ...]"}
        names = [
            forms.get(action.nargs, "{}").format(action.metavar or "|".join(action.choices))
            for action in self._get_positional_actions()
        ]
        return f"; usage: {' '.join([self.prog, *names, '[OPTIONS]'])}"

    def error(self, message: str) -> NoReturn:
        if chosen := re.match(r"argument (.*): invalid choice: '([^']*)' \(choose from (.*)\)", message):
            optional = chosen[1].startswith("[")  # "[diff RUN RUN]", a metavar
            try:
                choose("command" if optional else chosen[1], chosen[2], re.findall(r"[\w.-]+", chosen[3]))
            except UserError as error:
                instead = "" if chosen[1].startswith("-") else _hint([self._instead(chosen[2])])
                message = f"{error}{instead or self._usage() * optional}"
        elif wrong := re.search("invalid float value: '(.*)'", message):
            told = decimal_comma(wrong[1])
            message += f": {told}" * bool(told)
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _hint(meant):
    """Returns the end of an error message. meant: a list of what to write instead."""
    return f"; did you mean {listed(meant)}?" if any(meant) else ""


def _is_value(word):
    return not word.startswith("-") or NUMBER.fullmatch(word[1:])


def _without_blanks(words):
    """Returns "KEY=VALUE" for "KEY VALUE", "KEY = VALUE" or "KEY=V1, V2"; the first word if it is complete."""
    text = ""
    for word in words:
        if text and "=" not in text:
            text += word if word.startswith("=") else f"={word}"
        elif not text or text.endswith(("=", ",")) or word.startswith(","):
            text += word
        else:
            break
    return text


def is_data(text: str) -> bool:
    """Returns whether a text may be meant for --data: a source's name, or an existing path."""
    return text in SOURCES or os.path.exists(text)


def add_where(group: "argparse._ArgumentGroup", what: str) -> None:
    """Adds --jobs and the Ray options to an argparse group. what: "nets" or "trials", for the help text."""
    group.add_argument(
        "--jobs",
        type=number_of_jobs,
        metavar="N",
        help=f"train N {what} at once, each in its own process with a share of the cores, or a GPU; auto: the number "
        "that is fastest here",
    )
    address = "train on Ray (requirements/cluster.txt): local (started here), auto (the cluster that this machine "
    group.add_argument("--ray", metavar="ADDRESS", help=f"{address}belongs to), or ray://HOST:PORT")
    group.add_argument(
        "--cpus", type=float, metavar="C", help=f"with --ray: CPU cores to reserve for each of the {what}"
    )
    group.add_argument("--gpus", type=float, metavar="G", help=f"with --ray: GPUs for each of the {what}, e.g. 0.25")


def check_where(arguments: argparse.Namespace) -> None:
    """Raises UserError if the options from `add_where` conflict."""
    if arguments.ray and arguments.jobs:
        raise UserError(
            "--jobs trains on this machine and --ray on a cluster: give one of them (--ray local also trains here)"
        )
    for key in ("cpus", "gpus"):
        if getattr(arguments, key) is not None and not arguments.ray:
            raise UserError(f"--{key} is for --ray: add --ray ADDRESS, or leave out --{key}")


def where_text(arguments: argparse.Namespace) -> str:
    """Returns the given Ray options as command-line text, such as " --ray auto"; "" if none is given.

    --jobs is not needed in the command that resumes: the number is recorded.
    """
    given = [(key, getattr(arguments, key)) for key in ("ray", "cpus", "gpus")]
    return "".join(f" --{key} {value}" for key, value in given if value is not None)


def number_of_jobs(text: str) -> int | str:
    """Returns the value of --jobs: an int from 1 to 9999, or "auto". Raises ArgumentTypeError for other text."""
    if text != "auto" and not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise argparse.ArgumentTypeError(f"a number from 1 to 9999, or auto, not {text!r}")
    return text if text == "auto" else int(text)


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


def _program():
    return Path(sys.argv[0]).name.replace("__main__.py", "recognizer")


def _line(error):
    """Returns the error line for an exception that the user can fix, or "" for any other exception."""
    if isinstance(error, UserError):
        return str(error)
    if line := failed_import(error, ROOT):
        return line
    if isinstance(error, OSError):
        return f"{error.filename}: {reason(error)}" if error.filename else reason(error)
    return ""
