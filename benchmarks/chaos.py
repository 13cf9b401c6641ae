"""Kills runs at every kind of moment, resumes them, and compares them with runs that were never killed.

    python benchmarks/chaos.py --kills 100

Half of the kills (-9) come at a random time of a process's life, the others as soon as a file is being written or a net
is finished. "identical": weights, probabilities, submission and log (but for its times) are those of the run that was
never killed, bit for bit. Writes results/chaos.json and prints a table.
"""

import argparse
import collections
import datetime
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from bench import machine, row

import nets
import runs

SHORT = ["--data", "digits", "--set", "steps_per_epoch=12", "--set", "min_steps_per_epoch=1"]
# Every kind of memory that a run has between its epochs.
KINDS = {
    "one-cycle, Muon, statistics taken anew": ["single", "--epochs", "4"],
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
    p.add_argument("--kills", type=int, default=100)
    p.add_argument("--seed", type=int, default=0)
    arguments = p.parse_args()
    chance = random.Random(arguments.seed)
    counts = {kind: collections.Counter() for kind in KINDS}
    lost = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        spans = {}
        for kind, options in KINDS.items():
            started = time.perf_counter()
            finish(folder, start(folder, options, name(kind, "whole")))
            spans[kind] = time.perf_counter() - started
            submit(folder, name(kind, "whole"))
        kills = 0
        while kills < arguments.kills:
            for kind, options in KINDS.items():
                if kills >= arguments.kills:
                    break
                broken = folder / "runs" / name(kind, "broken")
                planned = min(chance.randint(2, 8), arguments.kills - kills)
                done = 0
                while not runs.is_finished(broken):
                    what = ["--resume"] if broken.exists() else options
                    process = start(folder, what, broken.name)
                    if done == planned:
                        finish(folder, process)
                        continue
                    moment = chance.choice(MOMENTS)
                    if kill(process, broken, moment, chance.uniform(0, spans[kind])):
                        done += 1
                        counts[kind][moment] += 1
                kills += done
                counts[kind]["runs"] += 1
                whole = broken.with_name(name(kind, "whole"))
                difference = different(folder, whole, broken)
                counts[kind]["identical"] += not difference
                if difference:
                    lost.append(f"{kind}: {difference}")
                print(f"{kills} kills, {kind}: {difference or 'identical'}", flush=True)
                shutil.rmtree(broken)
    columns = ["memory between epochs", "killed at any time", "while writing", "between nets", "runs", "identical"]
    moments = ("any time", "a file being written", "a net finished", "runs", "identical")
    table = [[kind, *(str(counts[kind][key]) for key in moments)] for kind in KINDS]
    total = ["all", *(str(sum(counts[kind][key] for kind in KINDS)) for key in moments)]
    print("\n".join(row(cells) for cells in [columns, ["---"] * len(columns), *table, total]))
    print("lost: " + ("; ".join(lost) or "nothing"))
    runs.write_json(
        HERE / "results" / "chaos.json",
        {
            "command": f"python benchmarks/chaos.py --kills {arguments.kills} --seed {arguments.seed}",
            "machine": machine(),
            "date": datetime.date.today().isoformat(),
            "columns": columns,
            "rows": [*table, total],
            "lost": lost,
        },
    )
    sys.exit(bool(lost))


def name(kind, state):
    return f"{kind.split(',')[0].replace(' ', '-')}-{state}"


def start(folder, options, run):
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        *options,
        *([] if "--resume" in options else SHORT),
        "--run",
        run,
    ]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ
    )


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
    command = [sys.executable, str(ROOT / "predict.py"), run, "--out", f"{run}.csv"]
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)


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
        [runs.read_arrays(run / "predictions.npz"), *(nets.read_weights(net) for net in sorted(run.glob("*.keras")))]
        for run in (whole, broken)
    ]
    same = all(runs.identical(*pair) for pair in zip(*arrays, strict=True))
    return "" if same else "weights or probabilities"


if __name__ == "__main__":
    main()
