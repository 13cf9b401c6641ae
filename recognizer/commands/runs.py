"""Lists the runs in runs/, the best validation accuracy first; or compares two of them.

    python -m recognizer runs
    python -m recognizer runs --html runs.html          also as a page with sortable columns
    python -m recognizer runs --csv runs.csv            also as a CSV; both have a column for each setting that differs
    python -m recognizer runs --sweep NAME              the trials of a sweep, which are left out otherwise
    python -m recognizer runs diff single-1 single-2    the settings and predictions that differ; McNemar's test

`seconds` is the training time, summed over a run's nets, even if they were trained in parallel. A damaged run is
skipped with a warning on stderr.
"""

import collections
import shutil
import sys
from pathlib import Path

from recognizer.base import cli
from recognizer.base.errors import UserError, refused
from recognizer.base.words import choose
from recognizer.runs import run_folder


def parser() -> cli.Parser:
    p = cli.Parser(prog="python -m recognizer runs", description=__doc__)
    p.add_argument("--html", type=Path, metavar="FILE", help="also write the table as a page")
    p.add_argument("--csv", type=Path, metavar="FILE", help="also write the table as a CSV")
    p.add_argument("--sweep", metavar="NAME", help="list the trials of this sweep")
    commands = p.add_subparsers(dest="command", metavar="[diff RUN RUN]")
    what = "the settings and predictions in which two finished runs differ, and McNemar's test"
    diff = commands.add_parser("diff", help=what, description=what)
    for which in ("first", "second"):
        run = diff.add_argument(which, metavar="RUN", help="a name in runs/")
        run.completer = run_folder.names  # type: ignore[attr-defined]  # argcomplete reads it
    return p


def main(argv: list[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    from recognizer.reports import run_table
    from recognizer.runs import compare

    if arguments.command == "diff":
        folders = [run_folder.find(name) for name in (arguments.first, arguments.second)]
        with refused(f"{arguments.first} and {arguments.second} cannot be compared"):
            print("\n".join(compare.diff(*folders)))
        return
    if not (folders := run_folder.all_runs()):
        raise UserError(f"there are no runs in {run_folder.RUNS}/: python train.py makes one")
    runs = list(run_folder.readable(folders))
    trials = collections.Counter(config["sweep"] for _, config in runs if config.get("sweep"))
    if arguments.sweep:
        choose("sweep", arguments.sweep, trials)
    table = compare.table(run for run in runs if run[1].get("sweep") == arguments.sweep)
    if table.empty and (arguments.sweep or not trials):
        raise UserError(f"none of the {len(folders)} runs in {run_folder.RUNS}/ can be read")
    if not table.empty:
        print(run_table.fitted(table, shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize))
    for sweep, count in trials.items() if not arguments.sweep else ():
        print(f"and {count} trial{'s' * (count > 1)} of sweep {sweep!r}: --sweep {sweep} lists them")
    for path, form in ((arguments.html, run_table.page), (arguments.csv, run_table.comma_separated)):
        if path:
            run_table.write(path, form(table))
            print(path)
