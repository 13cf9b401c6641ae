import datetime
import sys

import recipes
from recognizer.base import environment, gpu_advice, machine
from recognizer.base.errors import UserError, enough_memory
from recognizer.base.words import choose_name, duration, hyphens
from recognizer.config import checks, members, schema
from recognizer.config.overrides import parse_override, resolve


def chosen(arguments):
    """Returns (settings, data source, the name to number the run by) as the arguments have them."""
    name = choose_name("recipe", arguments.recipe or "single", recipes.RECIPES)
    overrides = []
    if arguments.model:
        overrides += [("model", arguments.model), ("model_config", {})]
    for key in ("nets", "epochs", "batch_size", "weights", "validation_split"):
        if (value := getattr(arguments, key)) is not None:
            overrides.append((key, value))
    if arguments.learning_rate is not None:
        overrides.append(("schedule.learning_rate", arguments.learning_rate))
    if arguments.shared_split:
        overrides.append(("bagging", False))
    overrides += map(parse_override, arguments.set or [])
    if dict(overrides).get("steps_per_epoch") and "min_steps_per_epoch" not in dict(overrides):
        overrides.append(("min_steps_per_epoch", 1))  # the number that was asked for
    config = {"recipe": name} | resolve(name, overrides)
    config["augment_engine"] = arguments.augment_engine or "batch"
    config["precision"] = arguments.precision or "auto"
    config["seed"] = arguments.seed or 0
    config["deterministic"] = arguments.deterministic
    config["tensorboard"] = arguments.tensorboard
    checks.check_seed("--seed", config["seed"])
    return config, arguments.data or "auto", name if arguments.recipe else hyphens(arguments.model or name)


def recorded(arguments):
    """As `chosen`, of the run that is to be repeated."""
    from recognizer.runs import run_folder

    refuse_others(arguments, "repeat", "is")
    folder = run_folder.find(arguments.repeat)
    config = run_folder.read_config(folder)
    others = ("augment_engine", "precision", "seed", "deterministic", "tensorboard", "steps_per_call")
    settings = {key: config[key] for key in ("recipe", *schema.DEFAULTS, *others) if key in config}
    return settings, arguments.data or config["data"]["source"], f"{folder.name}-repeat"


def started(arguments, config, source, name):
    """Checks the settings and the data, and makes the folder of a new run: returns (config, folder, fit.Compiled)."""
    from recognizer.runs import run_folder

    if arguments.run and run_folder.named(arguments.run).exists():
        raise UserError(f"run {arguments.run!r} exists: go on with it by --resume, or choose another name")
    digits, rows, seen, plan, compiled = planned(config, source)
    config["data"] = {
        "source": digits.source,
        "origin": digits.train.origin,
        "fingerprint": digits.train.fingerprint(),
        "test_fingerprint": digits.test.fingerprint() if digits.test else None,
        "rows": len(digits.train.x),
    }
    config["created"] = datetime.datetime.now(datetime.UTC).isoformat()
    config["versions"] = machine.versions()
    config["commit"] = machine.commit()
    config["command"] = ["train.py", *sys.argv[1:]]
    print_plan(config, plan, len(rows))
    return config, run_folder.create(arguments.run, name, config, seen), compiled


def planned(config, source):
    """Loads the data, completes the settings by it, and tries every kind of net of a run.

    Returns (dataset.Digits, net 1's training rows, the labelled images' hashes, a plan as print_plan has it,
    fit.Compiled).
    """
    environment.choose_threads(config)
    from recognizer.data import sources, streams

    digits = sources.load(source)
    print_data(digits)
    if digits.test is None:
        print("        without a test set: predict.py will need --test")

    environment.import_keras(config["deterministic"])
    import augment
    from recognizer.base.backend import TENSORFLOW
    from recognizer.nn import building
    from recognizer.nn.precision import native_precision
    from recognizer.training import batches, fitting, trial

    gpu_advice.print_advice()
    if config["tensorboard"]:
        environment.need("tensorboard", "python -m pip install tensorboard==2.21.0")
        environment.need("tensorflow", "Keras writes for TensorBoard by TensorFlow: install requirements.txt")
    if config["precision"] == "auto":
        config["precision"] = native_precision()
    elif config["precision"] != native_precision(config["precision"]):
        print(f"        {config['precision']} is not native to this processor: float32 would be faster")

    def all_arguments(settings):
        return building.all_arguments(settings["model"], settings["model_config"], digits.train.statistics)

    config["model_config"] = all_arguments(config)
    for i, own in enumerate(config["members"], 1):
        if {"model", "model_config"} & own.keys():
            settings = members.member(config | {"nets": len(config["members"])}, i)
            for key in [key for key in own if key.startswith("model_config.")]:
                del own[key]
            own["model_config"] = all_arguments(settings)
    rows, validation_rows = streams.split_rows(config, 1, len(digits.train.x))
    seen = digits.train.image_hashes()
    print_copies(seen, rows, validation_rows)
    compiled, plan, net = fitting.Compiled(), [], 1
    for settings in members.kinds(config):
        augment.Augmentation(**settings["augmentation"]).check_engine(settings["augment_engine"])
        own_rows, _ = streams.split_rows(settings, net, len(digits.train.x))
        steps = batches.steps_per_epoch(settings, len(rows))
        plan.append((trial.tried(compiled, settings, net, steps, digits.train, own_rows), settings, steps))
        net += settings["nets"]
    if not TENSORFLOW:  # recorded, so that the run has the same bits when it is resumed or repeated
        config.setdefault("steps_per_call", min(trainer.steps_per_execution for trainer, *_ in plan))
    return digits, rows, seen, plan, compiled


def check(arguments):
    """Tries the nets that would be trained, and prints what they are; makes no run."""
    config, source, _ = chosen(arguments)
    with enough_memory(smaller_batches(config)):
        _, rows, _, plan, _ = planned(config, source)
    from recognizer.training import trial

    print_plan(config, plan, len(rows))
    for trainer, settings, _ in plan:
        name, size = settings["model"], settings["batch_size"]
        print(trial.summary(trainer.net))
        print(f"{name}: {trial.parameters(trainer.net)}")
        print(f"{name}: {1000 * trainer.step_seconds:,.1f} ms a step of {size} images in {settings['precision']}")
        print(f"{name} is fit to train: it took some steps, and predicts the same once saved and loaded")


def resumed(arguments):
    """Returns (config, folder, fit.Compiled) of the run to go on with."""
    from recognizer.data import sources
    from recognizer.runs import run_folder

    refuse_others(arguments, "resume", "goes on with")
    folder = run_folder.find(arguments.run) if arguments.run else run_folder.newest(finished=False)
    if run_folder.is_finished(folder):
        raise UserError(f"run {folder.name!r} is finished: python predict.py {folder.name}")
    with run_folder.locked(folder):  # a run that another process trains is refused at once
        config = run_folder.read_config(folder)
    environment.choose_threads(config)
    if arguments.data:  # where it is now: elsewhere than when the run was started
        digits = sources.load(arguments.data)
        run_folder.check_data(folder, config, digits)
        config["data"]["source"] = digits.source
    environment.import_keras(config["deterministic"])
    from recognizer.training import fitting

    gpu_advice.print_advice()
    return config, folder, fitting.Compiled()


def refuse_others(arguments, option, does):
    given = [
        key
        for key, value in vars(arguments).items()
        if value is not None and value is not False and key not in ("run", "data", "debug", option)
    ]
    if given:
        raise UserError(f"--{option} {does} a run by its own settings: leave out {', '.join(given)}")


def smaller_batches(config, folder=None):
    """Returns what to do if memory runs out. folder: that of the run, if it exists already."""
    size, replicas = config["batch_size"], config["replicas"]
    half = size // 2 // replicas * replicas
    smaller = f"--batch-size {half} (it is {size})" if half else "a smaller net"
    if folder is None:
        return f"try {smaller}, or close other programs that use this machine's memory or its GPU's"
    return (
        f"close other programs that use this machine's memory or its GPU's, and go on with python train.py "
        f"--run {folder.name} --resume; or start a new run with {smaller}"
    )


def print_data(digits):
    print(f"Data:   {digits.train.origin}: {len(digits.train.x):,} labelled images", end="")
    print(f"; {digits.test.origin}: {len(digits.test.x):,} to predict" if digits.test else "")
    for hint in digits.hint.splitlines():
        print(f"        {hint}")


def print_copies(hashes, rows, validation_rows):
    """Tells of labelled images that stand more than once. hashes: dataset.Images.image_hashes of all labelled rows."""
    import numpy as np

    different, first, count = np.unique(hashes, return_index=True, return_counts=True)
    if len(different) == len(hashes):
        return
    row = first[count > 1].min()
    copy = np.flatnonzero(hashes == hashes[row])[1]
    copies = len(hashes) - len(different)
    print(f"        {copies:,} labelled images are copies of others (rows {row + 1} and {copy + 1})")
    seen = int(np.isin(hashes[validation_rows], hashes[rows]).sum())
    if seen:
        print(
            f"        {seen:,} of net 1's {len(validation_rows):,} validation images are also among its training images"
        )


def print_plan(config, plan, rows):
    """plan: for each of recipes.kinds, (Trainer, settings, steps an epoch)."""
    print(f"Recipe: {config['recipe']}, {rows:,} rows to train on")
    seconds = 0
    for trainer, settings, steps in plan:
        nets = f"{settings['nets']} nets" if settings["nets"] > 1 else "1 net"
        epochs = f"{settings['epochs']} epochs" if settings["epochs"] > 1 else "1 epoch"
        print(
            f"        {nets} of {trainer.count_params():,} parameters ({settings['model']}), "
            f"{epochs} of {steps:,} steps of {settings['batch_size']} images"
        )
        seconds += settings["nets"] * settings["epochs"] * steps * trainer.step_seconds
    print(f"        about {duration(seconds)}, by the first steps")
