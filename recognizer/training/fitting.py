"""Trains one net: from a run's config and a net's number to weights, log and result. The unit of all work here.

`fit_net(config, net, folder)` needs nothing else, so nets can be resumed, repeated, run side by side or on other
machines. Its batches, like its weights and dropout, are functions of (seed, net, epoch).
"""

import json
import time

import keras
import numpy as np

from augment import Augmentation, mix
from recognizer.base import cli
from recognizer.base.backend import TENSORFLOW
from recognizer.base.errors import UserError
from recognizer.base.files import write_arrays, write_json
from recognizer.config import members, schema
from recognizer.data import sources, streams
from recognizer.nn import batch_norm, building, copies, flip_classes, optimizers, saved_net, sizes
from recognizer.nn.flip_classes import with_flips
from recognizer.runs import checkpoints, metrics, run_folder
from recognizer.runs.predictions import checksums
from recognizer.training import callbacks, inference
from recognizer.training.batches import evaluation_batches, images_per_epoch, steps_per_epoch, training_batches
from recognizer.training.model import Trainer


def fit_net(config, net, folder, compiled=None):
    """Trains net number `net` (from 1) of a run, or goes on from its checkpoint; returns its result, a dict.

    Leaves net-NN.csv, .steps.csv, .json, .keras and .predictions.npz in `folder`; nothing is trained where net-NN.json
    is there.

    config: a run's config.json. compiled: Compiled, which keeps what was compiled for the next net.

    Raises UserError if the data is not what the config names, or if the loss is NaN or infinite.
    """
    result_file = run_folder.net_file(folder, net, ".json")
    if result_file.is_file():
        return run_folder.read_result(result_file, "net", "seconds", "images_per_second")
    compiled = compiled or Compiled()
    config = members.member(config, net)
    digits = sources.load(config["data"]["source"])
    run_folder.check_data(folder, config, digits)
    x, y = digits.train.x, digits.train.y
    rows, validation_rows = streams.split_rows(config, net, len(y))
    watched = spread(validation_rows, config["validation_rows"])
    seed = config["seed"]
    augmentation = Augmentation(**config["augmentation"])
    flips = flip_classes.checked(config)

    steps, epoch_images = steps_per_epoch(config, len(rows)), images_per_epoch(config, len(rows))
    batches, begin = training_batches(config, net, x, y, rows, augmentation)
    trainer = compiled.trainer(config, net, steps, batches)
    if not TENSORFLOW:  # where XLA compiles several steps to other bits than one
        trainer.steps_per_execution = config.get("steps_per_call", 1)
    checkpoint = callbacks.Checkpoint(config, net, folder)
    checkpoint.restore(trainer)
    classes, at_once = (
        trainer.net.output_shape[-1],
        sizes.images_at_once(trainer.net),
    )  # ten classes for each flip, too
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
                    on_train_batch_end=lambda batch, logs: cli.stop_if_asked(),
                ),
                callbacks.FiniteLoss(),
                callbacks.Randomness(seed, net),
                callbacks.Schedule(config, checkpoint, steps),
                callbacks.Steps(checkpoint, run_folder.net_file(folder, net, ".steps.csv"), steps),
                checkpoint,
                callbacks.Progress(config, net, checkpoint, steps),
                *(
                    [callbacks.TensorBoard(checkpoint, folder / "tensorboard" / f"net-{net:02d}")]
                    * config["tensorboard"]
                ),
            ],
            shuffle=False,  # the batches come in their order
            verbose=0,
        )
    except callbacks.NotFinite as error:
        kept = "no epoch was finished before it"
        if checkpoint.epoch:
            checkpoint.restore(trainer)
            path = run_folder.net_file(folder, net, ".keras")
            saved_net.save(flip_classes.aggregated(trainer.plain(), flips), path)
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
        callbacks.seed_dropout(trainer, seed, net, config["epochs"])
        some = streams.rng("update_bn", seed, net).permutation(rows)[: config["update_bn"] * size]
        parts = np.array_split(some, max(1, len(some) // size))
        images = (x[part, ..., None] / np.float32(255) for part in parts)
        batch_norm.update_bn(trainer.net, (with_flips(part, flips) for part in images))

    seconds = sum(row["seconds"] for row in checkpoint.log) + time.perf_counter() - started
    result = {
        "net": net,
        "parameters": trainer.count_params(),
        "dtypes": copies.explicit_dtypes(trainer.net, config["precision"]),
        "epochs": config["epochs"],
        "steps": int(trainer.optimizer.iterations),
        "training_rows": len(rows),
        "validation_rows": len(validation_rows),
        "weights": config["weights"],
        "weights_epoch": checkpoint.best["epoch"] if config["weights"] == "best" else config["epochs"],
        "seconds": seconds,
        "images_per_second": epoch_images * config["epochs"] / seconds,
    }
    plain = flip_classes.aggregated(trainer.plain(), flips)
    predictor = compiled.predictors.load(plain, config["precision"], result["dtypes"])  # as predict.py will have it
    arrays = {"validation_rows": validation_rows}
    if len(validation_rows):
        arrays["validation"] = predictor.predict(x[validation_rows], config["test_shift"])
        result |= _scored("validation", metrics.score(arrays["validation"], y[validation_rows]))
    if digits.test is not None:
        arrays["test"] = predictor.predict(digits.test.x, config["test_shift"])
        if digits.test.y is not None:
            result |= _scored("test", metrics.score(arrays["test"], digits.test.y))
            if config["score_augmented"]:
                augmented = augmented_images(augmentation, digits.test.x, seed, net)
                scores = metrics.score(predictor.predict(augmented, config["test_shift"]), digits.test.y)
                result["test_accuracy_augmented"] = scores["accuracy"]
    write_arrays(run_folder.net_file(folder, net, ".predictions.npz"), arrays)
    saved_net.save(plain, run_folder.net_file(folder, net, ".keras"))
    result["checksums"] = checksums(folder, net, arrays)
    write_json(result_file, result)
    checkpoints.remove(folder, net)
    return result


def _scored(part, scores):
    return {f"{part}_{key}": value for key, value in scores.items()}


def spread(rows, most):
    """At most `most` of `rows` (None: all), from all over them: a file may have its digits in the order of classes."""
    if most is None or len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(int)]


# The settings that a compiled training step, and the initial state beside it, depend on.
COMPILED_BY = (*(schema.DEFAULTS.keys() - schema.DESCRIPTIONS - {"nets", "members"}), "precision", "seed")


class Compiled:
    """What was compiled for a net, kept for the nets after it that have the same settings.

    TensorFlow traces a training step for some seconds (XLA compiles it for up to a minute) and keeps it, 16 MB for
    Deotte's net, to the end of the process.
    """

    def __init__(self):
        self.trainers, self.initial, self.predictors = {}, {}, inference.Predictors()

    def trainer(self, config, net, steps, batches):
        """Returns a compiled Trainer in net `net`'s initial state. config: that of `recipes.member`."""
        key = json.dumps([[config[key] for key in COMPILED_BY], steps], sort_keys=True)
        if self.initial.get(key, (None,))[0] != net:
            keras.backend.clear_session()  # else TensorFlow keeps some 35 KB for every variable that was ever made
            new = new_trainer(config, net, steps)
            self.initial[key] = net, [keras.ops.convert_to_numpy(variable) for variable in new.state()]
            if key not in self.trainers or copies.finalize(new.net):  # what is derived from weights is compiled in
                self.trainers[key] = new
                if new.jit_compile:
                    print("        Compiling (up to a minute) ...", flush=True)
                new.warm_up(batches)
        trainer = self.trainers[key]
        for variable, value in zip(trainer.state(), self.initial[key][1], strict=True):
            variable.assign(value)
        copies.finalize(trainer.net)
        return trainer


def new_trainer(config, net, steps):
    """Returns the Trainer of net `net` before its first step, for epochs of `steps` steps."""
    seed = int(streams.rng("weights", config["seed"], net).integers(2**32))
    built = building.build(config["model"], seed, config["precision"], config["joint_flips"], **config["model_config"])
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
    parameters = augmentation.draw(streams.rng(purpose, seed, net), len(x))
    fields = augmentation.draw_elastic(streams.rng("elastic", seed, net), len(x))
    transform = augmentation.each if augmentation.keras_only else augmentation.batch
    images = transform(x[..., None] / np.float32(255), parameters, fields)
    if mixed and augmentation.mixup_alpha:
        images = keras.ops.convert_to_numpy(mix(images, parameters["mixup"].astype(np.float32)))
    return images[..., 0] * 255
