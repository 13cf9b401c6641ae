"""Trains one net: from a run's config and a net's number to weights, log and result. The unit of all work here.

`fit_net(config, net, folder)` needs nothing else, so nets can be resumed, repeated, run side by side or on other
machines; in one process they share what was traced for the last of them, and nothing of its state. Its batches, like
its weights and dropout, are functions of (seed, net, epoch).
"""

import functools
import json
import math
import shutil
import sys
import time

import keras
import numpy as np

import console
import dataset
import estimate
import layers
import models
import optimizers
import recipes
import runs
import schedules
import versions
from augment import Augmentation, mix, with_flips
from batches import evaluation_batches, images_per_epoch, steps_per_epoch, training_batches
from console import UserError, duration, reason, whole_file


def fit_net(config, net, folder):
    """Trains net number `net` (from 1) of a run, or goes on from its checkpoint; returns its result, a dict.

    Leaves net-NN.csv, .steps.csv, .json, .keras and .predictions.npz in `folder`; nothing is trained where net-NN.json
    is there. config: a run's config.json. Raises UserError if the data is not what the config names, or the loss
    becomes no number.
    """
    result_file = runs.net_file(folder, net, ".json")
    if result_file.is_file():
        return runs.read_result(result_file, "net", "seconds", "images_per_second")
    config = recipes.member(config, net)
    digits = dataset.load(config["data"]["source"])
    runs.check_data(folder, config, digits)
    x, y = digits.train.x, digits.train.y
    rows, validation_rows = split_rows(config, net, len(y))
    watched = spread(validation_rows, config["validation_rows"])
    seed = config["seed"]
    augmentation = Augmentation(**config["augmentation"])
    flips = augmentation.joint_flips

    steps, epoch_images = steps_per_epoch(config, len(rows)), images_per_epoch(config, len(rows))
    model = traced_model(config, net, steps)
    checkpoint = Checkpoint(config, net, folder)
    checkpoint.restore(model)
    batches, begin = training_batches(config, net, x, y, rows, augmentation, checkpoint.epoch)
    classes = model.net.output_shape[-1]  # ten for each flip, too
    try:
        model.fit(
            batches,
            initial_epoch=checkpoint.epoch,
            epochs=config["epochs"],
            validation_data=evaluation_batches(x[watched], y[watched], classes=classes) if len(watched) else None,
            callbacks=[
                keras.callbacks.LambdaCallback(
                    on_epoch_begin=lambda epoch, logs: begin(epoch),
                    on_train_batch_end=lambda batch, logs: console.stop_if_asked(),
                ),
                FiniteLoss(),
                Randomness(seed, net),
                Schedule(config, checkpoint, steps),
                Steps(checkpoint, runs.net_file(folder, net, ".steps.csv"), steps, config["batch_size"], epoch_images),
                checkpoint,
                Progress(config, net, checkpoint, steps),
                *([TensorBoard(checkpoint, folder / "tensorboard" / f"net-{net:02d}")] * config["tensorboard"]),
            ],
            shuffle=False,  # the batches come in their order
            verbose=0,
        )
    except NotFinite as error:
        kept = "no epoch was finished before it"
        if checkpoint.epoch:
            checkpoint.restore(model)
            path = runs.net_file(folder, net, ".keras")
            save(models.aggregated(layers.plain(model.net), flips), path)
            kept = f"the weights after epoch {checkpoint.epoch} are in {path}"
        raise UserError(
            f"net {net} of run {folder.name!r}: {error} in epoch {checkpoint.epoch + 1}, so training was stopped; "
            f"{kept}. Try a lower --learning-rate"
        ) from None
    if config["weights"] == "best":
        checkpoint.use_best(model)
    started = time.perf_counter()
    if config["update_bn"]:
        size = config["batch_size"]
        seed_dropout(model, seed, net, config["epochs"])
        some = dataset.rng("update_bn", seed, net).permutation(rows)[: config["update_bn"] * size]
        parts = np.array_split(some, max(1, len(some) // size))
        images = (x[part, ..., None] / np.float32(255) for part in parts)
        layers.update_bn(model.net, (with_flips(part, flips) for part in images))
    TRACED[_settings(config, steps)] = model

    seconds = sum(row["seconds"] for row in checkpoint.log) + time.perf_counter() - started
    result = {
        "net": net,
        "parameters": model.count_params(),
        "epochs": config["epochs"],
        "steps": int(model.optimizer.iterations),
        "training_rows": len(rows),
        "validation_rows": len(validation_rows),
        "weights": config["weights"],
        "weights_epoch": checkpoint.best["epoch"] if config["weights"] == "best" else config["epochs"],
        "seconds": seconds,
        "images_per_second": epoch_images * config["epochs"] / seconds,
    }
    plain = models.aggregated(layers.plain(model.net), flips)
    predictor = layers.fast(plain, config["precision"])  # as predict.py will have it
    arrays = {"validation_rows": validation_rows}
    if len(validation_rows):
        arrays["validation"] = predict(predictor, x[validation_rows], config["test_shift"])
        result |= _scored("validation", runs.score(arrays["validation"], y[validation_rows]))
    if digits.test is not None:
        arrays["test"] = predict(predictor, digits.test.x, config["test_shift"])
        if digits.test.y is not None:
            result |= _scored("test", runs.score(arrays["test"], digits.test.y))
            if config["score_augmented"]:
                augmented = augmented_images(augmentation, digits.test.x, seed, net)
                scores = runs.score(predict(predictor, augmented, config["test_shift"]), digits.test.y)
                result["test_accuracy_augmented"] = scores["accuracy"]
    runs.write_arrays(runs.net_file(folder, net, ".predictions.npz"), arrays)
    save(plain, runs.net_file(folder, net, ".keras"))
    runs.write_json(result_file, result)
    runs.remove_checkpoints(folder, net)
    return result


def save(model, path):
    """Saves a model as a .keras file, whole or not at all."""
    with whole_file(path) as temporary:
        try:
            model.save(temporary)
            versions.make_portable(temporary)
        except (RuntimeError, ValueError) as error:  # what HDF5 says of a full disk
            raise OSError(reason(error)) from error


def _scored(part, scores):
    return {f"{part}_{key}": value for key, value in scores.items()}


def spread(rows, most):
    """At most `most` of `rows` (None: all), from all over them: a file may have its digits in the order of classes."""
    if most is None or len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def split_rows(config, net, n):
    """Returns net `net`'s (training rows, validation rows) of `n` labelled rows, int64 arrays."""
    state = config["split_seed"]
    if state is None or config["bagging"]:
        bag = net if config["bagging"] else 0
        state = int(dataset.rng("split", config["seed"], bag).integers(2**32))
    return dataset.split(n, config["validation_split"], state)


TRACED = {}  # the model of the net trained last, by its settings


def traced_model(config, net, steps):
    """compiled_model, as the model object of the run's last net where there is one, in net `net`'s initial state.

    TensorFlow traces a model's training step for some seconds and keeps the trace, 16 MB for Deotte's net, to the
    process's end: the nets of a run share one. A model whose training was broken off is not used again.
    """
    last = TRACED.pop(_settings(config, steps), None)
    TRACED.clear()
    keras.backend.clear_session()  # else TensorFlow keeps some 35 KB for every variable that was ever made
    model = compiled_model(config, net, steps)
    if last is None:
        return model
    for own, initial in ((last, model), (last.optimizer, model.optimizer)):
        for variable, value in zip(own.variables, initial.variables, strict=True):
            variable.assign(value)
    return last


def _settings(config, steps):
    return json.dumps([config, steps], sort_keys=True)


def compiled_model(config, net, steps):
    """The net before its first step, as layers.Replicas, compiled for epochs of `steps` steps."""
    seed = int(dataset.rng("weights", config["seed"], net).integers(2**32))
    flips = config["augmentation"].get("joint_flips", ())
    net = models.build(config["model"], seed, config["precision"], flips, **config["model_config"])
    model = layers.Replicas(net, config["replicas"])
    averaged = {"use_ema": True} if config["weights"] == "averaged" else {}
    optimizer = optimizers.make(config["optimizer"], steps, **averaged | config["optimizer_config"])
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=config["label_smoothing"])
    model.compile(
        optimizer=optimizer,
        loss=loss,
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution(net, config, steps),
    )
    optimizer.build(model.trainable_variables)
    # Metrics whose variables are made while `fit` traces a step keep that step's graph for ever.
    nothing = np.zeros((1, 10), np.float32)
    model.compute_metrics(None, nothing, nothing)
    model.reset_metrics()
    return model


def steps_per_execution(model, config, steps):
    """Steps in one call of TensorFlow's: half a second's at most, so that Ctrl-C and the progress line stay alive.

    More than 32 save nothing. Elsewhere 1: Keras's loop over steps is Python's there, and saves nothing either.
    """
    if not layers.TENSORFLOW:
        return 1
    step = estimate.step_seconds(model, config)
    return int(np.clip(0.5 / step, 1, min(32, steps))) if step else min(32, steps)


def augmented_images(augmentation, x, seed, net=0, purpose="test transform", mixed=False):
    """Images uint8 (n, 28, 28), transformed and, if wanted, mixed up with one another: float32 in 0..255."""
    parameters = augmentation.draw(dataset.rng(purpose, seed, net), len(x))
    fields = augmentation.draw_elastic(dataset.rng("elastic", seed, net), len(x))
    transform = augmentation.each if augmentation.keras_only else augmentation.batch
    images = transform(x[..., None] / np.float32(255), parameters, fields)
    if mixed and augmentation.mixup_alpha:
        images = keras.ops.convert_to_numpy(mix(images, parameters["mixup"].astype(np.float32)))
    return images[..., 0] * 255


def predict(model, x, test_shift=0):
    """A net's probabilities, float32 (n, 10), for images uint8 (n, 28, 28) or float in 0..255.

    test_shift: pixels; above 0 the probabilities are the mean over the image and its shifts up, down, left and right.
    """
    size, by = x.shape[1], test_shift
    padded = np.pad(x, ((0, 0), (by, by), (by, by)))
    predicted = [
        model.predict(evaluation_batches(padded[:, top : top + size, left : left + size]), verbose=0)
        for top, left in views(by)
    ]
    return np.mean(predicted, axis=0)


def views(by):
    """Where an image and its four shifts by `by` pixels begin in it with a border of as many: (row, column) pairs."""
    return [(by, by), (0, by), (2 * by, by), (by, 0), (by, 2 * by)] if by else [(0, 0)]


# Callbacks


class NotFinite(Exception):
    """The loss is infinite or no number."""


class FiniteLoss(keras.callbacks.Callback):
    """Stops training by NotFinite as soon as the loss of an epoch is no finite number."""

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            raise NotFinite(f"the loss became {logs['loss']}")


class Randomness(keras.callbacks.Callback):
    """Seeds dropout anew each epoch, from (seed, net, epoch)."""

    def __init__(self, seed, net):
        super().__init__()
        self.seed, self.net = seed, net

    def on_epoch_begin(self, epoch, logs=None):
        seed_dropout(self.model, self.seed, self.net, epoch)


def seed_dropout(model, seed, net, epoch):
    weights = {id(weight) for weight in model.weights}
    generators = [variable for variable in model.variables if id(variable) not in weights]
    rng = dataset.rng("dropout", seed, net, epoch)
    for state in generators:  # keras.random.SeedGenerator's [seed, draws so far]
        state.assign(np.array([rng.integers(2**32), 0], np.uint32))


class Schedule(keras.callbacks.Callback):
    """Sets each epoch's learning rates, which a function of schedules.py gives."""

    def __init__(self, config, checkpoint, steps):
        super().__init__()
        settings = dict(config["schedule"])
        self.function = functools.partial(
            schedules.SCHEDULES[settings.pop("name")], epochs=config["epochs"], **settings
        )
        self.stepwise = config["schedule"]["name"] in schedules.STEPWISE
        self.checkpoint, self.steps = checkpoint, steps

    def on_epoch_begin(self, epoch, logs=None):
        logs = self.checkpoint.log[-1] if self.checkpoint.log else {}
        rate, self.checkpoint.schedule_state = self.function(epoch, self.checkpoint.schedule_state, logs)
        rates = np.full(self.steps, rate, np.float32)
        if self.stepwise:
            rates[:] = [self.function(epoch + i / self.steps, None, {})[0] for i in range(self.steps)]
        self.model.optimizer.rates.assign(rates)
        self.checkpoint.rate = float(f"{rates[-1]:.6g}")


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras's, with the epoch's learning rate as the log has it: the optimizer's is the next epoch's by then."""

    def __init__(self, checkpoint, folder):
        super().__init__(str(folder))
        self.checkpoint = checkpoint

    def _collect_learning_rate(self, logs):
        return logs | {"learning_rate": self.checkpoint.rate}


class Checkpoint(keras.callbacks.Callback):
    """After each epoch: the log, and all that is needed to go on from there."""

    def __init__(self, config, net, folder):
        super().__init__()
        self.folder, self.net = folder, net
        self.log_path = runs.net_file(folder, net, ".csv")
        self.keep_best = config["weights"] == "best"
        self.epoch, self.log, self.schedule_state = 0, [], None
        self.best, self.best_weights = None, []

    def restore(self, model):
        """Sets the model, and this object, to the last finished epoch's."""
        found = runs.read_checkpoint(self.folder, self.net)
        if found is None:
            return
        arrays, state = found
        try:
            self.epoch, self.log = state["epoch"], state["log"]
            self.schedule_state, self.best = state["schedule"], state["best"]
            for i, variable in enumerate([*model.weights, *model.optimizer.variables]):
                variable.assign(arrays[f"variable_{i:04d}"])
            if self.best:
                self.best_weights = [arrays[f"best_{i:04d}"] for i in range(len(model.weights))]
        except (KeyError, ValueError) as error:
            raise UserError(
                f"the checkpoints of net {self.net} in {self.folder} are of another net ({reason(error)}): undo what "
                "changed in models.py since, or remove them"
            ) from error
        if self.log:
            runs.write_rows(self.log_path, self.log)  # what died after the checkpoint and before its log

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        variables = [*self.model.weights, *self.model.optimizer.variables]
        arrays = {f"variable_{i:04d}": keras.ops.convert_to_numpy(variable) for i, variable in enumerate(variables)}
        if not all(np.isfinite(array).all() for array in arrays.values()):  # the loss was that before the last update
            raise NotFinite("weights became infinite or no number")
        logs = {key: float(value) for key, value in logs.items()}
        seconds = time.perf_counter() - self.started
        self.log.append({"epoch": epoch + 1, "learning_rate": self.rate, **logs, "seconds": round(seconds, 3)})
        self.epoch = epoch + 1
        if self.keep_best and (self.best is None or logs["val_accuracy"] > self.best["val_accuracy"]):
            self.best = {"epoch": epoch + 1, "val_accuracy": logs["val_accuracy"]}
            self.best_weights = [keras.ops.convert_to_numpy(weight) for weight in self.model.weights]
        arrays |= {f"best_{i:04d}": weight for i, weight in enumerate(self.best_weights)}
        state = {"epoch": self.epoch, "log": self.log, "schedule": self.schedule_state, "best": self.best}
        runs.write_checkpoint(self.folder, self.net, arrays, state)
        runs.write_rows(self.log_path, self.log)

    def use_best(self, model):
        """Gives the model the weights of its best epoch on the validation rows."""
        for weight, value in zip(model.weights, self.best_weights, strict=True):
            weight.assign(value)


class Steps(keras.callbacks.Callback):
    """Keeps the mean loss of every execution (one step or some), with its last step and learning rate, as a CSV."""

    def __init__(self, checkpoint, path, steps, batch_size, images):
        super().__init__()
        self.path, self.steps, self.batch_size, self.images = path, steps, batch_size, images
        rows = runs.read_rows(path) if checkpoint.epoch and path.is_file() else []
        self.rows = [row | {"step": int(row["step"])} for row in rows if row["step"] <= checkpoint.epoch * steps]

    def on_epoch_begin(self, epoch, logs=None):
        self.first, self.seen, self.total = epoch * self.steps, 0, 0.0
        self.rates = keras.ops.convert_to_numpy(self.model.optimizer.rates)

    def on_train_batch_end(self, batch, logs=None):
        done = min(batch + 1, self.steps)  # Keras counts an epoch's last execution as a full one
        seen = min(done * self.batch_size, self.images)  # an epoch's last batch may be a partial one
        total = logs["loss"] * seen  # the loss is the mean over the epoch's images so far
        loss, rate = (total - self.total) / (seen - self.seen), self.rates[done - 1]
        self.rows.append({"step": self.first + done, "loss": f"{loss:.6g}", "learning_rate": f"{rate:.6g}"})
        self.seen, self.total = seen, total

    def on_epoch_end(self, epoch, logs=None):
        runs.write_rows(self.path, self.rows)


class Progress(keras.callbacks.Callback):
    """One line that tells where training is and the time left; on a terminal only."""

    WIDTH = 16

    def __init__(self, config, net, checkpoint, steps):
        super().__init__()
        self.net, self.nets, self.epochs = net, config["nets"], config["epochs"]
        self.steps = steps
        self.checkpoint = checkpoint
        self.shown = 0.0

    def on_train_begin(self, logs=None):
        self.started = None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        done = self.epoch * self.steps + min(batch + 1, self.steps)
        if self.started is None:  # the first step compiles
            self.started, self.first = now, done
        elif sys.stdout.isatty() and now - self.shown > 0.2:
            self.shown = now
            total = self.epochs * self.steps
            rest = (now - self.started) / (done - self.first) * (total - done + (self.nets - self.net) * total)
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
