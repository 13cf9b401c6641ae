"""A web page to draw digits on. It shows the predictions, the net's input, and where the net looks (Grad-CAM)."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recognizer.base.errors import UserError
from recognizer.base.reasons import reason
from recognizer.data import segments
from recognizer.nn import grad_cam
from recognizer.runs import metrics

if TYPE_CHECKING:
    import gradio
    import keras

CANVAS = (560, 280)  # pixels

# The page runs this script ten times a second. It selects the pen, since Gradio has no tool selected at the start and
# after "Clear canvas". It sends a drawing only after the answer to the previous one, since Gradio sends drawings in
# parallel, and the answer to an older drawing could arrive last.
LOOP = (Path(__file__).parent / "templates" / "draw.js").read_text(encoding="utf-8")


def serve(page: gradio.Blocks, port: int | None = None, browser: bool = True) -> None:
    """Serves a page (gradio.Blocks) until Ctrl-C, for this machine only. port: int; None: the first free port.

    browser: bool, whether to open the page in a browser. Raises UserError if the port cannot be used.
    """
    import gradio

    # System fonts, since Gradio would fetch its fonts from the network.
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    here = dict(server_name="127.0.0.1", share=False)  # overrides GRADIO_SERVER_NAME and Kaggle's environment
    quiet = dict(prevent_thread_lock=True, quiet=True, footer_links=[])
    try:
        _, address, _ = page.launch(server_port=port, inbrowser=browser, theme=theme, **here, **quiet)
    except (OSError, OverflowError) as error:
        raise UserError(f"{reason(error)}: choose another --port") from error
    print(f"Draw at {address}, and end with Ctrl-C", flush=True)
    threading.Event().wait()  # a daemon thread serves the page


def drawing_page(name: str, models: list[keras.Model], test_shift: int, temperature: float) -> gradio.Blocks:
    """Returns the page, a gradio.Blocks. The arguments are a run's name, nets, test_shift and temperature."""
    import gradio

    explained = [grad_cam.grad_cam(model) for model in models]

    def predict(sketch):
        found = read(models, _gray(sketch), test_shift, temperature)
        if not found:
            return None, None, None
        told = segments.text(found)
        if len(found) == 1 and told != "?":
            told = {str(label): float(p) for label, p in enumerate(found[0].probabilities)}
        seen = [digit.image for digit in found]
        labels = [int(digit.probabilities.argmax()) for digit in found]
        heats = [np.mean([heat(*pair) for heat in explained], axis=0) for pair in zip(seen, labels, strict=True)]
        overlaid = [_overlaid(image, heat) for image, heat in zip(seen, heats, strict=True)]
        rows = np.concatenate([255 - image for image in seen], axis=1), np.concatenate(overlaid, axis=1)
        return told, *(row.repeat(10, axis=0).repeat(10, axis=1) for row in rows)

    told = "predicts it as soon as you lift the pen; a question mark stands for what cannot be read"
    with gradio.Blocks(title="Draw digits", analytics_enabled=False) as page:
        gradio.Markdown(f"# Draw a digit, or a number\n`{name}` {told}.")
        with gradio.Row():
            brush = gradio.Brush(default_size=10, colors=["#000000"], color_mode="fixed")
            canvas = dict(canvas_size=CANVAS, fixed_canvas=True, layers=False, transforms=(), brush=brush)
            width, height = (side + 80 for side in CANVAS)  # leaves room for the tools
            room = dict(height=height, width=width, min_width=width, scale=0)
            sketch = gradio.Sketchpad(label="Draw here", type="numpy", elem_id="drawing", **canvas, **room)
            probabilities = gradio.Label(label="What it is", num_top_classes=10, elem_id="probabilities")
        with gradio.Row():
            plain = dict(height=320, buttons=[], interactive=False)
            seen = gradio.Image(label="What the net sees: each digit in 28 x 28 pixels, centred", **plain)
            looked = gradio.Image(
                label="Where it looked (Grad-CAM): darker orange means a larger contribution", **plain
            )
        outputs = [probabilities, seen, looked]
        ask = gradio.Button(visible="hidden", elem_id="ask")
        sketch.change(None, js="() => { window.changed = true }")
        answered = ask.click(predict, sketch, outputs, show_progress="hidden")
        for end in (answered.success, answered.failure):
            end(None, js="() => { window.asked = false }")
        page.load(js=LOOP)
    return page


def read(
    models: list[keras.Model], gray: np.ndarray, test_shift: int = 0, temperature: float = 1
) -> list[segments.Digit]:
    """Returns the segments.Digits, with sharpened probabilities, that nets read in a drawing. gray: uint8 (h, w)."""
    picture = segments.picture_of(gray, gray.shape[::-1])
    if not picture.lines:
        return []
    # One by one, since JAX compiles anew for each number of images.
    rows = [mean_probabilities(models, image, test_shift) for image in segments.images([picture])]
    return segments.digits([picture], np.stack(rows), lambda raw: metrics.sharpened(raw, temperature))[0]


def mean_probabilities(models: list[keras.Model], image: np.ndarray, test_shift: int = 0) -> np.ndarray:
    """Returns the mean probabilities (10,) of several nets for a digit uint8 (28, 28)."""
    from recognizer.training import inference

    padded = np.pad(image, test_shift) / np.float32(255)
    views = [padded[top : top + 28, left : left + 28, None] for top, left in inference.views(test_shift)]
    return np.mean([np.asarray(model(np.stack(views), training=False)) for model in models], axis=(0, 1))


def _gray(sketch):
    """Returns Gradio's sketch as uint8 (height, width), dark on white."""
    drawn = sketch and sketch["composite"]  # uint8 (height, width, 4)
    if drawn is None:
        return np.full(CANVAS[::-1], 255, np.uint8)
    opacity = drawn[..., 3] / 255
    return (255 - opacity * (255 - drawn[..., :3].mean(axis=-1))).astype(np.uint8)


def _overlaid(image, heat):
    """Returns a digit, dark on white, with `heat` in orange: uint8 (28, 28, 3)."""
    paper = 255 - 0.6 * image[..., None]
    orange = np.array([213, 94, 0])  # Okabe and Ito's
    share = 0.7 * heat[..., None]
    return (paper * (1 - share) + orange * share * (paper / 255)).astype(np.uint8)
