"""The backend that Keras uses. Importing this module imports Keras."""

import keras

TENSORFLOW = keras.backend.backend() == "tensorflow"
