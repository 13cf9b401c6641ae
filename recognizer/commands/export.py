"""Exports the nets of runs, averaged, as one file for use elsewhere, and runs that file to verify it.

    python -m recognizer export                                 the newest finished run, as exports/NAME.onnx
    python -m recognizer export single-1 --format litert        for phones: exports/NAME.tflite
    python -m recognizer export single-1 --format keras         for plain Keras, without this repository
    python -m recognizer export single-1 deotte-1 --format saved_model    both as one, for TensorFlow Serving

Input: float32 (n, 28, 28, 1), pixels / 255, ink light on dark. Output: the probabilities that predict.py gives, float32
(n, 10): the mean of all nets (and of the recipe's test-time shifts), sharpened by the run's temperature.
All formats but keras need TensorFlow. onnx and litert also need requirements/export.txt.
"""

from pathlib import Path

from recognizer.base import cli
from recognizer.runs import run_folder
from recognizer.training import exporting


def parser() -> cli.Parser:
    p = cli.Parser(prog="python -m recognizer export", description=__doc__)
    run_folder.add_run_argument(p, "*")
    p.add_argument("--format", choices=exporting.SUFFIXES, default="onnx", help="what to write (default: onnx)")
    p.add_argument("--out", type=Path, metavar="PATH", help="the file (default: exports/RUN and the format's suffix)")
    return p


def main(argv: list[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    folders = run_folder.find_finished(arguments.run)
    name = "+".join(folder.name for folder in folders)
    out = arguments.out or Path("exports") / f"{run_folder.short(name)}{exporting.SUFFIXES[arguments.format]}"
    exporting.check_out(out, arguments.format)
    print(f"Writing {out}, and trying it (up to some minutes) ...", flush=True)
    difference = exporting.export(folders, out, arguments.format)
    within = f"its probabilities agree with Keras's within {max(difference, 1e-7):.1e}"
    print(f"{out}: {exporting.size(out) / 1e6:.1f} MB; {within}")
    print(f"Use: {exporting.use(out, arguments.format)}")
    print("     x: float32 (n, 28, 28, 1), pixels / 255, light digits on dark, 4 dark pixels around each")
