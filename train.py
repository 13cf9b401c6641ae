# PYTHON_ARGCOMPLETE_OK
"""Trains a recipe, one net or many, and leaves runs/NAME/ with settings, log, result, weights and pictures.

    python train.py                              the default recipe, on the best data that is there
    python train.py grenholm --data kaggle       a published notebook, on Kaggle's files in data/
    python train.py deotte --nets 3 --epochs 10  an ensemble, each net with a validation split of its own
    python train.py --early-stopping 3           stop when validation accuracy has not risen for 3 epochs
    python train.py --model mine                 your own function in models.py
    python train.py --model mine --check         try it without a run: summary, parameters, seconds a step
    python train.py ensemble --jobs 2            two nets at once, each on half of the cores, or on a GPU
    python train.py --resume                     go on with the newest unfinished run
    python train.py --repeat single-1            train that run again, and list the differences
    python train.py --list                       every recipe and architecture

Then: python predict.py
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from recognizer.base import cli, program
from recognizer.base.errors import UserError
from recognizer.base.words import plural
from recognizer.config.overrides import add_set_argument, all_recipes, config_from_arguments

if TYPE_CHECKING:
    from recognizer.data.arrays import Digits
    from recognizer.training.trainer import Trainer

    FitNets = Callable[..., Iterator[dict]]  # called with config, folder, digits and verbose; yields the nets' results


def parser() -> cli.Parser:
    p = cli.Parser(prog="train.py", description=__doc__)
    recipe = p.add_argument("recipe", nargs="?", metavar="RECIPE", help="a name from --list (default: single)")
    recipe.completer = all_recipes  # type: ignore[attr-defined]  # argcomplete reads it
    p.add_argument("--list", action="store_true", help="list the recipes and the architectures, and exit")
    p.add_argument("--check", action="store_true", help="try the nets on a few digits, describe them, and make no run")
    _add_data(p.add_argument_group("data"))
    _add_training(p.add_argument_group("training (default: the recipe's values)"))
    _add_arithmetic(p.add_argument_group("arithmetic and randomness"))
    _add_run(p.add_argument_group("run"))
    return p


def _add_data(group):
    group.add_argument(
        "--data",
        metavar="SOURCE",
        help="auto, kaggle, mnist, digits, or a path (formats: python -m recognizer data --help; default: auto)",
    )
    group.add_argument(
        "--validation-split", type=float, metavar="F", help="share of the labelled rows held out for validation"
    )


def _add_training(group):
    group.add_argument("--nets", type=int, metavar="N", help="how many nets to train, and to average")
    group.add_argument(
        "--epochs",
        type=int,
        metavar="E",
        help="how many epochs (in some recipes an epoch is not one pass over the rows)",
    )
    group.add_argument("--batch-size", type=int, metavar="B", help="images per step")
    group.add_argument("--learning-rate", type=float, metavar="R", help="the schedule's highest learning rate")
    group.add_argument("--model", metavar="NAME", help="an architecture of models.py")
    group.add_argument(
        "--weights",
        metavar="WHICH",
        help="which weights to keep: last, averaged (EMA over steps), or best (of the best validation epoch)",
    )
    group.add_argument(
        "--early-stopping",
        type=int,
        metavar="PATIENCE",
        help="stop when validation accuracy has not risen for PATIENCE epochs, and keep the best epoch's weights",
    )
    group.add_argument(
        "--augment-engine",
        choices=cli.ENGINES,
        help="batch (default, fast), or keras (ImageDataGenerator: slower, more transforms)",
    )
    add_set_argument(
        group,
        "any setting of recipes.py, e.g. schedule.decay=0.9, augmentation.rotation_range=15, optimizer=adamw, "
        "loss=mse or class_weight=balanced; may be repeated",
    )


def _add_arithmetic(group):
    group.add_argument("--seed", type=int, metavar="S", help="the seed of all randomness (default: 0)")
    group.add_argument(
        "--precision",
        choices=cli.PRECISIONS,
        help="number format of the layers; auto (default): bfloat16 where the processor computes it natively, float16 "
        "on GPUs that have only that (T4, V100), else float32",
    )
    group.add_argument(
        "--deterministic",
        action="store_true",
        help="make runs on a GPU reproducible bit for bit, with slower kernels (runs on a CPU always are)",
    )


def _add_run(group):
    group.add_argument("--run", metavar="NAME", help="the run's name (default: RECIPE-1, -2, ..., or MODEL-1)")
    group.add_argument("--resume", action="store_true", help="resume run NAME, or the newest unfinished run")
    cli.add_where(group, "nets")
    group.add_argument("--repeat", metavar="NAME", help="train run NAME again by its own settings, and compare")
    group.add_argument(
        "--verbose",
        type=int,
        choices=(0, 1, 2),
        help="show no progress (0), a bar (1), or a line for each epoch (2) (default: 1 on a terminal, 2 elsewhere)",
    )
    group.add_argument(
        "--tensorboard",
        action="store_true",
        help="also log curves, learning rate, graph and pictures for TensorBoard: tensorboard --logdir runs",
    )


def main(argv: list[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    if arguments.list:
        return list_all()
    if arguments.check and not (arguments.resume or arguments.repeat):
        return check(arguments)
    cli.check_where(arguments)
    config, folder, digits, fit_nets = resumed(arguments) if arguments.resume else started(arguments)

    from recognizer.base import machine
    from recognizer.config import members
    from recognizer.reports import report_page, run_pictures
    from recognizer.runs import compare, gathered, run_folder, summary

    precisions = dict.fromkeys(settings["precision"] for settings in members.kinds(config))
    print(f"Run:    {folder}, {machine.where()}, {', '.join(precisions)}")
    go_on = f"stopped; go on with: python train.py --run {folder.name} --resume{cli.where_text(arguments)}"
    with program.stopping(go_on), run_folder.locked(folder):
        run_folder.record_changes(folder, config)
        for result in fit_nets(config, folder, digits, verbose=arguments.verbose):
            print(summary.net_line(result, config["nets"]), flush=True)
            if advice := summary.guessing_line(result, config):
                print(advice, flush=True)
        result = gathered.gather(folder, config, digits)
        pictures = run_pictures.run_pictures(folder, digits, result)
        page = report_page.write(folder, config, result)
        if config["tensorboard"]:
            run_pictures.to_tensorboard(folder, pictures)
        gathered.finish(folder, config, result)
    for line in summary.accuracy_lines(result):
        print(line)
    print(f"Pictures: {folder}/: {', '.join(path.name for path in pictures)}")
    if (mistakes := folder / "mistakes.csv").is_file():
        draw = f"python -m recognizer plot digit {folder.name} [--test] --row N"
        print(f"Mistakes: {mistakes} (rows count from 1; {draw} draws one)")
    print(f"Report: {page}")
    print(f"Next: python predict.py {folder.name}{' --test FILE' * (digits.test is None)}")
    if arguments.repeat:
        print(*compare.repeated(run_folder.find(arguments.repeat), folder), sep="\n")


def started(arguments: argparse.Namespace) -> tuple[dict, Path, Digits, FitNets]:
    """Makes a new run; returns (config, folder, digits, function that trains its nets)."""
    from recognizer.runs import run_folder
    from recognizer.training import plan

    if arguments.repeat:
        refuse_others(arguments, "repeat", "repeats")
        config, source = plan.recorded(arguments.repeat)
        source, name = arguments.data or source, f"{run_folder.named(arguments.repeat).name}-repeat"
    else:
        config, source, name = config_from_arguments(arguments)
    if arguments.run and (folder := run_folder.named(arguments.run)).exists():
        go_on = "it is finished:" if run_folder.is_finished(folder) else "go on with it by --resume, or"
        raise UserError(f"run {arguments.run!r} exists: {go_on} choose another name")
    prepared = plan.prepared(config, source)
    fit_nets = how_to_fit(arguments, config, prepared.digits, config["nets"], prepared.trainers)
    return config, plan.create(prepared, arguments.run, name), prepared.digits, fit_nets


def resumed(arguments: argparse.Namespace) -> tuple[dict, Path, Digits, FitNets]:
    """Returns (config, folder, digits, function that trains its nets) of the run to resume."""
    from recognizer.runs import run_folder
    from recognizer.training import plan

    refuse_others(arguments, "resume", "goes on with")
    config, folder, digits = plan.resumed(arguments.run, arguments.data)
    left, _ = run_folder.unfinished_nets(folder, config)
    print(f"Recipe: {config['recipe']}, {len(left)} of {plural(config['nets'], 'net')} left to train")
    return config, folder, digits, how_to_fit(arguments, config, digits, len(left))


def how_to_fit(
    arguments: argparse.Namespace, config: dict, digits: Digits, nets: int, trainers: list[Trainer] | None = None
) -> FitNets:
    """Returns the function that trains a run's nets: one after another, in several processes, or on a Ray cluster.

    Adds missing settings, such as "threads", to the config. nets: the number of nets that are not trained yet.
    trainers: from `plan.prepared`, or None.
    """
    from recognizer.parallel import cluster, processes
    from recognizer.training import trainer

    if arguments.ray:
        joined = cluster.joined(arguments.ray, config, config["nets"], arguments.cpus, arguments.gpus)
        return functools.partial(cluster.fit_nets, cluster=joined)
    jobs = processes.choose_jobs(config, digits, arguments.jobs, nets)
    if jobs == 1:
        return functools.partial(trainer.fit_nets, trainers=trainers)
    return functools.partial(processes.fit_nets, jobs=jobs)


def refuse_others(arguments: argparse.Namespace, option: str, does: str) -> None:
    """Raises UserError if arguments were given that cannot be combined with --resume or --repeat."""
    allowed = ("run", "data", "debug", "verbose", "jobs", "ray", "cpus", "gpus", option)
    given = [
        key for key, value in vars(arguments).items() if value is not None and value is not False and key not in allowed
    ]
    by_name = "; give the run's name with --run" if option == "resume" and arguments.recipe else ""
    if by_name and given == ["recipe"]:
        raise UserError(f"--resume takes the run's name after --run: train.py --run {arguments.recipe} --resume")
    if given:
        raise UserError(f"--{option} {does} a run with the run's own settings: leave out {', '.join(given)}{by_name}")


def check(arguments: argparse.Namespace) -> None:
    """Tries the nets and prints their descriptions, without making a run."""
    from recognizer.training import plan

    config, source, _ = config_from_arguments(arguments)
    prepared = plan.prepared(config, source)
    from recognizer.training import trial

    for trainer in prepared.trainers:
        print(*trial.description(trainer), sep="\n")


def list_all() -> None:
    """Prints every recipe and architecture."""
    from recognizer.base import environment

    environment.import_keras()
    from recognizer.nn import listing

    for line in listing.lines():
        print(line)


if __name__ == "__main__":
    program.run(main)
