import keras

TENSORFLOW = keras.backend.backend() == "tensorflow"
