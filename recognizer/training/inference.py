"""Predicts by nets: in batches of one size, compiled once for all nets of one architecture."""

import json
import math
import re

import keras
import numpy as np

from recognizer.nn import copies, sizes
from recognizer.training.batches import evaluation_batches


class Predictor:
    """Predicts by a net, in batches of one size, so that it is compiled once.

    model: a keras.Model from float32 (n, 28, 28, 1) in 0..1 to probabilities (n, 10).
    """

    def __init__(self, model):
        self.model, self.most = model, sizes.images_at_once(model)

    def predict(self, x, test_shift=0):
        """Returns probabilities, float32 (n, 10), for images uint8 (n, 28, 28) or float in 0..255.

        test_shift: pixels; above 0 the probabilities are the mean over the image and its shifts up, down, left and
        right.
        """
        n, size, by = len(x), x.shape[1], test_shift
        batch_size = min(self.most, 2 ** math.ceil(math.log2(max(n, 1))))
        padded = np.pad(x, ((0, -n % batch_size), (by, by), (by, by)))
        predicted = [
            self.model.predict(
                evaluation_batches(padded[:, top : top + size, left : left + size], batch_size=batch_size), verbose=0
            )[:n]
            for top, left in views(by)
        ]
        return np.mean(predicted, axis=0)


def views(by):
    """Where an image and its four shifts by `by` pixels begin in it with a border of as many: (row, column) pairs."""
    return [(by, by), (0, by), (2 * by, by), (by, 0), (by, 2 * by)] if by else [(0, 0)]


class Predictors:
    """Predictors by architecture, so that the nets of one share what was compiled for the first."""

    def __init__(self):
        self.made = {}

    def load(self, plain, precision, dtypes):
        """Returns a Predictor by a net's copy `plain`. precision, dtypes: as of copies.fast."""
        written = _nameless(keras.saving.serialize_keras_object(plain))
        key = json.dumps([written, precision, dtypes], sort_keys=True)
        if key not in self.made:
            self.made[key] = Predictor(copies.fast(plain, precision, dtypes))
            return self.made[key]
        model = self.made[key].model
        model.set_weights(plain.get_weights())
        if copies.finalize(model):
            model.make_predict_function(force=True)
        return self.made[key]


def _nameless(config):
    """Returns the text of a Keras config without seeds, and with the names in it numbered as they come.

    Keras counts up the names that it gives, so nets of one architecture may have different ones.
    """
    text = re.sub(r'"seed": -?\d+', '"seed": 0', json.dumps(config, sort_keys=True))
    for i, name in enumerate(dict.fromkeys(re.findall(r'"name": ("[^"]+")', text))):
        text = text.replace(name, f'"#{i}"')
    return text
