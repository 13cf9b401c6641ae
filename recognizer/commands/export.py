"""Writes a run's nets, all of an ensemble in one file, for use without Keras; and runs that file to see that it agrees.

    python -m recognizer export                                 the newest finished run, as exports/NAME.onnx
    python -m recognizer export single-1 --format litert        for phones: exports/NAME.tflite
    python -m recognizer export single-1 deotte-1 --format saved_model    both as one, for TensorFlow Serving

Input: float32 (n, 28, 28, 1), pixels / 255, ink light on dark. Output: ten probabilities, float32 (n, 10), the mean of
all nets (and of the shifts that the recipe predicts by). Needs requirements/export.txt.
"""

import os
import shutil
from pathlib import Path

import numpy as np

from recognizer.base import cli, environment
from recognizer.base.errors import UserError
from recognizer.base.reasons import reason
from recognizer.data import sources
from recognizer.runs import run_folder
from recognizer.training import exporting


def parser():
    p = cli.Parser(prog="python -m recognizer export", description=__doc__)
    names = p.add_argument("runs", nargs="*", metavar="RUN", help="names in runs/ (default: the newest finished one)")
    names.completer = run_folder.names
    p.add_argument("--format", choices=exporting.SUFFIXES, default="onnx", help="what to write (default: onnx)")
    p.add_argument("--out", type=Path, metavar="PATH", help="default: exports/RUN and the format's suffix")
    return p


def main(argv=None):
    arguments = parser().parse_args(argv)
    folders = run_folder.chosen(arguments.runs)
    name = "+".join(folder.name for folder in folders)
    out = arguments.out or Path("exports") / f"{name}{exporting.SUFFIXES[arguments.format]}"
    if not out.name.endswith(exporting.SUFFIXES[arguments.format]):
        raise UserError(
            f"--out {out}: {arguments.format} wants a name that ends in {exporting.SUFFIXES[arguments.format]}"
        )
    if out.exists():
        raise UserError(f"{out} exists: remove it, or choose another name by --out")
    environment.import_keras()
    from recognizer.base.backend import TENSORFLOW

    if not TENSORFLOW:
        raise UserError("only Keras on TensorFlow exports: install requirements.txt, and unset KERAS_BACKEND")
    model = exporting.mean_of_nets(folders)
    x = sources.load("digits").test.x[:64, ..., None] / np.float32(255)
    temporary = out.with_name(f".{out.stem}.{os.getpid()}{out.suffix}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        expected = model.predict(x, verbose=0)
        exporting.written(model, temporary, arguments.format)
        difference = np.abs(exporting.RUN[arguments.format](temporary, x) - expected).max()
        if not difference <= exporting.LARGEST_DIFFERENCE:
            raise UserError(f"{out} was not kept: its probabilities are up to {difference:.2g} from Keras's")
        os.replace(temporary, out)
    except ImportError as error:
        need = "python -m pip install -r requirements/export.txt"
        raise UserError(
            f"{error.name or reason(error)} is needed to write {arguments.format} and to try it: {need}"
        ) from error
    except OSError as error:
        raise UserError(f"{out} cannot be written ({reason(error)})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True) if temporary.is_dir() else temporary.unlink(missing_ok=True)
    size = sum(path.stat().st_size for path in ([out] if out.is_file() else out.rglob("*")) if path.is_file())
    print(f"{out}: {size / 1e6:.1f} MB; {len(x)} digits give Keras's probabilities to {difference:.1e}")
