"""Accuracy, its interval, loss and calibration, of labels and predicted probabilities."""

import numpy as np

BIASED = "biased upward: the epoch was chosen on these rows"


def score(probabilities, labels):
    """Returns accuracy and mean cross-entropy of float (n, 10) probabilities, as a dict of floats."""
    right = probabilities.argmax(1) == labels
    losses = -np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-7, 1))
    return {"accuracy": float(np.mean(right)), "loss": float(np.mean(losses))}


def calibration(labels, probabilities, bins=10):
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


def interval(accuracy, n):
    """Returns Wilson's 95 % interval of an accuracy on `n` rows: (low, high)."""
    from scipy.stats import binomtest

    return tuple(binomtest(round(accuracy * n), n).proportion_ci(method="wilson"))
