"""Prepares a run before training: loads its data, completes its settings, tries its nets, and makes its folder."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import datetime
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recognizer.base import environment, gpu_advice, machine
from recognizer.base.errors import LONGEST_LINE, UserError, about, enough_memory
from recognizer.base.words import duration, hyphens
from recognizer.config import checks, members, schema
from recognizer.config.overrides import all_recipes, resolve
from recognizer.data import sources, streams
from recognizer.data.arrays import Digits
from recognizer.runs import run_folder
from recognizer.training.memory import smaller_batches

if TYPE_CHECKING:
    from augment import Augmentation
    from recognizer.training.trainer import Trainer


@dataclasses.dataclass
class Plan:
    """Everything that is needed to train a run.

    Attributes:
        config: dict of all settings.
        digits: arrays.Digits.
        hashes: uint64 (n,), Images.image_hashes of the labelled images.
        trainers: list with a compiled Trainer for each of members.kinds.
    """

    config: dict
    digits: Digits
    hashes: np.ndarray
    trainers: list[Trainer]


def prepared(config: dict, source: str, digits: Digits | None = None) -> Plan:
    """Loads the data, completes the settings, tries a net of each kind, and prints the plan; returns the Plan.

    digits: the Digits of the source, if they are already loaded.
    Raises UserError if data, settings or nets cannot be used, or if memory runs out.
    """
    environment.choose_threads(config)
    with enough_memory(smaller_batches(config)):
        digits = digits or sources.load(source)
        print_data(digits)
        environment.import_keras(config["deterministic"])
        gpu_advice.print_advice()
        chosen = config["precision"] != "auto"
        complete(config, digits)
        hashes = digits.train.image_hashes()
        rows, validation_rows = streams.split_rows(config, 1, len(digits.train.x))
        print_copies(hashes, rows, validation_rows)
        plan = Plan(config, digits, hashes, tried(config, digits, chosen))
        print_plan(plan)
        return plan


def for_rate_test(config: dict, seed: int, source: str) -> Trainer:
    """Loads the data, and tries net 1 of a recipe with lr_finder.SETTINGS; returns its Trainer.

    config: dict of all settings of a recipe. seed: int. Raises UserError like `prepared`.
    """
    run = {key: setting.default for key, setting in schema.RUN_SETTINGS.items()} | {"seed": seed}
    config = run | members.member(config, 1) | {"nets": 1, "members": []}
    environment.choose_threads(config)
    digits = sources.load(source)
    print_data(digits)
    environment.import_keras()
    from recognizer.training import lr_finder

    config |= lr_finder.SETTINGS
    if augmentation(config).keras_only:
        config["augment_engine"] = "keras"
    chosen = config["precision"] != "auto"
    complete(config, digits)
    (trainer,) = tried(config, digits, chosen)
    steps, size = trainer.batches.steps, config["batch_size"]
    print(f"Rates:  {steps} steps of {size} images, ", end="")
    print(f"at most about {duration(steps * trainer.model.step_seconds)}, estimated from the first steps", flush=True)
    return trainer


def complete(config: dict, digits: Digits) -> None:
    """Completes the settings that depend on the machine and the data: precision and arguments of architectures."""
    from recognizer.nn import building
    from recognizer.nn.precision import native_precision

    if config["tensorboard"]:
        environment.need("tensorboard", "python -m pip install tensorboard==2.21.0")
        environment.need("tensorflow", "Keras needs it to write TensorBoard logs: install requirements.txt")
    if config["precision"] == "auto":
        config["precision"] = native_precision()
    elif config["precision"] != native_precision(config["precision"]):
        print(f"        {config['precision']} is not native to this processor: float32 would be faster")

    def all_arguments(settings):
        with _about(settings, "model", "model_config"):
            return building.all_arguments(settings["model"], settings["model_config"], digits.train.statistics)

    for i, own in enumerate(config["members"], 1):
        if {"model", "model_config"} & own.keys():
            settings = members.member(config | {"nets": len(config["members"])}, i)
            for key in [key for key in own if key.startswith("model_config.")]:
                del own[key]
            own["model_config"] = all_arguments(settings)
    config["model_config"] = all_arguments(config)


@contextlib.contextmanager
def _about(settings: dict, *keys: str) -> Iterator[None]:
    """Puts the origin of a net's wrong settings before the message of a UserError that is raised in the block.

    keys: the settings that the block checks. See `_origin`.
    """
    try:
        yield
    except UserError:
        with about(_origin(settings, keys)):
            raise


def _origin(settings, keys):
    """Returns the option or the sweep that changed one of the settings `keys`, or the recipe if none is changed.

    A setting counts as changed if no net of the recipe has its value. Uses the first changed setting of `keys`.
    """
    name = settings["recipe"]
    if name not in all_recipes():  # it was when the run began
        return f"recipe {name!r}"
    recipe = resolve(name)
    own = members.kinds(recipe | {"nets": max(1, len(recipe["members"]))})
    for key in keys:
        if settings[key] not in [kind[key] for kind in own]:
            if "sweep" in settings:
                return f"sweep {settings['sweep']!r}"
            key = "members" if any(key in member for member in settings["members"]) else key
            return "--model" if key == "model" else f"--set {key}"
    return f"recipe {name!r} in recipes.py"


def augmentation(settings: dict) -> Augmentation:
    """Returns a net's Augmentation.

    Raises UserError if the setting `augmentation` or `joint_flips` is not valid. The message names the recipe, option
    or sweep that the setting comes from.
    """
    import augment
    from recognizer.nn import flip_classes

    with _about(settings, "joint_flips", "augmentation"):
        flip_classes.checked(settings)
    with _about(settings, "augmentation"):
        return augment.Augmentation(**settings["augmentation"])


def tried(config: dict, digits: Digits, chosen: bool) -> list[Trainer]:
    """Tries the first net of each kind; returns a list of their Trainers.

    chosen: bool, whether the user has given the precision. If not, a kind of net that cannot train in the processor's
    half precision gets float32 in the config.
    """
    from recognizer.base.backend import TENSORFLOW
    from recognizer.nn import building

    trainers, net = [], 1
    for settings in members.kinds(config):
        augmentation(settings).engine(settings["augment_engine"])
        with building.located(hyphens(settings["model"])):
            trainers.append(_tried(settings, digits, net, chosen or "precision" in members.own(config, net)))
        if trainers[-1].settings["precision"] != settings["precision"]:
            for number in range(net, net + settings["nets"]):
                (members.own(config, number) if config["members"] else config)["precision"] = "float32"
        net += settings["nets"]
    if not TENSORFLOW:  # recorded, so that a resumed or repeated run is bit-identical
        measured = min(trainer.model.steps_per_execution for trainer in trainers)
        for settings in (config, *(trainer.settings for trainer in trainers)):
            settings.setdefault("steps_per_call", measured)
    return trainers


def _tried(settings, digits, net, chosen):
    """Tries net number `net`; returns its Trainer. settings: one of members.kinds. chosen: see `tried`."""
    from recognizer.nn import building
    from recognizer.training import trial
    from recognizer.training.trainer import Trainer

    trainer, precision = Trainer(settings, digits), settings["precision"]
    untrained = trial.untrained(settings, digits)
    try:
        trial.try_net(trainer, net, *untrained)
        return trainer
    except UserError as error:
        if precision == "float32":
            raise
        why = textwrap.shorten(str(error), LONGEST_LINE - building.PLACE - 40, placeholder=" ...")
    trainer = Trainer(settings | {"precision": "float32"}, digits)
    trial.try_net(trainer, net, *untrained)  # raises the error if the precision is not its cause
    if chosen:
        raise UserError(f"in {precision} {why}: use --precision float32")
    print(f"        trains in float32, since in {precision} {why}")
    return trainer


def check(config: dict, digits: Digits, seen: dict[str, dict]) -> bool:
    """Raises UserError if a config's augmentation or one of its architectures cannot be used. Does not train.

    seen: {architecture_key: edits.record} of the nets built so far. New nets are added, so that each is built once.
    Returns whether an epoch's validation is meaningless, since batch-norm statistics are recomputed only at the end.
    """
    from recognizer.nn import batch_norm, edits
    from recognizer.training import trial

    config, late = copy.deepcopy(config), False
    complete(config, digits)
    for settings in members.kinds(config):
        augmentation(settings).engine(settings["augment_engine"])
        if (key := architecture_key(settings)) not in seen:
            network = trial.own_net(settings)
            seen[key] = edits.record(network, trial.some_digits(digits.train, settings["joint_flips"]))
            seen[key]["batch_norm"] = batch_norm.is_in(network)
        late |= bool(settings["update_bn"]) and not checks.recalibrates(settings) and seen[key]["batch_norm"]
    return late


def architecture_key(settings: dict) -> str:
    """Returns a text that identifies the architecture of a net. settings: one of members.kinds."""
    return json.dumps([settings[key] for key in ("model", "model_config", "joint_flips")])


def create(
    plan: Plan, name: str | None, numbered: str, command: list[str] | None = None, commit: str | None = None
) -> Path:
    """Records data, versions and command in a run's config, and makes its folder; returns the folder.

    name: the run's name; None: `numbered` and the next free number, such as single-1. command: list, the command line
    to record; None: train.py's. commit: the git commit to record; None: that of the repository.
    """
    digits = plan.digits
    plan.config |= {
        "data": {
            "source": digits.source,
            "origin": digits.train.origin,
            "fingerprint": digits.train.fingerprint(),
            "test_fingerprint": digits.test.fingerprint() if digits.test else None,
            "rows": len(digits.train.x),
        },
        "created": datetime.datetime.now(datetime.UTC).isoformat(),
        "versions": machine.versions(),
        "commit": commit or machine.commit(),
        "command": command or ["train.py", *sys.argv[1:]],
    }
    architectures = [trainer.architecture for trainer in plan.trainers]
    return run_folder.create(name, numbered, plan.config, plan.hashes, architectures)


def resumed(name: str | None, source: str | None, digits: Digits | None = None) -> tuple[dict, Path, Digits]:
    """Returns (config, folder, digits) of the run to resume. name: None for the newest unfinished run.

    source: the data source, None for the one in its config. digits: see `prepared`.
    """
    folder = run_folder.find(name) if name else run_folder.newest(finished=False)
    if run_folder.is_finished(folder):
        raise UserError(f"run {folder.name!r} is finished: python predict.py {folder.name}")
    if run_folder.is_pruned(folder):
        run_folder.check_finished(folder)
    with run_folder.locked(folder):  # fails at once if another process trains the run
        config = run_folder.read_config(folder)
    environment.choose_threads(config)
    digits = digits or sources.load(source or config["data"]["source"])
    run_folder.check_data(folder, config, digits)
    print_data(digits)
    config["data"]["source"] = digits.source
    config.setdefault("steps_per_call", 1)  # for runs older than this setting
    environment.import_keras(config["deterministic"])
    gpu_advice.print_advice()
    from recognizer.training import trial

    trial.check_unchanged(folder, config, digits)
    return config, folder, digits


def recorded(name: str) -> tuple[dict, str]:
    """Returns (settings, data source) of the run to repeat."""
    config = run_folder.read_config(run_folder.find(name))
    keys = ("recipe", *schema.DEFAULTS, *schema.RUN_SETTINGS, "steps_per_call", "threads", "jobs")
    return {key: config[key] for key in keys if key in config}, config["data"]["source"]


def print_data(digits: Digits) -> None:
    print(f"Data:   {digits.train.origin}: {len(digits.train.x):,} labelled images", end="")
    print(f"; {digits.test.origin}: {len(digits.test.x):,} to predict" if digits.test else "")
    for hint in digits.hint.splitlines():
        print(f"        {hint}")
    if digits.test is None:
        print("        without a test set: predict.py will need --test")


def print_copies(hashes: np.ndarray, rows: np.ndarray, validation_rows: np.ndarray) -> None:
    """Prints how many labelled images are copies of others. hashes: Images.image_hashes of all labelled rows."""
    different, first, count = np.unique(hashes, return_index=True, return_counts=True)
    if len(different) == len(hashes):
        return
    row = first[count > 1].min()
    copy = np.flatnonzero(hashes == hashes[row])[1]
    copies = len(hashes) - len(different)
    print(f"        {copies:,} labelled images are copies of others (e.g. rows {row + 1} and {copy + 1})")
    if seen := int(np.isin(hashes[validation_rows], hashes[rows]).sum()):
        print(f"        {seen:,} of net 1's {len(validation_rows):,} validation images are also in its training images")


def print_plan(plan: Plan) -> None:
    from recognizer.nn import batch_norm, optimizers

    rows, stopping = len(plan.trainers[0].rows), plan.config["early_stopping"] is not None
    print(f"Recipe: {plan.config['recipe']}, {rows:,} rows to train on")
    seconds = 0
    for trainer in plan.trainers:
        settings, steps = trainer.settings, trainer.batches.steps
        nets = f"{settings['nets']} nets" if settings["nets"] > 1 else "1 net"
        epochs = f"{settings['epochs']} epochs" if settings["epochs"] > 1 else "1 epoch"
        size, parameters = settings["batch_size"], trainer.model.count_params()
        passes = steps * size / rows
        count = f"{passes:.2g}" if passes < 10 else f"{passes:,.0f}"
        note = f" ({count} passes over the rows each)" if abs(passes - 1) > 0.05 else ""
        print(f"        {nets} of {parameters:,} parameters ({settings['model']}), ", end="")
        print(f"{'up to ' * stopping}{epochs} of {steps:,} steps of {size} images{note}")
        updates = steps * settings["epochs"] * settings["replicas"]
        if batch_norm.lags(trainer.model.network, updates) and not settings["update_bn"]:
            print("        batch-norm statistics lag behind after so few steps: --set update_bn=50 recomputes them")
        for name in optimizers.absent_layers(settings["optimizer_config"], trainer.model.network):
            print(
                f"        exclude_layers: no layer is named {name!r}, so this name excludes no layer from "
                f"{settings['optimizer']}"
            )
        seconds += settings["nets"] * settings["epochs"] * steps * trainer.model.step_seconds
    about = "at most" if stopping else "about"
    print(f"        {about} {duration(seconds)} of training, estimated from the first steps")
    if any(trainer.validates_late for trainer in plan.trainers):
        print("        validation comes at the end, after batch norm's statistics are recomputed")
