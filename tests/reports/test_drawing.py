"""The page to draw digits on: what is read, and where a net looks."""

import os
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, needs_mnist
from PIL import Image, ImageDraw

from recognizer.data import segments
from recognizer.nn import grad_cam
from recognizer.reports import drawing

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def arc(x, y, width, height, start, end):
    """Points of an ellipse about (x, y), from angle `start` to `end` in degrees: 0 right, 90 down, 180 left."""
    angles = np.radians(np.linspace(start, end, 8))
    return [(x + width * np.cos(a), y + height * np.sin(a)) for a in angles]


# Two ways to write each digit: lists of strokes, whose points are (x, y) from the top left corner, 0 to 1.
STROKES = [
    (0, [arc(0.5, 0.5, 0.25, 0.38, -90, 280)]),
    (0, [arc(0.48, 0.52, 0.34, 0.34, -70, 300)]),
    (1, [[(0.5, 0.12), (0.5, 0.88)]]),
    (1, [[(0.4, 0.28), (0.56, 0.12), (0.5, 0.88)]]),
    (2, [[*arc(0.5, 0.32, 0.24, 0.2, 190, 380), (0.28, 0.85), (0.78, 0.85)]]),
    (2, [[*arc(0.48, 0.33, 0.2, 0.22, 200, 400), (0.25, 0.82), (0.5, 0.78), (0.76, 0.86)]]),
    (3, [[*arc(0.47, 0.3, 0.22, 0.19, 200, 450), *arc(0.47, 0.68, 0.26, 0.2, 270, 515)]]),
    (3, [[(0.27, 0.14), (0.7, 0.14), (0.48, 0.42), *arc(0.46, 0.65, 0.25, 0.22, 280, 510)]]),
    (4, [[(0.32, 0.14), (0.25, 0.55), (0.76, 0.55)], [(0.65, 0.18), (0.63, 0.88)]]),
    (4, [[(0.62, 0.88), (0.62, 0.12), (0.22, 0.62), (0.8, 0.62)]]),
    (5, [[(0.72, 0.14), (0.34, 0.14), (0.32, 0.45), *arc(0.48, 0.64, 0.23, 0.22, 240, 500)]]),
    (5, [[(0.34, 0.16), (0.31, 0.46), *arc(0.46, 0.65, 0.25, 0.21, 245, 510)], [(0.34, 0.16), (0.74, 0.13)]]),
    (6, [[(0.62, 0.12), (0.42, 0.32), *arc(0.5, 0.66, 0.2, 0.21, 180, -190)]]),
    (6, [[*arc(0.62, 0.5, 0.32, 0.38, 265, 180), *arc(0.48, 0.68, 0.18, 0.18, 180, -180)]]),
    (7, [[(0.24, 0.16), (0.76, 0.16), (0.44, 0.88)]]),
    (7, [[(0.26, 0.2), (0.74, 0.16), (0.42, 0.86)], [(0.42, 0.52), (0.7, 0.5)]]),
    (8, [arc(0.5, 0.31, 0.17, 0.18, -90, 270), arc(0.5, 0.69, 0.22, 0.2, -90, 270)]),
    (8, [[*arc(0.5, 0.3, 0.19, 0.18, -30, -270), *arc(0.5, 0.68, 0.22, 0.2, -90, 270), (0.66, 0.38), (0.67, 0.2)]]),
    (9, [[*arc(0.5, 0.34, 0.2, 0.2, 0, -350), (0.68, 0.5), (0.62, 0.88)]]),
    (9, [[*arc(0.52, 0.33, 0.2, 0.2, -10, -360), *arc(0.46, 0.52, 0.26, 0.36, -10, 90)]]),
]


# In a page, uploads that begin while `slow` is true take two seconds more.
SLOW_UPLOADS = """
    const plain = window.fetch;
    window.held = 0;
    window.fetch = async (...given) => {
        if (window.slow && String(given[0].url ?? given[0]).includes("/upload")) {
            window.held += 1;
            await new Promise(resolve => setTimeout(resolve, 2000));
        }
        return plain(...given);
    };
"""


def drawn(page, strokes):
    """Draws by the mouse on draw.py's page; returns the digit that it says is the likeliest."""
    page.get_by_label("Clear canvas").click()
    page.wait_for_selector("#probabilities .output-class", state="detached")
    page.wait_for_selector('#drawing button[aria-label="Brush Size"]')  # the pen is in hand
    box = page.locator("#drawing canvas").first.bounding_box()
    side = 0.8 * min(box["width"], box["height"])
    left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
    for stroke in strokes:
        points = [(left + x * side, top + y * side) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()
        page.wait_for_selector("#probabilities .output-class")
    page.wait_for_timeout(700 * len(strokes))  # until the page knows of the last stroke
    page.wait_for_function("!window.changed && !window.asked")  # it is answered
    return int(page.locator("#probabilities .output-class").first.inner_text())


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_a_net_looks_where_what_decides_is():
    """A net made by hand: ink in the lower right quarter makes a digit a 3, and nothing else counts."""
    import keras

    net = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(1, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(4),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    kernel = np.zeros((7, 7, 10))
    kernel[4:, 4:, 3] = 1
    net.set_weights([np.full((3, 3, 1, 1), 1 / 9), np.zeros(1), kernel.reshape(49, 10), np.zeros(10)])
    image = np.full((28, 28), 255, np.uint8)
    assert drawing.mean_probabilities([net], image).argmax() == 3
    heat = grad_cam.grad_cam(net)(image, 3)
    assert heat.shape == (28, 28)
    assert heat.max() == 1
    assert heat[18:26, 18:26].min() > 0.9
    assert heat[:13].max() == 0
    assert heat[:, :13].max() == 0
    shifted = drawing.mean_probabilities([net, net], image, test_shift=1)
    assert shifted.shape == (10,)
    assert shifted.sum() == pytest.approx(1)
    bar = np.full((60, 60), 255, np.uint8)
    bar[10:50, 25:35] = 0
    (plain,), (sharp,) = (drawing.read([net], bar, 1, temperature) for temperature in (1, 0.5))
    np.testing.assert_allclose(sharp.probabilities, plain.probabilities**2 / (plain.probabilities**2).sum(), rtol=1e-5)


def drawing_of(*digits):
    """A drawing of some of STROKES side by side: uint8 (280, 280 and more)."""
    image = Image.new("L", (max(560, 40 + 200 * len(digits)), 280), 255)
    for i, (_, strokes) in enumerate(digits):
        for stroke in strokes:
            points = [(20 + 200 * i + 240 * x, 20 + 240 * y) for x, y in stroke]
            ImageDraw.Draw(image).line(points, fill=0, width=10, joint="curve")
    return np.asarray(image)


@needs_mnist
def test_drawn_digits_and_numbers_are_read(reader):
    """At least 18 of 20 digits, and 8 of 10 numbers of two to four; what is not drawn is not read."""
    from recognizer.runs import run_folder
    from recognizer.training import predicting

    folder = reader / "runs" / "reader"
    models = list(predicting.saved_models(folder, run_folder.read_config(folder)))
    alone = [drawing.read(models, drawing_of(digit)) for digit in STROKES]
    right = [segments.text(found) == str(label) for found, (label, _) in zip(alone, STROKES, strict=True)]
    assert sum(right) >= 18
    numbers = [STROKES[i::7][: 2 + i % 3] for i in range(7)] + [STROKES[i::11] for i in range(3)]
    read = [segments.text(drawing.read(models, drawing_of(*number))).replace(" ", "") for number in numbers]
    assert (
        sum(told == "".join(str(label) for label, _ in number) for told, number in zip(read, numbers, strict=True)) >= 8
    )
    assert drawing.read(models, np.full((280, 560), 255, np.uint8)) == []


@needs_mnist
@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_digits_drawn_in_a_browser_are_read(reader):
    """18 of 20, and what is shown beside them."""
    pytest.importorskip("gradio")
    playwright = pytest.importorskip("playwright.sync_api")
    command = [sys.executable, "-m", "recognizer", "draw", "reader", "--no-browser", "--port", str(free_port())]
    environment = os.environ | {"GRADIO_SERVER_NAME": "0.0.0.0", "PYTHONPATH": str(ROOT)}  # as a container may have it
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # A shell starts its background jobs with SIGINT ignored, which is inherited.
    heard = dict(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    server = subprocess.Popen(command, cwd=reader, env=environment, **pipes, **heard)
    try:
        assert server.stdout.readline() == "Starting the page for reader ...\n"
        address = server.stdout.readline().split()[2].rstrip(",")
        assert address.startswith("http://127.0.0.1:")
        with playwright.sync_playwright() as p:
            browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1200, "height": 1100})
            asked = []
            page.on("request", lambda request: asked.append(request.url))
            page.add_init_script(SLOW_UPLOADS)
            page.goto(address)
            read = [drawn(page, strokes) for _, strokes in STROKES]
            number = [[(x + by, y) for x, y in stroke] for i, by in ((9, -0.5), (4, 0.5)) for stroke in STROKES[i][1]]
            drawn(page, number)
            answer = page.locator("#probabilities .output-class").first
            playwright.expect(answer).to_have_text("42", timeout=60_000)  # a slow machine may first answer 4
            # A drawing that is still on its way when the canvas is cleared is not answered afterwards.
            page.evaluate("window.slow = true")
            page.mouse.down()
            page.mouse.move(600, 300)
            page.mouse.up()
            page.wait_for_function("window.held")
            page.evaluate("window.slow = false")
            page.get_by_label("Clear canvas").click()
            page.wait_for_timeout(4000)
            assert not page.locator("#probabilities .output-class").count()
            browser.close()
        assert all(url.startswith((address, "data:", "blob:", address.replace("http", "ws"))) for url in asked)
        right = sum(told == label for told, (label, _) in zip(read, STROKES, strict=True))
        assert right >= 18, read
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=10)
        assert (server.returncode, out, err) == (130, "", "\nrecognizer: interrupted\n")
    finally:
        server.kill()
