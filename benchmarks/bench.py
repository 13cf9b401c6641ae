"""Everything that is claimed to be fast, side by side with what a user would otherwise run: writes RESULTS.md.

    make bench                                          all of it, about an hour
    python benchmarks/bench.py --only "training deotte" --data mnist    one part; the others' last results stay

Ways are timed in turn (A B A B ...): only one runs at a time. A figure is the median over the rounds, and a ratio is
one such median divided by another. PyTorch is measured if it is installed (requirements/bench.txt).
"""

import argparse
import contextlib
import functools
import importlib.util
import json
import os
import pstats
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from shared import HERE, ROOT, gpu_name, machine, script, table, without_folders

from recognizer.base import program
from recognizer.base.files import read_json, write_bytes, write_json
from recognizer.config.overrides import resolve
from recognizer.data import containers, sources, tables

NETS = {"grenholm": (16, 256), "codeastar": (64, 256), "deotte": (64, 256), "vgg-bn-dropout": (64, 256)}
KERAS_WAYS = {
    "notebook": "the notebook's way",
    "tensors": "Keras on tensors",
    "ours": "ours",  # as the recipe has it
    "ours, 2 replicas": "ours, 2 replicas",
    "ours float32": "ours, float32",
}
TORCH_WAYS = ("float32", "bfloat16", "float32 compile", "bfloat16 compile")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", default="auto", help="as train.py's")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--window", type=float, default=3, help="seconds that a way is timed for in a round")
    p.add_argument("--only", action="append", choices=[*PARTS, "training"], help="a part; may be repeated")
    arguments = p.parse_args()
    # A path becomes absolute, since some parts run in other folders.
    arguments.data = sources.load(arguments.data).source
    state = HERE / "results" / "speed.json"
    results = read_json(state) if state.is_file() else {}
    only = arguments.only or PARTS
    for part in [part for part in PARTS if part in only or part.split()[0] in only]:
        print(f"{part} ...", flush=True)
        command = shlex.join(["python", "benchmarks/bench.py", *without_folders(sys.argv[1:])])
        results[part] = {"tables": PARTS[part](arguments), "machine": machine(), "command": command}
        write_json(state, results)
        write_bytes(HERE / "RESULTS.md", report(results).encode())
    print(f"written: {HERE / 'RESULTS.md'}")


# Ways in turn


class Worker:
    """A way in a process of its own, which runs while it is its turn."""

    def __init__(self, name, what, way, recipe, batch_size, arguments, rows=None, **environment):
        options = ["--data", arguments.data, "--window", arguments.window] + (["--rows", rows] if rows else [])
        self.rates = []
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by `end`)
        self.process = subprocess.Popen(
            script(f"benchmarks/{name}", what, way, recipe, batch_size, *options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=ROOT,
            env=os.environ | environment,
        )
        self.expect()  # "ready": compiled

    def expect(self):
        line = self.process.stdout.readline().strip()
        if not line:
            self.process.wait()
            self.log.seek(0)
            raise RuntimeError(f"{self.process.args}\n{self.log.read()[-2000:]}")
        return line

    def round(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.rates.append(float(self.expect()))

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        self.log.close()


def in_turn(workers, rounds):
    """Images a second of each way: {name: the rates of its rounds}. workers: {name: function that starts one}."""
    started = {}
    try:
        for name, start in workers.items():
            started[name] = start()
        for _ in range(rounds):
            for worker in started.values():
                worker.round()
        return {name: worker.rates for name, worker in started.items()}
    finally:
        for worker in started.values():
            worker.end()


def ways(what, recipe, batch_size, arguments, keras_ways, torch_ways=(), rows=None):
    scripts = [(KERAS_WAYS[way], "keras_ways.py", way) for way in keras_ways]
    if importlib.util.find_spec("torch"):
        scripts += [(f"PyTorch {way}", "torch_ways.py", way) for way in torch_ways]
    return {
        name: functools.partial(Worker, file, what, way, recipe, batch_size, arguments, rows)
        for name, file, way in scripts
    }


def timing_table(title, values, note="", unit="images/s", digits=0):
    """A row for each way: its median, its range, and its median as a multiple of the first's.

    values: {name: the numbers of its rounds, in `unit`}. digits: how many to write after the point.
    """
    medians = {name: float(np.median(v)) for name, v in values.items()}
    print(title, {name: round(median, digits + 1) for name, median in medians.items()}, flush=True)
    first = next(iter(medians.values()))
    rows = [
        [
            name,
            f"{medians[name]:,.{digits}f}",
            f"{min(v):,.{digits}f}-{max(v):,.{digits}f}",
            f"{medians[name] / first:.2f}",
        ]
        for name, v in values.items()
    ]
    return {"title": title, "columns": ["way", unit, "range", "ratio"], "rows": rows, "note": note, "values": values}


# The parts


def augmentation(arguments):
    """Rotation 10°, zoom .1, shifts .1: making batches of 64, without training."""
    workers = ways("augment", "deotte", 64, arguments, ("notebook", "tensors", "ours"))
    title = "Augmented images (ImageDataGenerator, keras.layers.Random* in tf.data, ours)"
    return [timing_table(title, in_turn(workers, arguments.rounds))]


def training(recipe):
    """Returns the part that trains the net of a recipe."""

    def part(arguments):
        """Each way includes augmentation: rotation 10°, zoom .1, shifts .1."""
        return [training_table(recipe, batch_size, arguments) for batch_size in NETS[recipe]]

    return part


def training_table(recipe, batch_size, arguments):
    replicated = resolve(recipe)["replicas"] > 1
    kinds = [kind for kind in KERAS_WAYS if not (replicated and kind == "ours, 2 replicas")]
    rates = in_turn(ways("train", recipe, batch_size, arguments, kinds, TORCH_WAYS), arguments.rounds)
    median = {name: float(np.median(r)) for name, r in rates.items()}
    peers = {name: value for name, value in median.items() if name.startswith("PyTorch")}
    notes = []
    for own in [name for name in ("ours", "ours, 2 replicas") if name in median]:
        notes.append(f"{own} / the notebook's way: {median[own] / median[KERAS_WAYS['notebook']]:.2f}")
        if peers:
            best = max(peers, key=peers.get)
            notes.append(f"{own} / the best PyTorch ({best}): {median[own] / peers[best]:.2f}")
    title = f"`{recipe}`, batch {batch_size}" + ", 2 replicas in the recipe" * replicated
    return timing_table(title, rates, "; ".join(notes))


def prediction(arguments):
    """Deotte's net over 28,000 images (fewer where the data has fewer)."""
    rows = 28_000

    workers = {
        name: functools.partial(Worker, "keras_ways.py", "predict", "notebook", "deotte", size, arguments, rows)
        for name, size in (("model.predict of plain Keras", 32), ("the same, batch_size=512", 512))
    }
    workers |= ways("predict", "deotte", 512, arguments, ("ours", "ours float32"), ("float32", "bfloat16"), rows)
    return [timing_table("Predicted images, `deotte`", in_turn(workers, arguments.rounds))]


def precision(arguments, seeds=6, epochs=4):
    """The accuracy that bfloat16 costs: a short `grenholm`, the same seeds in both precisions."""
    accuracies = {"float32": [], "bfloat16": []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            for name, found in accuracies.items():
                options = ["--epochs", epochs, "--data", arguments.data, "--seed", seed, "--precision", name]
                command = script("train.py", "grenholm", *options, "--run", f"{name}-{seed}")
                subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
                result = read_json(Path(folder) / "runs" / f"{name}-{seed}" / "result.json")
                found.append(result["validation_accuracy"]["mean"])
    rows = [
        [name, f"{np.mean(found):.3%}", f"{np.std(found, ddof=1):.3%}", str(seeds)]
        for name, found in accuracies.items()
    ]
    difference = np.subtract(accuracies["bfloat16"], accuracies["float32"])
    error = np.std(difference, ddof=1) / np.sqrt(seeds)
    note = (
        f"bfloat16 minus float32, seed by seed: {difference.mean() * 100:+.3f} points, standard error {error * 100:.3f}"
    )
    columns = ["precision", "validation accuracy", "standard deviation", "n"]
    title = f"`grenholm`, {epochs} epochs, {result['ensemble_validation']['rows']:,} validation rows"
    return [{"title": title, "columns": columns, "rows": rows, "note": note, "accuracies": accuracies}]


def loading(arguments):
    """A CSV in Kaggle's form, 42,000 labelled rows."""
    import pandas as pd

    images = sources.load(arguments.data).train
    pixels = [f"pixel{i}" for i in range(784)]
    chosen = np.resize(np.arange(len(images.x)), 42_000)
    table = np.column_stack([images.y[chosen], images.x[chosen].reshape(42_000, -1)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.csv"
        pd.DataFrame(table, columns=["label", *pixels]).to_csv(path, index=False)
        file = containers.File(path)

        def ours():
            for cache in Path(folder).glob(".*.npz"):
                cache.unlink()
            return tables.read_table(file).x

        readers = {
            "np.loadtxt(dtype=np.uint8)": lambda: np.loadtxt(path, np.uint8, delimiter=",", skiprows=1),
            "pandas.read_csv": lambda: pd.read_csv(path),
            "pandas.read_csv(dtype=np.uint8)": lambda: pd.read_csv(path, dtype=np.uint8),
            "ours, parsed, checked and cached": ours,
            "ours, from its cache": lambda: tables.read_table(file).x,
        }
        return [seconds_table("Kaggle's train.csv, 42,000 rows", readers, arguments.rounds)]


def seconds_table(title, functions, rounds):
    """Calls the functions in turn; returns the table of their seconds. functions: {name: function}."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return timing_table(title, times, unit="seconds", digits=2)


PLAIN_SCRIPT = """
import numpy as np, keras
from keras.layers import *
x, y = np.zeros((64, 28, 28, 1), "float32"), np.eye(10)[np.zeros(64, int)]
L = [Input((28, 28, 1))]
for f in (32, 64):
    for k, a in ((3, {}), (3, {}), (5, dict(strides=2, padding="same"))):
        L += [Conv2D(f, k, activation="relu", **a), BatchNormalization()]
    L += [Dropout(.4)]
model = keras.Sequential(L + [Conv2D(128, 4, activation="relu"), BatchNormalization(), Flatten(), Dense(10, "softmax")])
model.compile("adam", "categorical_crossentropy")
model.fit(x, y, batch_size=64, verbose=0)
"""


def start_up(arguments):
    """Seconds from a command to its end, or to the end of the first training step."""

    one_step = ["deotte", "--nets", 1, "--epochs", 1, "--validation-split", 0, "--data", arguments.data, "--run", "r"]
    one_step += ["--set", "steps_per_epoch=1"]
    train = script("train.py", *one_step)
    commands = {
        "import tensorflow": lambda: launch([sys.executable, "-c", "import tensorflow"]),
        "train.py --help": lambda: launch(script("train.py", "--help")),
        "predict.py --help": lambda: launch(script("predict.py", "--help")),
        "a plain Keras script, one step of Deotte's net": lambda: launch([sys.executable, "-c", PLAIN_SCRIPT]),
        "train.py deotte, until the first step is done": lambda: launch(train, until="runs/r/net-01.csv"),
    }
    return [seconds_table("Start-up", commands, arguments.rounds)]


def launch(command, until=None):
    """Runs a command in a folder of its own, to its end or until a file is there."""
    with tempfile.TemporaryDirectory() as folder:
        nothing = subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=folder, stdout=nothing, stderr=nothing)
        while until and process.poll() is None and not (Path(folder) / until).exists():
            time.sleep(0.005)
        if not until:
            process.wait()
        if process.poll():
            raise RuntimeError(f"{shlex.join(command)} ended with exit code {process.returncode}")
        process.kill()
        process.wait()


def answer(name, *arguments):
    """Returns what a script of this folder prints as JSON in its last line."""
    command = script(f"benchmarks/{name}", *arguments)
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(printed.strip().split("\n")[-1])


def quick(arguments, times=10):
    """The recipe `quick` and tuomaso/train_mnist_fast in PyTorch: from arrays to weights, timed alternately."""
    test = sources.load(arguments.data).test
    if test is None or test.y is None or len(test.y) != 10_000:
        return [{"title": "Only MNIST will do (--data mnist)", "columns": [], "rows": []}]
    found = {"PyTorch float32": [], "PyTorch bfloat16": [], "ours": []}
    if not importlib.util.find_spec("torch"):
        found = {"ours": []}
    for seed in range(times):
        for way, results in found.items():
            results.append(answer("quick_ways.py", way, seed, "--data", arguments.data))
    seconds = {way: [result["seconds"] for result in results] for way, results in found.items()}
    timed = timing_table("99 % on MNIST's test set", seconds, unit="seconds", digits=2)
    timed["columns"] += ["test accuracy", "n"]
    for cells, results in zip(timed["rows"], found.values(), strict=True):
        accuracy = np.array([result["accuracy"] for result in results])
        cells += [f"{accuracy.mean():.3%} ± {100 * accuracy.std(ddof=1):.3f}", str(times)]
    return [timed]


def kernels(arguments):
    """Where our training step spends time. Kernels run in parallel: their times add up to more than the step's."""
    tables = []
    for recipe, batch_size in (("deotte", 64), ("codeastar", 64), ("grenholm", 16)):
        profile = answer("kernels.py", recipe, batch_size)
        rows = [[f"`{name}`", f"{time:.2f}"] for name, time in profile["kernels"].items()]
        title = f"`{recipe}`, batch {batch_size}: {profile['milliseconds']:.2f} ms a step"
        tables.append({"title": title, "columns": ["kernel", "ms a step"], "rows": rows})
    return tables


def scaling(arguments):
    """How our time and memory grow, with Deotte's net."""
    by_size = {
        f"batch {size}": functools.partial(Worker, "keras_ways.py", "train", "ours", "deotte", size, arguments)
        for size in (16, 32, 64, 128, 256, 512)
    }
    n = len(sources.load(arguments.data).train.x)
    by_rows = {
        f"{rows:,} images": functools.partial(Worker, "keras_ways.py", "train", "ours", "deotte", 64, arguments, rows)
        for rows in (n // 4, n // 2, n)
    }
    return [
        timing_table("Training images a second by batch", in_turn(by_size, arguments.rounds)),
        timing_table("... by images in the training set", in_turn(by_rows, arguments.rounds)),
        fifteen_nets(arguments),
    ]


# {row of the table: functions, by file and name}
SAFEGUARDS = {
    "checkpoints and log": {("checkpoints.py", "write"), ("files.py", "write_rows")},
    "fingerprints": {("arrays.py", "image_hashes"), ("arrays.py", "fingerprint"), ("run_folder.py", "create")},
}


def safety(arguments):
    """The time of checkpoints and of fingerprints (hashes of the digits, kept with the run) in 3 epochs of `single`."""
    seconds = {name: [] for name in (*SAFEGUARDS, "training")}
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            train = script("train.py", "single", "--data", arguments.data, "--epochs", 3, "--run", "r")
            command = [sys.executable, "-m", "cProfile", "-o", "profile", *train[1:]]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            calls = pstats.Stats(str(Path(folder) / "profile")).stats
            spent = {(Path(path).name, function): times[3] for (path, _, function), times in calls.items()}
            for name, functions in SAFEGUARDS.items():
                seconds[name].append(sum(spent[function] for function in functions))
            seconds["training"].append(read_json(Path(folder) / "runs" / "r" / "net-01.json")["seconds"])
    shares = {name: np.divide(values, seconds["training"]) for name, values in seconds.items()}
    rows = [[name, f"{np.median(values):.3f}", f"{np.median(shares[name]):.2%}"] for name, values in seconds.items()]
    print(rows, flush=True)
    title = f"`single`, 3 epochs, medians of {arguments.rounds}"
    return [{"title": title, "columns": ["what", "seconds", "of the training time"], "rows": rows}]


def fifteen_nets(arguments, nets=15):
    """Seconds and resident memory of train.py over 15 nets of two short epochs, all of the data in memory."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--nets", nets, "--epochs", 2, "--run", "r", "--data", arguments.data]
        command = script("train.py", "deotte", *options, "--set", "steps_per_epoch=30")
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rows, peak, net = [], 0, 1
        while net <= nets and process.poll() is None:
            peak = max(peak, resident(process.pid))
            if (Path(folder) / "runs" / "r" / f"net-{net:02d}.json").exists():
                rows.append([str(net), f"{time.perf_counter() - start:.0f}", f"{peak / 2**20:,.0f}"])
                net, peak = net + 1, 0
            time.sleep(0.02)
        process.wait()
    rows = [row for row in rows if int(row[0]) in (1, 2, 3, 5, 10, nets)]
    return {
        "title": f"{nets} nets in one process, two epochs of 30 steps each, predictions included",
        "columns": ["nets done", "seconds since the start", "peak resident MB while at this net"],
        "rows": rows,
    }


SHORT = {
    "ensemble": ("--epochs", 1, "--set", "steps_per_epoch=60"),
    "deotte": ("--nets", 4, "--epochs", 1, "--set", "steps_per_epoch=150"),
}
SIDE_BY_SIDE = {
    "--jobs 1": (),
    "--jobs 2": ("--jobs", 2),
    "--jobs auto": ("--jobs", "auto"),
    "--ray local": ("--ray", "local"),
}


def parallel(arguments):
    """Nets side by side: short runs of `train.py`, from the shell to the report."""
    found = []
    for recipe, options in SHORT.items():
        ways = {
            name: way for name, way in SIDE_BY_SIDE.items() if "--ray" not in way or importlib.util.find_spec("ray")
        }
        seconds, memory = ({name: [] for name in ways} for _ in range(2))
        for _ in range(arguments.rounds):
            for name, way in ways.items():
                took, most = whole_run([recipe, *options, "--data", arguments.data, *way])
                seconds[name].append(took)
                memory[name].append(most / 2**20)
        title = shlex.join(["train.py", recipe, *map(str, options)])
        timed = timing_table(f"`{title}`", seconds, unit="seconds", digits=1)
        timed["columns"] += ["peak MB of all processes"]
        for cells, peaks in zip(timed["rows"], memory.values(), strict=True):
            cells.append(f"{np.median(peaks):,.0f}")
        found.append(timed)
    return found


def whole_run(options):
    """Trains a run in a folder of its own; returns (seconds, the peak memory of its processes in bytes)."""
    with tempfile.TemporaryDirectory() as folder:
        start, peak = time.perf_counter(), 0
        process = subprocess.Popen(script("train.py", *options), cwd=folder, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            peak = max(peak, sum(map(proportional, [process.pid, *descendants(process.pid)])))
            time.sleep(1)  # the sizes of processes take a while to read
        if process.returncode:
            raise RuntimeError(f"{shlex.join(process.args)} ended with exit code {process.returncode}")
        return time.perf_counter() - start, peak


def descendants(pid):
    """Returns the ids of the descendants of a process."""
    with contextlib.suppress(OSError):
        children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return [one for child in children for one in (child, *descendants(child))]
    return []


def proportional(pid):
    """Bytes of memory that a process holds now, with its share of shared memory; 0 where the system does not tell."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return 0


def resident(pid):
    """Bytes of memory that a process holds now; 0 where the system does not tell."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def gpu(arguments):
    """The same training on a GPU: PyTorch, and ours under JAX."""
    name = gpu_name()
    if not name:
        return [{"title": "No GPU was at hand", "columns": [], "rows": []}]
    tables = []
    for batch_size in (64, 256):
        workers = ways("train", "deotte", batch_size, arguments, (), TORCH_WAYS)
        if importlib.util.find_spec("jax"):
            ours = ("keras_ways.py", "train", "ours", "deotte", batch_size, arguments)
            workers["ours (JAX)"] = functools.partial(Worker, *ours, KERAS_BACKEND="jax")
        tables.append(timing_table(f"`deotte` on {name}, batch {batch_size}", in_turn(workers, arguments.rounds)))
    return tables


PARTS = {
    "augmentation": augmentation,
    **{f"training {recipe}": training(recipe) for recipe in NETS},
    "prediction": prediction,
    "precision": precision,
    "loading": loading,
    "start-up": start_up,
    "scaling": scaling,
    "parallel": parallel,
    "safety": safety,
    "quick": quick,
    "kernels": kernels,
    "gpu": gpu,
}


# The report


def report(results):
    lines = [
        "# Speed, side by side",
        "",
        "Written by `make bench`. Each table is from one run, which timed the methods in the column `way` alternately.",
        "",
    ]
    for part in filter(results.get, PARTS):
        result, text = results[part], PARTS[part].__doc__.split("\n")[0]
        lines += [f"## {part.capitalize()}", "", text, "", f"`{result['command']}` on {result['machine']}.", ""]
        for part_table in result["tables"]:
            lines += [f"**{part_table['title']}**", ""]
            if part_table["rows"]:
                lines += [*table(part_table["columns"], part_table["rows"]), ""]
            if part_table.get("note"):
                lines += [part_table["note"], ""]
    return "\n".join(lines)


if __name__ == "__main__":
    program.run(main)
