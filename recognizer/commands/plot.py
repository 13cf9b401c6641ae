"""Draws a picture: of a run, of a recipe, or of the digits themselves.

    python -m recognizer plot confusion single-1              runs/single-1/confusion.png, drawn anew
    python -m recognizer plot confusion single-1 --percent    in percent of the digits with each label
    python -m recognizer plot mistakes --out mistakes.png     of the newest finished run
    python -m recognizer plot spread single-1 deotte-1        the accuracies of the nets of several runs: spread.png
    python -m recognizer plot layers --recipe deotte          a recipe's layers and parameters; a run's: plot layers RUN
    python -m recognizer plot augmented --recipe grenholm     five digits, each augmented six times by a recipe
    python -m recognizer plot augmented --set augmentation.elastic_alpha=34 --out elastic.png
    python -m recognizer plot lr --recipe quick               suggests a learning rate: the loss while the rate rises
    python -m recognizer plot lr --model mine                 the same for your own function in models.py
    python -m recognizer plot digit single-1 --row 7          row 7 of a run's data as a line of numbers and as an image
    python -m recognizer plot samples                         eight digits of each class
    python -m recognizer plot centres                         the digits' positions, sizes and slants

Pictures of one run are written into its folder, others as PICTURE.png. `plot PICTURE --help` shows a picture's options.
"""

import shlex
from pathlib import Path

import recipes
from recognizer.base import cli, environment, rules
from recognizer.base.errors import UserError, enough_memory
from recognizer.base.words import hyphens
from recognizer.config import members, schedules, schema, signatures
from recognizer.config.overrides import add_set_argument, configured, parse_override, recipe_name
from recognizer.reports.captions import CAPTIONS, QUIZ
from recognizer.runs import run_folder

OF_DIGITS = {
    "digit": "a digit as a line of numbers, and as an image",
    "samples": "eight digits of each class",
    "centres": "the digits' positions, sizes and slants, and the ranges that cover most digits",
    "augmented": "digits as a recipe augments them",
}


def parser() -> cli.Parser:
    p = cli.Parser(prog="python -m recognizer plot", description=__doc__)
    pictures = p.add_subparsers(dest="picture", metavar="PICTURE", required=True)

    def add(name, what, draw):
        picture = pictures.add_parser(name, help=what, description=f"Draws {what}.")
        picture.set_defaults(draw=draw)
        picture.add_argument("--out", type=Path, metavar="PNG", help="the file to write")
        return picture

    def add_recipe(picture):
        recipe = picture.add_argument("--recipe", metavar="NAME", help="the recipe (default: single)")
        recipe.completer = lambda **_: recipes.RECIPES
        add_set_argument(picture, "change a setting, as in train.py")

    for name, what in (CAPTIONS | QUIZ).items():
        if name not in ("spread", "layers"):  # these two are added below
            run_folder.add_run_argument(add(name, what, _of_run))
    pictures.choices["confusion"].add_argument(
        "--percent", action="store_true", help="in percent of the digits with each label"
    )
    run_folder.add_run_argument(add("spread", "the accuracy of each net of one or more runs", _spread), "*")
    layers = add("layers", "the layers and parameters of a recipe or of a run", _layers)
    run_folder.add_run_argument(layers, default="the recipe that --recipe names")
    add_recipe(layers)
    told = "the training loss while the learning rate rises, and the suggested learning rate"
    rates = add("lr", told, _lr)
    add_recipe(rates)
    model = rates.add_argument("--model", metavar="NAME", help="an architecture of models.py instead of the recipe's")
    model.completer = lambda **_: signatures.architectures()
    rates.add_argument("--seed", type=int, default=0, metavar="S", help="as in train.py (default: 0)")
    for name, what in OF_DIGITS.items():
        add(name, what, _of_digits)
    for name in (*OF_DIGITS, "lr"):
        which = "the digits, as in train.py (default: auto)"
        pictures.choices[name].add_argument("--data", metavar="SOURCE", help=which)
    run_folder.add_run_argument(pictures.choices["digit"], default="none: the digits are those of --data")
    which = "which labelled row, from 1, as in mistakes.csv (default: 1)"
    pictures.choices["digit"].add_argument("--row", type=int, default=1, metavar="N", help=which)
    pictures.choices["digit"].add_argument("--test", action="store_true", help="a row of the test set instead")
    for name in ("samples", "augmented"):
        pictures.choices[name].add_argument("--seed", type=int, default=0, metavar="S", help="choose other digits")
    add_recipe(pictures.choices["augmented"])
    return p


def main(argv: list[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    if arguments.out and arguments.out.suffix.lower() != ".png":
        raise UserError(f"--out must name a .png file, not {arguments.out}")
    figure, path, *told = arguments.draw(arguments)
    from recognizer.reports import charts

    path = arguments.out or path
    if path.exists() and b"Matplotlib" not in path.read_bytes()[:500]:  # it signs the pictures that it draws
        raise UserError(f"{path} exists and was not drawn by plot: choose another --out, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    print(charts.save(figure, path), *told, sep=": ")


# Each function below returns a figure and its default path. _lr also returns a line about the figure.


def _of_run(arguments):
    from recognizer.reports import run_pictures

    (folder,) = run_folder.find_finished([arguments.run] if arguments.run else [])
    if getattr(arguments, "percent", False):
        return run_pictures.run_picture("confusion", folder, in_percent=True), folder / "confusion-percent.png"
    return run_pictures.run_picture(arguments.picture, folder), folder / f"{arguments.picture}.png"


def _spread(arguments):
    from recognizer.reports import run_pictures

    folders = run_folder.find_finished(arguments.run)
    return run_pictures.spread(*folders), (folders[0] if len(folders) == 1 else Path()) / "spread.png"


def _layers(arguments):
    if arguments.run:
        if arguments.recipe or arguments.set:
            raise UserError("layers shows a run or a recipe: leave out RUN, or --recipe and --set")
        if hyphens(arguments.run) in recipes.RECIPES and arguments.run not in run_folder.names():
            raise UserError(f"no run {arguments.run!r}, but a recipe: write --recipe {arguments.run}")
        environment.import_keras()
        return _of_run(arguments)
    name, config = _recipe(arguments)
    environment.import_keras()
    from recognizer.nn import building
    from recognizer.reports import charts

    first = members.member(config, 1)
    title = first["model"] + f", net 1 of {name}" * bool(config["members"])
    return charts.layers(building.build(first["model"], arguments=first["model_config"]), title), Path("layers.png")


def _of_digits(arguments):
    seed = getattr(arguments, "seed", 0)
    rules.whole().check("--seed", seed)
    recipe = _recipe(arguments) if arguments.picture == "augmented" else None
    from recognizer.reports import digit_charts

    digits, folder = _digits(arguments)
    images = digits.test if getattr(arguments, "test", False) else digits.train
    if images is None:
        raise UserError(f"--test: {digits.train.origin} has no test set")
    if arguments.picture == "augmented":
        environment.import_keras()
    draw = {
        "digit": lambda: digit_charts.digit(images, arguments.row),
        "samples": lambda: digit_charts.samples(images, seed),
        "centres": lambda: digit_charts.centres(images),
        "augmented": lambda: digit_charts.augmented(*recipe, images, seed),
    }
    return draw[arguments.picture](), folder / f"{arguments.picture}.png"


def _digits(arguments):
    """Returns the digits, and the folder of the picture."""
    from recognizer.data import sources

    if not getattr(arguments, "run", None):
        return sources.load(arguments.data or "auto"), Path()
    if arguments.data:
        raise UserError("digit shows a run's data or those of --data: leave out RUN or --data")
    folder = run_folder.find(arguments.run)
    return run_folder.load_data(folder, run_folder.read_config(folder)), folder


def _lr(arguments):
    name, config = _recipe(arguments, [("model", arguments.model)] if arguments.model else [])
    schema.SEED.check("--seed", arguments.seed)
    from recognizer.training import plan

    with enough_memory("close other programs that use this machine's memory or its GPU's, or --set a lower batch_size"):
        trainer = plan.for_rate_test(config, arguments.seed, arguments.data or "auto")
        from recognizer.reports import charts
        from recognizer.training import lr_finder

        rates, losses = lr_finder.losses_by_rate(trainer)
    settings, peak = trainer.settings, schedules.peak(trainer.settings["schedule"])
    marked = lr_finder.suggestions(rates, losses)
    found, compare = "no suggestion, since the loss does not fall", ""
    if marked:
        found = f"start with --learning-rate {marked['start with']:.2g}; the loss is lowest at {marked['lowest']:.2g}"
        compare = f"\nCompare: {_rate_sweep(arguments, name, settings['schedule'], [*marked.values(), peak])}"
    title = f"{name}: {settings['model']}, {settings['optimizer']}, {settings['batch_size']} images a step"
    figure = charts.losses_by_rate(rates, losses, lr_finder.smooth(losses), marked | {"the recipe's peak": peak}, title)
    return figure, Path("lr.png"), f"{found}; the recipe's peak is {peak:g}{compare}"


def _rate_sweep(arguments, name, schedule, rates):
    """Returns the command that trains the tested recipe with some learning rates. name: the recipe's."""
    key = "schedule.learning_rate" if schedule.get("warmup_target") is None else "schedule.warmup_target"
    settings = [f"model={arguments.model}"] * bool(arguments.model)
    settings += [text for text in arguments.set or [] if parse_override(text)[0] not in (key, "learning_rate")]
    words = ["--grid", f"{key}={','.join(sorted({f'{rate:.2g}' for rate in rates}, key=float))}"]
    words += [word for setting in settings for word in ("--set", setting)]
    words += ["--data", arguments.data] if arguments.data else []
    return f"python -m recognizer sweep {name} {shlex.join(words)}"


def _recipe(arguments, overrides=()):
    """Returns the recipe's name and its settings, with `overrides` before those of --set."""
    name = recipe_name(arguments.recipe or "single")
    return name, configured(name, [*overrides, *map(parse_override, arguments.set or [])])
