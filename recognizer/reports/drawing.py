# PYTHON_ARGCOMPLETE_OK
"""A page to draw a digit on: the ten probabilities, what the net sees of the drawing, and where it looked.

    python -m recognizer draw                      with the newest finished run
    python -m recognizer draw single-1 --port 8000

It needs Gradio (pip install -r requirements/draw.txt), and answers on this machine only. Ctrl-C ends it.
"""

import numpy as np

from recognizer.data import handwriting
from recognizer.nn import grad_cam

CANVAS = 280  # pixels


BRUSH = 10


# What the page does besides, ten times a second. Gradio begins without a tool, and after "Clear canvas" has none again:
# the pen is taken for the user. And it sends two drawings that follow each other side by side, so that the older one
# may arrive, and be answered, last: one is asked about when the answer to the one before is there.
LOOP = """() => setInterval(() => {
    const pen = document.querySelector('#drawing button[aria-label="Brush"]');
    if (pen && !document.querySelector('#drawing button[aria-label$=" Size"]')) pen.click();
    if (window.changed && !window.asked) {
        [window.changed, window.asked] = [false, true];
        document.querySelector('#ask').click();
    }
}, 100)"""


def drawing_page(name, models, test_shift):
    """The page, a gradio.Blocks. models: the keras.Models of a run; test_shift: as in its settings."""
    import gradio

    explained = [grad_cam.grad_cam(model) for model in models]

    def judged(sketch):
        found = handwriting.digit(_gray(sketch))
        if found is None:
            return None, None, None
        probabilities, heat = look(models, explained, found, test_shift)
        told = {str(label): float(p) for label, p in enumerate(probabilities)}
        return told, _enlarged(255 - found), _enlarged(_overlaid(found, heat))

    with gradio.Blocks(title="Draw a digit", analytics_enabled=False) as page:
        gradio.Markdown(f"# Draw a digit\n`{name}` says which it is, as soon as you lift the pen.")
        with gradio.Row():
            sketch = gradio.Sketchpad(
                label="Draw here",
                type="numpy",
                canvas_size=(CANVAS, CANVAS),
                height=CANVAS + 80,
                width=CANVAS + 80,
                scale=0,
                min_width=CANVAS + 80,
                fixed_canvas=True,
                layers=False,
                transforms=(),
                brush=gradio.Brush(default_size=BRUSH, colors=["#000000"], color_mode="fixed"),
                elem_id="drawing",
            )
            probabilities = gradio.Label(label="Probability of each digit", num_top_classes=10, elem_id="probabilities")
        with gradio.Row():
            plain = dict(height=320, buttons=[], interactive=False)
            seen = gradio.Image(label="What the net sees: 28 x 28 pixels, centred", **plain)
            looked = gradio.Image(label="Where it looked (Grad-CAM): the more, the darker the orange", **plain)
        told = [probabilities, seen, looked]
        ask = gradio.Button(visible="hidden", elem_id="ask")
        sketch.change(None, js="() => { window.changed = true }")
        answered = ask.click(judged, sketch, told, show_progress="hidden")
        for end in (answered.success, answered.failure):
            end(None, js="() => { window.asked = false }")
        page.load(js=LOOP)
    return page


def look(models, explained, image, test_shift=0):
    """What nets say of a digit uint8 (28, 28): mean probabilities (10,), and where they looked, float32 (28, 28).

    explained: `grad_cam` of each.
    """
    from recognizer.training import inference

    padded = np.pad(image, test_shift) / np.float32(255)
    views = [padded[top : top + 28, left : left + 28, None] for top, left in inference.views(test_shift)]
    probabilities = np.mean([np.asarray(model(np.stack(views), training=False)) for model in models], axis=(0, 1))
    return probabilities, np.mean([heat(image, int(probabilities.argmax())) for heat in explained], axis=0)


def _gray(sketch):
    """What Gradio gives of a drawing, uint8 (height, width, 4), as dark on white: uint8 (height, width)."""
    drawn = sketch and sketch["composite"]
    if drawn is None:  # nothing is drawn
        return np.full((CANVAS, CANVAS), 255, np.uint8)
    opacity = drawn[..., 3] / 255
    return (255 - opacity * (255 - drawn[..., :3].mean(axis=-1))).astype(np.uint8)


def _enlarged(image):
    """uint8 (28, 28) or (28, 28, 3), ten times as large, its pixels as squares."""
    return image.repeat(10, axis=0).repeat(10, axis=1)


def _overlaid(image, heat):
    """A digit uint8 (28, 28) dark on white, in orange as far as it was looked at: uint8 (28, 28, 3)."""
    paper = 255 - 0.6 * image[..., None]
    orange = np.array([213, 94, 0])  # Okabe and Ito's
    share = 0.7 * heat[..., None]
    return (paper * (1 - share) + orange * share * (paper / 255)).astype(np.uint8)
