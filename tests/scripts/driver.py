"""Runs many commands of the scripts in one process: TensorFlow takes seconds to start.

    python driver.py SCRIPTS < commands.json > told.json

SCRIPTS is a folder with train.py. Commands are lists of strings: a script and its arguments; a command of
`python -m recognizer` and its arguments; "interrupted" before train.py for Ctrl-C after the first epoch; or "draw" and
a run, which computes the probabilities and the heat map (Grad-CAM) of a digit, as the page of `draw` does. Each is
answered by [exit code, stdout, stderr]. Runs draw no pictures.
"""

import contextlib
import io
import json
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def copied(folder, text=""):
    """A copy of the scripts with `text` added to models.py."""
    scripts = folder / "copy"
    scripts.mkdir()
    for path in ROOT.glob("*.py"):
        shutil.copy(path, scripts)
    shutil.copytree(ROOT / "recognizer", scripts / "recognizer")
    with open(scripts / "models.py", "a") as file:
        file.write(text)
    return scripts


def told(scripts, commands, cwd, timeout=900, **options):
    """The answers to commands, a list of lists. options: of subprocess.run."""
    process = subprocess.run(
        [sys.executable, __file__, str(scripts)],
        input=json.dumps([list(map(str, command)) for command in commands]),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        **options,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def main(scripts):
    sys.path.insert(0, scripts)
    from recognizer.reports import report_page, run_pictures

    run_pictures.run_pictures = lambda *_: []
    report_page.write = lambda *_: "none"
    answers = [answer(*command) for command in json.load(sys.stdin)]
    json.dump(answers, sys.stdout)


def answer(name, *arguments):
    from recognizer.base import program

    out, error = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            if name == "draw":
                look(*arguments)
            elif name == "interrupted":
                with interruption():
                    program.run(command(*arguments))
            else:
                program.run(command(name, *arguments))
        except SystemExit as exit:
            code = exit.code
        except Exception:
            code = 1
            traceback.print_exc()
    return code, out.getvalue(), error.getvalue()


def command(name, *arguments):
    """The main function of a script or a command, with its arguments in sys.argv."""
    import predict
    import train
    from recognizer import __main__ as commands

    scripts = {"train.py": train.main, "predict.py": predict.main}
    sys.argv = [name, *arguments] if name in scripts else ["recognizer", name, *arguments]
    return lambda: scripts.get(name, commands.main)()


@contextlib.contextmanager
def interruption():
    """Ctrl-C after the first checkpoint in the block."""
    from recognizer.runs import checkpoints

    write = checkpoints.write

    def interrupting(*arguments):
        write(*arguments)
        raise KeyboardInterrupt

    checkpoints.write = interrupting
    try:
        yield
    finally:
        checkpoints.write = write


def look(run):
    from recognizer.data import sources
    from recognizer.nn import grad_cam
    from recognizer.reports import drawing, run_pictures
    from recognizer.runs import run_folder
    from recognizer.training import predicting

    folder = run_folder.find(run)
    config = run_folder.read_config(folder)
    models = list(predicting.saved_models(folder, config))
    image = sources.load("digits").test.x[0]
    probabilities = drawing.mean_probabilities(models, image)
    heat = grad_cam.grad_cam(models[0])(image, int(probabilities.argmax()))
    assert abs(probabilities.sum() - 1) < 1e-2
    assert heat.shape == (28, 28)
    run_pictures.run_picture("layers", folder)


if __name__ == "__main__":
    main(sys.argv[1])
