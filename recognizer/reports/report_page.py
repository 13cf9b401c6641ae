# PYTHON_ARGCOMPLETE_OK
"""Writes runs/NAME/report.html: a finished run's figures, pictures and settings, in one file that needs no network.

    python -m recognizer report                the newest finished run's, anew (train.py leaves one in every run)
    python -m recognizer report single-1

It opens in any browser, in light and in dark.
"""

import base64
import json
from pathlib import Path

from recognizer.base.files import whole_file
from recognizer.base.words import duration
from recognizer.runs import metrics, run_folder

TEMPLATES = Path(__file__).parent / "templates"


START = b'<!DOCTYPE html>\n<html lang="en">\n<!-- made by report.py -->'  # of every page here


TOLD = {  # the pictures of a run, in the report's order; the quiz of the hardest digits has a place of its own
    "curves": "Loss, accuracy and learning rate by epoch",
    "steps": "Loss and learning rate by step",
    "spread": "The accuracy of each net",
    "confusion": "How often each digit was taken for each",
    "mistakes": "The digits taken for another one, the surest mistakes first",
    "calibration": "How often predictions are right, by their probability",
    "layers": "Layers and parameters",
}


NEEDED = ("nets", "seconds", "parameters", "chosen_on_validation")  # of a run's result.json


def render(template, **values):
    """HTML of templates/`template`; what `values` hold is escaped."""
    import jinja2

    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(template).render(**values)


def write(folder, config, result):
    """Writes the report of a run whose pictures are drawn, and returns its path."""
    nets = [
        run_folder.read_result(run_folder.net_file(folder, net, ".json"), "parameters", "seconds", "images_per_second")
        for net in range(1, config["nets"] + 1)
    ]
    drawn = {path.stem: base64.b64encode(path.read_bytes()).decode() for path in folder.glob("*.png")}
    columns = {"net": "net", "parameters": "parameters", "validation_accuracy": "validation", "test_accuracy": "test"}
    columns |= {"seconds": "seconds", "images_per_second": "images/s"}
    known = {key: name for key, name in columns.items() if key in nets[0]}
    page = render(
        "report.html",
        title=folder.name,
        summary=f"{config['recipe']}, {result['nets']} net{'s' * (result['nets'] > 1)}, on {config['data']['origin']}; "
        f"{config['created'][:16].replace('T', ' ')} UTC",
        figures=figures(result, nets),
        net_columns=list(known.values()),
        nets=[[_cell(key, net[key]) for key in known] for net in nets],
        pictures=[(name, told, drawn[name]) for name, told in TOLD.items() if name in drawn],
        quiz=[drawn["hardest"], drawn["hardest-answers"]] if "hardest" in drawn else None,
        command=" ".join(config.get("command") or []),
        settings=[(key, json.dumps(value)) for key, value in sorted(run_folder.flat(config).items())],
    )
    path = folder / "report.html"
    with whole_file(path) as temporary:
        temporary.write_bytes(page.encode())
    return path


def figures(result, nets):
    """Rows (name, figure, note) of a run's result."""
    rows = []
    for key, name in (("ensemble_validation", "Validation accuracy"), ("ensemble_test", "Test accuracy")):
        if part := result.get(key):
            low, high = metrics.interval(part["accuracy"], part["rows"])
            note = f"95 % interval {low:.2%} to {high:.2%}, {part['rows']:,} rows"
            if part.get("out_of_bag"):
                note += f", out-of-bag ({part['coverage']:.0%} of the labelled ones)"
            if key == "ensemble_validation" and result["chosen_on_validation"]:
                note += f"; {metrics.BIASED}"
            rows.append((name, f"{part['accuracy']:.2%}", note))
            rows.append((name.replace("accuracy", "loss"), f"{part['loss']:.4f}", "mean cross-entropy"))
            if "calibration_error" in part:
                rows.append(
                    (name.replace("accuracy", "calibration error"), f"{part['calibration_error']:.2%}", "expected")
                )
    for key, name in (("validation_accuracy", "Validation, a net"), ("test_accuracy", "Test, a net")):
        part = result.get(key)
        if part and part["n"] > 1:
            rows.append(
                (name, f"{part['mean']:.2%} ± {part['spread']:.2%}", f"mean ± standard deviation, n {part['n']}")
            )
    if part := result.get("test_accuracy_augmented"):
        rows.append(("Augmented test images", f"{part['mean']:.2%}", "mean of the nets"))
    rate = sum(net["images_per_second"] for net in nets) / len(nets)
    rows.append(("Training", duration(result["seconds"]), f"{rate:,.0f} images a second"))
    sizes = sorted({net["parameters"] for net in nets})
    told = " to ".join(f"{size:,}" for size in sizes[:: max(1, len(sizes) - 1)])
    rows.append(("Parameters", told, "of a net" if len(nets) > 1 else ""))
    return rows


def _cell(key, value):
    return f"{value:.2%}" if key.endswith("accuracy") else f"{value:,.0f}"
