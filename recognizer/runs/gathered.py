"""Gathers the log, the predictions and the result of a run after all its nets are trained."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recognizer.base.files import remove_temporaries, write_arrays, write_json, write_rows
from recognizer.data.arrays import Digits
from recognizer.runs import checkpoints, metrics, run_folder
from recognizer.runs.predictions import Labelled, labelled_predictions, mean_of_test, out_of_bag, read_predictions

MISTAKES = ("part", "row", "name", "label", "predicted", "probability", "label_probability")  # columns of mistakes.csv


def gather(folder: Path, config: dict, digits: Digits) -> dict:
    """Writes log.csv, predictions.npz and mistakes.csv of a run whose nets are all trained.

    Returns its result, for `finish`.

    digits: the run's Digits.
    """
    nets = run_folder.net_numbers(config)
    results = run_folder.net_results(folder, config, "parameters", "seconds")
    predictions = _predictions(folder, nets, digits)
    write_rows(folder / "log.csv", _log(folder, nets, results))
    result = {
        "recipe": config["recipe"],
        "nets": config["nets"],
        "parameters": results[0]["parameters"],
        "seconds": sum(net["seconds"] for net in results),
        "chosen_on_validation": config["weights"] == "best",
    }
    result |= _means(results) | _ensemble(config, predictions, digits)
    write_arrays(folder / "predictions.npz", predictions)
    write_mistakes(folder, config, digits, result)
    return result


def write_mistakes(folder: Path, config: dict, digits: Digits, result: dict) -> None:
    """Writes mistakes.csv of a run that has labelled predictions: its wrong validation rows and test rows."""
    if parts := labelled_predictions(folder, config, digits, result):
        named = any(part.names is not None for part in parts)
        columns = [column for column in MISTAKES if named or column != "name"]
        write_rows(folder / "mistakes.csv", [row for part in parts for row in _mistakes(part, named)], columns)


def _mistakes(part: Labelled, named: bool) -> Iterator[dict]:
    """Yields the rows of mistakes.csv of a part, the most certain mistakes first.

    named: whether the file has the column "name".
    """
    predicted = part.probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != part.y)
    for i in wrong[np.argsort(-part.probabilities[wrong, predicted[wrong]], kind="stable")]:  # as in mistakes.png
        name = {"name": "" if part.names is None else part.names[i]} if named else {}
        yield (
            {"part": part.part, "row": part.rows[i] + 1, "label": part.y[i], "predicted": predicted[i]}
            | name
            | {
                "probability": f"{part.probabilities[i, predicted[i]]:.4g}",
                "label_probability": f"{part.probabilities[i, part.y[i]]:.4g}",
            }
        )


def finish(folder: Path, config: dict, result: dict) -> None:
    """Removes the files that only training needs. Writes result.json, which marks the run as finished."""
    for net in run_folder.net_numbers(config):
        run_folder.net_file(folder, net, ".predictions.npz").unlink(missing_ok=True)
        checkpoints.remove(folder, net)
    remove_temporaries(folder)  # left by a process that was killed while writing
    write_json(folder / "result.json", result)


def _predictions(folder, nets, digits):
    """Returns all nets' predictions, including those of an earlier `gather` that was not followed by `finish`."""
    gathered = folder / "predictions.npz"
    predictions = read_predictions(gathered, digits) if gathered.is_file() else {}
    for net in nets:
        if (path := run_folder.net_file(folder, net, ".predictions.npz")).is_file():
            predictions |= {f"{key}_{net:02d}": value for key, value in read_predictions(path, digits).items()}
    return predictions


def _log(folder, nets, results):
    """Returns the rows of all nets' logs. The last row of each net also has the saved net's accuracy.

    The validation accuracy after an epoch can differ from the saved net's. It may be of fewer rows, or of the weights
    before they are averaged or before their batch-norm statistics are recomputed.
    """
    rows = []
    for net, result in zip(nets, results, strict=True):
        with open(run_folder.net_file(folder, net, ".csv"), newline="", encoding="utf-8") as file:
            log = [{"net": net} | row for row in csv.DictReader(file)]
        if "validation_accuracy" in result:
            for row in log:
                row |= {"final_val_accuracy": "", "seconds": row.pop("seconds")}
            log[-1]["final_val_accuracy"] = f"{result['validation_accuracy']:.6g}"
        rows += log
    return rows


def _means(results):
    """Returns the mean, standard deviation ("spread") and number ("n") of the nets' accuracies."""
    means = {}
    for key in ("validation_accuracy", "test_accuracy", "test_accuracy_augmented"):
        values = [net[key] for net in results if key in net]
        if values:
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            means[key] = {"mean": float(np.mean(values)), "spread": spread, "n": len(values)}
    return means


def _ensemble(config, predictions, digits):
    """Returns the scores of all nets together on validation and test rows, if there are any, and the temperature.

    The temperature is fitted on the validation rows, so their scores use `cross_fitted` probabilities. If each net has
    its own validation rows, each of them is predicted by fewer nets than a test image.
    """
    nets, scores, temperature = run_folder.net_numbers(config), {}, config["temperature"]
    rows, probabilities = out_of_bag(predictions, len(digits.train.y), nets)
    if len(rows):
        kind = {"coverage": len(rows) / len(digits.train.y), "out_of_bag": config["bagging"]}
        labels = digits.train.y[rows]
        held_out = metrics.cross_fitted(labels, probabilities, temperature)
        scores["ensemble_validation"] = _score(probabilities, held_out, labels) | kind
        temperature = metrics.fitted_temperature(labels, probabilities, temperature)
    probabilities = mean_of_test(predictions, nets)
    if probabilities is not None and digits.test and digits.test.y is not None:
        scores["ensemble_test"] = _score(probabilities, metrics.sharpened(probabilities, temperature), digits.test.y)
    return scores | {"temperature": temperature}


def _score(raw, sharpened, labels):
    errors = {
        "calibration_error": metrics.calibration(labels, sharpened)[0],
        "raw_calibration_error": metrics.calibration(labels, raw)[0],
    }
    return metrics.score(sharpened, labels) | {"rows": len(labels)} | errors
