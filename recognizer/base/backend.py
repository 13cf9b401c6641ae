"""Which backend Keras computes with. Importing this imports Keras."""

import keras

TENSORFLOW = keras.backend.backend() == "tensorflow"
