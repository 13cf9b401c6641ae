# PYTHON_ARGCOMPLETE_OK
"""A page to draw a digit on: the ten probabilities, what the net sees of the drawing, and where it looked.

    python draw.py                      with the newest finished run
    python draw.py single-1 --port 8000

It needs Gradio (pip install -r requirements-draw.txt), and answers on this machine only. Ctrl-C ends it.
"""

import os
import threading

import numpy as np

import console
import handwriting
import runs

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


def parser():
    p = console.Parser(prog="draw.py", description=__doc__)
    run = p.add_argument("run", nargs="?", metavar="RUN", help="a name in runs/ (default: the newest finished one)")
    run.completer = runs.names
    p.add_argument("--port", type=int, metavar="P", help="where the page is (default: the first free one from 7860)")
    p.add_argument("--no-browser", action="store_true", help="do not open a browser")
    return p


def main(argv=None):
    arguments = parser().parse_args(argv)
    (folder,) = runs.chosen([arguments.run] if arguments.run else [])
    console.need("gradio", "python -m pip install -r requirements-draw.txt")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before it is imported: nothing is sent anywhere
    console.import_keras()
    import predict

    config = runs.read_config(folder)
    models = list(predict.saved_nets(folder, config))
    page = drawing_page(folder.name, models, config["test_shift"])
    import gradio

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
        raise console.UserError(f"{console.reason(error)}: choose another --port") from error
    print(f"Draw at {address}, and end with Ctrl-C", flush=True)
    threading.Event().wait()  # the page is served by a thread that ends with the process


def drawing_page(name, models, test_shift):
    """The page, a gradio.Blocks. models: the keras.Models of a run; test_shift: as in its settings."""
    import gradio

    explained = [grad_cam(model) for model in models]

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
    import fit

    padded = np.pad(image, test_shift) / np.float32(255)
    views = [padded[top : top + 28, left : left + 28, None] for top, left in fit.views(test_shift)]
    probabilities = np.mean([np.asarray(model(np.stack(views), training=False)) for model in models], axis=(0, 1))
    return probabilities, np.mean([heat(image, int(probabilities.argmax())) for heat in explained], axis=0)


def grad_cam(model):
    """Returns a function of a digit uint8 (28, 28) and a label: which parts speak for it, float32 (28, 28), 0 to 1.

    By the last feature maps of 5x5 or more that all of the net's results come from: Selvaraju et al., "Grad-CAM: visual
    explanations from deep networks" (2017), each pixel weighted by its own gradient, since where a stroke is matters
    here (Draelos and Carin, "HiResCAM", 2020). A net that has no such maps looks nowhere.
    """
    import keras

    from layers import core

    model = core(model)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    if hasattr(copy.layers[-1], "activation"):
        copy.layers[-1].activation = keras.activations.linear  # logits: probabilities of 1 have no gradient
    body, head = None, None
    for layer in reversed(copy.layers):
        features, normalised = layer.output, isinstance(layer, keras.layers.BatchNormalization)
        if len(features.shape) < 4 or min(features.shape[1:3]) < 5 or normalised:
            continue  # what is normalised is not 0 where nothing is
        try:
            body, head = keras.Model(copy.inputs[0], features), keras.Model(features, copy.outputs[0])
        except ValueError:  # one of a residual block's branches
            continue
        break
    if head is None:
        return lambda image, label: np.zeros((28, 28), np.float32)
    centres = _centres(body)

    def heat(image, label):
        features = body(image[None, ..., None] / np.float32(255), training=False)
        gradient = _gradient(lambda x: head(x, training=False)[0, label], features)
        found = np.maximum((np.asarray(features) * np.asarray(gradient))[0].sum(axis=-1), 0)
        for _ in range(2):  # rows, then columns
            found = np.stack([np.interp(np.arange(28), centres, [0, *line, 0]) for line in found.T])
        return (found / max(found.max(), 1e-9)).astype(np.float32)

    return heat


def _centres(body):
    """Where on an image the rows (and columns) of a net's feature maps lie, and the next ones beyond either end.

    The middle of what each is made from, by its gradient.
    """
    import keras

    x = keras.ops.convert_to_tensor(np.random.default_rng(0).random((32, 28, 28, 1), np.float32))
    middles = []
    for k in range(body.output.shape[1]):
        felt = np.abs(_gradient(lambda x, k=k: keras.ops.sum(body(x, training=False)[:, k, k]), x)).sum(axis=(0, 2, 3))
        felt -= felt.min()  # a net that standardises each image by itself feels every pixel a little
        middles.append(felt @ np.arange(28) / max(felt.sum(), 1e-9))
    apart = 28 / len(middles)
    return np.maximum.accumulate([middles[0] - apart, *middles, middles[-1] + apart])


def _gradient(function, x):
    """The gradient of a function of a tensor that gives a number, by the backend in use."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(function)(x)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x)


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


if __name__ == "__main__":
    console.run(main)
