"""Runs recipes with several seeds. Keeps each run's figures in benchmarks/results/accuracy/NAME-DATA-SEED.json.

    python benchmarks/accuracy.py run grenholm --data kaggle --seeds 5      seeds 0 to 4
    python benchmarks/accuracy.py run single --data data/tuning.npz --name narrow --set model_config.filters=[32,64]
    python benchmarks/accuracy.py table                                     every figure kept, as Markdown
    python benchmarks/accuracy.py plot                                      accuracy.png: accuracy and training time
    python benchmarks/accuracy.py committees RUN FILE.npz ...               accuracy of all committees of their nets
    python benchmarks/accuracy.py average deotte-digit-recognizer           the committee of all kept runs of this name
    python benchmarks/accuracy.py writers mnist.npz tuning.npz writers.npz  tuning.npz, split by writers
    python benchmarks/accuracy.py cv single --data data/tuning.npz          predict each row by nets not trained on it
    python benchmarks/accuracy.py compare single-0 narrow-0 a-0+b-0    compare cross-validated recipes; + is a committee
    python benchmarks/accuracy.py unread single-0 --data data/tuning.npz    unread.png: what all named recipes get wrong

`run` and `cv` pass unknown options on to train.py. They resume an interrupted run, and do not repeat a finished one.
`run` writes the file again after each net, so that a long ensemble loses at most one net. NAME-DATA-SEED.npz beside it
holds the nets' probabilities of the labelled test images: `committees` takes such a file in place of a run, so that the
nets of a committee may be of several runs and machines. If the test images have no labels,
results/kaggle/NAME-DATA-SEED.csv.gz holds what was predicted for them, so that others can score it. `average` writes
results/kaggle/NAME-DATA.csv.gz, the mean of the files of all seeds, for a committee whose nets are trained in runs of
their own.
"""

import argparse
import collections
import itertools
import math
import statistics
import subprocess
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from cross_validation import compared, cross_validate, fitted_loss, unread
from shared import HERE, machine, script, table, without_folders

from recognizer.base import program
from recognizer.base.errors import UserError
from recognizer.base.files import read_json, write_json
from recognizer.base.words import duration
from recognizer.data import sources
from recognizer.runs import metrics, run_folder
from recognizer.runs.predictions import mean_of_test, read_predictions
from recognizer.runs.summary import accuracy_lines

KEPT = HERE / "results" / "accuracy"
SUBMISSIONS = HERE / "results" / "kaggle"
UNIT = 1000  # probabilities are stored as integers: thousandths
VOLATILE = ("created", "commit", "command", "versions", "data")  # stored under keys of their own, or not at all


def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(required=True, dest="command")
    help_of_run = "train, and keep the figures; other options are train.py's"
    command = commands.add_parser("run", help=help_of_run, allow_abbrev=False)
    add_recipe(command)
    command.add_argument("--seeds", type=int, default=1, help="how many")
    command.add_argument("--first-seed", type=int, default=0)
    commands.add_parser("table", help="print every figure kept")
    commands.add_parser("plot", help="draw accuracy and training time of every recipe")
    command = commands.add_parser("committees", help="accuracy of all committees of 1, 2, ... of some runs' nets")
    command.add_argument("runs", nargs="+", metavar="RUN or FILE.npz")
    command = commands.add_parser("average", help="average the submissions of all seeds")
    command.add_argument("name", metavar="NAME-DATA")
    command = commands.add_parser("writers", help="split the tuning rows into two parts without a common writer")
    command.add_argument("mnist")
    command.add_argument("tuning")
    command.add_argument("out")
    command.add_argument("--first", type=int, default=40_000, help="MNIST's first row to validate on (default: 40000)")
    command.add_argument("--last", type=int, default=60_000, help="the row after the last of them (default: 60000)")
    help_of_cv = "cross-validate a recipe, and keep what it predicts; other options are train.py's"
    command = commands.add_parser("cv", help=help_of_cv, allow_abbrev=False)
    add_recipe(command)
    command.add_argument("--seed", type=int, default=0, help="of the folds and of all runs (default: 0)")
    command.add_argument("--folds", type=int, default=10)
    command.add_argument("--until", type=int, help="stop after this fold; a later command trains the others")
    help_of_without = "train without the rows that all these cross-validated recipes get wrong"
    command.add_argument("--without", nargs="+", metavar="NAME-SEED[+NAME-SEED]", help=help_of_without, default=())
    command = commands.add_parser("compare", help="compare cross-validated recipes with the first of them")
    command.add_argument("names", nargs="+", metavar="NAME-SEED[+NAME-SEED]")
    command = commands.add_parser("unread", help="draw the digits that all these cross-validated recipes get wrong")
    command.add_argument("names", nargs="+", metavar="NAME-SEED[+NAME-SEED]")
    command.add_argument("--data", required=True)
    return p


def add_recipe(command):
    command.add_argument("recipe")
    command.add_argument("--data", required=True)
    command.add_argument("--name", help="the name of the files that are kept (default: RECIPE)")


def main():
    p = parser()
    arguments, rest = p.parse_known_args()
    own = {"--seed", "--run", "--resume"} & {part.split("=")[0] for part in rest}
    if own or (rest and arguments.command not in ("run", "cv")):
        p.error(f"cannot be given here: {' '.join(sorted(own) or rest)}")
    if arguments.command == "run":
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            run(arguments.recipe, arguments.data, seed, arguments.name or arguments.recipe, rest)
    elif arguments.command == "table":
        print("\n".join(figures()))
    elif arguments.command == "plot":
        print(plot())
    elif arguments.command == "committees":
        print("\n".join(committees(arguments.runs)))
    elif arguments.command == "average":
        print(average(arguments.name))
    elif arguments.command == "cv":
        name = arguments.name or arguments.recipe
        where = arguments.data, name, arguments.seed, arguments.folds
        cross_validate(arguments.recipe, *where, rest, train, arguments.until or arguments.folds, arguments.without)
    elif arguments.command == "compare":
        print("\n".join(compared(arguments.names)))
    elif arguments.command == "unread":
        print(unread(arguments.names, arguments.data))
    else:
        split_by_writers(arguments.mnist, arguments.tuning, arguments.out, arguments.first, arguments.last)


def run(recipe, data, seed, name, options):
    """Trains one run by train.py, or the rest of it, and keeps its figures."""
    source = Path(data).name.split(".")[0]
    title = f"{name}-{source}-{seed}"
    kept = KEPT / f"{title}.json"
    new = [recipe, "--data", data, "--seed", str(seed), *options]
    if kept.is_file():
        record = read_json(kept)
        if record["command"] != command_line(new):
            raise UserError(f"{kept} is of another command, {record['command']!r}: give this one another --name")
        if "result" in record:
            print(f"{title}: already done")
            return
    folder = run_folder.named(title)
    if not run_folder.is_finished(folder):
        train(folder, new, lambda: keep(folder, kept, name, source))
    keep(folder, kept, name, source)
    print(f"{title}:", *accuracy_lines(read_json(kept)["result"]), sep="\n", flush=True)


def train(folder, new, keep_nets):
    """Trains the run of a folder, or the rest of it. new: train.py's arguments; keep_nets: called after each net."""
    options = ["--resume"] if (folder / "config.json").is_file() else new
    process = subprocess.Popen(script("train.py", "--run", folder.name, *options), stdout=subprocess.DEVNULL)
    try:
        done = 0
        while process.poll() is None:
            time.sleep(1)
            finished = len(list(folder.glob("net-*.json")))
            if finished != done:
                keep_nets()
            done = finished
    finally:
        process.terminate()
        process.wait()
    if process.returncode:
        raise UserError(f"{folder.name}: train.py ended with exit code {process.returncode}")


def keep(folder, kept, name, source):
    """Writes what a run has so far: its settings, the results of its finished nets, and the run's result."""
    config = read_json(folder / "config.json")
    record = {
        "name": name,
        "command": command_line([part for part in config["command"][1:] if part not in ("--run", folder.name)]),
        "data": source,
        "machine": machine(),
        "cores": joblib.cpu_count(),  # fewer if taskset limits them, to train nets side by side
        "commit": config["commit"],
        "settings": {key: value for key, value in config.items() if key not in VOLATILE},
        "nets": [read_json(path) for path in sorted(folder.glob("net-*.json"))],
    }
    kept.parent.mkdir(parents=True, exist_ok=True)
    if run_folder.is_finished(folder):
        record["result"] = read_json(folder / "result.json")
        digits = sources.load(config["data"]["source"])
        arrays = read_predictions(folder / "predictions.npz", digits)
        if digits.test is not None and digits.test.y is None:
            mean = metrics.sharpened(
                mean_of_test(arrays, run_folder.net_numbers(config)), run_folder.temperature(folder)
            )
            write_submission(SUBMISSIONS / f"{kept.stem}.csv.gz", mean)
        elif digits.test is not None:
            probabilities = [arrays[key] for key in sorted(arrays) if key.startswith("test_")]
            np.savez_compressed(
                kept.with_suffix(".npz"),
                probabilities=np.rint(np.multiply(probabilities, UNIT)).astype(np.uint16),
                labels=digits.test.y.astype(np.uint8),
            )
    write_json(kept, record)


def write_submission(path, probabilities):
    """Writes a submission in Kaggle's form, with the probabilities, (n, 10), in ten more columns of four digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(probabilities, columns=[f"p{k}" for k in range(10)])
    table.insert(0, "ImageId", range(1, len(table) + 1))
    table.insert(1, "Label", probabilities.argmax(1))
    table.to_csv(path, index=False, float_format="%.4f", compression={"method": "gzip", "mtime": 0})


def average(name):
    """Writes the mean of the submissions NAME-DATA-SEED.csv.gz of all seeds; returns its path and how many they are."""
    files = sorted(path for path in SUBMISSIONS.glob("*.csv.gz") if path.name.rpartition("-")[0] == name)
    if not files:
        raise UserError(f"there is no {SUBMISSIONS / name}-SEED.csv.gz: `run` writes them, on data without test labels")
    probabilities = [pd.read_csv(path).filter(regex="^p[0-9]$").to_numpy() for path in files]
    path = SUBMISSIONS / f"{name}.csv.gz"
    write_submission(path, np.mean(probabilities, axis=0))
    return f"{path}: the mean of {len(files)} submissions"


def command_line(arguments):
    """Returns train.py's command line, without the folders of this machine."""
    return " ".join(["python train.py", *without_folders(arguments)])


def groups():
    """Returns {(name, data): [records]} of all finished runs that are kept."""
    found = collections.defaultdict(list)
    for path in sorted(KEPT.glob("*.json")):
        record = read_json(path)
        if "result" in record:
            found[record["name"], record["data"]].append(record)
    return found


def mean(values):
    """Returns the mean and standard deviation of shares as text, "99.250 ± 0.130 %" for example."""
    spread = f" ± {100 * statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.3f}{spread} %"


def figures():
    """Returns a Markdown table: mean ± standard deviation over all nets, and over all runs' ensembles."""
    columns = ["name", "data", "validation", "loss", "test", "nets", "seconds a net", "ensemble", "runs", "time a run"]
    rows = []
    for (name, data), records in groups().items():
        nets = [net for record in records for net in record["nets"]]
        cells = [f"`{name}`", data]
        for key in ("validation_accuracy", "validation_loss", "test_accuracy"):
            values = [net[key] for net in nets if key in net]
            cells.append("" if not values else f"{statistics.mean(values):.4f}" if "loss" in key else mean(values))
        cells += [str(len(nets)), f"{statistics.median(net['seconds'] for net in nets):.0f}"]
        several = [record["result"] for record in records if len(record["nets"]) > 1]
        for part in ("ensemble_test", "ensemble_validation"):
            scores = [result[part]["accuracy"] for result in several if part in result]
            if scores:
                break
        cells += [mean(scores) if scores else "", str(len(records))]
        cells.append(duration(statistics.median(record["result"]["seconds"] for record in records)))
        rows.append(cells)
    return table(columns, rows)


def committees(names, most=1000):
    """Returns a Markdown table: the errors of committees of 1, 2, ... of the runs' nets.

    For each size: all committees, or `most` random ones if there are more.

    The rows are those that every net predicted: its validation split or, without one, the labelled test set. The
    negative log-likelihood (NLL), with fitted temperature, is that of the rows which at least one net predicts
    correctly: the others are illegible or have a wrong label, and say nothing about a net.
    """
    probabilities, labels = [], None
    for name in names:
        for p, y in predicted(name):
            if y is None or (labels is not None and not np.array_equal(labels, y)):
                raise UserError(f"{name}: one of its nets has predicted other rows, or rows without labels")
            labels = y
            probabilities.append(p.astype(float))
    wrong = [p.argmax(1) != labels for p in probabilities]
    legible = ~np.all(wrong, axis=0)
    rows = []
    rng = np.random.default_rng(0)
    for size in range(1, len(probabilities) + 1):
        if math.comb(len(probabilities), size) > most:
            chosen = [rng.choice(len(probabilities), size, replace=False) for _ in range(most)]
        else:
            chosen = list(itertools.combinations(range(len(probabilities)), size))
        means = [np.mean([probabilities[net] for net in committee], axis=0) for committee in chosen]
        errors = [int(np.sum(p.argmax(1) != labels)) for p in means]
        loss = np.mean([fitted_loss(p[legible], labels[legible]) for p in means[:: math.ceil(len(means) / 50)]])
        rows.append([size, len(chosen), f"{np.mean(errors):.1f}", min(errors), max(errors), f"{loss:.1f}"])
    columns = ["nets", "committees", "errors", "from", "to", "NLL"]
    return [f"{len(labels)} rows, {np.sum(~legible)} of them wrong by every net", "", *table(columns, rows)]


def predicted(name):
    """Yields (probabilities (m, 10), labels (m,) or None) of each net of a run, or of a file that `keep` wrote."""
    if name.endswith(".npz"):
        with np.load(name) as arrays:
            for p in arrays["probabilities"]:
                yield np.maximum(p, 0.5) / UNIT, arrays["labels"]  # what was rounded to 0 was not 0
        return
    folder = run_folder.find(name)
    digits = sources.load(run_folder.read_config(folder)["data"]["source"])
    arrays = read_predictions(folder / "predictions.npz", digits)
    for key in sorted(arrays):
        part, _, net = key.rpartition("_")
        if part == "validation":
            yield arrays[key], digits.train.y[arrays[f"validation_rows_{net}"]]
        elif part == "test" and f"validation_{net}" not in arrays:
            yield arrays[key], digits.test.y


def split_by_writers(mnist, tuning, out, first, last):
    """Writes the images of `tuning` as an mnist.npz whose test set is those in MNIST's rows first..last-1.

    MNIST's training images are ordered by writer: the slants of images two rows apart correlate by .48. (Neighbours
    have different writers, since MNIST's two collections alternate.) So a block of rows has its own writers, like
    MNIST's test set. A random split has the same writers on both sides, and overestimates a net that has seen them. The
    200 images before and after the block are left out.
    """
    images = sources.load(mnist).train
    rows = np.flatnonzero(np.isin(images.image_hashes(), sources.load(tuning).train.image_hashes()))
    test = rows[(rows >= first) & (rows < last)]
    train = rows[(rows < first - 200) | (rows >= last + 200)]
    parts = dict(x_train=images.x[train], y_train=images.y[train], x_test=images.x[test], y_test=images.y[test])
    np.savez_compressed(out, **parts)
    print(f"{out}: {len(train)} images to train on, {len(test)} of other writers")


# Figures that others reported on MNIST's test set, without choosing anything on it. The notebook's nets train on 54,000
# images for 30 epochs. The time that this takes is calculated from the images a second in results/speed.json.
NOTEBOOK = ("Deotte's notebook, 15 nets", 0.99745, 15 * 30 * 54_000)
NOTEBOOK_NET = ("Deotte's notebook, one net", 0.99641, 30 * 54_000)
COMMITTEES = (("ttdoucet, 15 nets", 0.99826), ("Matuzas, 20 nets", 0.99830))


def notebook_rate():
    """Returns the training images a second of Deotte's net as the notebook trains it, from the benchmark."""
    tables = read_json(HERE / "results" / "speed.json")["training deotte"]["tables"]
    rows = next(part["rows"] for part in tables if part["title"] == "`deotte`, batch 64")
    return float(next(row[1] for row in rows if row[0] == "the notebook's way").replace(",", ""))


def points():
    """Yields (name, accuracy, seconds, whether on MNIST's test set) of each recipe whose figures are kept."""
    import recipes

    for (name, data), records in groups().items():
        if name not in recipes.RECIPES or data not in ("mnist", "kaggle", "digit-recognizer"):
            continue
        nets = recipes.RECIPES[name].get("nets", 1)
        trained_alone = nets > 1 and all(record["settings"]["nets"] == 1 for record in records)
        if trained_alone and data == "mnist":
            if len(records) == nets:
                yield (name, *committee_of(name, data, records), True)
            continue
        part = "ensemble_test" if data == "mnist" else "ensemble_validation"
        scores = [record["result"][part]["accuracy"] for record in records if part in record["result"]]
        if scores:
            yield name, statistics.mean(scores), shortest(records), data == "mnist"


def shortest(records):
    """Returns the shortest training time in seconds on two cores: some runs shared the machine, or had one core."""
    return min(record["result"]["seconds"] * record.get("cores", 2) / 2 for record in records)


def committee_of(name, data, records):
    """Returns (accuracy, seconds on two cores) of an ensemble whose nets were trained in runs of their own."""
    files = [KEPT / f"{name}-{data}-{record['settings']['seed']}.npz" for record in records]
    votes, labels = zip(*(vote for path in files for vote in predicted(str(path))), strict=True)
    accuracy = float(np.mean(np.mean(votes, axis=0).argmax(1) == labels[0]))
    return accuracy, len(records) * shortest(records)


def plot():
    """Draws the recipes whose figures are kept, with what others reported; returns the picture's path."""
    from recognizer.reports import charts

    recipes = list(points())
    figure, axes = charts.new_figure((8, 5))
    for _, accuracy, seconds, tested in recipes:
        axes.plot(seconds, 1 - accuracy, "o", color=charts.BLUE, markerfacecolor=charts.BLUE if tested else "none")
    draw_reported(axes)
    axes.set(xscale="log", yscale="log", xlabel="training time on two cores", ylabel="accuracy")
    axes.set(ylim=(0.2, 0.0013), yticks=[0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.003, 0.002])
    axes.set(xticks=[10, 60, 600, 3600, 36_000])
    axes.yaxis.set_major_formatter(lambda error, _: f"{1 - error:.1%}")
    axes.xaxis.set_major_formatter(lambda s, _: duration(s).removesuffix(" 0 s").removesuffix(" 0 min"))
    axes.minorticks_off()
    axes.set_title("filled: MNIST's test set; open: validation rows in Kaggle's format; squares: reported", fontsize=9)
    draw_names(figure, axes, recipes)
    return charts.save(figure, HERE / "accuracy.png")


def draw_reported(axes):
    """Draws what others reported: squares with a time, dotted lines without."""
    from recognizer.reports import charts

    for (name, accuracy, images), offset, side in ((NOTEBOOK, (7, 8), "right"), (NOTEBOOK_NET, (7, -16), "left")):
        seconds = images / notebook_rate()
        axes.plot(seconds, 1 - accuracy, "s", color=charts.ORANGE)
        axes.annotate(name, (seconds, 1 - accuracy), xytext=offset, textcoords="offset points", ha=side)
    for i, (name, accuracy) in enumerate(COMMITTEES):
        axes.axhline(1 - accuracy, color=charts.GREY, linestyle=":", linewidth=1)
        offset = dict(xytext=(3, 4 if i else -10), textcoords="offset points", color=charts.GREY)
        axes.annotate(f"{name}: {accuracy:.3%}", (0, 1 - accuracy), xycoords=("axes fraction", "data"), **offset)


def draw_names(figure, axes, recipes):
    """Writes each recipe's name at the first place where it covers no other name and no point."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    from recognizer.reports import charts

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    taken = [text.get_window_extent() for text in axes.texts]
    for line in axes.lines[: len(recipes) + 2]:
        at = axes.transData.transform(line.get_xydata()[0])
        taken.append(Bbox([at - 5, at + 5]))
    places = list(itertools.product(((6, 3), (6, -11), (6, 14), (6, -22)), ("left", "right")))
    for name, accuracy, seconds, _ in sorted(recipes, key=lambda point: -point[1]):
        for (across, up), side in places:
            offset = dict(xytext=(across if side == "left" else -across, up), textcoords="offset points", ha=side)
            text = axes.annotate(name, (seconds, 1 - accuracy), color=charts.BLUE, **offset)
            box = text.get_window_extent(canvas.get_renderer())
            if not any(box.overlaps(other) for other in taken):
                break
            text.remove()
        else:
            axes.add_artist(text)
        taken.append(box)


if __name__ == "__main__":
    program.run(main)
