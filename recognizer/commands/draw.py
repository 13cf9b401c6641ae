"""A page to draw a digit on: the ten probabilities, what the net sees of the drawing, and where it looked.

    python -m recognizer draw                      with the newest finished run
    python -m recognizer draw single-1 --port 8000

It needs Gradio (pip install -r requirements/draw.txt), and answers on this machine only. Ctrl-C ends it.
"""

import threading

from recognizer.base import cli, environment
from recognizer.base.errors import UserError
from recognizer.base.reasons import reason
from recognizer.reports import drawing
from recognizer.runs import run_folder


def parser():
    p = cli.Parser(prog="python -m recognizer draw", description=__doc__)
    run = p.add_argument("run", nargs="?", metavar="RUN", help="a name in runs/ (default: the newest finished one)")
    run.completer = run_folder.names
    p.add_argument("--port", type=int, metavar="P", help="where the page is (default: the first free one from 7860)")
    p.add_argument("--no-browser", action="store_true", help="do not open a browser")
    return p


def main(argv=None):
    arguments = parser().parse_args(argv)
    (folder,) = run_folder.chosen([arguments.run] if arguments.run else [])
    gradio = environment.import_gradio()
    environment.import_keras()
    from recognizer.training import predicting

    config = run_folder.read_config(folder)
    models = list(predicting.saved_nets(folder, config))
    page = drawing.drawing_page(folder.name, models, config["test_shift"])

    # Fonts of the machine's own: Gradio's would be fetched from the network.
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    try:
        _, address, _ = page.launch(
            server_name="127.0.0.1",  # whatever GRADIO_SERVER_NAME or Kaggle's environment says
            server_port=arguments.port,
            share=False,
            inbrowser=not arguments.no_browser,
            prevent_thread_lock=True,
            quiet=True,
            footer_links=[],
            theme=theme,
        )
    except (OSError, OverflowError) as error:
        raise UserError(f"{reason(error)}: choose another --port") from error
    print(f"Draw at {address}, and end with Ctrl-C", flush=True)
    threading.Event().wait()  # the page is served by a thread that ends with the process
