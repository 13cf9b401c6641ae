"""Predicts with nets, in batches of one size, so that all nets of one architecture are compiled once."""

import json
import math
import re
from collections.abc import Callable

import keras
import numpy as np

from recognizer.nn import copies, sizes
from recognizer.training.batches import evaluation_batches


class Predictor:
    """Predicts with nets of one architecture. Each call uses one batch size. The net is compiled once for each size.

    Arguments:
        plain: a keras.Model from float32 (n, 28, 28, 1) in 0..1 to probabilities (n, 10), from copies.plain.
        precision, dtypes: see copies.fast.
    """

    def __init__(self, plain: keras.Model, precision: str = "float32", dtypes: dict[str, str] | None = None) -> None:
        self.kind = _architecture(plain), precision, dtypes
        self.model = copies.fast(plain, precision, dtypes)
        self.most = sizes.images_at_once(self.model)
        # {batch size: compiled function}. One function for several sizes would be compiled for an unknown size, and its
        # results would differ by rounding.
        self.compiled: dict[int, Callable | None] = {}

    def predict(self, x: np.ndarray, test_shift: int = 0) -> np.ndarray:
        """Returns probabilities, float32 (n, 10), for images uint8 (n, 28, 28) or float in 0..255.

        test_shift: int, pixels. Above 0, the probabilities are the mean over the image and its shifts up, down, left
        and right.
        """
        n, size, by = len(x), x.shape[1], test_shift
        batch_size = min(self.most, 2 ** math.ceil(math.log2(max(n, 1))))
        padded = np.pad(x, ((0, -n % batch_size), (by, by), (by, by)))
        shifted = (padded[:, top : top + size, left : left + size] for top, left in views(by))
        batches = (evaluation_batches(view, batch_size=batch_size) for view in shifted)
        self.model.predict_function = self.compiled.get(batch_size)
        predicted = [self.model.predict(view, verbose=0)[:n] for view in batches]
        self.compiled[batch_size] = self.model.predict_function
        return np.stack(predicted).mean(axis=0, dtype=np.float32)  # an output layer may be in half precision


def views(by: int) -> list[tuple[int, int]]:
    """Returns (row, column) where the image and its four shifts begin in the image padded by `by` pixels."""
    return [(by, by), (0, by), (2 * by, by), (by, 0), (by, 2 * by)] if by else [(0, 0)]


def predictor_of(
    plain: keras.Model, precision: str = "float32", dtypes: dict[str, str] | None = None, last: Predictor | None = None
) -> Predictor:
    """Returns a Predictor for a net: `last` with the net's weights if the architecture is the same, else a new one."""
    if last is None or last.kind != (_architecture(plain), precision, dtypes):
        return Predictor(plain, precision, dtypes)
    last.model.set_weights(plain.get_weights())
    if copies.finalize(last.model):  # compiled functions hold values derived from weights
        last.compiled.clear()
    return last


def _architecture(plain):
    """Returns a text that is equal for nets of one architecture.

    Layer names are replaced by numbers, since Keras's numbers grow with each build. Seeds become 0.
    """
    written = json.dumps(keras.saving.serialize_keras_object(plain), sort_keys=True)
    text = re.sub(r'"seed": -?\d+', '"seed": 0', written)
    for i, name in enumerate(dict.fromkeys(re.findall(r'"name": ("[^"]+")', text))):
        text = text.replace(name, f'"#{i}"')
    return text
