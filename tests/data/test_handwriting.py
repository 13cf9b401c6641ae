"""Photographs, scans and drawings of digits are read right."""

import os
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, SHARED, script
from PIL import Image, ImageFilter, ImageOps

from recognizer.base.errors import UserError
from recognizer.data import handwriting, sources
from recognizer.data.arrays import Images
from recognizer.nn import grad_cam
from recognizer.reports import drawing
from recognizer.runs import run_folder
from recognizer.training import predicting

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def reader(tmp_path_factory):
    """A folder with a run that reads digits well, of the best data that there is: runs/reader/."""
    folder = tmp_path_factory.mktemp("reader")
    if (SHARED / "mnist.npz").is_file():
        recipe = ["quick", "--data", SHARED / "mnist.npz"]
    else:
        recipe = ["quick", "--epochs", 2, "--data", "digits"]
    process = script("train.py", *recipe, "--run", "reader", cwd=folder)
    assert process.returncode == 0, process.stderr
    return folder


def unseen(n):
    """Digits that `reader` has not been trained on: dataset.Images."""
    test = sources.load(str(SHARED / "mnist.npz") if (SHARED / "mnist.npz").is_file() else "digits").test
    return Images(test.x[:n], test.y[:n], test.origin)


def photographed(digit, rng, kind):
    """A photograph of a digit uint8 (28, 28), dark on paper that is unevenly lit: a PIL image of several sizes."""
    side = int(rng.integers(70, 260))
    height, width = (int(side * rng.uniform(1.05, 2.2)) for _ in range(2))
    ink = np.zeros((height, width))
    top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    pen = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    ink[top : top + side, left : left + side] = np.asarray(pen) / 255
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    slope = rng.normal(size=2)
    light = 0.75 + 0.2 * (slope[0] * x + slope[1] * y) / np.abs(slope).sum() - 0.08 * (x**2 + y**2)
    if kind == "shadow":  # of a hand, say
        light = light * np.where(slope[1] * x - slope[0] * y > rng.uniform(-0.3, 0.3), 1, 0.6)
    paper = light * (1 - rng.uniform(0.45, 0.9) * ink)
    if kind == "light on dark":
        paper = 1 - paper
    if kind == "table":  # dark, on two sides of the paper
        paper = np.pad(paper, ((0, height // 8), (width // 8, 0)), constant_values=0.1)
    if kind == "frame":
        paper = ImageOps.expand(Image.fromarray(np.uint8(255 * paper.clip(0, 1))), 4, fill=30)
        paper = np.asarray(ImageOps.expand(paper, 9, fill=200)) / 255
    noisy = 255 * paper + rng.normal(0, 4, paper.shape)
    return Image.fromarray(np.uint8(noisy.clip(0, 255))).filter(ImageFilter.GaussianBlur(side / 150))


@pytest.mark.parametrize("kind", ["uneven light", "shadow", "light on dark", "table", "frame"])
def test_photographs_are_read_as_well_as_the_digits_on_them(kind, reader, tmp_path, monkeypatch):
    monkeypatch.chdir(reader)
    images, rng = unseen(60), np.random.default_rng(0)
    for i, image in enumerate(images.x):
        photographed(image, rng, kind).save(tmp_path / f"{i}.jpg", quality=70)
    read = np.stack([handwriting.read_image(tmp_path / f"{i}.jpg") for i in range(len(images.x))])
    folder = run_folder.find("reader")
    config = run_folder.read_config(folder)
    plain, seen = (
        predicting.mean_probabilities([folder], [config], Images(x, None, "")).argmax(1) for x in (images.x, read)
    )
    assert np.mean(plain == images.y) >= 0.95
    assert np.mean(seen == images.y) >= np.mean(plain == images.y) - 0.1


def test_an_image_of_any_size_and_polarity_comes_to_mnists_form(digits, tmp_path):
    x = digits.test.x[:30]
    for i, image in enumerate(x):
        large = Image.fromarray(image).resize((280, 280), Image.Resampling.BICUBIC)
        paper = ImageOps.expand(ImageOps.invert(large), 60, fill=255)
        paper.crop((20, 0, 400, 400)).save(tmp_path / f"{i}.jpg")
    read = np.stack([handwriting.read_image(tmp_path / f"{i}.jpg") for i in range(len(x))])
    same = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(read, x, strict=True)]
    assert np.mean(same) > 0.9
    transparent = Image.new("RGBA", (50, 50), (0, 0, 0, 0))
    transparent.paste((0, 0, 0, 255), (20, 5, 26, 45))
    transparent.save(tmp_path / "clear.png")
    assert handwriting.read_image(tmp_path / "clear.png")[4:24, 13:15].min() == 255
    for name, white, dtype in (("16", 52_000, np.uint16), ("12", 4000, np.uint16), ("float", 1, np.float32)):
        deep = np.full((100, 100), white, dtype)
        deep[20:80, 45:55] = white // 10
        Image.fromarray(deep).save(tmp_path / f"{name}.tiff")
        assert handwriting.read_image(tmp_path / f"{name}.tiff")[5:23, 13:15].min() > 200


def test_images_of_any_few_pixels_are_digits_or_nothing():
    rng = np.random.default_rng(0)
    for height in (1, 2, 3, 5, 8, 13, 28, 60):
        for width in (1, 2, 4, 7, 11, 28, 59):
            for image in (rng.integers(0, 256, (height, width)), np.pad(np.full((height, width), 255), 1)):
                found = handwriting.digit(image.astype(np.uint8))
                assert found is None or (found.shape, found.dtype) == ((28, 28), np.uint8)


def test_a_damaged_or_bloated_image_is_refused_in_a_line(digits, tmp_path):
    sound = tmp_path / "sound.png"
    Image.fromarray(digits.test.x[0]).save(sound)
    (tmp_path / "cut.png").write_bytes(sound.read_bytes()[:-40])
    (tmp_path / "text.png").write_text("no picture")
    Image.new("1", (30_000, 30_000)).save(tmp_path / "bomb.png")  # 112 KB that are 900 million pixels
    Image.new("1", (10_000, 9_200)).save(tmp_path / "large.png")
    Image.new("L", (60, 60), 200).save(tmp_path / "empty.png")
    Image.new("L", (28, 28)).save(tmp_path / "black.png")
    Image.new("L", (28, 28)).save(tmp_path / "program.png", "EPS")  # Pillow would start Ghostscript
    for name, told in (
        ("cut", "not an image"),
        ("text", "not an image"),
        ("bomb", "not an image"),
        ("large", "not an image"),
        ("program", "not an image"),
        ("empty", "no digit"),
        ("black", "no digit"),
    ):
        with pytest.raises(UserError, match=told) as error:
            handwriting.read_image(tmp_path / f"{name}.png")
        assert f"{name}.png" in str(error.value)
        assert "\n" not in str(error.value)


# Drawing


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
    page.wait_for_timeout(700)  # for the answer to the last stroke
    return int(page.locator("#probabilities .output-class").first.inner_text())


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_a_net_looks_where_what_decides_is():
    """A net made by hand: a digit is a 3 as far as there is ink in the lower right quarter, and nothing else counts."""
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
    probabilities, heat = drawing.look([net], [grad_cam.grad_cam(net)], image)
    assert probabilities.argmax() == 3
    assert heat.shape == (28, 28)
    assert heat.max() == 1
    assert heat[18:26, 18:26].min() > 0.9
    assert heat[:13].max() == 0
    assert heat[:, :13].max() == 0
    shifted, _ = drawing.look([net, net], [grad_cam.grad_cam(net)] * 2, image, test_shift=1)
    assert shifted.shape == (10,)
    assert shifted.sum() == pytest.approx(1)


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
        assert (server.returncode, out, err) == (130, "", "\ndraw.py: interrupted\n")
    finally:
        server.kill()
