"""Trains one net: from a run's config and a net's number to weights, log and result. The unit of all work here.

`fit_net(config, net, folder)` needs nothing else, so nets can be resumed, repeated, run side by side or on other
machines. Its batches, like its weights and dropout, are functions of (seed, net, epoch).
"""

import math
import shutil
import sys
import time

import keras
import numpy as np
import tensorflow as tf

import dataset
import models
import runs
import schedules
from augment import Augmentation, projective_matrices, warp
from console import UserError, duration, whole_file

PREDICT_BATCH = 512


def fit_net(config, net, folder):
    """Trains net number `net` (from 1) of a run, or goes on from its checkpoint; returns its result, a dict.

    Leaves net-NN.csv, net-NN.json, net-NN.keras and net-NN.predictions.npz in `folder`; nothing is trained where
    net-NN.json is there. config: a run's config.json. Raises UserError if the data is not what the config names.
    """
    result_file = runs.net_file(folder, net, ".json")
    if result_file.is_file():
        return runs.read_json(result_file)
    digits = dataset.load(config["data"]["source"])
    if digits.train.fingerprint() != config["data"]["fingerprint"]:
        raise UserError(f"{digits.train.origin} has changed since run {folder.name} was started")
    x, y = digits.train.x, digits.train.y
    rows, validation_rows = split_rows(config, net, len(y))
    watched = validation_rows[: config["validation_rows"]]
    seed = config["seed"]
    augmentation = Augmentation(**config["augmentation"])

    keras.backend.clear_session()
    model = compiled_model(config, net)
    checkpoint = Checkpoint(config, net, folder, steps_per_epoch(config, len(rows)))
    checkpoint.restore(model)
    schedule = Schedule(config, checkpoint)
    batches = training_batches(config, net, x, y, rows, augmentation, checkpoint.epoch)
    model.fit(
        batches,
        initial_epoch=checkpoint.epoch,
        epochs=config["epochs"],
        steps_per_epoch=checkpoint.steps,
        validation_data=evaluation_batches(x[watched], y[watched]) if len(watched) else None,
        callbacks=[Randomness(seed, net), schedule, checkpoint, Progress(config, net, checkpoint)],
        shuffle=False,  # the batches come in their order
        verbose=0,
    )
    if config["weights"] == "best":
        checkpoint.use_best(model)

    seconds = sum(row["seconds"] for row in checkpoint.log)
    result = {
        "net": net,
        "parameters": model.count_params(),
        "epochs": config["epochs"],
        "steps": int(model.optimizer.iterations.numpy()),
        "training_rows": len(rows),
        "validation_rows": len(validation_rows),
        "weights": config["weights"],
        "weights_epoch": checkpoint.best["epoch"] if config["weights"] == "best" else config["epochs"],
        "seconds": seconds,
        "images_per_second": images_per_epoch(config, len(rows)) * config["epochs"] / seconds,
    }
    arrays = {"validation_rows": validation_rows}
    if len(validation_rows):
        arrays["validation"] = predict(model, x[validation_rows])
        result |= _scored("validation", runs.score(arrays["validation"], y[validation_rows]))
    if digits.test is not None:
        arrays["test"] = predict(model, digits.test.x)
        if digits.test.y is not None:
            result |= _scored("test", runs.score(arrays["test"], digits.test.y))
            if config["score_augmented"]:
                augmented = augmented_images(augmentation, digits.test.x, seed, net)
                scores = runs.score(predict(model, augmented), digits.test.y)
                result["test_accuracy_augmented"] = scores["accuracy"]
    runs.write_arrays(runs.net_file(folder, net, ".predictions.npz"), arrays)
    with whole_file(runs.net_file(folder, net, ".keras")) as temporary:
        model.save(temporary)
    runs.write_json(result_file, result)
    checkpoint.path.unlink(missing_ok=True)
    return result


def _scored(part, scores):
    return {f"{part}_{key}": value for key, value in scores.items()}


def split_rows(config, net, n):
    """Returns net `net`'s (training rows, validation rows) of `n` labelled rows, int64 arrays."""
    state = config["split_seed"]
    if state is None or config["bagging"]:
        bag = net if config["bagging"] else 0
        state = int(dataset.rng("split", config["seed"], bag).integers(2**32))
    return dataset.split(n, config["validation_split"], state)


def compiled_model(config, net):
    """The net before its first step, compiled."""
    seed = int(dataset.rng("weights", config["seed"], net).integers(2**32))
    model = models.build(config["model"], seed, **config["model_config"])
    try:
        optimizer = keras.optimizers.get(
            {"class_name": config["optimizer"], "config": dict(config["optimizer_config"])}
        )
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"optimizer {config['optimizer']!r} cannot be made: {reason}") from error
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=config["label_smoothing"])
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    optimizer.build(model.trainable_variables)
    return model


# Batches


def steps_per_epoch(config, n):
    """Steps of an epoch over `n` training rows."""
    steps = config["steps_per_epoch"]
    if steps is None:
        steps = math.ceil(n / config["batch_size"])
    elif steps == "full":
        steps = n // config["batch_size"]
    return max(steps, config["min_steps_per_epoch"])


def images_per_epoch(config, n):
    """Images of an epoch over `n` training rows: all of them once, where that is what its steps come to."""
    steps = steps_per_epoch(config, n)
    if steps == math.ceil(n / config["batch_size"]):
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
    order = np.concatenate([dataset.rng("order", seed, net, i).permutation(n) for i in passes])
    order = order[first - passes.start * n :][:m]
    return rows[order], augmentation.draw(dataset.rng("transform", seed, net, epoch), m)


def training_batches(config, net, x, y, rows, augmentation, first_epoch=0):
    """tf.data.Dataset of (float32 (b, 28, 28, 1) in 0..1, one-hot float32 (b, 10)), epoch after epoch."""
    by_class = config["augment_engine"] == "keras"
    if by_class:
        augmentation.fit(x[rows])
    else:
        augmentation.check_batch()
    keys = list(augmentation.draw(np.random.default_rng(0), 1))
    fill_mode, cval = augmentation.generator.fill_mode, augmentation.generator.cval
    steps = steps_per_epoch(config, len(rows))

    def plan(epoch):
        order, parameters = epoch_plan(config, net, int(epoch), rows, augmentation)
        if by_class:
            return order, np.stack(list(parameters.values()), axis=1).astype(np.float32)
        return order, projective_matrices(parameters, x.shape[1:3])

    def elastic(step, n):
        epoch, step = divmod(int(step), steps)
        return augmentation.draw_elastic(dataset.rng("elastic", config["seed"], net, epoch, step), int(n))

    def transform_each(images, numbers, fields=None):
        return augmentation.each(images, dict(zip(keys, numbers.T, strict=True)), fields)

    def epoch_batches(epoch):
        order, numbers = tf.numpy_function(plan, [epoch], [tf.int64, tf.float32], stateful=False)
        order.set_shape([None])
        numbers.set_shape([None, 10 if by_class else 8])
        return tf.data.Dataset.from_tensor_slices((order, numbers)).batch(config["batch_size"])

    pixels, labels = tf.constant(x[..., None]), tf.constant(y)

    def prepare(step, batch):
        order, numbers = batch
        images = tf.cast(tf.gather(pixels, order), tf.float32) / 255
        fields = []
        if augmentation.elastic_alpha:
            fields = [tf.numpy_function(elastic, [step, tf.size(order)], tf.float32, stateful=False)]
            fields[0].set_shape([None, *x.shape[1:3], 2])
        if by_class:
            images = tf.numpy_function(transform_each, [images, numbers, *fields], tf.float32, stateful=False)
            images.set_shape([None, *x.shape[1:3], 1])
        elif augmentation.transforms:
            images = warp(images, numbers, *fields, fill_mode=fill_mode, cval=cval)
        return images, tf.one_hot(tf.gather(labels, order), 10)

    epochs = tf.data.Dataset.range(first_epoch, config["epochs"])
    return (
        epochs.flat_map(epoch_batches)
        .enumerate(first_epoch * steps)
        .map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def evaluation_batches(x, y=None, batch_size=PREDICT_BATCH):
    """tf.data.Dataset of images as they are, uint8 (n, 28, 28) or float in 0..255, in order."""

    def prepare(images, *labels):
        images = tf.cast(images, tf.float32)[..., None] / 255
        return (images, *(tf.one_hot(label, 10) for label in labels))

    arrays = (x,) if y is None else (x, y)
    return tf.data.Dataset.from_tensor_slices(arrays).batch(batch_size).map(prepare).prefetch(2)


def augmented_images(augmentation, x, seed, net=0, purpose="test transform"):
    """Images uint8 (n, 28, 28), transformed: float32 in 0..255."""
    parameters = augmentation.draw(dataset.rng(purpose, seed, net), len(x))
    fields = augmentation.draw_elastic(dataset.rng("elastic", seed, net), len(x))
    transform = augmentation.each if augmentation.keras_only else augmentation.batch
    return transform(x[..., None] / np.float32(255), parameters, fields)[..., 0] * 255


def predict(model, x):
    """A net's probabilities, float32 (n, 10), for images uint8 (n, 28, 28) or float in 0..255."""
    return model.predict(evaluation_batches(x), verbose=0)


# Callbacks


class Randomness(keras.callbacks.Callback):
    """Seeds dropout anew each epoch, from (seed, net, epoch)."""

    def __init__(self, seed, net):
        super().__init__()
        self.seed, self.net = seed, net

    def on_epoch_begin(self, epoch, logs=None):
        weights = {id(weight) for weight in self.model.weights}
        generators = [variable for variable in self.model.variables if id(variable) not in weights]
        rng = dataset.rng("dropout", self.seed, self.net, epoch)
        for state in generators:  # keras.random.SeedGenerator's [seed, draws so far]
            state.assign(np.array([rng.integers(2**32), 0], np.uint32))


class Schedule(keras.callbacks.Callback):
    """Sets the learning rate that a function of schedules.py gives."""

    def __init__(self, config, checkpoint):
        super().__init__()
        self.settings = dict(config["schedule"])
        self.function = schedules.SCHEDULES[self.settings.pop("name")]
        self.stepwise = self.function in schedules.STEPWISE
        self.epochs, self.checkpoint = config["epochs"], checkpoint

    def _set(self, epoch, logs):
        state = self.checkpoint.schedule_state
        rate, state = self.function(epoch, state, logs, self.epochs, **self.settings)
        self.checkpoint.schedule_state = state
        self.model.optimizer.learning_rate = rate

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self._set(epoch, self.checkpoint.log[-1] if self.checkpoint.log else {})

    def on_train_batch_begin(self, batch, logs=None):
        if self.stepwise:
            self._set(self.epoch + batch / self.checkpoint.steps, {})


class Checkpoint(keras.callbacks.Callback):
    """After each epoch: the log, and all that is needed to go on from there."""

    def __init__(self, config, net, folder, steps):
        super().__init__()
        self.path = runs.net_file(folder, net, ".checkpoint.npz")
        self.log_path = runs.net_file(folder, net, ".csv")
        self.keep_best = config["weights"] == "best"
        self.steps = steps
        self.epoch, self.log, self.schedule_state = 0, [], None
        self.best, self.best_weights = None, []

    def restore(self, model):
        """Sets the model, and this object, to the last finished epoch's."""
        found = runs.read_arrays(self.path)
        if found is None:
            return
        arrays, state = found
        self.epoch, self.log = state["epoch"], state["log"]
        self.schedule_state, self.best = state["schedule"], state["best"]
        for i, variable in enumerate([*model.weights, *model.optimizer.variables]):
            variable.assign(arrays[f"variable_{i:04d}"])
        if self.best:
            self.best_weights = [arrays[f"best_{i:04d}"] for i in range(len(model.weights))]

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs = {key: float(value) for key, value in logs.items()}
        seconds = time.perf_counter() - self.started
        rate = float(f"{float(self.model.optimizer.learning_rate.numpy()):.6g}")
        self.log.append({"epoch": epoch + 1, "learning_rate": rate, **logs, "seconds": round(seconds, 3)})
        self.epoch = epoch + 1
        if self.keep_best and (self.best is None or logs["val_accuracy"] > self.best["val_accuracy"]):
            self.best = {"epoch": epoch + 1, "val_accuracy": logs["val_accuracy"]}
            self.best_weights = [weight.numpy() for weight in self.model.weights]
        variables = [*self.model.weights, *self.model.optimizer.variables]
        arrays = {f"variable_{i:04d}": variable.numpy() for i, variable in enumerate(variables)}
        arrays |= {f"best_{i:04d}": weight for i, weight in enumerate(self.best_weights)}
        state = {"epoch": self.epoch, "log": self.log, "schedule": self.schedule_state, "best": self.best}
        runs.write_arrays(self.path, arrays, state)
        runs.write_rows(self.log_path, self.log)

    def use_best(self, model):
        """Gives the model the weights of its best epoch on the validation rows."""
        for weight, value in zip(model.weights, self.best_weights, strict=True):
            weight.assign(value)


class Progress(keras.callbacks.Callback):
    """One line that tells where training is and the time left; on a terminal only."""

    WIDTH = 16

    def __init__(self, config, net, checkpoint):
        super().__init__()
        self.net, self.nets, self.epochs = net, config["nets"], config["epochs"]
        self.steps, self.first = checkpoint.steps, checkpoint.epoch * checkpoint.steps
        self.checkpoint = checkpoint
        self.shown = 0.0

    def on_train_begin(self, logs=None):
        self.started = None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if self.started is None:  # the first step compiles
            self.started = now
        elif sys.stdout.isatty() and now - self.shown > 0.2:
            self.shown = now
            done = self.epoch * self.steps + batch + 1
            total = self.epochs * self.steps
            rest = (now - self.started) / (done - self.first - 1) * (total - done + (self.nets - self.net) * total)
            share = done / total
            bar = "#" * int(share * self.WIDTH)
            log = self.checkpoint.log
            validation = f"  validation {log[-1]['val_accuracy']:.2%}" if log and "val_accuracy" in log[-1] else ""
            line = (
                f"net {self.net}/{self.nets}  epoch {self.epoch + 1}/{self.epochs}  [{bar:<{self.WIDTH}}] "
                f"{duration(rest)} left  loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.2%}{validation}"
            )
            self._print(line)

    def on_train_end(self, logs=None):
        if sys.stdout.isatty():
            self._print("")

    def _print(self, line):
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{line[:width]:<{width}}\r", end="", flush=True)
