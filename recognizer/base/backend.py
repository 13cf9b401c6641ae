"""The backend that Keras uses. Importing this module imports Keras."""

from typing import Any

import keras

Tensor = Any  # tf.Tensor, jax.Array or a NumPy array; while a net is built also keras.KerasTensor
TENSORFLOW = keras.backend.backend() == "tensorflow"
