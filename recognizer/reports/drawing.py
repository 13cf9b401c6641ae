"""A page to draw a digit on: its ten probabilities, what the net sees of the drawing, and where it looks."""

import threading
from pathlib import Path

import numpy as np

from recognizer.base.errors import UserError
from recognizer.base.reasons import reason
from recognizer.data import handwriting
from recognizer.nn import grad_cam
from recognizer.runs import metrics

CANVAS = 280  # pixels

# The page runs this ten times a second. Gradio starts without a tool, as after "Clear canvas", so this selects the pen.
# And Gradio sends successive drawings in parallel, so that the older one may be answered last: this sends a drawing
# only after the answer to the one before.
LOOP = (Path(__file__).parent / "templates" / "draw.js").read_text(encoding="utf-8")


def serve(page, port=None, browser=True):
    """Serves a page (gradio.Blocks) on this machine only until Ctrl-C. port: None for the first free one.

    browser: whether to open it in a browser. Raises UserError if the port cannot be used.
    """
    import gradio

    # The machine's own fonts: Gradio's would be fetched from the network.
    theme = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    here = dict(server_name="127.0.0.1", share=False)  # whatever GRADIO_SERVER_NAME or Kaggle's environment says
    quiet = dict(prevent_thread_lock=True, quiet=True, footer_links=[])
    try:
        _, address, _ = page.launch(server_port=port, inbrowser=browser, theme=theme, **here, **quiet)
    except (OSError, OverflowError) as error:
        raise UserError(f"{reason(error)}: choose another --port") from error
    print(f"Draw at {address}, and end with Ctrl-C", flush=True)
    threading.Event().wait()  # the page is served by a thread that ends with the process


def drawing_page(name, models, test_shift, temperature):
    """Returns the page, a gradio.Blocks. The arguments are those of a run."""
    import gradio

    explained = [grad_cam.grad_cam(model) for model in models]

    def predict(sketch):
        found = handwriting.digit(_gray(sketch))
        if found is None:
            return None, None, None
        probabilities, heat = look(models, explained, found, test_shift, temperature)
        by_label = {str(label): float(p) for label, p in enumerate(probabilities)}
        enlarged = [image.repeat(10, axis=0).repeat(10, axis=1) for image in (255 - found, _overlaid(found, heat))]
        return by_label, *enlarged

    with gradio.Blocks(title="Draw a digit", analytics_enabled=False) as page:
        gradio.Markdown(f"# Draw a digit\n`{name}` says which it is, as soon as you lift the pen.")
        with gradio.Row():
            brush = gradio.Brush(default_size=10, colors=["#000000"], color_mode="fixed")
            canvas = dict(canvas_size=(CANVAS, CANVAS), fixed_canvas=True, layers=False, transforms=(), brush=brush)
            room = dict(height=CANVAS + 80, width=CANVAS + 80, min_width=CANVAS + 80, scale=0)  # with the tools
            sketch = gradio.Sketchpad(label="Draw here", type="numpy", elem_id="drawing", **canvas, **room)
            probabilities = gradio.Label(label="Probability of each digit", num_top_classes=10, elem_id="probabilities")
        with gradio.Row():
            plain = dict(height=320, buttons=[], interactive=False)
            seen = gradio.Image(label="What the net sees: 28 x 28 pixels, centred", **plain)
            looked = gradio.Image(label="Where it looked (Grad-CAM): the more, the darker the orange", **plain)
        outputs = [probabilities, seen, looked]
        ask = gradio.Button(visible="hidden", elem_id="ask")
        sketch.change(None, js="() => { window.changed = true }")
        answered = ask.click(predict, sketch, outputs, show_progress="hidden")
        for end in (answered.success, answered.failure):
            end(None, js="() => { window.asked = false }")
        page.load(js=LOOP)
    return page


def look(models, explained, image, test_shift=0, temperature=1):
    """Predicts a digit uint8 (28, 28) by several nets.

    explained: `grad_cam` of each of the models. Returns the mean probabilities (10,), sharpened, and where the nets
    looked, as float32 (28, 28).
    """
    from recognizer.training import inference

    padded = np.pad(image, test_shift) / np.float32(255)
    views = [padded[top : top + 28, left : left + 28, None] for top, left in inference.views(test_shift)]
    probabilities = np.mean([np.asarray(model(np.stack(views), training=False)) for model in models], axis=(0, 1))
    probabilities = metrics.sharpened(probabilities[None], temperature)[0]
    return probabilities, np.mean([heat(image, int(probabilities.argmax())) for heat in explained], axis=0)


def _gray(sketch):
    """Returns Gradio's sketch as dark on white, uint8 (height, width)."""
    drawn = sketch and sketch["composite"]  # uint8 (height, width, 4)
    if drawn is None:
        return np.full((CANVAS, CANVAS), 255, np.uint8)
    opacity = drawn[..., 3] / 255
    return (255 - opacity * (255 - drawn[..., :3].mean(axis=-1))).astype(np.uint8)


def _overlaid(image, heat):
    """Returns a digit as dark on white, with `heat` in orange: uint8 (28, 28, 3)."""
    paper = 255 - 0.6 * image[..., None]
    orange = np.array([213, 94, 0])  # Okabe and Ito's
    share = 0.7 * heat[..., None]
    return (paper * (1 - share) + orange * share * (paper / 255)).astype(np.uint8)
