"""Kills runs at every kind of moment, resumes them, and compares them with runs that were never killed.

    python benchmarks/chaos.py --kills 100

Half of the kills (-9) come at a random time of a process's life, the others as soon as a file is being written or a net
is finished. "identical": weights, probabilities, submission and log (except its times) are those of the run that was
never killed, bit for bit. Before the kills, it tests other faults, such as a full disk, signals and a folder that
disappears.
Prints tables, and writes them to results/chaos.json.
"""

import argparse
import collections
import functools
import itertools
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shared import HERE, machine, script, table

from recognizer.base.files import read_arrays, read_json, write_json
from recognizer.nn import saved_net
from recognizer.runs import run_folder
from recognizer.runs.predictions import identical

SHORT = ["--data", "digits", "--set", "steps_per_epoch=12", "--set", "min_steps_per_epoch=1"]
# Every kind of state that a run keeps between its epochs.
KINDS = {
    "one-cycle, Muon, batch-norm statistics recomputed": ["single", "--epochs", "4"],
    "plateau": ["codeastar", "--epochs", "6", "--set", "schedule.patience=1"],
    "phases": ["vgg-phases", "--epochs", "4", "--set", "schedule.learning_rates=[[1, 0.01], [3, 0.05]]"],
    "best epoch": ["vgg-bn-dropout", "--epochs", "4", "--weights", "best", "--validation-split", "0.2"],
    "averaged weights": ["deotte", "--nets", "1", "--epochs", "4", "--weights", "averaged"],
    "bagging": ["grenholm", "--nets", "3", "--epochs", "2", "--set", "bagging=true"],
    "members": [
        "codeastar",
        "--nets",
        "2",
        "--epochs",
        "3",
        "--set",
        'members=[{}, {"augmentation.elastic_alpha": 20}]',
    ],
}
MOMENTS = ("any time", "any time", "a file being written", "a net finished")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kills", type=int, default=100, help="0: only the other faults")
    p.add_argument("--seed", type=int, default=0)
    arguments = p.parse_args()
    state = HERE / "results" / "chaos.json"
    results = read_json(state) if state.is_file() else {}
    parts = {"faults": every_fault}
    if arguments.kills:
        parts["kills"] = lambda: kills(arguments.kills, arguments.seed)
    for part, measure in parts.items():
        columns, rows = measure()
        print("\n".join(table(columns, rows)), flush=True)
        command = f"python benchmarks/chaos.py --kills {arguments.kills} --seed {arguments.seed}"
        results[part] = {"command": command, "machine": machine(), "columns": columns, "rows": rows}
        write_json(state, results)
    sys.exit(any(cells[-2] != cells[-1] for cells in results["kills"]["rows"]) if arguments.kills else 0)


def kills(wanted, seed):
    """Kills runs `wanted` times; returns (columns, rows): how often, when, and how many of the runs ended alike."""
    chance = random.Random(seed)
    counts = {kind: collections.Counter() for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        spans = {}
        for kind, options in KINDS.items():
            started = time.perf_counter()
            finish(folder, start(folder, options, name(kind, "whole")))
            spans[kind] = time.perf_counter() - started
            submit(folder, name(kind, "whole"))
        killed = 0
        for kind in itertools.cycle(KINDS):
            if killed >= wanted:
                break
            broken = folder / "runs" / name(kind, "broken")
            planned, done = min(chance.randint(2, 8), wanted - killed), 0
            while not run_folder.is_finished(broken):
                process = start(folder, ["--resume"] if broken.exists() else KINDS[kind], broken.name)
                if done == planned:
                    finish(folder, process)
                    continue
                moment = chance.choice(MOMENTS)
                if kill(process, broken, moment, chance.uniform(0, spans[kind])):
                    done += 1
                    counts[kind][moment] += 1
            killed += done
            counts[kind]["runs"] += 1
            difference = different(folder, broken.with_name(name(kind, "whole")), broken)
            counts[kind]["identical"] += not difference
            print(f"{killed} kills, {kind}: {difference or 'identical'}", flush=True)
            shutil.rmtree(broken)
    moments = ("any time", "a file being written", "a net finished", "runs", "identical")
    rows = [[kind, *(str(count[key]) for key in moments)] for kind, count in counts.items()]
    rows.append(["all", *(str(sum(count[key] for count in counts.values())) for key in moments)])
    return ["state between epochs", "killed at any time", "while writing", "between nets", "runs", "identical"], rows


OPTIONS = ["codeastar", "--epochs", "200"]
FAULTS = ["fault", "exit code", "seconds", "said", "left behind"]


def every_fault():
    """Every other fault; returns (columns, rows): how train.py ended, how soon, and what the folder holds then."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for kibibytes in (4, 64, 1024):
            limited = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (kibibytes * 1024,) * 2)
            process = start(folder, OPTIONS, f"full-{kibibytes}", preexec_fn=limited)
            run = folder / "runs" / f"full-{kibibytes}"
            rows.append(end_of(f"no file above {kibibytes} KiB", process, run, time.monotonic()))
        for fault, number in (("SIGINT", signal.SIGINT), ("SIGTERM", signal.SIGTERM)):
            process, run = running(folder, fault)
            started = time.monotonic()
            process.send_signal(number)
            rows.append(end_of(fault, process, run, started))
        process, run = running(folder, "second")
        started = time.monotonic()
        rows.append(end_of("a second process on the run", start(folder, ["--resume"], "second"), run, started))
        run.rename(folder / "gone")  # all its files disappear at the same moment
        rows.append(end_of("the folder disappears", process, run, started))
        process = start(folder, [*OPTIONS, "--learning-rate", "1e29"], "infinite")
        rows.append(end_of("the loss is not finite", process, folder / "runs" / "infinite", time.monotonic()))
        shutil.rmtree(folder / "runs")
        (folder / "runs").write_text("")
        process = start(folder, OPTIONS, "r")
        rows.append(end_of("runs/ cannot be made", process, folder / "runs" / "r", time.monotonic()))
    return FAULTS, rows


def running(folder, run):
    """Starts a run; returns (process, the run's folder) as soon as it has a checkpoint."""
    process = start(folder, OPTIONS, run)
    while not (folder / "runs" / run / "net-01.checkpoint-0.npz").is_file():
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        time.sleep(0.01)
    return process, folder / "runs" / run


def end_of(fault, process, run, started):
    """Waits until a process ends; returns the cells of its row."""
    _, errors = process.communicate(timeout=120)
    line = errors.strip().replace("|", "/")
    left = " ".join(sorted(path.name for path in run.iterdir())) if run.is_dir() else "nothing"
    return [fault, str(process.returncode), f"{time.monotonic() - started:.1f}", line, left]


def name(kind, state):
    return f"{kind.split(',')[0].replace(' ', '-')}-{state}"


def start(folder, options, run, **how):
    command = script("train.py", *options, *([] if "--resume" in options else SHORT), "--run", run)
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **how)


def finish(folder, process):
    _, told = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{process.args} ended with {process.returncode}: {told}")


def kill(process, folder, moment, seconds):
    """Kills a process at a moment; returns whether it was still running then."""
    end = time.monotonic() + seconds
    finished = len(list(folder.glob("net-*.json")))
    while process.poll() is None:
        if moment == "any time" and time.monotonic() > end:
            break
        if moment == "a file being written" and time.monotonic() > end and any(folder.glob(".net-*")):
            break
        if moment == "a net finished" and len(list(folder.glob("net-*.json"))) > finished:
            break
        time.sleep(0.0005)
    running = process.poll() is None
    process.kill()
    _, told = process.communicate()
    if not running and process.returncode:
        raise RuntimeError(f"{process.args} ended with {process.returncode}: {told}")
    return running


def submit(folder, run):
    subprocess.run(script("predict.py", run, "--out", f"{run}.csv"), cwd=folder, stdout=subprocess.DEVNULL, check=True)


def different(folder, whole, broken):
    """What is different between two runs of the same settings; "" for nothing."""
    submit(folder, broken.name)
    submissions = [(folder / f"{run.name}.csv").read_bytes() for run in (whole, broken)]
    logs = [[line.rsplit(",", 1)[0] for line in (run / "log.csv").read_text().splitlines()] for run in (whole, broken)]
    if logs[0] != logs[1]:
        return "the log"
    if submissions[0] != submissions[1]:
        return "the submission"
    files = [{path.name for path in run.iterdir()} for run in (whole, broken)]
    if files[0] != files[1]:
        return f"files {files[0] ^ files[1]}"
    arrays = [
        [read_arrays(run / "predictions.npz"), *(saved_net.read_weights(net) for net in sorted(run.glob("*.keras")))]
        for run in (whole, broken)
    ]
    same = all(identical(*pair) for pair in zip(*arrays, strict=True))
    return "" if same else "weights or probabilities"


if __name__ == "__main__":
    main()
