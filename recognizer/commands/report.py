"""Draws a finished run's pictures anew, and writes runs/NAME/report.html: figures, pictures and settings in one file.

    python -m recognizer report                the newest finished run
    python -m recognizer report single-1

train.py leaves both in every run. The report opens in any browser, without an internet connection.
"""

import sys

from recognizer.base import cli, environment
from recognizer.base.errors import UserError, refused
from recognizer.runs import run_folder


def parser() -> cli.Parser:
    p = cli.Parser(prog="python -m recognizer report", description=__doc__)
    run_folder.add_run_argument(p)
    return p


def main(argv: list[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    (folder,) = run_folder.find_finished([arguments.run] if arguments.run else [])
    environment.import_keras()
    from recognizer.reports import report_page, run_pictures
    from recognizer.runs import gathered

    config = run_folder.read_config(folder)
    with refused(f"the report of {folder} cannot be made"):
        try:
            digits = run_folder.load_data(folder, config)
        except UserError as error:
            print(f"{error}; pictures that show digits are left as they are", file=sys.stderr)
            digits = None
        result = run_folder.read_result(folder / "result.json", *report_page.NEEDED)
        if digits:
            gathered.write_mistakes(folder, config, digits, result)  # earlier versions did not
        pictures = run_pictures.run_pictures(folder, digits, result)
        for path in [*pictures, report_page.write(folder, config, result)]:
            print(path)
