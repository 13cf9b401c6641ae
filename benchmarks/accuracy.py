"""Runs recipes over seeds and keeps their figures, a small file a run: benchmarks/results/accuracy/NAME-DATA-SEED.json.

    python benchmarks/accuracy.py run grenholm --data kaggle --seeds 5      seeds 0 to 4
    python benchmarks/accuracy.py run single --data data/tuning.npz --name narrow --set model_config.filters=[32,64]
    python benchmarks/accuracy.py table                                     every figure kept, as Markdown

What `run` does not know it hands to train.py. A run that was broken off is resumed, one that is kept is not run again;
its file is written anew whenever a net is finished, so that a long ensemble loses one net at most.
"""

import argparse
import collections
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
    command = commands.add_parser("run", help="train, and keep the figures; other options are train.py's")
    command.add_argument("recipe")
    command.add_argument("--data", default="auto")
    command.add_argument("--name", help="what the figures are kept under (default: RECIPE)")
    command.add_argument("--seeds", type=int, default=1, help="how many")
    command.add_argument("--first-seed", type=int, default=0)
    commands.add_parser("table", help="print every figure kept")
    arguments, rest = p.parse_known_args()
    if arguments.command == "table":
        print("\n".join(table()))
        return
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        run(arguments.recipe, arguments.data, seed, arguments.name or arguments.recipe, rest)


def run(recipe, data, seed, name, options):
    """Trains one run by train.py, or what is left of it, and keeps its figures."""
    source = Path(data).name.split(".")[0]
    title = f"{name}-{source}-{seed}"
    kept = KEPT / f"{title}.json"
    if kept.is_file() and "result" in runs.read_json(kept):
        print(f"{title}: kept")
        return
    folder = runs.named(title)
    started = (folder / "config.json").is_file()
    if not runs.is_finished(folder):
        new = [recipe, "--data", data, "--seed", str(seed), *options]
        command = [sys.executable, str(HERE.parent / "train.py"), "--run", title, *(["--resume"] if started else new)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        done = 0
        while process.poll() is None:
            time.sleep(1)
            if done != (done := len(list(folder.glob("net-*.json")))):
                keep(folder, kept, name, source)
        if process.returncode:
            raise SystemExit(f"{title}: train.py ended with {process.returncode}")
    keep(folder, kept, name, source)
    nets = runs.read_json(kept)["nets"]
    print(f"{title}: {nets[-1]}", flush=True)


def keep(folder, kept, name, source):
    """Writes what a run has so far: its settings, its finished nets' results, and the result of all."""
    config = runs.read_json(folder / "config.json")
    recipe, *rest = (part for part in config["command"][1:] if part not in ("--run", folder.name))
    told = [Path(part).name if "/" in part else part for part in rest]
    record = {
        "name": name,
        "command": " ".join(["python train.py", recipe, *told]),
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
    columns = ["name", "data", "validation", "loss", "test", "n", "seconds a net", "ensembles", "n", "time a run"]
    lines = [row(columns), row(["---"] * len(columns))]
    for (name, data), records in groups().items():
        nets = [net for record in records for net in record["nets"]]
        cells = [f"`{name}`", data]
        for key in ("validation_accuracy", "validation_loss", "test_accuracy"):
            values = [net[key] for net in nets if key in net]
            cells.append("" if not values else f"{statistics.mean(values):.4f}" if "loss" in key else mean(values))
        cells += [str(len(nets)), f"{statistics.median(net['seconds'] for net in nets):.0f}"]
        several = [record["result"] for record in records if len(record["nets"]) > 1]
        part = "ensemble_test" if any("ensemble_test" in result for result in several) else "ensemble_validation"
        cells += [mean([result[part]["accuracy"] for result in several]) if several else "", str(len(several) or "")]
        cells.append(duration(statistics.median(record["result"]["seconds"] for record in records)))
        lines.append(row(cells))
    return lines


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
