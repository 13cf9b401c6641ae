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

import recipes
from recognizer.base import cli, environment, machine
from recognizer.base.errors import Terminated, UserError, enough_memory
from recognizer.base.words import duration
from recognizer.config import members
from recognizer.config.overrides import config_from_arguments, resolve
from recognizer.training import plan


def parser():
    p = cli.Parser(prog="train.py", description=__doc__)
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
        return plan.check(arguments)
    if arguments.resume:
        config, folder, compiled = plan.resumed(arguments)
    else:
        settings, source, name = plan.recorded(arguments) if arguments.repeat else config_from_arguments(arguments)
        with enough_memory(plan.smaller_batches(settings)):
            config, folder, compiled = plan.started(arguments, settings, source, name)

    from recognizer.data import sources
    from recognizer.reports import report_page, run_pictures
    from recognizer.runs import compare, gathered, run_folder
    from recognizer.training import fitting

    print(f"Run:    {folder}, {machine.where()}, {config['precision']}")
    try:
        with run_folder.locked(folder):
            run_folder.record_source(folder, config)
            for net in range(1, config["nets"] + 1):
                with enough_memory(plan.smaller_batches(members.member(config, net), folder)):
                    print_net(config, fitting.fit_net(config, net, folder, compiled))
            digits = sources.load(config["data"]["source"])
            run_folder.check_data(folder, config, digits)
            result = gathered.gather(folder, config, digits)
            pictures = run_pictures.run_pictures(folder, digits)
            page = report_page.write(folder, config, result)
            if config["tensorboard"]:
                run_pictures.to_tensorboard(folder, pictures)
            gathered.finish(folder, config, result)
    except (KeyboardInterrupt, Terminated) as interrupt:
        raise type(interrupt)(f"stopped; go on with: python train.py --run {folder.name} --resume") from None
    print_result(folder, result, pictures)
    print(f"Report: {page}")
    print(f"Next: python predict.py {folder.name}")
    if arguments.repeat:
        print("\n".join(compare.repeated(run_folder.find(arguments.repeat), folder)))


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
    from recognizer.runs import metrics

    several = result["nets"] > 1
    if "ensemble_validation" in result:
        part = result["ensemble_validation"]
        kind = "out-of-bag " if part["out_of_bag"] else ""
        biased = f", {metrics.BIASED}" if result["chosen_on_validation"] else ""
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
    environment.import_keras()
    from recognizer.nn import building
    from recognizer.nn.precision import native_precision
    from recognizer.training import batches, estimate

    print(f"{'RECIPE':<24}{'nets':>5}{'epochs':>7}{'parameters':>12}{'time here':>13}  source; figure reported")
    speed = estimate.machine_speed()
    for name in recipes.RECIPES:
        config = resolve(name) | {"precision": native_precision()}
        rows = round(estimate.ROWS * (1 - config["validation_split"]))
        try:
            plan = [
                (building.build(kind["model"], **kind["model_config"]), kind, batches.steps_per_epoch(kind, rows))
                for kind in members.kinds(config)
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
    for name, function in building.ARCHITECTURES.items():
        first = (function.__doc__ or "").strip().split("\n")[0]
        try:
            print(f"{name:<24}{building.build(name).count_params():>24,}  {first}")
        except UserError as error:
            print(f"{name:<24}{error}")


if __name__ == "__main__":
    cli.run(main)
