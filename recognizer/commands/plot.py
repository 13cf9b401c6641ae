"""Every picture: of a run after training, of a submission, and of the digits themselves.

    python -m recognizer plot augmented --recipe grenholm     30 digits as that recipe would train on them
    python -m recognizer plot augmented --set augmentation.elastic_alpha=34 --out elastic.png
    python -m recognizer plot digit --row 7                   a digit as a line of numbers, and as an image
    python -m recognizer plot samples                         eight digits of each class
    python -m recognizer plot centres                         where the digits lie, and which augmentation covers that
    python -m recognizer plot layers --recipe deotte          layers and parameters
    python -m recognizer plot spread single-1 deotte-1        the accuracies of the nets of runs

A run leaves the others in its folder: curves, steps, layers, spread, confusion, mistakes, calibration, hardest.
"""

from pathlib import Path

import recipes
from recognizer.base import cli, environment
from recognizer.base.errors import UserError
from recognizer.config import members
from recognizer.config.overrides import parse_override, resolve
from recognizer.reports import charts, digit_charts
from recognizer.runs import run_folder


def parser():
    p = cli.Parser(prog="python -m recognizer plot", description=__doc__)
    p.add_argument("picture", choices=sorted(PICTURES), help="which picture to make")
    names = p.add_argument("runs", nargs="*", metavar="RUN", help="for spread: the runs whose nets are to be shown")
    names.completer = run_folder.names
    recipe = p.add_argument("--recipe", default="single", help="for augmented and layers: whose (default: single)")
    recipe.completer = lambda **_: recipes.RECIPES
    p.add_argument("--set", action="append", metavar="KEY=VALUE", help="change a setting of it, as in train.py")
    p.add_argument("--data", default="auto", metavar="SOURCE", help="whose digits (default: auto)")
    p.add_argument("--row", type=int, default=1, metavar="N", help="for digit: which labelled row, from 1 (default: 1)")
    p.add_argument("--seed", type=int, default=0, metavar="S", help="for samples and augmented: which digits")
    p.add_argument("--out", type=Path, metavar="PNG", help="default: PICTURE.png")
    return p


def _digit(arguments, config, images):
    if not 1 <= arguments.row <= len(images.x):
        raise UserError(f"--row must be from 1 to {len(images.x):,}, not {arguments.row}")
    return digit_charts.digit(images, arguments.row - 1)


def _augmented(arguments, config, images):
    environment.import_keras()
    from augment import Augmentation
    from recognizer.nn import flip_classes

    kinds = members.kinds(config)
    made = [(Augmentation(**kind["augmentation"]), flip_classes.checked(kind)) for kind in kinds]
    for augmentation, _ in made:
        augmentation.fit(images.x)
    shown = config["augmentation"] | ({"joint_flips": config["joint_flips"]} if config["joint_flips"] else {})
    told = ", ".join(f"{key} {value}" for key, value in shown.items()) or "no augmentation"
    others = f"; columns as its {len(kinds)} kinds of nets in turn" if len(kinds) > 1 else ""
    return digit_charts.augmented((made * 6)[:6], images, arguments.seed, f"{arguments.recipe}: {told}{others}")


def _layers(arguments, config, images):
    environment.import_keras()
    from recognizer.nn import building

    first = members.member(config, 1)
    title = first["model"] + f", net 1 of {arguments.recipe}" * bool(config["members"])
    return charts.layers(building.build(first["model"], **first["model_config"]), title)


def _spread(arguments, config, images):
    if not arguments.runs:
        raise UserError("spread needs the names of runs: python -m recognizer plot spread single-1 single-2")
    groups = {}
    for folder in map(run_folder.find, arguments.runs):
        found = charts.accuracies(
            folder.name, [run_folder.read_result(path) for path in sorted(folder.glob("net-*.json"))]
        )
        if not found:
            raise UserError(f"run {folder.name!r} has no net with an accuracy")
        groups |= found
    return charts.spread(groups)


PICTURES = {
    "digit": _digit,
    "samples": lambda arguments, config, images: digit_charts.samples(images, arguments.seed),
    "centres": lambda arguments, config, images: digit_charts.centres(images),
    "augmented": _augmented,
    "layers": _layers,
    "spread": _spread,
}


def main(argv=None):
    arguments = parser().parse_args(argv)
    out = arguments.out or Path(f"{arguments.picture}.png")
    if out.suffix.lower() != ".png":
        raise UserError(f"--out must name a .png file, not {out}")
    if arguments.seed < 0:
        raise UserError(f"--seed must be 0 or more, not {arguments.seed}")
    if arguments.runs and arguments.picture != "spread":
        raise UserError(f"{arguments.picture} is of no run (see --help), so {arguments.runs[0]!r} has no place here")
    config = resolve(arguments.recipe, map(parse_override, arguments.set or []))
    images = None
    if arguments.picture not in ("layers", "spread"):
        from recognizer.data import sources

        images = sources.load(arguments.data).train
    figure = PICTURES[arguments.picture](arguments, config, images)
    out.parent.mkdir(parents=True, exist_ok=True)
    print(charts.save(figure, out))
