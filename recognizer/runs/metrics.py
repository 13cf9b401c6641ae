"""Accuracy, its confidence interval, loss and calibration of predicted probabilities."""

import numpy as np

from recognizer.config.schema import TEMPERATURES

DEVIATION = 0.3  # the prior standard deviation of the temperature's logarithm
BIASED = "biased upward: the epoch was chosen on these rows"


def score(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns accuracy and mean cross-entropy of float (n, 10) probabilities, as a dict."""
    right = probabilities.argmax(1) == labels
    losses = -np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-7, 1))
    return {"accuracy": float(np.mean(right)), "loss": float(np.mean(losses))}


def calibration(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = 10
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Compares how confident predictions are with how often they are right (Guo et al., 2017).

    Returns (expected calibration error, each non-empty bin's mean probability, its accuracy, the counts of all bins).
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    some = counts > 0
    means = np.bincount(bin_of, confidence, bins)[some] / counts[some]
    accuracies = np.bincount(bin_of, right, bins)[some] / counts[some]
    return float(np.abs(means - accuracies) @ counts[some] / len(confidence)), means, accuracies, counts


def sharpened(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Returns p ** (1 / temperature), normalised, float64 (n, 10), for probabilities p (n, 10).

    The predicted labels do not change. For a temperature of 1 it returns the probabilities unchanged.
    """
    probabilities = np.asarray(probabilities)
    if temperature == 1:
        return probabilities
    found = np.float64(probabilities)
    found = (found / found.max(1, keepdims=True)) ** (1 / temperature)
    found /= found.sum(1, keepdims=True)
    labels, rows = probabilities.argmax(1), np.arange(len(found))
    tied = rows[found.argmax(1) != labels]  # rounding made probabilities equal
    found[tied, labels[tied]] = np.nextafter(found[tied].max(1), 2)
    return found


def fitted_temperature(labels: np.ndarray, probabilities: np.ndarray, expected: float) -> float:
    """Returns the most probable temperature for probabilities (n, 10), by their log loss and a prior.

    The prior is normal in the temperature's logarithm, with mean log(expected) and standard deviation DEVIATION. It is
    needed because the log loss of rows without errors is least at temperature 0. A hundred rows change the temperature
    little; thousands determine it.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    logs, rows = np.log(np.clip(np.float64(probabilities), 1e-30, None)), np.arange(len(labels))

    def cost(log_temperature):
        losses = -log_softmax(logs / np.exp(log_temperature), axis=1)[rows, labels]
        return losses.sum() + ((log_temperature - np.log(expected)) / DEVIATION) ** 2 / 2

    return float(np.exp(minimize_scalar(cost, bounds=np.log(TEMPERATURES), method="bounded").x))


def cross_fitted(labels: np.ndarray, probabilities: np.ndarray, expected: float) -> np.ndarray:
    """Returns probabilities (n, 10). Each half of the rows is sharpened by the temperature fitted on the other half.

    So the calibration is measured on rows that were not fitted. expected: see `fitted_temperature`.
    """
    found = np.empty(np.shape(probabilities))
    for half, other in ((0, 1), (1, 0)):
        temperature = fitted_temperature(labels[other::2], probabilities[other::2], expected)
        found[half::2] = sharpened(probabilities[half::2], temperature)
    return found


def interval(accuracy: float, n: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of an accuracy on `n` rows: (low, high)."""
    from scipy.stats import binomtest

    return tuple(binomtest(round(accuracy * n), n).proportion_ci(method="wilson"))


def mcnemar(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Compares two runs by McNemar's exact test; returns (rows true only in first, only in second, p).

    first, second: bool (n,), whether each run predicts each row correctly. If True means "wrongly", p is the same.
    """
    from scipy.stats import binomtest

    only = np.flatnonzero(first & ~second), np.flatnonzero(second & ~first)
    disagreed = sum(map(len, only))
    return *only, binomtest(len(only[0]), disagreed).pvalue if disagreed else 1.0
