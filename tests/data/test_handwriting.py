"""Photographs, scans and drawings of digits are read right."""

import numpy as np
import pytest
from conftest import SHARED
from PIL import Image, ImageFilter, ImageOps

from recognizer.base.errors import UserError
from recognizer.data import handwriting, sources
from recognizer.data.arrays import Images
from recognizer.runs import run_folder
from recognizer.training import predicting


def unseen(n):
    """Digits that `reader` has not been trained on: arrays.Images."""
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
    return lit(ink, rng, kind, side / 150)


def lit(ink, rng, kind, blur):
    """A photograph of ink, 0 to 1, dark on paper that is unevenly lit: a PIL image."""
    height, width = ink.shape
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
    return Image.fromarray(np.uint8(noisy.clip(0, 255))).filter(ImageFilter.GaussianBlur(blur))


KINDS = ["uneven light", "shadow", "light on dark", "table", "frame"]


@pytest.mark.slow
def test_photographs_are_read_as_well_as_the_digits_on_them(reader, tmp_path):
    images, path = unseen(40), tmp_path / "digit.jpg"
    parts = {"plain": images.x}
    for kind in KINDS:
        rng, read = np.random.default_rng(0), []
        for image in images.x:
            photographed(image, rng, kind).save(path, quality=70)
            read.append(handwriting.read_image(path))
        parts[kind] = np.stack(read)
    folder = reader / "runs" / "reader"
    x = Images(np.concatenate(list(parts.values())), None, "")
    labels = predicting.mean_probabilities([folder], [run_folder.read_config(folder)], x).argmax(1)
    right = {kind: np.mean(part == images.y) for kind, part in zip(parts, np.split(labels, len(parts)), strict=True)}
    assert right["plain"] >= 0.95
    assert min(right.values()) >= right["plain"] - 0.1, right


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
