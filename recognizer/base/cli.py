"""The command line: a parser whose errors say what to write instead, and the options that several commands share.

Imports only the standard library, so that `--help` and a mistyped option answer at once.
"""

import argparse
import itertools
import math
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from recognizer.base.errors import UserError
from recognizer.base.words import choose, closest, decimal_comma, listed

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
ENGINES = ("batch", "keras")
SOURCES = ("auto", "kaggle", "mnist", "digits")  # what --data takes besides paths
OTHER_NAMES = {"--data": "--test", "--run": "--sweep"}  # options that predict.py and sweep have under other names
NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)(e-?\d+)?")


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with one-line errors. Its help shows the script's docstring as written.

    If argcomplete is installed and activated, the shell completes the options.
    """

    def __init__(self, **arguments: Any) -> None:
        epilog = "Exit codes: 0 done, 1 failed, 2 wrong input (one line says what), 130 interrupted, 143 terminated."
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=form, allow_abbrev=False, epilog=epilog, **arguments)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error, too")

    def commands(self) -> list[str]:
        """Returns the names of the commands below this parser's own, such as plot's pictures."""
        found = (action for action in self._actions if isinstance(action, argparse._SubParsersAction))
        return [name for action in found for name in action.choices]

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
        self._check_order(args)
        found, unknown = super().parse_known_args(args, namespace)
        self._check_finite(found)
        if not any(word.startswith("-") for word in unknown):
            self._check_names(found)
        if unknown:
            usage = "" if all(word.startswith("--") for word in unknown) else self._usage()
            instead = self._without_first(found, unknown) or self._all_instead(unknown, args)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{_hint(instead) or usage}")
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

    def _check_order(self, given):
        """Refuses a command's argument that is written before the command, such as `plot RUN confusion`."""
        first, second = [*given, "", ""][:2]
        if second in (names := self.commands()) and first not in names and not first.startswith("-"):
            self.error(f"{first!r} stands before {second!r}{_hint([f'{self.prog} {second} {first}'])}")

    def _without_first(self, found, unknown):
        """Returns what to write instead if a surplus word stands before a name, such as `train.py train quick`."""
        for action in self._get_positional_actions() if len(unknown) == 1 else ():
            names = getattr(action, "completer", tuple)()
            if isinstance(given := getattr(found, action.dest), str) and given not in names and unknown[0] in names:
                return [f"{self.prog} {unknown[0]}"]
        return []

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
        if "--set" in options and re.fullmatch(r"[\w.]+=.+", word):
            return f"--set {word}"
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
    """Returns whether a text may be meant for --data: a source's name, or an existing path, not of Python code."""
    return text in SOURCES or (os.path.exists(text) and not text.endswith(".py"))


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
            used = " (a GPU is used without it)" * (key == "gpus")
            raise UserError(f"--{key} is for --ray: add --ray ADDRESS, or leave out --{key}{used}")


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
