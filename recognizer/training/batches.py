"""Training batches on their way: shuffled, gathered, augmented and scaled on threads beside the training.

Pixels stay uint8; a float exists of the batches in flight only. Under TensorFlow the work is tf.data's, elsewhere that
of a keras.utils.PyDataset; both follow the same `epoch_plan`.
"""

import concurrent.futures
import math

import keras
import numpy as np

from augment import mix
from recognizer.base.backend import TENSORFLOW
from recognizer.data import streams
from recognizer.nn.flip_classes import joint_labels, with_flips

if TENSORFLOW:
    import tensorflow as tf


def steps_per_epoch(config, n):
    """Steps of an epoch over `n` training rows."""
    steps = config["steps_per_epoch"]
    if steps is None:
        steps = math.ceil(n / config["batch_size"])
    elif steps == "full":
        steps = n // config["batch_size"]
    return max(steps, config["min_steps_per_epoch"])


def images_per_epoch(config, n):
    """Images of an epoch over `n` training rows: all of them once where no steps are asked for, else full batches."""
    steps = steps_per_epoch(config, n)
    if config["steps_per_epoch"] is None and steps == math.ceil(n / config["batch_size"]):
        return n
    return steps * config["batch_size"]


def epoch_plan(config, net, epoch, rows, augmentation):
    """An epoch's row order and transform parameters, which every engine follows.

    Rows come from endlessly repeated passes, each a permutation of its own, of which an epoch takes the next part:
    no row comes a third time before each has come twice, however many steps an epoch has.
    Returns (rows int64 (m,), parameters as Augmentation.draw gives them for m images).
    """
    n, m, seed = len(rows), images_per_epoch(config, len(rows)), config["seed"]
    first, last = epoch * m, (epoch + 1) * m - 1
    passes = range(first // n, last // n + 1)
    order = np.concatenate([streams.rng("order", seed, net, i).permutation(n) for i in passes])
    order = order[first - passes.start * n :][:m]
    return rows[order], augmentation.draw(streams.rng("transform", seed, net, epoch), m)


def training_batches(config, net, x, y, rows, augmentation, epoch=0):
    """Returns (batches, begin): the batches of an epoch, for `fit`, and what is to be called before each pass.

    x, y: uint8 (n, 28, 28) and (n,), of which `rows` are trained on. `begin(epoch)` draws the plan of an epoch (from
    0); `epoch` is the first. A batch is (float32 (b, 28, 28, 1) in 0..1, one-hot float32 (b, 10)), or with its flips.
    """
    by_class = config["augment_engine"] == "keras"
    if by_class:
        augmentation.fit(x[rows])
    else:
        augmentation.check_engine("batch")
    keys = list(augmentation.draw(np.random.default_rng(0), 1))
    steps, size, flips = steps_per_epoch(config, len(rows)), config["batch_size"], config["joint_flips"]

    def plan(epoch):
        order, parameters = epoch_plan(config, net, epoch, rows, augmentation)
        if by_class:
            return order, np.stack(list(parameters.values()), axis=1).astype(np.float32)
        return order, augmentation.numbers(parameters, x.shape[1:3])

    def elastic(epoch, step, n):
        return augmentation.draw_elastic(streams.rng("elastic", config["seed"], net, int(epoch), int(step)), int(n))

    def transform_each(images, numbers, fields=None):
        return augmentation.each(images, dict(zip(keys, numbers.T, strict=True)), fields)

    def together(images, labels, numbers):
        if augmentation.mixup_alpha:
            images, labels = (mix(part, numbers[:, -1]) for part in (images, labels))
        if flips:
            images, labels = with_flips(images, flips), joint_labels(labels, flips)
        return images, labels

    if not TENSORFLOW:
        now = {}

        def batch(step):
            order, numbers = (part[step * size : (step + 1) * size] for part in now["plan"])
            images = x[order, ..., None] / np.float32(255)
            fields = elastic(now["epoch"], step, len(order)) if augmentation.elastic_alpha else None
            if by_class:
                images = transform_each(images, numbers, fields)
            elif augmentation.transforms:
                images = augmentation.warp(images, numbers, fields)
            labels = np.eye(10, dtype=np.float32)[y[order]]
            return together(images, labels, numbers)

        batches = Batches(steps, batch)

        def begin(epoch):
            now["epoch"], now["plan"] = epoch, plan(epoch)
            batches.made.clear()

        begin(epoch)  # Keras looks at a batch before the first epoch begins
        return batches, begin

    pixels, labels, epoch, order, numbers = _variables(x[..., None], y, np.int64(epoch), *plan(epoch))

    def begin(now):
        for variable, value in zip((epoch, order, numbers), (now, *plan(now)), strict=True):
            variable.assign(value)

    def prepare(step):
        chosen = slice(step * size, (step + 1) * size)
        rows, drawn = order[chosen], numbers[chosen]
        images = tf.cast(tf.gather(pixels, rows), tf.float32) / 255
        fields = []
        if augmentation.elastic_alpha:
            fields = [tf.numpy_function(elastic, [epoch, step, tf.size(rows)], tf.float32, stateful=False)]
            fields[0].set_shape([None, *x.shape[1:3], 2])
        if by_class:
            images = tf.numpy_function(transform_each, [images, drawn, *fields], tf.float32, stateful=False)
            images.set_shape([None, *x.shape[1:3], 1])
        elif augmentation.transforms:
            images = augmentation.warp(images, drawn, *fields)
        hot = tf.one_hot(tf.gather(labels, rows), 10)
        return together(images, hot, drawn)

    return _fixed(tf.data.Dataset.range(steps).map(prepare, num_parallel_calls=2).prefetch(8)), begin


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
