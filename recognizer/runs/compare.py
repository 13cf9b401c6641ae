"""Runs side by side: the table of all, what differs between two, what a repetition changed."""

import json
import sys

import numpy as np
import pandas as pd

from recognizer.base.errors import UserError, refused
from recognizer.base.files import read_arrays
from recognizer.data import sources
from recognizer.nn import saved_net
from recognizer.runs import metrics, run_folder
from recognizer.runs.predictions import identical, mean_of_test, out_of_bag, read_predictions


def table(folders):
    """A DataFrame with a row for each run, the best validation accuracy first; shares and seconds as numbers.

    Of nets of several kinds, `parameters` is the largest's and `epochs` the recipe's own.
    A run that is damaged is told of on stderr, and left out.
    """
    rows = []
    for folder in folders:
        try:
            with refused(f"{folder} is no run that can be read"):
                rows.append(_row(folder))
        except UserError as error:
            print(f"{error}: left out", file=sys.stderr)
    columns = ["run", "recipe", "data", "nets", "parameters", "epochs", "seconds", "images/s"]
    columns += ["validation", "low", "high", "biased", "test", "finished", "created"]
    return pd.DataFrame(rows, columns=columns).sort_values(["validation", "created"], ascending=False)


def _row(folder):
    config = run_folder.read_config(folder)
    row = {"run": folder.name, "recipe": config["recipe"], "data": config["data"]["origin"], "nets": config["nets"]}
    row["epochs"] = config["epochs"]
    done = [
        run_folder.read_result(path, "parameters", "seconds", "images_per_second")
        for path in sorted(folder.glob("net-*.json"))
    ]
    if done:
        row["parameters"] = max(int(net["parameters"]) for net in done)
        row["seconds"] = float(sum(net["seconds"] for net in done))
        row["images/s"] = float(np.median([net["images_per_second"] for net in done]))
    row["finished"] = run_folder.is_finished(folder)
    if row["finished"]:
        result = run_folder.read_result(folder / "result.json")
        row["biased"] = bool(result.get("chosen_on_validation"))
        if "ensemble_validation" in result:
            part = result["ensemble_validation"]
            row["validation"] = float(part["accuracy"])
            row["low"], row["high"] = metrics.interval(part["accuracy"], part["rows"])
        if "ensemble_test" in result:
            row["test"] = float(result["ensemble_test"]["accuracy"])
    row["created"] = config["created"][:16].replace("T", " ")
    return row


def diff(first, second):
    """Lines that say which settings and which digits of two finished runs differ, with McNemar's exact test."""
    from scipy.stats import binomtest

    for folder in (first, second):
        run_folder.check_finished(folder)
    folders = first, second
    configs = [run_folder.read_config(folder) for folder in folders]
    lines = [f"Settings ({first.name} | {second.name}):"]
    left, right = (run_folder.flat({key: config[key] for key in config if key not in RECORDED}) for config in configs)
    changed = [key for key in sorted(left | right) if left.get(key) != right.get(key)]
    lines += [f"  {key}: {_told(left, key)} | {_told(right, key)}" for key in changed] or ["  the same"]
    if configs[0]["data"]["fingerprint"] != configs[1]["data"]["fingerprint"]:
        return [*lines, "Digits: the runs had different data, so theirs cannot be compared"]
    compared = len(lines)
    both = [sources.load(config["data"]["source"]) for config in configs]
    for folder, config, digits in zip(folders, configs, both, strict=True):
        run_folder.check_data(folder, config, digits)
    tests = [digits.test and digits.test.fingerprint() for digits in both]
    if tests[0] != tests[1]:
        lines.append("Test digits: the runs had different ones, so theirs cannot be compared")
    for part, images in (("validation", both[0].train), ("test", both[0].test if tests[0] == tests[1] else None)):
        if images is None or images.y is None:
            continue
        predicted = [_predicted(*of, part, digits) for *of, digits in zip(folders, configs, both, strict=True)]
        rows = sorted(predicted[0].keys() & predicted[1].keys())
        if not rows:
            continue
        right = np.array([[labels[row] == images.y[row] for row in rows] for labels in predicted])
        only = [np.flatnonzero(right[i] & ~right[1 - i]) for i in (0, 1)]
        disagreed = sum(map(len, only))
        p = binomtest(len(only[0]), disagreed).pvalue if disagreed else 1.0
        shares = " | ".join(f"{share:.2%}" for share in right.mean(axis=1))
        lines.append(
            f"{part.capitalize()} digits that both predict: {len(rows):,}; right: {shares}; McNemar's p = {p:.2g}"
        )
        for folder, some in zip(folders, only, strict=True):
            lines.append(f"  only {folder.name} is right: {len(some)}")
            for row in [rows[i] for i in some[:10]]:
                labels = " | ".join(str(labels[row]) for labels in predicted)
                lines.append(f"    row {row + 1}, a {images.y[row]}: {labels}")
    if len(lines) == compared:
        lines.append("Digits: no labelled one that both runs predict, so theirs cannot be compared")
    return lines


RECORDED = ("created", "versions", "commit", "command", "data", "source", "reported")


def _told(settings, key):
    return json.dumps(settings[key]) if key in settings else "-"


def _predicted(folder, config, part, digits):
    """{row: label} that a run predicts: of the rows it has validated on, or of its test set (`part`)."""
    arrays, numbers = read_predictions(folder / "predictions.npz", digits), range(1, config["nets"] + 1)
    if part == "validation":
        rows, probabilities = out_of_bag(arrays, len(digits.train.x), numbers)
    else:
        rows, probabilities = np.arange(len(digits.test.x)), mean_of_test(arrays, numbers)
        if probabilities is None:
            return {}
    return dict(zip(rows.tolist(), probabilities.argmax(1).tolist(), strict=True))


def repeated(first, second):
    """Lines that say whether two finished runs of the same settings ended alike, and what was different around them."""
    configs = [run_folder.read_config(folder) for folder in (first, second)]
    around = [
        {
            "data": config["data"]["fingerprint"],
            "test data": config["data"].get("test_fingerprint"),
            "commit": config.get("commit"),
        }
        | (config.get("versions") or {})
        for config in configs
    ]
    unknown = [key for key in ("processor", "gpu") if not all(key in known for known in around)]  # by an older version
    changed = [
        f"{key} {around[0].get(key) or 'none'} then, {around[1].get(key) or 'none'} now"
        for key in around[0] | around[1]
        if around[0].get(key) != around[1].get(key) and key not in unknown
    ]
    lines = [f"Different from {first.name}: {'; '.join(changed) or 'nothing'}"]
    if not run_folder.is_finished(first):
        return [*lines, f"Run {first.name} is not finished: its nets cannot be compared"]
    ours, theirs = (read_arrays(folder / "predictions.npz") for folder in (first, second))
    for net in range(1, configs[0]["nets"] + 1):
        weights = [saved_net.read_weights(run_folder.net_file(folder, net, ".keras")) for folder in (first, second)]
        predictions = [
            {key: value for key, value in arrays.items() if key.endswith(f"_{net:02d}")} for arrays in (ours, theirs)
        ]
        if all(identical(*pair) for pair in (weights, predictions)):
            lines.append(f"Net {net}: weights and predictions identical, bit for bit")
            continue
        tests = [arrays.get(f"test_{net:02d}", np.zeros(0)) for arrays in predictions]
        largest = ""
        if tests[0].size and tests[0].shape == tests[1].shape and all(test.dtype.kind == "f" for test in tests):
            largest = f", at most {np.abs(tests[0] - tests[1]).max():.2g} in the test set's probabilities"
        lines.append(f"Net {net}: weights or predictions are different{largest}")
    return lines
