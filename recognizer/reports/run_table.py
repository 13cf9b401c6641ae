"""The table of runs (runs.compare.table) as text, HTML page and CSV."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recognizer.base.errors import UserError
from recognizer.base.files import write_text
from recognizer.reports import report_page
from recognizer.runs.compare import COLUMNS

if TYPE_CHECKING:
    import pandas as pd

# The columns that a narrow terminal does not show, the least important first.
LESS_IMPORTANT = ["images/s", "parameters", "model", "data", "epochs", "95 % interval", "nets", "seconds"]


def _text(value, form):
    return "" if np.isnan(value) else format(value, form)


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with formatted numbers, without the columns of differing settings."""
    shown = table[COLUMNS].drop(columns=["low", "high", "biased", "test", "finished", "pruned", "created"])
    for column in ("parameters", "seconds", "images/s"):
        shown[column] = table[column].apply(_text, form=",.0f")
    shown["validation"] = table["validation"].apply(_text, form=".2%")
    shown["95 % interval"] = [
        f"{_text(low, '.2%')}-{_text(high, '.2%')}".strip("-") + " (biased upward)" * (biased == 1)
        for low, high, biased in zip(table["low"], table["high"], table["biased"], strict=True)
    ]
    shown["test"] = table["test"].apply(_text, form=".2%")
    unfinished = np.where(table["pruned"], " (pruned)", " (unfinished)")
    shown["started"] = table["created"] + np.where(table["finished"], "", unfinished)
    return shown


def fitted(table: pd.DataFrame, width: int) -> str:
    """Returns the table as text, with the columns for which `width` characters have room, and a line on the others."""
    shown, left_out = formatted(table), []
    text = shown.to_string(index=False)
    for column in LESS_IMPORTANT:
        if len(text.partition("\n")[0]) <= width:
            break
        left_out.append(column)
        text = shown.drop(columns=left_out).to_string(index=False)
    told = f"left out, for want of room: {', '.join(left_out)} (--html FILE and --csv FILE have them)"
    return f"{text}\n{told}" if left_out else text


def page(table: pd.DataFrame) -> str:
    """Returns the table as a self-contained HTML page. A click on a column sorts by it."""
    settings = table.drop(columns=COLUMNS)
    shown = formatted(table).join(settings)
    numbers = {"nets", "parameters", "epochs", "seconds", "images/s", "validation", "test"}
    numbers |= {key for key in settings if settings[key].str.fullmatch(r"[-+.e\d]*").all()}
    rows = shown.to_numpy().tolist()
    return report_page.render("runs.html", title="Runs", columns=list(shown), numbers=numbers, rows=rows)


def comma_separated(table: pd.DataFrame) -> str:
    """Returns the table as CSV text with unformatted numbers."""
    return table.to_csv(index=False, lineterminator="\n")


def write(path: Path, content: str) -> None:
    """Writes a table of runs to `path` (Path). Raises UserError if the file exists and is not such a table."""
    if path.exists() and not path.read_bytes().startswith((b"run,recipe,", report_page.START)):
        raise UserError(f"{path} exists and is not a table of runs: choose another name, or remove it")
    write_text(path, content)
