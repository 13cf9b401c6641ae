"""Batches on their way: shuffled, gathered, augmented and scaled on threads beside the training.

Pixels stay uint8; only the batches in flight are floats. Under TensorFlow tf.data makes the batches, elsewhere a
keras.utils.PyDataset does; both follow the same `epoch_plan`.
"""

import concurrent.futures
import math

import keras
import numpy as np

from augment import Augmentation, draw, draw_elastic, mix
from recognizer.base.backend import TENSORFLOW
from recognizer.data import streams
from recognizer.nn.flip_classes import joint_labels, with_flips

if TENSORFLOW:
    import tensorflow as tf


def steps_per_epoch(settings, n):
    """Returns the steps of an epoch over `n` training rows."""
    steps = settings["steps_per_epoch"]
    if steps is None:
        steps = math.ceil(n / settings["batch_size"])
    elif steps == "full":
        steps = n // settings["batch_size"]
    return max(steps, settings["min_steps_per_epoch"])


def images_per_epoch(settings, n):
    """Returns the images of an epoch over `n` training rows: each row once, or full batches where steps are set."""
    steps = steps_per_epoch(settings, n)
    if settings["steps_per_epoch"] is None and steps == math.ceil(n / settings["batch_size"]):
        return n
    return steps * settings["batch_size"]


def epoch_plan(settings, net, epoch, rows, augmentation):
    """Draws an epoch's row order and transform parameters, which both engines follow.

    Rows come from endlessly repeated passes, each a permutation of its own, of which an epoch takes the next part. So
    every row is seen twice before any row is seen a third time, however many steps an epoch has.
    Returns (rows int64 (m,), parameters as augment.draw gives them for m images).
    """
    n, m, seed = len(rows), images_per_epoch(settings, len(rows)), settings["seed"]
    first, last = epoch * m, (epoch + 1) * m - 1
    passes = range(first // n, last // n + 1)
    order = np.concatenate([streams.rng("order", seed, net, i).permutation(n) for i in passes])
    order = order[first - passes.start * n :][:m]
    return rows[order], draw(augmentation, streams.rng("transform", seed, net, epoch), m)


def class_weights(setting, labels):
    """Returns the weights of the ten digits, float32 (10,), by the setting class_weight; None if it is null.

    labels: those of a net's training rows.
    """
    if setting is None:
        return None
    weights = np.zeros(10)
    if setting == "balanced":
        from sklearn.utils.class_weight import compute_class_weight

        found = np.unique(labels)
        weights[found] = compute_class_weight("balanced", classes=found, y=labels)
    else:
        weights[:] = setting
    return weights.astype(np.float32)


class TrainingBatches:
    """The training batches of a net, one epoch at a time: `set_epoch`, then pass over `data`.

    A batch is (float32 (b, 28, 28, 1) in 0..1, one-hot float32 (b, 10)); with k joint flips b is 1 + k times the batch
    size, and there are 10 * (1 + k) classes. With the setting class_weight a third part, float32 (b,), is how much each
    image counts in the loss: after mixup the mean of its two labels' weights, by their shares.

    Arguments:
        settings: a net's settings (members.member).
        net: int, the net's number.
        images: arrays.Images, labelled.
        rows: int64 (n,), the rows of `images` to train on.

    Attributes:
        data: what keras.Model.fit takes: the batches of the epoch.
        steps: int, the batches of an epoch.
    """

    def __init__(self, settings, net, images, rows):
        self.settings, self.net, self.images, self.rows = settings, net, images, rows
        self.augmentation = Augmentation(**settings["augmentation"])
        self.engine = self.augmentation.engine(settings["augment_engine"])
        self.flips = settings["joint_flips"]
        self.class_weights = class_weights(settings["class_weight"], images.y[rows])
        self.steps = steps_per_epoch(settings, len(rows))
        self._draw(0)  # Keras looks at a batch before the first epoch begins
        self.source = (TensorFlowSource if TENSORFLOW else ThreadSource)(self)
        self.data = self.source.data

    def set_epoch(self, epoch):
        """Shuffles the rows and draws the transforms of an epoch, counted from 0."""
        self._draw(epoch)
        self.source.refresh()

    def _draw(self, epoch):
        self.epoch = epoch
        self.order, parameters = epoch_plan(self.settings, self.net, epoch, self.rows, self.augmentation)
        self.numbers = self.engine.pack(parameters).astype(np.float32)

    def span(self, step):
        """Returns the slice of the epoch's order that a step takes."""
        return slice(step * self.settings["batch_size"], (step + 1) * self.settings["batch_size"])

    def fields(self, epoch, step, n):
        """Draws a batch's elastic displacement fields, as augment.draw_elastic."""
        rng = streams.rng("elastic", self.settings["seed"], self.net, int(epoch), int(step))
        return draw_elastic(self.augmentation, rng, int(n))

    def together(self, images, labels, numbers):
        """Mixes a batch's images and labels up, and adds the joint flips, then the images' weights if there are any."""
        if self.augmentation.mixup_alpha:
            images, labels = (mix(part, numbers[:, -1]) for part in (images, labels))
        if self.flips:
            images, labels = with_flips(images, self.flips), joint_labels(labels, self.flips)
        if self.class_weights is None:
            return images, labels
        return images, labels, keras.ops.matmul(labels, np.tile(self.class_weights, 1 + len(self.flips)))


class TensorFlowSource:
    """Makes TrainingBatches by tf.data. Its variables hold the epoch, so that the pipeline is made once."""

    def __init__(self, batches):
        self.batches = batches
        self.pixels, self.labels = _variables(batches.images.x[..., None], batches.images.y)
        self.plan = _variables(np.int64(batches.epoch), batches.order, batches.numbers)
        steps = tf.data.Dataset.range(batches.steps)
        self.data = _fixed(steps.map(self._batch, num_parallel_calls=2).prefetch(8))

    def refresh(self):
        batches = self.batches
        for variable, value in zip(self.plan, (batches.epoch, batches.order, batches.numbers), strict=True):
            variable.assign(value)

    def _batch(self, step):
        batches, (epoch, order, numbers) = self.batches, self.plan
        rows, drawn = order[batches.span(step)], numbers[batches.span(step)]
        images = tf.cast(tf.gather(self.pixels, rows), tf.float32) / 255
        shape = images.shape
        fields = []
        if batches.augmentation.elastic_alpha:
            fields = [tf.numpy_function(batches.fields, [epoch, step, tf.size(rows)], tf.float32, stateful=False)]
            fields[0].set_shape([*shape[:3], 2])
        transform = batches.engine.transform
        if batches.settings["augment_engine"] == "keras":
            images = tf.numpy_function(transform, [images, drawn, *fields], tf.float32, stateful=False)
            images.set_shape(shape)
        elif batches.augmentation.transforms:
            images = transform(images, drawn, *fields)
        return batches.together(images, tf.one_hot(tf.gather(self.labels, rows), 10), drawn)


class ThreadSource:
    """Makes TrainingBatches as arrays, on threads."""

    def __init__(self, batches):
        self.batches = batches
        self.data = Batches(batches.steps, self._batch)

    def refresh(self):
        self.data.made.clear()

    def _batch(self, step):
        batches = self.batches
        rows, drawn = batches.order[batches.span(step)], batches.numbers[batches.span(step)]
        images = batches.images.x[rows, ..., None] / np.float32(255)
        if batches.augmentation.transforms:
            images = batches.engine.transform(images, drawn, batches.fields(batches.epoch, step, len(rows)))
        return batches.together(images, np.eye(10, dtype=np.float32)[batches.images.y[rows]], drawn)


def augmented_images(augmentation, x, seed, net=0, purpose="test transform", mixed=False):
    """Returns images uint8 (n, 28, 28) transformed, and if `mixed` by mixup too: float32 (n, 28, 28) in 0..255."""
    parameters = draw(augmentation, streams.rng(purpose, seed, net), len(x))
    fields = draw_elastic(augmentation, streams.rng("elastic", seed, net), len(x))
    engine = augmentation.engine("keras" if augmentation.keras_only else "batch")
    with keras.device("cpu"):  # where training's batches are made, too
        images = engine.transform(x[..., None] / np.float32(255), engine.pack(parameters), fields)
        images = keras.ops.convert_to_numpy(images)
    if mixed and augmentation.mixup_alpha:
        images = keras.ops.convert_to_numpy(mix(images, parameters["mixup"].astype(np.float32)))
    return images[..., 0] * 255


def evaluation_batches(x, y=None, batch_size=512, classes=10):
    """Batches of images as they are, in order: float32 (b, 28, 28, 1) in 0..1; with `y`, one-hot float32 (b, classes).

    x: uint8 (n, 28, 28), or float in 0..255. y: uint8 (n,) or None.
    """
    if not TENSORFLOW:

        def batch(step):
            chosen = slice(step * batch_size, (step + 1) * batch_size)
            images = np.asarray(x[chosen, ..., None], np.float32) / 255
            return (images,) if y is None else (images, np.eye(classes, dtype=np.float32)[y[chosen]])

        return Batches(math.ceil(len(x) / batch_size), batch)

    arrays = _variables(x) if y is None else _variables(x, y)

    def prepare(step):
        images, *labels = (array[step * batch_size : (step + 1) * batch_size] for array in arrays)
        images = tf.cast(images, tf.float32)[..., None] / 255
        return (images, *(tf.one_hot(label, classes) for label in labels))

    return _fixed(tf.data.Dataset.range(math.ceil(len(x) / batch_size)).map(prepare, num_parallel_calls=2).prefetch(2))


def _variables(*arrays):
    """For tf.data, which begins each pass with a copy of every constant: a second for MNIST's pixels."""
    with tf.device("CPU"):  # where tf.data works, also beside a GPU
        return [tf.Variable(array, trainable=False) for array in arrays]


def _fixed(batches):
    """Without tf.data's search for the best numbers of threads, which costs up to two seconds at the end of a pass."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


class Batches(keras.utils.PyDataset):
    """`steps` batches, each `batch(step)`, made by two threads beside the training.

    Keras's own threads would hand what was made ahead in one epoch to the next one.
    """

    AHEAD = 8

    def __init__(self, steps, batch):
        super().__init__()
        self.steps, self.batch = steps, batch
        self.threads, self.made = concurrent.futures.ThreadPoolExecutor(2), {}

    def __len__(self):
        return self.steps

    def __getitem__(self, step):
        for later in range(step, min(step + self.AHEAD, self.steps)):
            if later not in self.made:
                self.made[later] = self.threads.submit(self.batch, later)
        return self.made.pop(step).result()
