"""Predicts by nets: in batches of one size, compiled once for all nets of one architecture."""

import json
import math
import re

import keras
import numpy as np

from recognizer.nn import copies, sizes
from recognizer.training.batches import evaluation_batches


class Predictor:
    """Predicts by nets of one architecture in batches of one size, so that the net is compiled once.

    Arguments:
        plain: a keras.Model from float32 (n, 28, 28, 1) in 0..1 to probabilities (n, 10), by copies.plain.
        precision, dtypes: as of copies.fast.
    """

    def __init__(self, plain, precision="float32", dtypes=None):
        self.kind = _architecture(plain), precision, dtypes
        self.model = copies.fast(plain, precision, dtypes)
        self.most = sizes.images_at_once(self.model)
        self.compiled = {}  # by batch size: a function for any size would round otherwise

    def predict(self, x, test_shift=0):
        """Returns probabilities, float32 (n, 10), for images uint8 (n, 28, 28) or float in 0..255.

        test_shift: pixels; above 0 the probabilities are the mean over the image and its shifts up, down, left and
        right.
        """
        n, size, by = len(x), x.shape[1], test_shift
        batch_size = min(self.most, 2 ** math.ceil(math.log2(max(n, 1))))
        padded = np.pad(x, ((0, -n % batch_size), (by, by), (by, by)))
        shifted = (padded[:, top : top + size, left : left + size] for top, left in views(by))
        batches = (evaluation_batches(view, batch_size=batch_size) for view in shifted)
        self.model.predict_function = self.compiled.get(batch_size)
        predicted = [self.model.predict(view, verbose=0)[:n] for view in batches]
        self.compiled[batch_size] = self.model.predict_function
        return np.mean(predicted, axis=0, dtype=np.float32)  # a last layer may give half precision


def views(by):
    """Where an image and its four shifts by `by` pixels begin in it with a border of as many: (row, column) pairs."""
    return [(by, by), (0, by), (2 * by, by), (by, 0), (by, 2 * by)] if by else [(0, 0)]


def predictor_of(plain, precision="float32", dtypes=None, last=None):
    """Returns a Predictor by a net: `last`, the Predictor used before, if it can be loaded with the net's weights."""
    if last is None or last.kind != (_architecture(plain), precision, dtypes):
        return Predictor(plain, precision, dtypes)
    last.model.set_weights(plain.get_weights())
    if copies.finalize(last.model):  # what is derived from weights is compiled in
        last.compiled.clear()
    return last


def _architecture(plain):
    """Returns a text that is the same for nets of one architecture.

    Keras counts up the names that it gives, so they are numbered as they come; seeds are left out.
    """
    written = json.dumps(keras.saving.serialize_keras_object(plain), sort_keys=True)
    text = re.sub(r'"seed": -?\d+', '"seed": 0', written)
    for i, name in enumerate(dict.fromkeys(re.findall(r'"name": ("[^"]+")', text))):
        text = text.replace(name, f'"#{i}"')
    return text
