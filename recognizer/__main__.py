# PYTHON_ARGCOMPLETE_OK
"""Everything besides training and predicting. `python -m recognizer COMMAND --help` shows a command's options.

    python -m recognizer data                                which digits train.py finds here
    python -m recognizer data fetch                          download Kaggle's files into data/ by Kaggle's own client
    python -m recognizer runs                                all runs, the best first
    python -m recognizer runs diff single-1 quick-1          the settings and predictions in which two runs differ
    python -m recognizer plot confusion single-1             a picture of a run
    python -m recognizer plot augmented --recipe grenholm    a picture of digits, as a recipe augments them
    python -m recognizer report single-1                     a run's pictures and report.html, drawn anew
    python -m recognizer export single-1 --format onnx       a run as one file for use elsewhere
    python -m recognizer draw single-1                       a page to draw digits on
    python -m recognizer sweep grenholm --grid batch_size=16,32 --seeds 3   many runs: grids, seeds, a search

Run it in the folder of train.py.
"""

import argparse
import importlib
import sys
from pathlib import Path

if not __package__:  # `python recognizer`, without -m
    sys.path[0] = str(Path(__file__).parents[1])

from recognizer.base import cli, program
from recognizer.base.errors import UserError
from recognizer.base.words import choose

COMMANDS = ("data", "runs", "plot", "report", "export", "draw", "sweep")


def parser() -> cli.Parser:
    p = cli.Parser(prog="python -m recognizer", description=__doc__)
    p.add_argument("command", nargs="?", metavar="COMMAND", help=", ".join(COMMANDS))
    p.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="the command's own arguments")
    return p


def main(argv: list[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    if arguments.command is None:
        return parser().print_help()
    if arguments.command not in COMMANDS:
        _check_order(arguments.command, *arguments.arguments)
        if meant := _meant(arguments.command):
            raise UserError(f"write {' '.join([meant, *arguments.arguments])}")
    choose("command", arguments.command, COMMANDS)
    # Only the command that runs is imported, so that --help answers at once.
    return importlib.import_module(f"recognizer.commands.{arguments.command}").main(arguments.arguments)


def _check_order(first, second="", *others):
    """Raises UserError if the command is the second word, as in `quick-1 report`."""
    if second in COMMANDS:
        raise UserError(f"write the command first: python -m recognizer {' '.join([second, *others, first])}")


def _meant(word):
    """Returns the command for a word that names a script, or a command below another one such as a picture; or ""."""
    if word.removesuffix(".py") in ("train", "predict"):
        return f"python {word.removesuffix('.py')}.py"
    from recognizer.commands import plot, runs

    found = (name for name, module in (("plot", plot), ("runs", runs)) if word in module.parser().commands())
    return "".join(f"python -m recognizer {name} {word}" for name in found)


if __name__ == "__main__":
    program.run(main)
