"""One Keras way of training, of augmenting or of predicting, timed in turn by bench.py.

python benchmarks/keras_ways.py train notebook deotte 64 --data mnist
"""

import argparse
import contextlib
import dataclasses
import itertools
import sys

import shared  # noqa: F401 (puts the repository on the path)
from clock import Clock

import recipes
from recognizer.base import environment
from recognizer.config.overrides import resolve

OURS = ("ours", "ours, 2 replicas", "ours float32")


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("what", choices=("train", "augment", "predict"))
    p.add_argument("way", choices=("notebook", "tensors", *OURS))
    p.add_argument("recipe")
    p.add_argument("batch_size", type=int)
    p.add_argument("--data", default="auto")
    p.add_argument("--rows", type=int)
    p.add_argument("--window", type=float, default=3)
    arguments = p.parse_args()
    overrides = [("batch_size", arguments.batch_size), ("augmentation", recipes.SHIFT_10)]
    if arguments.way == "ours, 2 replicas":
        overrides += [("replicas", 2), ("steps_per_epoch", "full")]
    config = resolve(arguments.recipe, overrides) | {
        "seed": 0,
        "augment_engine": "batch",
        "precision": "float32",
        "validation_split": 0,
    }
    if arguments.way in OURS:
        environment.choose_threads(config)
    environment.import_keras()
    from recognizer.data import sources
    from recognizer.nn import building
    from recognizer.nn.precision import native_precision

    images = sources.load(arguments.data).train
    images = dataclasses.replace(images, x=images.x[: arguments.rows], y=images.y[: arguments.rows])
    config["model_config"] = building.all_arguments(config["model"], config["model_config"], images.statistics)
    if arguments.way in ("ours", "ours, 2 replicas"):
        config["precision"] = native_precision()
    way = WAYS[arguments.what]["ours" if arguments.way in OURS else arguments.way]
    way(config, images, Clock(arguments.window))


def keras_model(config):
    """The recipe's net in Keras's own layers, with Keras's own optimizer, as a notebook compiles it."""
    from recognizer.nn import building, copies

    model = copies.plain(building.build(config["model"], 0, arguments=config["model_config"]))
    model.compile(optimizer=config["optimizer"], loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def callback(clock, size):
    """Returns a callback that calls the clock with the images since the last call. size: images of a batch."""
    import keras

    class Tick(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.last = -1

        def on_train_batch_end(self, batch, logs=None):
            float(logs["loss"])  # waits until JAX has computed it
            clock((batch - self.last) * size)
            self.last = batch

    return Tick()


def pixels(images):
    """Returns float32 (n, 28, 28, 1) in 0..1, as the notebooks hold them in memory."""
    return (images.x[..., None] / 255.0).astype("float32")


def notebook_flow(config, images):
    """ImageDataGenerator.flow in an endless generator: floats in memory, as the notebooks have them."""
    import keras
    import tensorflow as tf

    labels = keras.utils.to_categorical(images.y, 10)
    generator = tf.keras.preprocessing.image.ImageDataGenerator(**config["augmentation"])
    while True:
        yield from generator.flow(pixels(images), labels, batch_size=config["batch_size"])


def notebook(config, images, clock):
    model = keras_model(config)
    model.fit(
        notebook_flow(config, images),
        epochs=10**6,
        steps_per_epoch=len(images.x) // config["batch_size"],
        callbacks=[callback(clock, config["batch_size"])],
        verbose=0,
    )


def tensor_batches(config, images):
    """tf.data over tensors with Keras's Random* layers, as keras.io's examples have it."""
    import keras
    import tensorflow as tf

    a = config["augmentation"]
    random = keras.Sequential(
        [
            keras.layers.RandomRotation(a["rotation_range"] / 360, fill_mode="nearest"),
            keras.layers.RandomTranslation(a["height_shift_range"], a["width_shift_range"], fill_mode="nearest"),
            keras.layers.RandomZoom(a["zoom_range"], a["zoom_range"], fill_mode="nearest"),
        ]
    )
    data = tf.data.Dataset.from_tensor_slices((pixels(images), tf.one_hot(images.y, 10)))
    data = data.shuffle(len(images.x)).batch(config["batch_size"], drop_remainder=True)
    return data.map(lambda x, y: (random(x, training=True), y), num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def tensors(config, images, clock):
    keras_model(config).fit(
        tensor_batches(config, images), epochs=10**6, callbacks=[callback(clock, config["batch_size"])], verbose=0
    )


def ours(config, images, clock):
    import numpy as np

    from recognizer.data.arrays import Digits
    from recognizer.training import callbacks
    from recognizer.training.trainer import Trainer

    trainer = Trainer(config, Digits(images, None, ""))
    with contextlib.redirect_stdout(sys.stderr):  # bench.py reads stdout
        trainer.begin(1)
    trainer.model.epoch.rates.assign(np.full(trainer.batches.steps, 1e-3))
    used = [callbacks.Epochs(trainer.batches), callback(clock, config["batch_size"])]
    trainer.model.fit(trainer.batches.data, epochs=10**6, callbacks=used, shuffle=False, verbose=0)


def augment_notebook(config, images, clock):
    for batch, _ in notebook_flow(config, images):
        clock(len(batch))


def augment_tensors(config, images, clock):
    for batch, _ in tensor_batches(config, images).repeat():
        clock(len(batch))


def augment_ours(config, images, clock):
    import numpy as np

    from recognizer.training.batches import TrainingBatches

    batches = TrainingBatches(config, 1, images, np.arange(len(images.x)))
    for epoch in itertools.count():
        batches.set_epoch(epoch)
        for batch, _ in batches.data:
            clock(len(batch))


def predict_notebook(config, images, clock):
    model, x = keras_model(config), pixels(images)
    clock.before = 1
    while True:
        model.predict(x, batch_size=config["batch_size"], verbose=0)
        clock(len(x))


def predict_ours(config, images, clock):
    from recognizer.nn import building, copies
    from recognizer.training import inference

    plain = copies.plain(building.build(config["model"], 0, arguments=config["model_config"]))
    predictor = inference.Predictor(plain, config["precision"])
    clock.before = 1
    while True:
        predictor.predict(images.x)
        clock(len(images.x))


WAYS = {
    "train": {"notebook": notebook, "tensors": tensors, "ours": ours},
    "augment": {"notebook": augment_notebook, "tensors": augment_tensors, "ours": augment_ours},
    "predict": {"notebook": predict_notebook, "ours": predict_ours},
}

if __name__ == "__main__":
    main()
