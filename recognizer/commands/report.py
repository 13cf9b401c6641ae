"""Writes runs/NAME/report.html: a finished run's figures, pictures and settings, in one file that needs no network.

    python -m recognizer report                the newest finished run's, anew (train.py leaves one in every run)
    python -m recognizer report single-1

It opens in any browser, in light and in dark.
"""

from recognizer.base import cli
from recognizer.base.errors import refused
from recognizer.reports import report_page
from recognizer.runs import run_folder


def parser():
    p = cli.Parser(prog="python -m recognizer report", description=__doc__)
    run = p.add_argument("run", nargs="?", metavar="RUN", help="a name in runs/ (default: the newest finished one)")
    run.completer = run_folder.names
    return p


def main(argv=None):
    arguments = parser().parse_args(argv)
    folder = run_folder.find(arguments.run) if arguments.run else run_folder.newest(finished=True)
    run_folder.check_finished(folder)
    with refused(f"{folder} cannot be reported"):
        print(
            report_page.write(
                folder,
                run_folder.read_config(folder),
                run_folder.read_result(folder / "result.json", *report_page.NEEDED),
            )
        )
