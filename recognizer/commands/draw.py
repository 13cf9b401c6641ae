"""Opens a page to draw a digit or a number on.

It shows the prediction, the images that the net gets, and where it looks (Grad-CAM).

    python -m recognizer draw                      with the newest finished run
    python -m recognizer draw single-1 --port 8000

It needs Gradio (pip install -r requirements/draw.txt), and answers on this machine only. Ctrl-C ends it.
"""

from recognizer.base import cli, environment
from recognizer.runs import run_folder


def parser() -> cli.Parser:
    p = cli.Parser(prog="python -m recognizer draw", description=__doc__)
    run_folder.add_run_argument(p)
    p.add_argument("--port", type=int, metavar="P", help="the page's port (default: the first free one from 7860)")
    p.add_argument("--no-browser", action="store_true", help="do not open a browser")
    return p


def main(argv: list[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    (folder,) = run_folder.find_finished([arguments.run] if arguments.run else [])
    print(f"Starting the page for {folder.name} ...", flush=True)
    environment.import_gradio()
    environment.import_keras()
    from recognizer.reports import drawing
    from recognizer.training import predicting

    config = run_folder.read_config(folder)
    models, temperature = list(predicting.saved_models(folder, config)), run_folder.temperature(folder)
    page = drawing.drawing_page(folder.name, models, config["test_shift"], temperature)
    drawing.serve(page, arguments.port, browser=not arguments.no_browser)
