"""Predicts images by the nets of finished runs, or reads what training predicted for them."""

import contextlib
import shutil
import sys
import threading
import time

import numpy as np

from recognizer.base import environment, gpu_advice
from recognizer.base.errors import UserError
from recognizer.base.words import duration
from recognizer.data import sources
from recognizer.runs import run_folder
from recognizer.runs.predictions import read_test_predictions

SLOW = 5  # seconds before a line says that predicting is under way, without a terminal


def test_set(source, configs):
    """Returns the test set (Images) of `source`, or if that is None the test set of the runs' own data.

    Raises UserError if there is none, or if the runs have different data.
    """
    if source is not None:
        return sources.load_test(source)
    data = [config["data"] for config in configs]
    if len({own["fingerprint"] for own in data}) > 1:
        raise UserError("these runs were trained on different data: choose by --test which test set to predict")
    source = data[0]["source"]
    if sources.is_gone(source):
        raise UserError(f"the run's own data is no longer at {source}: give its test set by --test")
    return sources.load_test(source)


def mean_probabilities(folders, configs, test):
    """Returns the mean probabilities of every net of the runs, float64 (n, 10), for Images.

    Probabilities that training has stored are not computed again. If all are stored, Keras is not imported.
    """
    known = [read_test_predictions(folder, config, test) for folder, config in zip(folders, configs, strict=True)]
    unknown = [i for i, found in enumerate(known) if found is None]
    if names := [folder.name for folder, found in zip(folders, known, strict=True) if found is not None]:
        print(f"Already predicted when trained: {', '.join(names)}")
    if unknown:
        computed = computed_probabilities([folders[i] for i in unknown], [configs[i] for i in unknown], test.x)
        for i, found in zip(unknown, computed, strict=True):
            known[i] = found
    total = np.zeros((len(test.x), 10))
    for probabilities in (of_net for of_run in known for of_net in of_run):
        total += probabilities
    return total / sum(config["nets"] for config in configs)


def computed_probabilities(folders, configs, x):
    """Returns each run's list of its nets' probabilities, float32 (n, 10), for images uint8 (n, 28, 28)."""
    environment.import_keras()
    import keras

    from recognizer.nn.precision import native_precision
    from recognizer.training import inference

    gpu_advice.print_advice()
    computed, predictor = [], None
    with progress(len(x), sum(config["nets"] for config in configs)) as begin_net:
        for folder, config in zip(folders, configs, strict=True):
            precision = native_precision(config["precision"])
            computed.append([])
            for net, model in enumerate(saved_models(folder, config), 1):
                begin_net(sum(map(len, computed)))
                dtypes = run_folder.read_result(run_folder.net_file(folder, net, ".json")).get("dtypes")
                predictor = inference.predictor_of(model, precision, dtypes, predictor)
                computed[-1].append(predictor.predict(x, config["test_shift"]))
                keras.backend.clear_session()
    return computed


@contextlib.contextmanager
def progress(images, nets):
    """Shows progress: on a terminal the net and the time left, elsewhere one line if predicting takes a while.

    Yields a function to call before each net, with the number of nets done.
    """
    what = f"Predicting {images:,} images with {nets} net{'s' * (nets > 1)}"
    if not sys.stdout.isatty():
        timer = threading.Timer(SLOW, print, [f"{what} ..."], {"flush": True})
        timer.start()
        try:
            yield lambda done: None
        finally:
            timer.cancel()
        return

    started, width = time.perf_counter(), shutil.get_terminal_size().columns - 1

    def show(line):
        print(f"\r{line[:width]:<{width}}\r", end="", flush=True)

    def begin_net(done):
        left = f", {duration((time.perf_counter() - started) / done * (nets - done))} left" if done else ""
        show(f"{what}: net {done + 1}/{nets}{left}")

    try:
        yield begin_net
    finally:
        show("")


def saved_models(folder, config):
    """Yields the keras.Models of a run, one after the other."""
    from recognizer.nn import saved_net

    for net in range(1, config["nets"] + 1):
        result = run_folder.read_result(run_folder.net_file(folder, net, ".json"), "parameters")
        yield saved_net.read_net(run_folder.net_file(folder, net, ".keras"), result["parameters"])
