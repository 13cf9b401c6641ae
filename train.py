# PYTHON_ARGCOMPLETE_OK
"""Trains a recipe, one net or many, and leaves runs/NAME/ with settings, log, result, weights and pictures.

    python train.py                              the default recipe, on the best data that is there
    python train.py grenholm --data kaggle       a published notebook, on Kaggle's files in data/
    python train.py deotte --nets 3 --epochs 10  an ensemble, each net with a validation split of its own
    python train.py --model mine                 your own function in models.py
    python train.py --model mine --check         try it without a run: summary, parameters, seconds a step
    python train.py --resume                     go on with the newest unfinished run
    python train.py --repeat single-1            that run again, and what is different then
    python train.py --list                       every recipe and architecture

Then: python predict.py
"""

import datetime
import importlib
import platform
import subprocess
import sys
from pathlib import Path

import console
import recipes
from console import UserError, duration


def parser():
    p = console.Parser(prog="train.py", description=__doc__)
    recipe = p.add_argument("recipe", nargs="?", metavar="RECIPE", help="a name from --list (default: single)")
    recipe.completer = lambda **_: recipes.RECIPES
    p.add_argument("--list", action="store_true", help="list the recipes and the architectures, and exit")
    p.add_argument("--check", action="store_true", help="try the nets on a few digits, describe them, and make no run")

    group = p.add_argument_group("data")
    group.add_argument(
        "--data",
        metavar="SOURCE",
        help="auto, kaggle, mnist, digits, or the path of a folder, zip, CSV or npz (default: auto, the best there is)",
    )
    group.add_argument("--validation-split", type=float, metavar="F", help="share of the labelled rows to measure on")
    group.add_argument("--shared-split", action="store_true", help="one split for all nets, though the recipe bags")

    group = p.add_argument_group("training (default: as the recipe has it)")
    group.add_argument("--nets", type=int, metavar="N", help="how many nets to train, and to average")
    group.add_argument("--epochs", type=int, metavar="E", help="passes over the training rows, each augmented anew")
    group.add_argument("--batch-size", type=int, metavar="B", help="images a step")
    group.add_argument("--learning-rate", type=float, metavar="R", help="the schedule's (its peak, or where it begins)")
    group.add_argument("--model", metavar="NAME", help="an architecture of models.py")
    group.add_argument("--weights", metavar="WHICH", help="which count: last, averaged (over steps), or best (epoch)")
    group.add_argument(
        "--augment-engine",
        choices=("batch", "keras"),
        help="whole batches (default), or ImageDataGenerator, which is slower and knows more transforms",
    )
    group.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="of the layers' arithmetic; auto (default): bfloat16 where the processor computes it natively, float16 on "
        "GPUs that have only that (T4, V100), else float32",
    )
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="exactly the same net again on a GPU, too, by slower kernels (on a CPU every run is exact without it, and "
        "takes 1.15 times as long with it)",
    )
    group.add_argument("--seed", type=int, metavar="S", help="all randomness follows from it (default: 0)")
    group.add_argument(
        "--set",
        action="append",
        metavar="KEY=VALUE",
        help="any setting of recipes.py, e.g. schedule.decay=0.9 or augmentation.rotation_range=15; may be repeated",
    )

    group = p.add_argument_group("run")
    group.add_argument("--run", metavar="NAME", help="the run's name (default: RECIPE-1, -2, ...)")
    group.add_argument("--resume", action="store_true", help="go on with run NAME, or with the newest unfinished one")
    group.add_argument(
        "--tensorboard",
        action="store_true",
        help="write curves, learning rate, graph and pictures for it, too: tensorboard --logdir runs",
    )
    group.add_argument("--repeat", metavar="NAME", help="train run NAME again by its own settings, and compare")
    return p


def main(argv=None):
    arguments = parser().parse_args(argv)
    if arguments.list:
        return list_all()
    if arguments.check and not (arguments.resume or arguments.repeat):
        return check(arguments)
    if arguments.resume:
        config, folder, compiled = resumed(arguments)
    else:
        settings, source, name = recorded(arguments) if arguments.repeat else chosen(arguments)
        with console.enough_memory(smaller_batches(settings)):
            config, folder, compiled = started(arguments, settings, source, name)

    import dataset
    import fit
    import plots
    import report
    import runs

    print(f"Run:    {folder}, {where()}, {config['precision']}")
    try:
        with runs.locked(folder):
            runs.record_source(folder, config)
            for net in range(1, config["nets"] + 1):
                with console.enough_memory(smaller_batches(recipes.member(config, net), folder)):
                    print_net(config, fit.fit_net(config, net, folder, compiled))
            digits = dataset.load(config["data"]["source"])
            runs.check_data(folder, config, digits)
            result = runs.gather(folder, config, digits)
            pictures = plots.run_pictures(folder, digits)
            page = report.write(folder, config, result)
            if config["tensorboard"]:
                plots.to_tensorboard(folder, pictures)
            runs.finish(folder, config, result)
    except (KeyboardInterrupt, console.Terminated) as interrupt:
        raise type(interrupt)(f"stopped; go on with: python train.py --run {folder.name} --resume") from None
    print_result(folder, result, pictures)
    print(f"Report: {page}")
    print(f"Next: python predict.py {folder.name}")
    if arguments.repeat:
        import compare

        print("\n".join(compare.repeated(runs.find(arguments.repeat), folder)))


def chosen(arguments):
    """Returns (settings, data source, the name to number the run by) as the arguments have them."""
    name = console.choose_name("recipe", arguments.recipe or "single", recipes.RECIPES)
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
    overrides += map(recipes.parse_override, arguments.set or [])
    if dict(overrides).get("steps_per_epoch") and "min_steps_per_epoch" not in dict(overrides):
        overrides.append(("min_steps_per_epoch", 1))  # the number that was asked for
    config = {"recipe": name} | recipes.resolve(name, overrides)
    config["augment_engine"] = arguments.augment_engine or "batch"
    config["precision"] = arguments.precision or "auto"
    config["seed"] = arguments.seed or 0
    config["deterministic"] = arguments.deterministic
    config["tensorboard"] = arguments.tensorboard
    recipes.check_seed("--seed", config["seed"])
    return config, arguments.data or "auto", name if arguments.recipe else console.hyphens(arguments.model or name)


def recorded(arguments):
    """As `chosen`, of the run that is to be repeated."""
    import runs

    refuse_others(arguments, "repeat", "is")
    folder = runs.find(arguments.repeat)
    config = runs.read_config(folder)
    others = ("augment_engine", "precision", "seed", "deterministic", "tensorboard", "steps_per_call")
    settings = {key: config[key] for key in ("recipe", *recipes.DEFAULTS, *others) if key in config}
    return settings, arguments.data or config["data"]["source"], f"{folder.name}-repeat"


def started(arguments, config, source, name):
    """Checks the settings and the data, and makes the folder of a new run: returns (config, folder, fit.Compiled)."""
    import runs

    if arguments.run and runs.named(arguments.run).exists():
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
    config["versions"] = versions()
    config["commit"] = commit()
    config["command"] = ["train.py", *sys.argv[1:]]
    print_plan(config, plan, len(rows))
    return config, runs.create(arguments.run, name, config, seen), compiled


def planned(config, source):
    """Loads the data, completes the settings by it, and tries every kind of net of a run.

    Returns (dataset.Digits, net 1's training rows, the labelled images' hashes, a plan as print_plan has it,
    fit.Compiled).
    """
    console.choose_threads(config)
    import dataset

    digits = dataset.load(source)
    print_data(digits)
    if digits.test is None:
        print("        without a test set: predict.py will need --test")

    console.import_keras(config["deterministic"])
    import augment
    import batches
    import fit
    import gpu
    import layers
    import models
    import trial

    gpu.print_advice()
    if config["tensorboard"]:
        console.need("tensorboard", "python -m pip install tensorboard==2.21.0")
        console.need("tensorflow", "Keras writes for TensorBoard by TensorFlow: install requirements.txt")
    if config["precision"] == "auto":
        config["precision"] = layers.native_precision()
    elif config["precision"] != layers.native_precision(config["precision"]):
        print(f"        {config['precision']} is not native to this processor: float32 would be faster")

    def all_arguments(settings):
        return models.all_arguments(settings["model"], settings["model_config"], digits.train.statistics)

    config["model_config"] = all_arguments(config)
    for i, own in enumerate(config["members"], 1):
        if {"model", "model_config"} & own.keys():
            settings = recipes.member(config | {"nets": len(config["members"])}, i)
            for key in [key for key in own if key.startswith("model_config.")]:
                del own[key]
            own["model_config"] = all_arguments(settings)
    rows, validation_rows = fit.split_rows(config, 1, len(digits.train.x))
    seen = digits.train.image_hashes()
    print_copies(seen, rows, validation_rows)
    compiled, plan, net = fit.Compiled(), [], 1
    for settings in recipes.kinds(config):
        augment.Augmentation(**settings["augmentation"]).check_engine(settings["augment_engine"])
        own_rows, _ = fit.split_rows(settings, net, len(digits.train.x))
        steps = batches.steps_per_epoch(settings, len(rows))
        plan.append((trial.tried(compiled, settings, net, steps, digits.train, own_rows), settings, steps))
        net += settings["nets"]
    if not layers.TENSORFLOW:  # recorded, so that the run has the same bits when it is resumed or repeated
        config.setdefault("steps_per_call", min(trainer.steps_per_execution for trainer, *_ in plan))
    return digits, rows, seen, plan, compiled


def check(arguments):
    """Tries the nets that would be trained, and prints what they are; makes no run."""
    config, source, _ = chosen(arguments)
    with console.enough_memory(smaller_batches(config)):
        _, rows, _, plan, _ = planned(config, source)
    import trial

    print_plan(config, plan, len(rows))
    for trainer, settings, _ in plan:
        name, size = settings["model"], settings["batch_size"]
        print(trial.summary(trainer.net))
        print(f"{name}: {trial.parameters(trainer.net)}")
        print(f"{name}: {1000 * trainer.step_seconds:,.1f} ms a step of {size} images in {settings['precision']}")
        print(f"{name} is fit to train: it took some steps, and predicts the same once saved and loaded")


def resumed(arguments):
    """Returns (config, folder, fit.Compiled) of the run to go on with."""
    import runs

    refuse_others(arguments, "resume", "goes on with")
    folder = runs.find(arguments.run) if arguments.run else runs.newest(finished=False)
    if runs.is_finished(folder):
        raise UserError(f"run {folder.name!r} is finished: python predict.py {folder.name}")
    with runs.locked(folder):  # a run that another process trains is refused at once
        config = runs.read_config(folder)
    console.choose_threads(config)
    if arguments.data:  # where it is now: elsewhere than when the run was started
        import dataset

        digits = dataset.load(arguments.data)
        runs.check_data(folder, config, digits)
        config["data"]["source"] = digits.source
    console.import_keras(config["deterministic"])
    import fit
    import gpu

    gpu.print_advice()
    return config, folder, fit.Compiled()


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


def versions():
    """What a run is computed with: returns {name: version, or the processor's or the GPUs' name}."""
    import joblib
    import keras

    import gpu

    names = ("keras", keras.backend.backend(), "numpy", "scipy")
    modules = dict(zip(names, names, strict=True)) | {"scikit-learn": "sklearn"}
    here = {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {joblib.cpu_count()} cores",
        "processor": gpu.processor_name(),
        "gpu": gpu.gpu_names(),
    }
    return here | {name: importlib.import_module(module).__version__ for name, module in modules.items()}


def commit():
    """The git commit of these scripts, "+changes" where they differ from it; None outside git."""
    git = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def where():
    """Returns the backend and what it computes on, in words."""
    import joblib
    import keras

    import gpu

    return f"{keras.backend.backend()} on {gpu.gpu_names() or f'the CPU, {joblib.cpu_count()} cores'}"


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


def print_net(config, result):
    parts = [f"Net {result['net']}/{config['nets']}:"]
    if "validation_accuracy" in result:
        parts.append(f"validation {result['validation_accuracy']:.2%} of {result['validation_rows']:,}")
    if "test_accuracy" in result:
        parts.append(f"test {result['test_accuracy']:.2%}")
    if "test_accuracy_augmented" in result:
        parts.append(f"augmented test {result['test_accuracy_augmented']:.2%}")
    parts.append(f"{duration(result['seconds'])}, {result['images_per_second']:,.0f} images/s")
    print("  ".join(parts), flush=True)


def print_result(folder, result, pictures):
    import runs

    several = result["nets"] > 1
    if "ensemble_validation" in result:
        part = result["ensemble_validation"]
        kind = "out-of-bag " if part["out_of_bag"] else ""
        biased = f", {runs.BIASED}" if result["chosen_on_validation"] else ""
        print(
            f"Validation accuracy: {part['accuracy']:.2%} on {part['rows']:,} {kind}rows "
            f"({part['coverage']:.0%} of the labelled ones{biased})"
        )
    if "ensemble_test" in result:
        part = result["ensemble_test"]
        print(f"Test accuracy:       {part['accuracy']:.2%} on {part['rows']:,} rows{', all nets' * several}")
    print(f"Pictures: {folder}/: {', '.join(path.name for path in pictures)}")


def list_all():
    """Prints every recipe and architecture."""
    console.import_keras()
    import batches
    import estimate
    import layers
    import models

    print(f"{'RECIPE':<24}{'nets':>5}{'epochs':>7}{'parameters':>12}{'time here':>13}  source; figure reported")
    speed = estimate.machine_speed()
    for name in recipes.RECIPES:
        config = recipes.resolve(name) | {"precision": layers.native_precision()}
        rows = round(estimate.ROWS * (1 - config["validation_split"]))
        try:
            plan = [
                (models.build(kind["model"], **kind["model_config"]), kind, batches.steps_per_epoch(kind, rows))
                for kind in recipes.kinds(config)
            ]
        except UserError as error:
            print(f"{name:<24}{error}")
            continue
        seconds = estimate.training_seconds(plan, speed)
        figure = f"; {config['reported']}" if config["reported"] else ""
        print(
            f"{name:<24}{config['nets']:>5}{config['epochs']:>7}{plan[0][0].count_params():>12,}"
            f"{duration(seconds) if seconds else '-':>13}  {config['source']}{figure}"
        )
    print(f"(time on {estimate.ROWS:,} labelled rows, by estimate; a run says its own before it starts)\n")
    print(f"{'ARCHITECTURE':<24}{'parameters':>24}  (functions of models.py)")
    for name, function in models.ARCHITECTURES.items():
        first = (function.__doc__ or "").strip().split("\n")[0]
        try:
            print(f"{name:<24}{models.build(name).count_params():>24,}  {first}")
        except UserError as error:
            print(f"{name:<24}{error}")


if __name__ == "__main__":
    console.run(main)
