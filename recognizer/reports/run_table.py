import numpy as np

from recognizer.reports import report_page


def _shown(table):
    """The same for people, as text."""

    def share(value):
        return "" if np.isnan(value) else f"{value:.2%}"

    def whole(value):
        return "" if np.isnan(value) else f"{value:,.0f}"

    told = table[["run", "recipe", "data", "nets"]].copy()
    told["parameters"] = table["parameters"].map(whole)
    told["epochs"] = table["epochs"]
    told["seconds"] = table["seconds"].map(whole)
    told["images/s"] = table["images/s"].map(whole)
    told["validation"] = table["validation"].map(share)
    told["95 % interval"] = [
        f"{share(a)}-{share(b)}".strip("-") + " (biased upward)" * (biased == 1)
        for a, b, biased in zip(table["low"], table["high"], table["biased"], strict=True)
    ]
    told["test"] = table["test"].map(share)
    told["started"] = table["created"].where(table["finished"], table["created"] + " (unfinished)")
    return told


def text(table):
    return _shown(table).to_string(index=False)


def page(table):
    """A page of HTML, complete in itself, whose columns are sorted by a click."""
    told = _shown(table)
    numbers = {"nets", "parameters", "epochs", "seconds", "images/s", "validation", "test"}
    return report_page.render(
        "runs.html", title="Runs", columns=list(told), numbers=numbers, rows=told.to_numpy().tolist()
    )


def comma_separated(table):
    return table.to_csv(index=False, lineterminator="\n")
