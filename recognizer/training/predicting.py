"""Predicts images with the nets of finished runs, or reads the predictions that training has stored."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recognizer.base import environment, gpu_advice
from recognizer.base.errors import UserError, refused
from recognizer.base.words import plural
from recognizer.config import members
from recognizer.data import sources
from recognizer.data.arrays import Images
from recognizer.runs import run_folder
from recognizer.runs.predictions import read_test_predictions

if TYPE_CHECKING:
    import keras


def test_set(source: str | None, configs: list[dict]) -> Images:
    """Returns the test set (Images) of `source`. If `source` is None, returns the test set of the runs' own data.

    Raises UserError if there is no test set, or if the runs have different data.
    """
    if source is not None:
        return sources.load_test(source)
    data = [config["data"] for config in configs]
    if len({own["fingerprint"] for own in data}) > 1:
        raise UserError("these runs were trained on different data: choose the test set with --test")
    source, without = data[0]["source"], data[0].get("test_fingerprint", "") is None
    if not without and sources.is_gone(source):
        raise UserError(f"the run's own data is no longer at {source}: give its test set by --test")
    test = None if without else sources.load(source).test
    if test is None:
        raise UserError(f"the run's own data, {source}, has no test set: give the images to predict with --test")
    return test


def mean_probabilities(folders: list[Path], configs: list[dict], test: Images, what: str = "the images") -> np.ndarray:
    """Returns the mean probabilities over all nets of the runs, float64 (n, 10), not yet sharpened. test: Images.

    what: the images as the progress line calls them. Probabilities that training has stored are not computed again. If
    all are stored, Keras is not imported.
    """
    runs = list(zip(folders, configs, strict=True))
    stored = [read_test_predictions(folder, config, test) for folder, config in runs]
    if names := [folder.name for folder, found in zip(folders, stored, strict=True) if found]:
        print(f"Using the predictions stored during training: {', '.join(names)}")
    others = [run for run, found in zip(runs, stored, strict=True) if not found]
    computed = iter(computed_probabilities(others, test.x, what) if others else [])
    total = np.zeros((len(test.x), 10))
    for config, found in zip(configs, stored, strict=True):
        for i in range(config["nets"]):
            total += found[i] if found else next(computed)
    return total / sum(config["nets"] for config in configs)


def temperature(folders: list[Path], configs: list[dict]) -> float:
    """Returns the temperature that sharpens the `mean_probabilities` of runs.

    For several runs it is the geometric mean over their nets: a single temperature, so that no predicted label changes.
    """
    found = [run_folder.temperature(folder) for folder in folders]
    if len(found) == 1:
        return found[0]
    return float(np.exp(np.average(np.log(found), weights=[config["nets"] for config in configs])))


def computed_probabilities(runs: list[tuple[Path, dict]], x: np.ndarray, what: str) -> list[np.ndarray]:
    """Returns the probabilities from each net of the runs, a list of float32 (n, 10), for images uint8 (n, 28, 28).

    runs: list of (folder, config). what: see `mean_probabilities`.
    """
    environment.import_keras()
    import keras
    from rich.progress import track

    from recognizer.nn.precision import native_precision
    from recognizer.training import inference

    gpu_advice.print_advice()
    computed, predictor = [], None
    nets = [(folder, config, net) for folder, config in runs for net in run_folder.net_numbers(config)]
    what = f"Predicting {what} with {plural(len(nets), 'net')}"
    if sys.stdout.isatty():
        shown = track(nets, what, transient=True)
    else:
        print(f"{what} ...", flush=True)
        shown = nets
    for folder, config, net in shown:
        model, dtypes = saved_model(folder, net)
        precision = native_precision(members.member(config, net)["precision"])
        predictor = inference.predictor_of(model, precision, dtypes, predictor)
        computed.append(predictor.predict(x, config["test_shift"]))
        keras.backend.clear_session()
    return computed


def saved_models(folder: Path, config: dict) -> Iterator[keras.Model]:
    """Yields the nets of a run as keras.Models."""
    for net in run_folder.net_numbers(config):
        yield saved_model(folder, net)[0]


def saved_model(folder: Path, net: int) -> tuple[keras.Model, dict[str, str] | None]:
    """Returns (the keras.Model of a run's net, its `dtypes` for copies.fast).

    Raises UserError if the net cannot be used, or if a layer in models.py was edited so that outputs differ.
    """
    from recognizer.nn import edits, saved_net

    result = run_folder.read_result(run_folder.net_file(folder, net, ".json"), "parameters")
    path, then = run_folder.net_file(folder, net, ".keras"), result.get("own_outputs")
    model = saved_net.read_net(path, result["parameters"])
    with refused(f"{path.with_suffix('.json')} is damaged"):
        edited = then is not None and not edits.are_alike(then, edits.outputs_of_own_code(model))
    if edited:
        raise UserError(f"{path} computes other outputs than when it was saved: undo what was edited in its layers")
    return model, result.get("dtypes")
