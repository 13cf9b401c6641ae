"""Compares runs: a table of all, the differences between two, and whether a repeated run is identical."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from recognizer.base.errors import UserError, refused
from recognizer.base.files import read_arrays
from recognizer.config import members, schema
from recognizer.nn import saved_net
from recognizer.runs import metrics, run_folder
from recognizer.runs.predictions import identical, mean_of_test, out_of_bag, read_predictions

COLUMNS = ["run", "recipe", "model", "data", "nets", "parameters", "epochs", "seconds", "images/s"]
COLUMNS += ["validation", "low", "high", "biased", "test", "finished", "pruned", "created"]
RECORDED = (
    "created",
    "versions",
    "commit",
    "command",
    "sweep",
    "data",
    "source",
    "reported",
)  # entries of config.json that are not settings


def table(runs: Iterable[tuple[Path, dict]]) -> pd.DataFrame:
    """Returns a DataFrame with a row for each run, best validation accuracy first. Accuracies and seconds are numbers.

    If a run has several kinds of nets, `model` names all architectures, `parameters` is the largest net's, and `epochs`
    is the run's setting, not a member's. COLUMNS are followed by a text column for each other setting in which the runs
    differ; it is "" for a run without the setting. A damaged run is skipped with a warning on stderr.
    runs: from run_folder.readable.
    """
    rows, settings = [], []
    for folder, config in runs:
        try:
            with refused(f"{folder} is not a run that can be read"):
                rows.append(_row(folder, config))
                settings.append(_settings(config))
        except UserError as error:
            print(f"{error}: skipped", file=sys.stderr)
    differing = [key for key in _keys(settings) if any(own.get(key) != settings[0].get(key) for own in settings)]
    for row, own in zip(rows, settings, strict=True):
        row |= {key: own.get(key, "") for key in differing}
    return pd.DataFrame(rows, columns=COLUMNS + differing).sort_values(["validation", "created"], ascending=False)


def _settings(config):
    """Returns a run's settings that are not in COLUMNS, as text: {"schedule.decay": "0.9", ...}."""
    kept = (schema.SETTINGS | schema.RUN_SETTINGS).keys() - schema.DESCRIPTIONS - set(COLUMNS)
    values = run_folder.flat({key: config[key] for key in config if key in kept})
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def _keys(settings):
    """Returns the keys of all runs' settings, ordered as in schema.py."""
    return sorted(dict.fromkeys(key for own in settings for key in own), key=schema.place)


def _row(folder, config):
    row = {"run": folder.name, "recipe": config["recipe"], "model": models(config), "data": config["data"]["origin"]}
    row |= {"nets": config["nets"], "epochs": config["epochs"], "finished": run_folder.is_finished(folder)}
    row["pruned"] = run_folder.is_pruned(folder)
    row["created"] = config["created"][:16].replace("T", " ")
    paths = sorted(folder.glob("net-*.json"))
    if done := [run_folder.read_result(path, "parameters", "seconds", "images_per_second") for path in paths]:
        row["parameters"] = max(int(net["parameters"]) for net in done)
        row["seconds"] = float(sum(net["seconds"] for net in done))
        row["images/s"] = float(np.median([net["images_per_second"] for net in done]))
    if row["finished"]:
        result = run_folder.read_result(folder / "result.json")
        row["biased"] = bool(result.get("chosen_on_validation"))
        if part := result.get("ensemble_validation"):
            row["validation"] = float(part["accuracy"])
            row["low"], row["high"] = metrics.interval(part["accuracy"], part["rows"])
        if part := result.get("ensemble_test"):
            row["test"] = float(part["accuracy"])
    return row


def models(config: dict) -> str:
    """Returns the names of a run's architectures, as one string."""
    return ", ".join(dict.fromkeys(kind["model"] for kind in members.kinds(config)))


def diff(first: Path, second: Path) -> list[str]:
    """Returns lines on the settings and the predictions in which two finished runs differ, with McNemar's test.

    first, second: the runs' folders. Raises UserError if a run is not finished, or its data has changed.
    """
    for folder in (first, second):
        run_folder.check_finished(folder)
    runs = [(folder, run_folder.read_config(folder)) for folder in (first, second)]
    lines = _settings_that_differ(runs)
    if len({config["data"]["fingerprint"] for _, config in runs}) > 1:
        return [*lines, "Digits: the runs had different data, so their predictions cannot be compared"]
    data = [run_folder.load_data(*run) for run in runs]
    compared = _digits_that_differ(runs, data, "validation", data[0].train)
    tests = [digits.test and digits.test.fingerprint() for digits in data]
    if tests[0] != tests[1]:
        compared.insert(0, "Test digits: the runs had different ones, so their predictions cannot be compared")
    elif data[0].test and data[0].test.y is not None:
        compared += _digits_that_differ(runs, data, "test", data[0].test)
    return lines + (compared or ["Digits: no labelled digit was predicted by both runs, so there is no comparison"])


def _settings_that_differ(runs):
    (first, _), (second, _) = runs
    left, right = (run_folder.flat({key: config[key] for key in config if key not in RECORDED}) for _, config in runs)

    def value(settings, key):
        return json.dumps(settings[key]) if key in settings else "-"

    changed = [key for key in sorted(left | right) if left.get(key) != right.get(key)]
    lines = [f"  {key}: {value(left, key)} | {value(right, key)}" for key in changed]
    return [f"Settings ({first.name} | {second.name}):", *(lines or ["  the same"])]


def _digits_that_differ(runs, data, part, images, shown=10):
    """Returns lines on the digits that only one of two runs predicts correctly. part: "validation" or "test"."""
    predicted = [_predicted(*run, part, digits) for run, digits in zip(runs, data, strict=True)]
    rows = sorted(predicted[0].keys() & predicted[1].keys())
    if not rows:
        return []
    right = np.array([[labels[row] == images.y[row] for row in rows] for labels in predicted])
    *only, p = metrics.mcnemar(*right)
    shares = " | ".join(f"{share:.2%}" for share in right.mean(axis=1))
    lines = [f"{part.capitalize()} digits that both predict: {len(rows):,}; right: {shares}; McNemar's p = {p:.2g}"]
    for (folder, _), some in zip(runs, only, strict=True):
        lines.append(f"  only {folder.name} is right: {len(some)}")
        for row in [rows[i] for i in some[:shown]]:
            labels = " | ".join(str(labels[row]) for labels in predicted)
            lines.append(f"    row {row + 1}, a {images.y[row]}: {labels}")
    return lines


def _predicted(folder, config, part, digits):
    """Returns {row: label predicted by a run}. part: "validation" or "test"."""
    arrays, nets = read_predictions(folder / "predictions.npz", digits), run_folder.net_numbers(config)
    if part == "validation":
        rows, probabilities = out_of_bag(arrays, len(digits.train.x), nets)
    else:
        rows, probabilities = np.arange(len(digits.test.x)), mean_of_test(arrays, nets)
        if probabilities is None:
            return {}
    return dict(zip(rows.tolist(), probabilities.argmax(1).tolist(), strict=True))


def repeated(first: Path, second: Path) -> list[str]:
    """Returns lines that say whether a run and its repetition have identical nets, and what else differs.

    first, second: the runs' folders.
    """
    configs = [run_folder.read_config(folder) for folder in (first, second)]
    differ = [*_surroundings_that_differ(*configs), *_architectures_that_differ(first, second)]
    lines = [f"Different from {first.name}: {'; '.join(differ) or 'nothing'}"]
    if not run_folder.is_finished(first):
        return [*lines, f"Run {first.name} is not finished: its nets cannot be compared"]
    predictions = [read_arrays(folder / "predictions.npz") for folder in (first, second)]
    return lines + [_compared_net(net, (first, second), predictions) for net in run_folder.net_numbers(configs[0])]


def _surroundings_that_differ(*configs):
    """Returns a text for each difference of two configs in data, commit, versions and processors."""
    then, now = (
        {"data": data["fingerprint"], "test data": data.get("test_fingerprint"), "commit": config.get("commit")}
        | (config.get("versions") or {})
        for config in configs
        for data in [config["data"]]
    )
    older = {"processor", "gpu"} - (then.keys() & now.keys())  # earlier versions did not record these
    return [
        f"{key} {then.get(key) or 'none'} then, {now.get(key) or 'none'} now"
        for key in then | now
        if then.get(key) != now.get(key) and key not in older
    ]


def _architectures_that_differ(first, second):
    """Returns a text for each architecture that was edited between two runs, if both recorded theirs."""
    from recognizer.nn import edits

    pairs = zip(run_folder.read_architectures(first), run_folder.read_architectures(second), strict=False)
    with refused(f"{first} has a damaged record of its architectures"):
        return [f"an architecture ({found})" for then, now in pairs if (found := edits.difference(then, now))]


def _compared_net(net, folders, predictions):
    """Returns a line that says whether net number `net` has the same weights and predictions in two runs."""
    weights = [saved_net.read_weights(run_folder.net_file(folder, net, ".keras")) for folder in folders]
    own = [{key: arrays[key] for key in arrays if key.endswith(f"_{net:02d}")} for arrays in predictions]
    if identical(*weights) and identical(*own):
        return f"Net {net}: weights and predictions identical, bit for bit"
    tests = [arrays.get(f"test_{net:02d}", np.zeros(0)) for arrays in own]
    largest = ""
    if tests[0].size and tests[0].shape == tests[1].shape and all(test.dtype.kind == "f" for test in tests):
        largest = f", at most {np.abs(tests[0] - tests[1]).max():.2g} in the test set's probabilities"
    return f"Net {net}: weights or predictions are different{largest}"
