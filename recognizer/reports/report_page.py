"""The report of a run, runs/NAME/report.html: figures, pictures and settings in one self-contained file."""

import base64
import json
from pathlib import Path
from typing import Any

from recognizer.base.files import write_text
from recognizer.base.words import duration, plural
from recognizer.config import schema
from recognizer.reports import run_pictures
from recognizer.reports.captions import CAPTIONS, QUIZ
from recognizer.runs import compare, metrics, run_folder

TEMPLATES = Path(__file__).parent / "templates"
START = b'<!DOCTYPE html>\n<html lang="en">\n<!-- made by report.py -->'  # of all pages, those of earlier versions too
# Code for someone who has the saved net, but not this repository.
LINES = """import keras
import numpy as np
net = keras.models.load_model("{file}")
x = np.load("digits.npy").reshape(-1, 28, 28, 1) / 255  # white on black, 0 to 255
print(net.predict(x).argmax(axis=1))
"""
NEEDED = ("nets", "seconds", "parameters", "chosen_on_validation")  # of a run's result.json


def render(template: str, **values: Any) -> str:
    """Returns the HTML of templates/`template` with the escaped `values`."""
    import jinja2

    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(template).render(**values)


def write(folder: Path, config: dict, result: dict) -> Path:
    """Writes the report of a run, and returns its path. The run's pictures must exist."""
    nets = run_folder.net_results(folder, config, "parameters", "seconds", "images_per_second")
    drawn = {path.stem: base64.b64encode(path.read_bytes()).decode() for path in folder.glob("*.png")}
    captions = {name: what.capitalize() for name, what in CAPTIONS.items() if name in drawn}
    if note := run_pictures.validation_note(config):
        captions["curves"] += f". Each epoch is validated{note.removeprefix(',')}; the diamond is the saved net"
    columns, cells = _net_table(nets)
    mistakes = folder / "mistakes.csv"
    sent = handed_on(folder, config, result, nets)
    page = render(
        "report.html",
        title=folder.name,
        summary=f"{config['recipe']} ({compare.models(config)}), {plural(result['nets'], 'net')}, "
        f"on {config['data']['origin']}; {config['created'][:16].replace('T', ' ')} UTC",
        figures=[*_score_rows(result), *_temperature_rows(result), *_net_rows(result), *_training_rows(result, nets)],
        net_columns=columns,
        nets=cells,
        pictures=[(name, caption, drawn[name]) for name, caption in captions.items()],
        quiz=[drawn[name] for name in QUIZ if name in drawn],
        mistakes=base64.b64encode(mistakes.read_bytes()).decode() if mistakes.is_file() else "",
        handed_on=sent,
        lines=LINES.format(file=Path(sent["send"]).name),
        command=" ".join(config.get("command") or []),
        settings=[(key, json.dumps(value)) for key, value in _ordered(run_folder.flat(config))],
    )
    path = folder / "report.html"
    write_text(path, page)
    return path


def _ordered(settings):
    """Returns the (key, value) pairs of a run's config in the order of schema.py; other keys come last."""
    return sorted(settings.items(), key=lambda setting: (schema.place(setting[0]), setting[0]))


def _net_table(nets):
    """Returns (column names, rows of cells) of the table of nets. nets: list of their results."""
    columns = {"net": "net", "parameters": "parameters", "validation_accuracy": "validation", "test_accuracy": "test"}
    columns |= {"seconds": "seconds", "images_per_second": "images/s"}
    known = {key: name for key, name in columns.items() if key in nets[0]}
    cells = [[f"{net[key]:.2%}" if key.endswith("accuracy") else f"{net[key]:,.0f}" for key in known] for net in nets]
    return list(known.values()), cells


def _score_rows(result):
    """Returns rows (name, figure, note) with the scores of the ensemble of all nets."""
    rows = []
    for key, part in (("ensemble_validation", "Validation"), ("ensemble_test", "Test")):
        if not (score := result.get(key)):
            continue
        low, high = metrics.interval(score["accuracy"], score["rows"])
        note = f"95 % interval {low:.2%} to {high:.2%}, {score['rows']:,} rows"
        if score.get("out_of_bag"):
            note += f", out-of-bag ({score['coverage']:.0%} of the labelled ones)"
        if key == "ensemble_validation" and result["chosen_on_validation"]:
            note += f"; {metrics.BIASED}"
        rows.append((f"{part} accuracy", f"{score['accuracy']:.2%}", note))
        rows.append((f"{part} loss", f"{score['loss']:.4f}", "mean cross-entropy"))
        if (error := score.get("calibration_error")) is not None:
            raw = score.get("raw_calibration_error")  # None for runs made before probabilities were sharpened
            note = "" if raw is None else f", on rows that the temperature was not fitted to; {raw:.2%} without it"
            rows.append((f"{part} calibration error", f"{error:.2%}", f"between confidence and accuracy{note}"))
    return rows


def _temperature_rows(result):
    """Returns a list with the row (name, figure, note) of the temperature, or [] for a run without one."""
    if "temperature" not in result:
        return []
    told = (
        "probabilities p become p ** (1 / temperature), normalised; "
        'the fit has a prior around the setting "temperature"'
    )
    return [("Temperature", f"{result['temperature']:.2f}", told)]


def handed_on(folder: Path, config: dict, result: dict, nets: list[dict]) -> dict:
    """Returns a dict for templates/report.html about the file to send to someone who has only Keras."""
    sharpened = result.get("temperature", 1) != 1
    others = config["nets"] - 1
    lacks = [f"the other {plural(others, 'net')}"] * (others > 0)
    lacks += [f"the mean over shifts by {config['test_shift']}"] * (config["test_shift"] > 0)
    exported = bool(lacks)
    return {
        "send": f"exports/{folder.name}.keras" if exported else f"{folder.as_posix()}/net-01.keras",
        "exported": exported,
        "lacks": " and ".join([*lacks, *["the temperature"] * sharpened]),
        "own": any(net.get("own_outputs") for net in nets),
    }


def _net_rows(result):
    """Returns rows (name, figure, note) with the mean accuracies of the nets."""
    rows = []
    for key, name in (("validation_accuracy", "Validation, a net"), ("test_accuracy", "Test, a net")):
        if (part := result.get(key)) and part["n"] > 1:
            figure = f"{part['mean']:.2%} ± {part['spread']:.2%}"
            rows.append((name, figure, f"mean ± standard deviation, n {part['n']}"))
    if part := result.get("test_accuracy_augmented"):
        rows.append(("Augmented test images", f"{part['mean']:.2%}", "mean of the nets"))
    return rows


def _training_rows(result, nets):
    """Returns rows (name, figure, note) with training time and parameters."""
    rate = sum(net["images_per_second"] for net in nets) / len(nets)
    sizes = sorted({net["parameters"] for net in nets})
    parameters = " to ".join(f"{size:,}" for size in sizes[:: max(1, len(sizes) - 1)])
    return [
        ("Training", duration(result["seconds"]), f"{rate:,.0f} images a second"),
        ("Parameters", parameters, "of a net" if len(nets) > 1 else ""),
    ]
