"""Makes batches in threads, in parallel with training: shuffled, augmented and scaled.

The data set stays uint8; only batches are floats. tf.data makes the batches on TensorFlow, a keras.utils.PyDataset on
other backends. Both follow the same `epoch_plan`.
"""

from __future__ import annotations

import concurrent.futures
import math
from collections.abc import Callable

import keras
import numpy as np

from augment import Augmentation, draw, draw_elastic, mix
from recognizer.base.backend import TENSORFLOW, Tensor
from recognizer.data import streams
from recognizer.data.arrays import Images
from recognizer.nn.flip_classes import joint_labels, with_flips

if TENSORFLOW:
    import tensorflow as tf


def steps_per_epoch(settings: dict, n: int) -> int:
    """Returns the number of steps in an epoch over `n` training rows."""
    steps, most = settings["steps_per_epoch"], _most_rows(settings, n)
    if steps is None:
        steps = math.ceil(most / settings["batch_size"])
    elif steps == "full":
        steps = most // settings["batch_size"]
    return max(steps, settings["min_steps_per_epoch"])


def images_per_epoch(settings: dict, n: int) -> int:
    """Returns the number of images in an epoch over `n` training rows.

    It depends on the settings batch_size, steps_per_epoch, min_steps_per_epoch and max_rows_per_epoch.
    """
    steps, most = steps_per_epoch(settings, n), _most_rows(settings, n)
    if settings["steps_per_epoch"] is None and steps == math.ceil(most / settings["batch_size"]):
        return most
    return steps * settings["batch_size"]


def _most_rows(settings, n):
    return min(n, settings["max_rows_per_epoch"] or n)


def epoch_plan(
    settings: dict, net: int, epoch: int, rows: np.ndarray, augmentation: Augmentation
) -> tuple[np.ndarray, dict]:
    """Draws the row order and the transform parameters of an epoch. Both values of augment_engine use them.

    The rows are an endless sequence of permutations, and an epoch takes the next part of it. So no row is seen a second
    time before every row was seen once, and so on, whatever the number of steps in an epoch.
    Returns (int64 (m,), the rows; the parameters from augment.draw for m images).
    """
    n, m, seed = len(rows), images_per_epoch(settings, len(rows)), settings["seed"]
    first, last = epoch * m, (epoch + 1) * m - 1
    passes = range(first // n, last // n + 1)
    order = np.concatenate([streams.rng("order", seed, net, i).permutation(n) for i in passes])
    order = order[first - passes.start * n :][:m]
    return rows[order], draw(augmentation, streams.rng("transform", seed, net, epoch), m)


def class_weights(setting: str | list[float] | None, labels: np.ndarray) -> np.ndarray | None:
    """Returns the weights of the ten digits, float32 (10,), for the setting class_weight; None if it is null.

    labels: uint8 (n,), the labels of a net's training rows.
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
    """The training batches of a net. For each epoch, call `set_epoch` and then iterate over `data`.

    A batch is (images float32 (b, 28, 28, 1) in 0..1, one-hot labels float32 (b, 10)). With k joint flips, b is 1 + k
    times the batch size, and there are 10 * (1 + k) classes. The setting class_weight adds sample weights, float32
    (b,); after mixup an image's weight is the mean of the weights of its two labels, by their shares.

    Arguments:
        settings: a net's settings, from members.member.
        net: int, the net's number.
        images: arrays.Images with labels.
        rows: int64 (n,), the rows of `images` to train on.

    Attributes:
        data: the batches of the epoch, for keras.Model.fit.
        steps: int, the number of batches in an epoch.
    """

    def __init__(self, settings: dict, net: int, images: Images, rows: np.ndarray) -> None:
        assert images.y is not None  # images to train on have labels
        self.settings, self.net, self.images, self.rows = settings, net, images, rows
        self.augmentation = Augmentation(**settings["augmentation"])
        self.engine = self.augmentation.engine(settings["augment_engine"])
        self.flips = settings["joint_flips"]
        self.class_weights = class_weights(settings["class_weight"], images.y[rows])
        self.steps = steps_per_epoch(settings, len(rows))
        self._draw(0)  # Keras takes a batch before the first epoch begins
        self.source = (TensorFlowSource if TENSORFLOW else ThreadSource)(self)
        self.data = self.source.data

    def set_epoch(self, epoch: int) -> None:
        """Shuffles the rows and draws the transforms of an epoch (from 0)."""
        self._draw(epoch)
        self.source.refresh()

    def _draw(self, epoch):
        self.epoch = epoch
        self.order, parameters = epoch_plan(self.settings, self.net, epoch, self.rows, self.augmentation)
        self.numbers = self.engine.pack(parameters).astype(np.float32)

    def span(self, step: int | Tensor) -> slice:
        """Returns the slice of the epoch's row order for a step."""
        return slice(step * self.settings["batch_size"], (step + 1) * self.settings["batch_size"])

    def fields(self, epoch: int, step: int, n: int) -> np.ndarray | None:
        """Returns the elastic displacement fields of a batch of `n` images, see augment.draw_elastic."""
        rng = streams.rng("elastic", self.settings["seed"], self.net, int(epoch), int(step))
        return draw_elastic(self.augmentation, rng, int(n))

    def together(self, images: Tensor, labels: Tensor, numbers: Tensor) -> tuple:
        """Returns a batch after mixup, with the joint flips and, with class_weight, the sample weights."""
        if self.augmentation.mixup_alpha:
            images, labels = (mix(part, numbers[:, -1]) for part in (images, labels))
        if self.flips:
            images, labels = with_flips(images, self.flips), joint_labels(labels, self.flips)
        if self.class_weights is None:
            return images, labels
        return images, labels, keras.ops.matmul(labels, np.tile(self.class_weights, 1 + len(self.flips)))


class TensorFlowSource:
    """Makes the batches of TrainingBatches by tf.data. Variables hold the epoch, so that the pipeline is built once."""

    def __init__(self, batches: TrainingBatches) -> None:
        self.batches = batches
        self.pixels, self.labels = _variables(batches.images.x[..., None], batches.images.y)
        self.plan = _variables(np.int64(batches.epoch), batches.order, batches.numbers)
        steps = tf.data.Dataset.range(batches.steps)
        self.data = _fixed(steps.map(self._batch, num_parallel_calls=2).prefetch(8))

    def refresh(self) -> None:
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
    """Makes the batches of TrainingBatches as arrays, in threads."""

    def __init__(self, batches: TrainingBatches) -> None:
        self.batches = batches
        self.data = Batches(batches.steps, self._batch)

    def refresh(self) -> None:
        self.data.made.clear()

    def _batch(self, step):
        batches = self.batches
        rows, drawn = batches.order[batches.span(step)], batches.numbers[batches.span(step)]
        images = batches.images.x[rows, ..., None] / np.float32(255)
        if batches.augmentation.transforms:
            images = batches.engine.transform(images, drawn, batches.fields(batches.epoch, step, len(rows)))
        return batches.together(images, np.eye(10, dtype=np.float32)[batches.images.y[rows]], drawn)


def augmented_images(
    augmentation: Augmentation,
    x: np.ndarray,
    seed: int,
    net: int = 0,
    purpose: str = "test transform",
    mixed: bool = False,
) -> np.ndarray:
    """Returns `x`, uint8 (n, 28, 28), augmented: float32 (n, 28, 28) in 0..255. mixed: bool, whether to use mixup."""
    parameters = draw(augmentation, streams.rng(purpose, seed, net), len(x))
    fields = draw_elastic(augmentation, streams.rng("elastic", seed, net), len(x))
    engine = augmentation.engine("keras" if augmentation.keras_only else "batch")
    with keras.device("cpu"):  # like the training batches
        images = engine.transform(x[..., None] / np.float32(255), engine.pack(parameters), fields)
        images = keras.ops.convert_to_numpy(images)
    if mixed and augmentation.mixup_alpha:
        images = keras.ops.convert_to_numpy(mix(images, parameters["mixup"].astype(np.float32)))
    return images[..., 0] * 255


def evaluation_batches(
    x: np.ndarray, y: np.ndarray | None = None, batch_size: int = 512, classes: int = 10
) -> tf.data.Dataset | Batches:
    """Returns batches of unaugmented images in order: float32 (b, 28, 28, 1) in 0..1.

    x: uint8 (n, 28, 28), or float in 0..255. y: uint8 (n,), adds one-hot labels, float32 (b, classes); or None.
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
    """Returns arrays as variables: tf.data copies constants in each pass, which takes a second for MNIST."""
    with tf.device("CPU"):  # tf.data runs on the CPU, even with a GPU
        return [tf.Variable(array, trainable=False) for array in arrays]


def _fixed(batches):
    """Returns batches without tf.data's autotuning, which takes up to two seconds at the end of each pass."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


class Batches(keras.utils.PyDataset):
    """A PyDataset of `steps` batches, from batch(step), which two threads make ahead of training.

    With Keras's own threads, the next epoch would get batches that were made ahead in the current one.
    """

    AHEAD = 8

    def __init__(self, steps: int, batch: Callable[[int], tuple]) -> None:
        super().__init__()
        self.steps, self.batch = steps, batch
        self.threads = concurrent.futures.ThreadPoolExecutor(2)
        self.made: dict[int, concurrent.futures.Future] = {}

    def __len__(self):
        return self.steps

    def __getitem__(self, step):
        for later in range(step, min(step + self.AHEAD, self.steps)):
            if later not in self.made:
                self.made[later] = self.threads.submit(self.batch, later)
        return self.made.pop(step).result()
