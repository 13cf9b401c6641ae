"""Trains nets: from a run's settings and a net's number, it makes the net's weights, log and result.

A net's batches, initial weights and dropout are functions of (seed, net, epoch). So nets can be resumed, repeated, and
trained in parallel or on other machines.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np

from recognizer.base.backend import TENSORFLOW
from recognizer.base.errors import UserError, enough_memory
from recognizer.base.files import write_arrays, write_json
from recognizer.config import checks, members
from recognizer.data import streams
from recognizer.data.arrays import Digits
from recognizer.nn import batch_norm, building, copies, edits, flip_classes, losses, optimizers, saved_net, sizes
from recognizer.runs import checkpoints, metrics, run_folder
from recognizer.runs.predictions import checksums
from recognizer.training import callbacks
from recognizer.training.batches import TrainingBatches, augmented_images, evaluation_batches, images_per_epoch
from recognizer.training.checkpoint import BestWeights, Checkpoint, EpochLog, StepLog
from recognizer.training.inference import Predictor, predictor_of, views
from recognizer.training.memory import smaller_batches
from recognizer.training.model import TrainingModel
from recognizer.training.progress import Progress


class Trainer:
    """Trains the nets of one kind, one after another, with one compiled training step.

    TensorFlow takes some seconds to trace a training step, XLA up to a minute to compile it. The result stays in memory
    until the process ends: 16 MB for Deotte's net.

    Arguments:
        settings: one of members.kinds.
        digits: arrays.Digits.
        progress: Progress, or a callable with the same arguments that returns another Progress.

    Raises UserError if the setting joint_flips is not valid.

    Attributes:
        net: int, the number of the current net, set by `begin`; 0 before.
        rows, validation_rows: int64 (n,), the net's rows of the labelled images.
        batches: the net's TrainingBatches.
        model: the net's TrainingModel, set by `begin`.
        architecture: edits.record of the architecture, set by trial.try_net.
    """

    def __init__(self, settings: dict, digits: Digits, progress: Callable[..., Progress] = Progress) -> None:
        flip_classes.checked(settings)
        self.settings, self.digits, self.progress = settings, digits, progress
        self.net = 0
        self.predictor: Predictor | None = None
        self.architecture: dict = {}

    def fit(self, net: int, folder: Path, nets: int = 1, verbose: int | None = None) -> dict:
        """Trains net number `net` (from 1), or resumes it from its checkpoint; returns its result, a dict.

        Writes net-NN.csv, .steps.csv, .json, .keras and .predictions.npz to `folder`. A net whose net-NN.json exists is
        not trained again.

        nets, verbose: see Progress. Raises UserError if the loss is NaN or infinite.
        """
        path = run_folder.net_file(folder, net, ".json")
        if path.is_file():
            return run_folder.read_result(path, "net", "seconds", "images_per_second")
        self.begin(net)
        log, best = self.train(folder, nets, verbose)
        started = time.perf_counter()
        if best:
            best.use(self.model)
        self.recalibrate_bn()
        seconds = sum(row["seconds"] for row in log.rows) + time.perf_counter() - started
        result = self.described(best, len(log.rows), seconds)
        plain = self.plain()
        arrays, scores = self.evaluate(plain, result["dtypes"])
        write_arrays(run_folder.net_file(folder, net, ".predictions.npz"), arrays)
        saved_net.save(plain, run_folder.net_file(folder, net, ".keras"))
        result |= scores | {"own_outputs": edits.outputs_of_own_code(plain)}
        result |= {"checksums": checksums(folder, net, arrays)}
        write_json(path, result)
        checkpoints.remove(folder, net)
        return result

    def begin(self, net: int) -> None:
        """Sets the model to the initial state of net number `net`. The first call builds and compiles the model."""
        if net != self.net:
            self.net = net
            self.rows, self.validation_rows = streams.split_rows(self.settings, net, len(self.digits.train.x))
            self.batches = TrainingBatches(self.settings, net, self.digits.train, self.rows)
            keras.backend.clear_session()  # else TensorFlow keeps about 35 KB for every variable it ever made
            new = new_model(self.settings, net, self.batches.steps)
            self.initial = [keras.ops.convert_to_numpy(variable) for variable in new.state()]
            if not hasattr(self, "model") or self._needs_step_of_its_own(new.network):
                self.model = new
                if new.jit_compile:
                    print("        Compiling (up to a minute) ...", flush=True)
                new.warm_up(self.batches.data)
        for variable, value in zip(self.model.state(), self.initial, strict=True):
            variable.assign(value)
        copies.finalize(self.model.network)
        if not TENSORFLOW and "steps_per_call" in self.settings:  # in XLA, results depend on steps per call
            self.model.steps_per_execution = self.settings["steps_per_call"]

    def _needs_step_of_its_own(self, network):
        """Returns whether the compiled step of the nets before holds values that another net does not share.

        These are values derived from weights, and those that the architecture's function has drawn for each net.
        """
        return copies.finalize(network) or bool(edits.variation(self.model.network, network))

    @property
    def validates_late(self) -> bool:
        """Whether an epoch's validation is meaningless, since batch-norm statistics are recomputed only at the end."""
        settings = self.settings
        late = settings["update_bn"] and not checks.recalibrates(settings)
        return bool(late and len(self.validation_rows) and batch_norm.is_in(self.model.network))

    def train(self, folder: Path, nets: int = 1, verbose: int | None = None) -> tuple[EpochLog, BestWeights | None]:
        """Trains the current net from its last checkpoint to the end; returns (EpochLog, BestWeights or None)."""
        settings, steps = self.settings, self.batches.steps
        schedule = callbacks.Schedule(settings, steps)
        log = EpochLog(run_folder.net_file(folder, self.net, ".csv"), schedule)
        step_log = StepLog(run_folder.net_file(folder, self.net, ".steps.csv"), steps)
        best = BestWeights(settings["early_stopping"]) if settings["weights"] == "best" else None
        checkpoint = Checkpoint(folder, self.net, schedule, log, best)
        checkpoint.restore(self.model)
        step_log.restore(checkpoint.epoch)
        progress = self.progress(self.net, nets, steps, schedule, verbose, settings, not self.validates_late)
        used = [callbacks.Epochs(self.batches), best, callbacks.FiniteLoss(), schedule, step_log, log]
        used = [callback for callback in (*used, checkpoint, progress) if callback]
        if checks.recalibrates(settings):
            used.append(callbacks.Recalibration(self.recalibrate_bn))
        if settings["tensorboard"]:
            used.append(callbacks.TensorBoard(schedule, folder / "tensorboard" / f"net-{self.net:02d}"))
        try:
            self.model.fit(
                self.batches.data,
                initial_epoch=settings["epochs"] if best and best.is_over(checkpoint.epoch) else checkpoint.epoch,
                epochs=settings["epochs"],
                validation_data=self._watched(),
                callbacks=used,
                shuffle=False,  # TrainingBatches has already shuffled the rows
                verbose=0,
            )
        except callbacks.NotFinite as error:
            raise self._stopped(error, checkpoint) from None
        finally:
            progress.close()
        if images := self._to_predict():
            progress.say(f"predicting {images}")
        return log, best

    def images_per_second(self, seconds: float) -> float:
        """Trains the current net for some seconds, which changes it; returns the number of images per second."""
        return self.settings["batch_size"] * self.model.steps_per_second(self.batches.data, seconds)

    def _to_predict(self):
        """Returns which images `evaluate` predicts, as text: "4,200 validation and 28,000 test images"; "" for none."""
        test, shifts = self.digits.test, len(views(self.settings["test_shift"])) - 1
        parts = [f"{len(self.validation_rows):,} validation"] * (len(self.validation_rows) > 0)
        if test is not None:
            parts.append(f"{len(test.x):,} test")
            parts += [f"{len(test.x):,} augmented test"] * (self.settings["score_augmented"] and test.y is not None)
        return f"{' and '.join(parts)} images{f', each with {shifts} shifts' * (shifts > 0)}" if parts else ""

    def _watched(self):
        """Returns the batches of validation rows for each epoch, or None."""
        rows = evenly(self.validation_rows, self.settings["validation_rows"])
        if not len(rows):
            return None
        images, network = self.digits.train, self.model.network
        at_once = sizes.images_at_once(network)
        return evaluation_batches(images.x[rows], images.y[rows], at_once, network.output_shape[-1])

    def _stopped(self, error, checkpoint):
        """Saves the weights of the last finished epoch; returns the UserError about a loss that is not finite."""
        kept = "no epoch had finished"
        if checkpoint.epoch:
            checkpoint.restore(self.model)
            path = run_folder.net_file(checkpoint.folder, self.net, ".keras")
            saved_net.save(self.plain(), path)
            kept = f"the weights after epoch {checkpoint.epoch} are in {path}"
        return UserError(
            f"net {self.net} of run {checkpoint.folder.name!r}: {error} in epoch {checkpoint.epoch + 1}, so training "
            f"was stopped; {kept}. Try a lower --learning-rate"
        )

    def recalibrate_bn(self) -> None:
        """Recomputes batch-norm statistics on unaugmented training images, if the setting update_bn is above 0."""
        settings = self.settings
        if not settings["update_bn"]:
            return
        size = settings["batch_size"]
        callbacks.seed_dropout(self.model, settings["seed"], self.net, settings["epochs"])
        order = streams.rng("update_bn", settings["seed"], self.net).permutation(self.rows)
        order = order[: settings["update_bn"] * size]
        parts = np.array_split(order, max(1, len(order) // size))
        images = (self.digits.train.x[part, ..., None] / np.float32(255) for part in parts)
        flips = settings["joint_flips"]
        batch_norm.update_bn(self.model.network, (flip_classes.with_flips(part, flips) for part in images))

    def plain(self) -> keras.Model:
        """Returns the current net as it is saved: Keras's own layers in float32, with ten outputs."""
        return flip_classes.aggregated(self.model.plain(), self.settings["joint_flips"])

    def described(self, best: BestWeights | None, epochs: int, seconds: float) -> dict:
        """Returns the result of the current net, without its accuracies.

        best: BestWeights or None. epochs: int, the number of trained epochs. seconds: float, the training time.
        """
        settings = self.settings
        images = images_per_epoch(settings, len(self.rows)) * epochs
        return {
            "net": self.net,
            "parameters": self.model.count_params(),
            "dtypes": copies.explicit_dtypes(self.model.network, settings["precision"]),
            "epochs": epochs,
            "planned_epochs": settings["epochs"],
            "steps": int(self.model.optimizer.iterations),
            "training_rows": len(self.rows),
            "validation_rows": len(self.validation_rows),
            "weights": settings["weights"],
            "weights_epoch": best.best["epoch"] if best and best.best else epochs,
            "seconds": seconds,
            "images_per_second": images / seconds,
        }

    def evaluate(self, plain: keras.Model, dtypes: dict[str, str]) -> tuple[dict, dict]:
        """Predicts the validation rows and the test set like predict.py; returns (arrays, scores).

        plain: from `plain`. dtypes: copies.explicit_dtypes of the net. arrays: the content of net-NN.predictions.npz.
        """
        settings, (train, test) = self.settings, (self.digits.train, self.digits.test)
        self.predictor = predictor_of(plain, settings["precision"], dtypes, self.predictor)
        shift, arrays = settings["test_shift"], {"validation_rows": self.validation_rows}
        scores: dict[str, float] = {}
        if train.y is not None and len(self.validation_rows):
            arrays["validation"] = self.predictor.predict(train.x[self.validation_rows], shift)
            scores |= _named("validation", metrics.score(arrays["validation"], train.y[self.validation_rows]))
        if test is not None:
            arrays["test"] = self.predictor.predict(test.x, shift)
        if test is not None and test.y is not None:
            scores |= _named("test", metrics.score(arrays["test"], test.y))
            if settings["score_augmented"]:
                images = augmented_images(self.batches.augmentation, test.x, settings["seed"], self.net)
                score = metrics.score(self.predictor.predict(images, shift), test.y)
                scores["test_accuracy_augmented"] = score["accuracy"]
        return arrays, scores


def _named(part, scores):
    return {f"{part}_{key}": value for key, value in scores.items()}


def evenly(rows: np.ndarray, most: int | None) -> np.ndarray:
    """Returns up to `most` of `rows` (None: all), evenly spaced, since a file may be sorted by class."""
    if most is None or len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def new_model(settings: dict, net: int, steps: int) -> TrainingModel:
    """Returns a new TrainingModel for net number `net`, with `steps` steps in an epoch."""
    seed = int(streams.rng("weights", settings["seed"], net).integers(2**32))
    precision, flips, arguments = (settings[key] for key in ("precision", "joint_flips", "model_config"))
    network = building.build(settings["model"], seed, precision, flips, arguments)
    model = TrainingModel(network, steps, settings["replicas"])
    averaged = {"use_ema": True} if settings["weights"] == "averaged" else {}
    model.compile(
        optimizers.make(settings["optimizer"], **averaged | settings["optimizer_config"]),
        losses.make(settings["loss"], settings["label_smoothing"], network.output_shape[-1], **settings["loss_config"]),
        scale_loss=settings["precision"] == "float16",
    )
    return model


def fit_nets(
    config: dict, folder: Path, digits: Digits, trainers: list[Trainer] | None = None, verbose: int | None = None
) -> Iterator[dict]:
    """Trains the unfinished nets of a run; yields the result of each of its nets.

    trainers: a list with a compiled Trainer for each of members.kinds, or None to make them.
    """
    trainers = trainers or [Trainer(settings, digits) for settings in members.kinds(config)]
    net = 0
    while trainers:
        trainer = trainers.pop(0)  # so that its model is freed before the next kind is trained
        for _ in range(trainer.settings["nets"]):
            net += 1
            with enough_memory(smaller_batches(trainer.settings, folder)):
                result = trainer.fit(net, folder, config["nets"], verbose)
            yield result
