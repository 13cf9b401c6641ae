"""Runs recipes over seeds and keeps their figures, a small file a run: benchmarks/results/accuracy/NAME-DATA-SEED.json.

    python benchmarks/accuracy.py run grenholm --data kaggle --seeds 5      seeds 0 to 4
    python benchmarks/accuracy.py run single --data data/tuning.npz --name narrow --set model_config.filters=[32,64]
    python benchmarks/accuracy.py table                                     every figure kept, as Markdown
    python benchmarks/accuracy.py plot                                      accuracy.png: accuracy and training time

What `run` does not know it hands to train.py. A run that was broken off is resumed, one that is kept is not run again;
its file is written anew whenever a net is finished, so that a long ensemble loses one net at most.
"""

import argparse
import collections
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench import machine, row

import runs
from console import UserError, duration

KEPT = HERE / "results" / "accuracy"
VOLATILE = ("created", "commit", "command", "versions", "data")  # kept apart, or of this machine


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(required=True, dest="command")
    told = "train, and keep the figures; other options are train.py's"
    command = commands.add_parser("run", help=told, allow_abbrev=False)
    command.add_argument("recipe")
    command.add_argument("--data", required=True)
    command.add_argument("--name", help="what the figures are kept under (default: RECIPE)")
    command.add_argument("--seeds", type=int, default=1, help="how many")
    command.add_argument("--first-seed", type=int, default=0)
    commands.add_parser("table", help="print every figure kept")
    commands.add_parser("plot", help="draw accuracy and training time of every recipe")
    arguments, rest = p.parse_known_args()
    own = {"--seed", "--run", "--resume"} & {part.split("=")[0] for part in rest}
    if own or (rest and arguments.command != "run"):
        p.error(f"cannot be given here: {' '.join(sorted(own) or rest)}")
    if arguments.command == "table":
        print("\n".join(table()))
        return
    if arguments.command == "plot":
        print(plot())
        return
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        run(arguments.recipe, arguments.data, seed, arguments.name or arguments.recipe, rest)


def run(recipe, data, seed, name, options):
    """Trains one run by train.py, or what is left of it, and keeps its figures."""
    source = Path(data).name.split(".")[0]
    title = f"{name}-{source}-{seed}"
    kept = KEPT / f"{title}.json"
    new = [recipe, "--data", data, "--seed", str(seed), *options]
    if kept.is_file():
        record = runs.read_json(kept)
        if record["command"] != command_line(new):
            raise UserError(f"{kept} is of another command, {record['command']!r}: give this one another --name")
        if "result" in record:
            print(f"{title}: kept")
            return
    folder = runs.named(title)
    if not runs.is_finished(folder):
        what = ["--resume"] if (folder / "config.json").is_file() else new
        command = [sys.executable, str(HERE.parent / "train.py"), "--run", title, *what]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            done = 0
            while process.poll() is None:
                time.sleep(1)
                finished = len(list(folder.glob("net-*.json")))
                if finished != done:
                    keep(folder, kept, name, source)
                done = finished
        finally:
            process.terminate()
            process.wait()
        if process.returncode:
            raise UserError(f"{title}: train.py ended with {process.returncode}")
    keep(folder, kept, name, source)
    result = runs.read_json(kept)["result"]
    parts = [f"{key} {result[key]['mean']:.3%}" for key in ("validation_accuracy", "test_accuracy") if key in result]
    print(f"{title}: {', '.join(parts)}, {duration(result['seconds'])}", flush=True)


def keep(folder, kept, name, source):
    """Writes what a run has so far: its settings, its finished nets' results, and the result of all."""
    config = runs.read_json(folder / "config.json")
    record = {
        "name": name,
        "command": command_line([part for part in config["command"][1:] if part not in ("--run", folder.name)]),
        "data": source,
        "machine": machine(),
        "commit": config["commit"],
        "settings": {key: value for key, value in config.items() if key not in VOLATILE},
        "nets": [runs.read_json(path) for path in sorted(folder.glob("net-*.json"))],
    }
    if runs.is_finished(folder):
        record["result"] = runs.read_json(folder / "result.json")
    kept.parent.mkdir(parents=True, exist_ok=True)
    runs.write_json(kept, record)


def command_line(arguments):
    """train.py's command line, without the folders of this machine."""
    return " ".join(["python train.py", *(Path(part).name if "/" in part else part for part in arguments)])


def groups():
    """{(name, data): [records]} of all finished runs that are kept."""
    found = collections.defaultdict(list)
    for path in sorted(KEPT.glob("*.json")):
        record = runs.read_json(path)
        if "result" in record:
            found[record["name"], record["data"]].append(record)
    return found


def mean(values):
    """'99.25 ± 0.13 %' of shares."""
    spread = f" ± {100 * statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.3f}{spread} %"


def table():
    """Lines of Markdown: mean ± standard deviation over all nets, and over all runs' ensembles."""
    columns = ["name", "data", "validation", "loss", "test", "nets", "seconds a net", "ensemble", "runs", "time a run"]
    lines = [row(columns), row(["---"] * len(columns))]
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
        lines.append(row(cells))
    return lines


# Figures that others reported on MNIST's test set, and chose nothing on it. The notebook's time here is that of its
# 15 nets, 30 epochs each of 54,000 images, at the rate of its own way of training in results/speed.json.
NOTEBOOK = ("Deotte's notebook, 15 nets", 0.99745, 15 * 30 * 54_000)
NOTEBOOK_NET = ("Deotte's notebook, one net", 0.99641, 30 * 54_000)
COMMITTEES = (("ttdoucet, 15 nets", 0.99826), ("Matuzas, 20 nets", 0.99830))


def notebook_rate():
    """Training images a second of Deotte's net as the notebook trains it, from the benchmark."""
    tables = runs.read_json(HERE / "results" / "speed.json")["training deotte"]["tables"]
    rows = next(table["rows"] for table in tables if table["title"] == "`deotte`, batch 64")
    return float(next(row[1] for row in rows if row[0] == "the notebook's way").replace(",", ""))


def plot():
    """Draws the recipes whose figures are kept, with what others reported; returns the picture's path."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    import plots
    import recipes

    points = []  # name, accuracy, seconds, marker
    for (name, data), records in groups().items():
        if name not in recipes.RECIPES or data not in ("mnist", "kaggle", "digit-recognizer"):
            continue
        part = "ensemble_test" if data == "mnist" else "ensemble_validation"
        scores = [record["result"][part]["accuracy"] for record in records if part in record["result"]]
        if scores:
            seconds = statistics.median(record["result"]["seconds"] for record in records)
            points.append((name, statistics.mean(scores), seconds, data == "mnist"))
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    named = []
    for name, accuracy, seconds, tested in sorted(points, key=lambda point: -point[1]):
        axes.plot(seconds, 1 - accuracy, "o", color=plots.BLUE, markerfacecolor=plots.BLUE if tested else "none")
        near = sum(abs(math.log(seconds / s)) < 1 and abs(math.log((1 - accuracy) / (1 - a))) < 0.12 for a, s in named)
        named.append((accuracy, seconds))
        side = (dict(xytext=(5, 3)), dict(xytext=(-5, 3), ha="right"), dict(xytext=(5, -11)))[near % 3]  # no overlaps
        axes.annotate(name, (seconds, 1 - accuracy), textcoords="offset points", color=plots.BLUE, **side)
    for name, accuracy, images in (NOTEBOOK, NOTEBOOK_NET):
        seconds = images / notebook_rate()
        axes.plot(seconds, 1 - accuracy, "s", color=plots.ORANGE)
        axes.annotate(name, (seconds, 1 - accuracy), xytext=(4, -12), textcoords="offset points", ha="right")
    for i, (name, accuracy) in enumerate(COMMITTEES):
        axes.axhline(1 - accuracy, color=plots.GREY, linestyle=":", linewidth=1)
        offset = dict(xytext=(3, 4 if i else -10), textcoords="offset points", color=plots.GREY)
        axes.annotate(f"{name}: {accuracy:.3%}", (0, 1 - accuracy), xycoords=("axes fraction", "data"), **offset)
    axes.set(xscale="log", yscale="log", xlabel="training time on two cores", ylabel="accuracy")
    axes.set_ylim(0.2, 0.0013)
    axes.yaxis.set_major_locator(FixedLocator([0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.003, 0.002]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{1 - error:.1%}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator([1, 10, 60, 600, 3600, 36_000]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda s, _: duration(s).removesuffix(" 0 s").removesuffix(" 0 min")))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_title("filled: MNIST's test set; open: validation rows of Kaggle's form; squares: reported", fontsize=9)
    return plots.save(figure, HERE / "accuracy.png")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
