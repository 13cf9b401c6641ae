import csv

import numpy as np

from recognizer.base.files import write_arrays, write_json, write_rows
from recognizer.runs import checkpoints, metrics, run_folder
from recognizer.runs.predictions import mean_of_test, out_of_bag, read_predictions


def gather(folder, config, digits):
    """When every net is finished: writes log.csv and predictions.npz, and returns the result for `finish`.

    digits: the run's dataset.Digits.
    predictions.npz holds validation_rows_01 (row numbers of the labelled data, from 0), validation_01 and test_01
    (float32 probabilities) for net 1, and so on.
    """
    nets = range(1, config["nets"] + 1)
    train_labels, test_labels = digits.train.y, digits.test and digits.test.y
    results = [
        run_folder.read_result(run_folder.net_file(folder, net, ".json"), "parameters", "seconds") for net in nets
    ]
    gathered = folder / "predictions.npz"
    predictions = read_predictions(gathered, digits) if gathered.is_file() else {}
    for net in nets:
        if (path := run_folder.net_file(folder, net, ".predictions.npz")).is_file():
            predictions |= {f"{key}_{net:02d}": value for key, value in read_predictions(path, digits).items()}
    rows = []
    for net in nets:
        with open(run_folder.net_file(folder, net, ".csv"), newline="", encoding="utf-8") as file:
            rows += [{"net": net} | row for row in csv.DictReader(file)]
    write_rows(folder / "log.csv", rows)

    result = {
        "recipe": config["recipe"],
        "nets": config["nets"],
        "parameters": results[0]["parameters"],
        "seconds": sum(net["seconds"] for net in results),
        "chosen_on_validation": config["weights"] == "best",
    }
    for part in ("validation_accuracy", "test_accuracy", "test_accuracy_augmented"):
        values = [net[part] for net in results if part in net]
        if values:
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            result[part] = {"mean": float(np.mean(values)), "spread": spread, "n": len(values)}
    rows, probabilities = out_of_bag(predictions, len(train_labels), nets)
    if len(rows):
        result["ensemble_validation"] = metrics.score(probabilities, train_labels[rows]) | {
            "rows": len(rows),
            "coverage": len(rows) / len(train_labels),
            "out_of_bag": config["bagging"],
            "calibration_error": metrics.calibration(train_labels[rows], probabilities)[0],
        }
    probabilities = mean_of_test(predictions, nets)
    if probabilities is not None and test_labels is not None:
        result["ensemble_test"] = metrics.score(probabilities, test_labels) | {
            "rows": len(test_labels),
            "calibration_error": metrics.calibration(test_labels, probabilities)[0],
        }
    write_arrays(gathered, predictions)
    return result


def finish(folder, config, result):
    """Removes what was needed until now, and writes result.json, by which a run is finished."""
    for net in range(1, config["nets"] + 1):
        run_folder.net_file(folder, net, ".predictions.npz").unlink(missing_ok=True)
        checkpoints.remove(folder, net)
    write_json(folder / "result.json", result)
