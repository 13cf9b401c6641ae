"""Trains a recipe many times: over grids of settings, by several seeds, or in search of good settings.

    python -m recognizer sweep grenholm --grid batch_size=16,32,64 --seeds 3     each value with three seeds
    python -m recognizer sweep grenholm --grid batch_size=16,64 --grid learning_rate=.001,.003    all pairs of them
    python -m recognizer sweep grenholm --seeds 20                               how much results vary by the seed alone
    python -m recognizer sweep grenholm --range learning_rate=1e-4..1e-2:log --range epochs=5..20 --trials 40
                                                     a search by Optuna: pip install -r requirements/cluster.txt
    python -m recognizer sweep deotte-augmentation --scale 0.1 --data mnist      an experiment of Deotte's, smaller
    python -m recognizer sweep --resume              go on with the newest unfinished sweep, or the one of --sweep NAME

Each trial is a run in runs/, usable by every command. sweeps/NAME/ has the table (CSV, HTML) and pictures.
Trials are compared on validation rows. A study repeats a notebook's experiment; its trials are compared on
validation or test rows, as in the notebook.
Studies: {studies}.
"""

from recognizer.base import cli, program
from recognizer.base.errors import UserError
from recognizer.base.words import duration
from recognizer.config import overrides, schema, sweep_settings


def parser() -> cli.Parser:
    description = __doc__.replace("{studies}", ", ".join(sweep_settings.studies()))
    p = cli.Parser(prog="python -m recognizer sweep", description=description)
    recipe = p.add_argument("recipe", nargs="?", metavar="RECIPE|STUDY", help="what to train (default: single)")
    recipe.completer = sweep_settings.names  # type: ignore[attr-defined]  # argcomplete reads it
    group = p.add_argument_group("what varies")
    group.add_argument("--grid", action="append", metavar="KEY=V1,V2", help="the values of a setting; may be repeated")
    group.add_argument("--seeds", type=int, metavar="R", help="how many seeds for each value; --seed is the first")
    group.add_argument(
        "--range",
        action="append",
        metavar="KEY=LOW..HIGH[:log|:STEP]",
        help="a setting to search, and its bounds; may be repeated",
    )
    group.add_argument("--trials", type=int, metavar="T", help="number of trials of a search")
    group.add_argument(
        "--scale", type=float, metavar="F", help="scale a study down: a fraction of its epochs, seeds and values"
    )
    group = p.add_argument_group("the same in all trials")
    group.add_argument("--data", metavar="SOURCE", help="as in train.py (default: auto)")
    group.add_argument("--epochs", type=int, metavar="E", help="how many epochs")
    group.add_argument(
        "--validation-split", type=float, metavar="F", help="share of the labelled rows held out for validation"
    )
    overrides.add_set_argument(group, "any setting of recipes.py; may be repeated", schema.RUN_SETTINGS)
    group.add_argument("--seed", type=int, metavar="S", help="the first seed (default: 0)")
    group.add_argument("--precision", choices=cli.PRECISIONS, help="as in train.py (default: auto)")
    group.add_argument("--augment-engine", choices=cli.ENGINES, help="as in train.py (default: batch)")
    group = p.add_argument_group("the sweep")
    group.add_argument("--sweep", metavar="NAME", help="its name (default: RECIPE-sweep-1, -2, ..., or STUDY-1)")
    group.add_argument("--resume", action="store_true", help="continue a sweep; failed trials are tried again")
    cli.add_where(group, "trials")
    return p


def main(argv: list[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    cli.check_where(arguments)
    from recognizer.parallel import sweeps
    from recognizer.reports import sweep_report
    from recognizer.runs import run_folder

    sweep = sweeps.resumed(arguments) if arguments.resume else sweeps.started(arguments)
    folder = sweep.folder
    note = f" ({sweep.asked['note']})" * bool(sweep.asked["note"])
    at_once = "by Ray" if arguments.ray else f"{sweep.asked['jobs']} at once"
    print(f"Sweep:  {folder}, {sweep.left} of {sweep.number} trials to train, {at_once}{note}")
    where = cli.where_text(arguments)
    go_on = f"stopped; go on with: python -m recognizer sweep --sweep {folder.name} --resume{where}"
    with program.stopping(go_on), run_folder.locked(folder, "sweep"):
        for trial, left in sweeps.train(sweep):
            print(sweeps.line(sweep, trial, left), flush=True)
            sweep_report.write_table(folder, sweep.asked, sweep.trials)
        paths = sweep_report.write(folder, sweep.asked, sweep.trials)
    if not any(trial.state == "done" for trial in sweep.trials):
        raise UserError(f"no trial of {folder} could be trained: {sweep.trials[0].note}")
    print(*sweep_report.summary(sweep.asked, sweep.trials), sep="\n")
    print(f"Training time of all trials together: {duration(sum(trial.seconds or 0 for trial in sweep.trials))}")
    print(*paths, sep="\n")
