"""A run's folder, runs/NAME/: its settings, each net's log, checkpoint and result, and what is gathered at the end.

    config.json        every resolved setting, the seed, versions, git commit, the data's fingerprint
    seen.npy           a hash of each labelled image that the run had, for predict.py's leak guard
    net-01.csv         a row an epoch
    net-01.steps.csv   a row for every step: the loss and the learning rate
    net-01.json        the net's result; there once the net is finished
    net-01.keras       the net, as Keras saves it
    .lock              locked by the process that trains the run
    net-01.checkpoint-0.npz, net-01.checkpoint-1.npz, net-01.predictions.npz    while unfinished
    log.csv, result.json, predictions.npz, pictures  when all nets are finished

Every file is written whole or not at all. Nets share no file, so they can be trained apart and gathered after.

    python -m recognizer runs                           the runs, the best validation accuracy first
    python -m recognizer runs --html runs.html          as a page whose columns can be sorted; --csv runs.csv as a table
    python -m recognizer runs diff single-1 single-2    which settings and which digits differ, with McNemar's test
"""

from pathlib import Path

from recognizer.base import cli
from recognizer.base.errors import UserError, refused
from recognizer.base.files import whole_file
from recognizer.runs import run_folder


def parser():
    p = cli.Parser(prog="python -m recognizer runs", description=__doc__)
    p.add_argument("--html", type=Path, metavar="FILE", help="write the table as a page, too")
    p.add_argument("--csv", type=Path, metavar="FILE", help="write the table as a CSV, too")
    commands = p.add_subparsers(dest="command")
    told = "which settings and which digits of two finished runs differ, with McNemar's test"
    diff = commands.add_parser("diff", help=told, description=told)
    for which in ("first", "second"):
        diff.add_argument(which, metavar="RUN", help="a name in runs/").completer = run_folder.names
    return p


def main(argv=None):
    arguments = parser().parse_args(argv)
    from recognizer.reports import report_page, run_table
    from recognizer.runs import compare

    if arguments.command == "diff":
        with refused(f"{arguments.first} and {arguments.second} cannot be compared"):
            print("\n".join(compare.diff(run_folder.find(arguments.first), run_folder.find(arguments.second))))
        return
    if not (folders := run_folder.all_runs()):
        raise UserError(f"there are no runs in {run_folder.RUNS}/: python train.py makes one")
    table = compare.table(folders)
    if table.empty:
        raise UserError(f"none of the {len(folders)} runs in {run_folder.RUNS}/ can be read")
    print(run_table.text(table))
    for path, content in ((arguments.html, run_table.page), (arguments.csv, run_table.comma_separated)):
        if path:
            if path.exists() and not path.read_bytes().startswith((b"run,recipe,", report_page.START)):
                raise UserError(f"{path} exists and is no table of runs: choose another name, or remove it")
            with whole_file(path) as temporary:
                temporary.write_bytes(content(table).encode())
            print(path)
