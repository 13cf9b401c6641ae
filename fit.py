"""Trains one net: from a run's config and a net's number to weights, log and result. The unit of all work here.

`fit_net(config, net, folder)` needs nothing else, so nets can be resumed, repeated, run side by side or on other
machines. Its batches, like its weights and dropout, are functions of (seed, net, epoch).
"""

import functools
import json
import math
import re
import shutil
import sys
import time

import keras
import numpy as np

import console
import dataset
import layers
import models
import nets
import optimizers
import recipes
import runs
import schedules
import versions
from augment import Augmentation, mix, with_flips
from batches import evaluation_batches, images_per_epoch, steps_per_epoch, training_batches
from console import UserError, duration, reason, whole_file
from trainer import SMALLEST_SCALE, Trainer


def fit_net(config, net, folder, compiled=None):
    """Trains net number `net` (from 1) of a run, or goes on from its checkpoint; returns its result, a dict.

    Leaves net-NN.csv, .steps.csv, .json, .keras and .predictions.npz in `folder`; nothing is trained where net-NN.json
    is there.

    config: a run's config.json. compiled: Compiled, which keeps what was compiled for the next net.

    Raises UserError if the data is not what the config names, or if the loss is NaN or infinite.
    """
    result_file = runs.net_file(folder, net, ".json")
    if result_file.is_file():
        return runs.read_result(result_file, "net", "seconds", "images_per_second")
    compiled = compiled or Compiled()
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
    batches, begin = training_batches(config, net, x, y, rows, augmentation)
    trainer = compiled.trainer(config, net, steps, batches)
    if not layers.TENSORFLOW:  # where XLA compiles several steps to other bits than one
        trainer.steps_per_execution = config.get("steps_per_call", 1)
    checkpoint = Checkpoint(config, net, folder)
    checkpoint.restore(trainer)
    classes, at_once = trainer.net.output_shape[-1], nets.images_at_once(trainer.net)  # ten classes for each flip, too
    watched_batches = evaluation_batches(x[watched], y[watched], at_once, classes) if len(watched) else None
    try:
        trainer.fit(
            batches,
            initial_epoch=checkpoint.epoch,
            epochs=config["epochs"],
            validation_data=watched_batches,
            callbacks=[
                keras.callbacks.LambdaCallback(
                    on_epoch_begin=lambda epoch, logs: begin(epoch),
                    on_train_batch_end=lambda batch, logs: console.stop_if_asked(),
                ),
                FiniteLoss(),
                Randomness(seed, net),
                Schedule(config, checkpoint, steps),
                Steps(checkpoint, runs.net_file(folder, net, ".steps.csv"), steps),
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
            checkpoint.restore(trainer)
            path = runs.net_file(folder, net, ".keras")
            save(models.aggregated(trainer.plain(), flips), path)
            kept = f"the weights after epoch {checkpoint.epoch} are in {path}"
        raise UserError(
            f"net {net} of run {folder.name!r}: {error} in epoch {checkpoint.epoch + 1}, so training was stopped; "
            f"{kept}. Try a lower --learning-rate"
        ) from None
    if config["weights"] == "best":
        checkpoint.use_best(trainer)
    started = time.perf_counter()
    if config["update_bn"]:
        size = config["batch_size"]
        seed_dropout(trainer, seed, net, config["epochs"])
        some = dataset.rng("update_bn", seed, net).permutation(rows)[: config["update_bn"] * size]
        parts = np.array_split(some, max(1, len(some) // size))
        images = (x[part, ..., None] / np.float32(255) for part in parts)
        layers.update_bn(trainer.net, (with_flips(part, flips) for part in images))

    seconds = sum(row["seconds"] for row in checkpoint.log) + time.perf_counter() - started
    result = {
        "net": net,
        "parameters": trainer.count_params(),
        "dtypes": layers.explicit_dtypes(trainer.net, config["precision"]),
        "epochs": config["epochs"],
        "steps": int(trainer.optimizer.iterations),
        "training_rows": len(rows),
        "validation_rows": len(validation_rows),
        "weights": config["weights"],
        "weights_epoch": checkpoint.best["epoch"] if config["weights"] == "best" else config["epochs"],
        "seconds": seconds,
        "images_per_second": epoch_images * config["epochs"] / seconds,
    }
    plain = models.aggregated(trainer.plain(), flips)
    predictor = compiled.predictor(plain, config["precision"], result["dtypes"])  # as predict.py will have it
    arrays = {"validation_rows": validation_rows}
    if len(validation_rows):
        arrays["validation"] = predictor.predict(x[validation_rows], config["test_shift"])
        result |= _scored("validation", runs.score(arrays["validation"], y[validation_rows]))
    if digits.test is not None:
        arrays["test"] = predictor.predict(digits.test.x, config["test_shift"])
        if digits.test.y is not None:
            result |= _scored("test", runs.score(arrays["test"], digits.test.y))
            if config["score_augmented"]:
                augmented = augmented_images(augmentation, digits.test.x, seed, net)
                scores = runs.score(predictor.predict(augmented, config["test_shift"]), digits.test.y)
                result["test_accuracy_augmented"] = scores["accuracy"]
    runs.write_arrays(runs.net_file(folder, net, ".predictions.npz"), arrays)
    save(plain, runs.net_file(folder, net, ".keras"))
    result["checksums"] = runs.checksums(folder, net, arrays)
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


# The settings that a compiled training step, and the initial state beside it, depend on.
COMPILED_BY = (*(recipes.DEFAULTS.keys() - recipes.DESCRIPTIONS - {"nets", "members"}), "precision", "seed")


class Compiled:
    """What was compiled for a net, kept for the nets after it that have the same settings.

    TensorFlow traces a training step for some seconds (XLA compiles it for up to a minute) and keeps it, 16 MB for
    Deotte's net, to the end of the process.
    """

    def __init__(self):
        self.trainers, self.initial, self.predictors = {}, {}, {}

    def trainer(self, config, net, steps, batches):
        """Returns a compiled Trainer in net `net`'s initial state. config: that of `recipes.member`."""
        key = json.dumps([[config[key] for key in COMPILED_BY], steps], sort_keys=True)
        if self.initial.get(key, (None,))[0] != net:
            keras.backend.clear_session()  # else TensorFlow keeps some 35 KB for every variable that was ever made
            new = new_trainer(config, net, steps)
            self.initial[key] = net, [keras.ops.convert_to_numpy(variable) for variable in new.state()]
            if key not in self.trainers or layers.finalize(new.net):  # what is derived from weights is compiled in
                self.trainers[key] = new
                if new.jit_compile:
                    print("        Compiling (up to a minute) ...", flush=True)
                new.warm_up(batches)
        trainer = self.trainers[key]
        for variable, value in zip(trainer.state(), self.initial[key][1], strict=True):
            variable.assign(value)
        layers.finalize(trainer.net)
        return trainer

    def predictor(self, plain, precision, dtypes):
        """Returns a Predictor by a net's copy `plain`. precision, dtypes: as of `layers.fast`."""
        key = json.dumps([_nameless(keras.saving.serialize_keras_object(plain)), precision, dtypes], sort_keys=True)
        if key in self.predictors:
            model = self.predictors[key].model
            model.set_weights(plain.get_weights())
            if layers.finalize(model):
                model.make_predict_function(force=True)
        else:
            self.predictors[key] = Predictor(layers.fast(plain, precision, dtypes))
        return self.predictors[key]


def _nameless(config):
    """Returns the text of a Keras config without seeds, and with the names in it numbered as they come.

    Keras counts up the names that it gives, so nets of one architecture may have different ones.
    """
    text = re.sub(r'"seed": -?\d+', '"seed": 0', json.dumps(config, sort_keys=True))
    for i, name in enumerate(dict.fromkeys(re.findall(r'"name": ("[^"]+")', text))):
        text = text.replace(name, f'"#{i}"')
    return text


def new_trainer(config, net, steps):
    """Returns the Trainer of net `net` before its first step, for epochs of `steps` steps."""
    seed = int(dataset.rng("weights", config["seed"], net).integers(2**32))
    flips = config["augmentation"].get("joint_flips", ())
    built = models.build(config["model"], seed, config["precision"], flips, **config["model_config"])
    trainer = Trainer(built, steps, config["replicas"])
    averaged = {"use_ema": True} if config["weights"] == "averaged" else {}
    trainer.compile(
        optimizers.make(config["optimizer"], **averaged | config["optimizer_config"]),
        label_smoothing=config["label_smoothing"],
        scale_loss=config["precision"] == "float16",
    )
    return trainer


def augmented_images(augmentation, x, seed, net=0, purpose="test transform", mixed=False):
    """Images uint8 (n, 28, 28), transformed and, if wanted, mixed up with one another: float32 in 0..255."""
    parameters = augmentation.draw(dataset.rng(purpose, seed, net), len(x))
    fields = augmentation.draw_elastic(dataset.rng("elastic", seed, net), len(x))
    transform = augmentation.each if augmentation.keras_only else augmentation.batch
    images = transform(x[..., None] / np.float32(255), parameters, fields)
    if mixed and augmentation.mixup_alpha:
        images = keras.ops.convert_to_numpy(mix(images, parameters["mixup"].astype(np.float32)))
    return images[..., 0] * 255


class Predictor:
    """Predicts by a net, in batches of one size, so that it is compiled once.

    model: a keras.Model from float32 (n, 28, 28, 1) in 0..1 to probabilities (n, 10).
    """

    def __init__(self, model):
        self.model, self.most = model, nets.images_at_once(model)

    def predict(self, x, test_shift=0):
        """Returns probabilities, float32 (n, 10), for images uint8 (n, 28, 28) or float in 0..255.

        test_shift: pixels; above 0 the probabilities are the mean over the image and its shifts up, down, left and
        right.
        """
        n, size, by = len(x), x.shape[1], test_shift
        batch_size = min(self.most, 2 ** math.ceil(math.log2(max(n, 1))))
        padded = np.pad(x, ((0, -n % batch_size), (by, by), (by, by)))
        predicted = [
            self.model.predict(
                evaluation_batches(padded[:, top : top + size, left : left + size], batch_size=batch_size), verbose=0
            )[:n]
            for top, left in views(by)
        ]
        return np.mean(predicted, axis=0)


def views(by):
    """Where an image and its four shifts by `by` pixels begin in it with a border of as many: (row, column) pairs."""
    return [(by, by), (0, by), (2 * by, by), (by, 0), (by, 2 * by)] if by else [(0, 0)]


# Callbacks


class NotFinite(Exception):
    """The loss is NaN or infinite."""


class FiniteLoss(keras.callbacks.Callback):
    """Raises NotFinite as soon as the mean loss of an epoch is NaN or infinite.

    With a scaled loss single steps may be: they are skipped, unless no scale helps.
    """

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            raise NotFinite(f"the loss became {logs['loss']}")

    def on_epoch_end(self, epoch, logs=None):
        if not self.model.scale_loss:
            return
        last = epoch + 1 == self.params["epochs"]
        unmade = last and not np.isfinite(keras.ops.convert_to_numpy(self.model.epoch.losses)).any()
        if unmade or float(self.model.optimizer.dynamic_scale) < SMALLEST_SCALE:
            raise NotFinite("the loss or its gradients became infinite or NaN, whatever the loss scale,")


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
        self.model.epoch.rates.assign(rates)
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
            for i, variable in enumerate(model.state()):
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
        variables = self.model.state()
        arrays = {f"variable_{i:04d}": _storable(variable) for i, variable in enumerate(variables)}
        if not all(np.isfinite(array).all() for array in arrays.values()):  # the loss was that before the last update
            raise NotFinite("weights became infinite or no number")
        logs = {key: float(value) for key, value in logs.items()}
        seconds = time.perf_counter() - self.started
        self.log.append({"epoch": epoch + 1, "learning_rate": self.rate, **logs, "seconds": round(seconds, 3)})
        self.epoch = epoch + 1
        if self.keep_best and (self.best is None or logs["val_accuracy"] > self.best["val_accuracy"]):
            self.best = {"epoch": epoch + 1, "val_accuracy": logs["val_accuracy"]}
            self.best_weights = [_storable(weight) for weight in self.model.weights]
        arrays |= {f"best_{i:04d}": weight for i, weight in enumerate(self.best_weights)}
        state = {"epoch": self.epoch, "log": self.log, "schedule": self.schedule_state, "best": self.best}
        runs.write_checkpoint(self.folder, self.net, arrays, state)
        runs.write_rows(self.log_path, self.log)

    def use_best(self, model):
        """Gives the model the weights of its best epoch on the validation rows."""
        for weight, value in zip(model.weights, self.best_weights, strict=True):
            weight.assign(value)


def _storable(variable):
    """Returns a variable's value as an array; bfloat16, which an .npz cannot hold, as float32, which is exact."""
    array = keras.ops.convert_to_numpy(variable)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


class Steps(keras.callbacks.Callback):
    """Writes the loss and the learning rate of every step to a CSV, after each epoch. Skipped steps have no row."""

    def __init__(self, checkpoint, path, steps):
        super().__init__()
        self.path, self.steps = path, steps
        rows = runs.read_rows(path) if checkpoint.epoch and path.is_file() else []
        self.rows = [row | {"step": int(row["step"])} for row in rows if row["step"] <= checkpoint.epoch * steps]

    def on_epoch_end(self, epoch, logs=None):
        losses, rates = (keras.ops.convert_to_numpy(v) for v in (self.model.epoch.losses, self.model.epoch.rates))
        for i in np.flatnonzero(np.isfinite(losses)):
            row = {"step": epoch * self.steps + int(i) + 1, "loss": f"{losses[i]:.6g}"}
            self.rows.append(row | {"learning_rate": f"{rates[i]:.6g}"})
        if self.rows:
            runs.write_rows(self.path, self.rows)


class Progress(keras.callbacks.Callback):
    """On a terminal one line that says where training is; elsewhere, after the first epoch, the time left."""

    WIDTH = 16
    WORTH_SAYING = 20  # seconds

    def __init__(self, config, net, checkpoint, steps):
        super().__init__()
        self.net, self.nets, self.epochs = net, config["nets"], config["epochs"]
        self.steps = steps
        self.checkpoint = checkpoint
        self.shown, self.said = 0.0, False

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
            rest = self._rest(now, done)
            bar = "#" * int(done / (self.epochs * self.steps) * self.WIDTH)
            log = self.checkpoint.log
            validation = f"  validation {log[-1]['val_accuracy']:.2%}" if log and "val_accuracy" in log[-1] else ""
            line = (
                f"net {self.net}/{self.nets}  epoch {self.epoch + 1}/{self.epochs}  [{bar:<{self.WIDTH}}] "
                f"{duration(rest)} left  loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.2%}{validation}"
            )
            self._print(line)

    def on_epoch_end(self, epoch, logs=None):
        done = (epoch + 1) * self.steps
        if self.said or done == self.first or sys.stdout.isatty():
            return
        self.said, rest = True, self._rest(time.perf_counter(), done)
        if rest > self.WORTH_SAYING:
            where = f"net {self.net} of {self.nets}, " * (self.nets > 1)
            print(f"        {where}epoch {epoch + 1} of {self.epochs} is done; about {duration(rest)} left", flush=True)

    def _rest(self, now, done):
        """Seconds until all nets are trained, if the steps go on as they went so far."""
        total = self.epochs * self.steps
        return (now - self.started) / (done - self.first) * (total - done + (self.nets - self.net) * total)

    def on_train_end(self, logs=None):
        if sys.stdout.isatty():
            self._print("")

    def _print(self, line):
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{line[:width]:<{width}}\r", end="", flush=True)
