"""The table of runs (runs.compare.table) as text, as a page of HTML and as a CSV."""

import numpy as np

from recognizer.base.errors import UserError
from recognizer.base.files import whole_file
from recognizer.reports import report_page


def _formatted(table):
    """Returns the table with its numbers as people write them."""

    def share(value):
        return "" if np.isnan(value) else f"{value:.2%}"

    formatted = table.drop(columns=["low", "high", "biased", "test", "finished", "created"])
    for column in ("parameters", "seconds", "images/s"):
        formatted[column] = table[column].map("{:,.0f}".format, na_action="ignore").fillna("")
    formatted["validation"] = table["validation"].map(share)
    formatted["95 % interval"] = [
        f"{share(low)}-{share(high)}".strip("-") + " (biased upward)" * (biased == 1)
        for low, high, biased in zip(table["low"], table["high"], table["biased"], strict=True)
    ]
    formatted["test"] = table["test"].map(share)
    formatted["started"] = table["created"].where(table["finished"], table["created"] + " (unfinished)")
    return formatted


def text(table):
    """Returns the table as text."""
    return _formatted(table).to_string(index=False)


def page(table):
    """Returns the table as a self-contained page of HTML, in which a click on a column sorts by it."""
    formatted = _formatted(table)
    numbers = {"nets", "parameters", "epochs", "seconds", "images/s", "validation", "test"}
    return report_page.render(
        "runs.html", title="Runs", columns=list(formatted), numbers=numbers, rows=formatted.to_numpy().tolist()
    )


def comma_separated(table):
    """Returns the table as a CSV, its numbers as they are."""
    return table.to_csv(index=False, lineterminator="\n")


def write(path, content):
    """Writes the text of a table of runs. Raises UserError if the file (Path) exists and is not such a table."""
    if path.exists() and not path.read_bytes().startswith((b"run,recipe,", report_page.START)):
        raise UserError(f"{path} exists and is not a table of runs: choose another name, or remove it")
    with whole_file(path) as temporary:
        temporary.write_bytes(content.encode())
