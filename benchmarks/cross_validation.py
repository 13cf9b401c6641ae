"""Predicts each labelled row by nets that did not train on it, and compares recipes on the same rows.

Each of the folds is a run of train.py: its rows are the run's test set, which train.py predicts once, after training.
results/cv/NAME-SEED.npz holds the probabilities of all rows, and NAME-SEED.json how they were trained.
"""

import math

import numpy as np
from shared import HERE, machine, table
from sklearn.model_selection import StratifiedKFold

from recognizer.base.errors import UserError
from recognizer.base.files import read_json, write_json
from recognizer.data import sources
from recognizer.runs import metrics, run_folder
from recognizer.runs.predictions import read_predictions

KEPT = HERE / "results" / "cv"


def split(labels, folds, seed):
    """Returns the rows of each fold: a list of arrays. The same seed gives the same folds for every recipe."""
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return [rows for _, rows in splitter.split(labels, labels)]


def write_fold(images, rows, left_out, path):
    """Writes an mnist.npz whose test set is some rows, and whose training set is the others but those left out."""
    others = np.setdiff1d(np.arange(len(images.x)), np.concatenate([rows, left_out]))
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = dict(x_train=images.x[others], y_train=images.y[others], x_test=images.x[rows], y_test=images.y[rows])
    np.savez(path, **parts)


def cross_validate(recipe, data, name, seed, folds, options, train, until, without=()):
    """Trains a recipe once for each unfinished fold, up to the fold `until`, on the rows of the other folds.

    A finished fold is written at once, and the run's folder may then be deleted.
    options: train.py's. train: accuracy.train.
    without: cross-validated recipes. The rows that all of them get wrong are predicted, but not trained on.
    """
    images = sources.load(data).train
    parts = split(images.y, folds, seed)
    left_out = unread_rows(without, data, images)[0] if without else np.empty(0, int)
    kept = KEPT / f"{name}-{seed}.json"
    new = [recipe, "--seed", seed, "--validation-split", 0, *options]
    written = [*new, "--without", *without] if without else new
    record = {"name": name, "seed": seed, "options": " ".join(map(str, written)), "folds": folds, "runs": []}
    record["data"] = images.fingerprint()
    if kept.is_file():
        before = read_json(kept)
        if any(before[key] != record[key] for key in ("options", "folds", "data")):
            raise UserError(
                f"{kept} is of {before['options']!r}, {before['folds']} folds: give this one another --name"
            )
        record = before
    for fold in range(len(record["runs"]), min(until, folds)):
        folder = run_folder.named(f"cv-{name}-{seed}-{folds}-{fold}")
        path = folder.with_suffix(".npz")
        write_fold(images, parts[fold], left_out, path)
        if not run_folder.is_finished(folder):
            train(folder, [*new, "--data", path], lambda: None)
        keep(kept, record, folder, parts[fold], images)
        right = record["runs"][-1]["accuracy"]
        print(f"{name}, seed {seed}, fold {fold + 1}/{folds}: {right:.3%} of {len(parts[fold]):,}", flush=True)
        path.unlink()


def keep(kept, record, folder, rows, images):
    """Adds a finished fold to what is kept."""
    result, config = read_json(folder / "result.json"), read_json(folder / "config.json")
    digits = sources.load(config["data"]["source"])
    arrays = read_predictions(folder / "predictions.npz", digits)
    nets = np.stack([arrays[key] for key in sorted(arrays) if key.startswith("test_")])
    path, shape = kept.with_suffix(".npz"), (len(nets), len(images.x), 10)
    found = read(path)[0] if record["runs"] else np.full(shape, np.nan, np.float16)
    found[:, rows] = nets
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, probabilities=found, labels=images.y.astype(np.uint8))
    accuracy = float(np.mean(nets.mean(0).argmax(1) == images.y[rows]))
    record["runs"].append({"accuracy": accuracy, "seconds": round(result["seconds"]), "machine": machine()})
    record["commit"] = config["commit"]
    write_json(kept, record)


def read(path):
    """Returns (probabilities of a recipe's nets, float16 (nets, m, 10), labels (m,))."""
    with np.load(path) as arrays:
        return arrays["probabilities"], arrays["labels"]


COLUMNS = ["recipe", "nets", "errors", "accuracy", "NLL", "errors of the first only; of this only", "p", "Holm"]


def compared(names):
    """Returns the lines of a Markdown table of recipes that predicted the same rows, each by its NAME-SEED.

    Several names joined by + are a committee. The negative log-likelihood (NLL), at the temperature that minimizes it,
    is that of the rows which at least one of them predicts correctly. p: of McNemar's exact test against the first.
    """
    found, labels, done = read_all(names)
    labels, means = labels[done], [p[done] for p, _ in found]
    wrong = [p.argmax(1) != labels for p in means]
    legible = ~np.all(wrong, axis=0)
    tests = [metrics.mcnemar(wrong[0], other) for other in wrong[1:]]
    adjusted, rows = holm([p for _, _, p in tests]), []
    for i, name in enumerate(names):
        cells = [f"`{name}`", found[i][1], wrong[i].sum(), f"{1 - wrong[i].mean():.3%}"]
        cells.append(f"{fitted_loss(means[i][legible], labels[legible]):.1f}")
        if i:
            only_first, only_this, p = tests[i - 1]
            cells += [
                f"{len(only_first)}; {len(only_this)}",
                *(f"{value:.3f}" if value >= 0.001 else "< .001" for value in (p, adjusted[i - 1])),
            ]
        rows.append(cells + [""] * (len(COLUMNS) - len(cells)))
    return [f"{len(labels):,} rows; all recipes below get {np.sum(~legible)} of them wrong", "", *table(COLUMNS, rows)]


def unread(names, data):
    """Draws the digits that all these recipes predict incorrectly; returns the picture's path.

    names: NAME-SEED, or several joined by +; data: the --data of their cross-validation.
    """
    from recognizer.reports import charts

    images = sources.load(data).train
    rows, mean = unread_rows(names, data, images)
    rows = rows[np.argsort(mean[rows, images.y[rows]], kind="stable")]
    captions = [f"{images.y[row]}, not {mean[row].argmax()}" for row in rows]
    title = f"labels of {len(rows)} digits, and what nets that did not train on them predict instead"
    return charts.save(charts.digit_grid(images.x[rows], captions, 12, title), HERE / "unread.png")


def unread_rows(names, data, images):
    """Returns (the rows that all these recipes get wrong, the mean of the recipes' probabilities (m, 10)).

    names, data: see `unread`; images: the data's labelled images. Raises UserError if the recipes predicted other rows.
    """
    found, labels, done = read_all(names)
    if not np.array_equal(images.y, labels):
        raise UserError(f"{data}: these recipes predicted other rows")
    means = np.array([p for p, _ in found])
    return np.flatnonzero(done & np.all(means.argmax(2) != labels, axis=0)), means.mean(0)


def read_all(names):
    """Returns ([(mean probabilities, number of nets)] by name, the labels (m,), the rows that all have predicted (m,)).

    Raises UserError if the recipes predicted different rows. The rows that all have predicted are a bool mask. It is
    False in the folds that a recipe has not yet trained.
    """
    found = [committee(name) for name in names]
    labels = found[0][2]
    if not all(np.array_equal(labels, other) for _, _, other in found):
        raise UserError("these recipes predicted other rows: cross-validate them on the same --data")
    done = np.all([np.isfinite(p).all(1) for p, _, _ in found], axis=0)
    return [(p, nets) for p, nets, _ in found], labels, done


def committee(name):
    """Returns (mean probabilities (m, 10), NaN in the rows left to predict; the number of nets; the labels (m,))."""
    nets = []
    for part in name.split("+"):
        path = KEPT / f"{part}.npz"
        if not path.is_file():
            raise UserError(f"there is no {path}: cross-validate the recipe first")
        probabilities, labels = read(path)
        nets += list(probabilities.astype(np.float32))
    return np.mean(nets, axis=0), len(nets), labels


def holm(values):
    """Returns p values corrected for their number, by Holm's method."""
    order, found, least = np.argsort(values), np.empty(len(values)), 0
    for rank, i in enumerate(order):
        least = max(least, min(1, (len(values) - rank) * values[i]))
        found[i] = least
    return list(found)


def fitted_loss(probabilities, labels):
    """Returns the sum of the rows' cross-entropies at the temperature that minimizes it."""
    logarithms = np.log(np.clip(probabilities, 1e-9, 1))
    best = math.inf
    for sharpness in np.geomspace(0.5, 8, 17):
        p = np.exp(logarithms * sharpness)
        best = min(best, -np.log(np.clip(p[np.arange(len(p)), labels] / p.sum(1), 1e-9, 1)).sum())
    return best
