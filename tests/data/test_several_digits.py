"""Numbers in pictures are read digit by digit, whatever kind of file or folder the pictures come in."""

import zipfile

import numbers_written
import numpy as np
import pytest
from conftest import SHARED, assert_one_line_error, copied, needs_mnist, script
from PIL import Image, ImageDraw, features
from test_handwriting import lit, unseen

import predict
from recognizer.base.errors import UserError
from recognizer.data import handwriting, image_files, ruled_lines, segments, sources
from recognizer.data.arrays import Images
from recognizer.runs import run_folder
from recognizer.training import predicting


@pytest.fixture(scope="module")
def read(reader):
    """A function that reads image files by a good net: it returns segments.text of each."""
    folder = reader / "runs" / "reader"

    def read(paths):
        pictures = [segments.read_picture(path) for path in paths]
        x = Images(segments.images(pictures), None, "")
        probabilities = predicting.mean_probabilities([folder], [run_folder.read_config(folder)], x)
        return [segments.text(digits) for digits in segments.digits(pictures, probabilities)]

    return read


def drawn(strokes, path, width=10, size=(400, 400)):
    """Draws strokes, lists of points (x, y) in pixels, dark on white, into an image file."""
    image = Image.new("L", size, 255)
    for points in strokes:
        ImageDraw.Draw(image).line(points, fill=20, width=width, joint="curve")
    image.save(path)
    return path


@pytest.mark.slow
@needs_mnist
def test_numbers_of_two_to_six_digits_are_read_in_order(reader):
    """A net trained for seconds reads 93 % of the digits; of touching ones, four in five are right or refused."""
    found = numbers_written.readings(reader / "runs" / "reader", sources.load(str(SHARED / "mnist.npz")).test, 60, 7)
    apart = [(labels, told) for labels, told, touch, _ in found if not touch]
    right = sum(numbers_written.in_order(*each) for each in apart)
    assert right >= 0.93 * sum(len(labels) for labels, _ in apart)
    touching = [(labels, told) for labels, told, touch, _ in found if touch]
    assert sum(labels == told or None in told for labels, told in touching) >= 0.8 * len(touching)


def joined(left, right):
    """Returns two digits uint8 (28, 28) beside each other, as ink 0 to 1: the right one just touches the left one."""
    parts = [np.asarray(Image.fromarray(digit).resize((112, 112))) / 255 for digit in (left, right)]
    rows = [row for row in zip(*(part > 0.4 for part in parts), strict=True) if row[0].any() and row[1].any()]
    at = max(np.flatnonzero(one)[-1] - np.flatnonzero(other)[0] for one, other in rows)
    ink = np.zeros((200, 320))
    ink[40:152, 40:152] = parts[0]
    there = ink[40:152, 40 + at : 152 + at]
    there[:] = np.maximum(there, parts[1])
    return ink


@pytest.mark.slow
@needs_mnist
def test_few_pairs_that_touch_are_taken_for_one_digit(read, tmp_path):
    """A net is sure that 88 is an 8, and 41 a 4: of these pairs, only the number of strokes shows that they are two."""
    images, numbers = unseen(300), ["10", "18", "19", "31", "41", "68", "71", "77", "88", "89"] * 5
    used = dict.fromkeys(range(10), 0)
    for i, number in enumerate(numbers):
        digits = []
        for label in map(int, number):
            digits.append(images.x[images.y == label][used[label] % 20])
            used[label] += 1
        Image.fromarray(np.uint8(255 - 220 * joined(*digits))).save(tmp_path / f"{i}.png")
    told = read([tmp_path / f"{i}.png" for i in range(len(numbers))])
    wrong = [(number, one) for number, one in zip(numbers, told, strict=True) if one != number and "?" not in one]
    assert len(wrong) <= 0.4 * len(numbers), wrong
    assert told.count("?") <= 0.6 * len(numbers), told


def test_an_image_in_mnists_form_is_one_digit_however_many_strokes_it_has():
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 6:22:3] = 255
    picture = segments.picture_of(image, (28, 28))
    assert segments.text(segments.digits([picture], np.eye(10)[[7]])[0]) == "7"


def told_by(strokes, path, p=0.95, size=(400, 400)):
    """Returns what is read in drawn strokes by a net that takes everything for a 1, with a probability."""
    picture = segments.read_picture(drawn(strokes, path, 10, size))
    row = np.where(np.arange(10) == 1, p, (1 - p) / 9)
    return segments.text(segments.digits([picture], [row] * len(segments.images([picture])))[0])


ONES = [[(x, 140), (x, 240)] for x in (60, 340)]


@pytest.mark.parametrize(
    "more",
    [
        [(150, 20), (230, 25), (180, 380)],  # too high for a digit
        [(180, 220), (210, 220), (210, 238), (180, 238), (180, 220)],  # too low
        [(190, 150), (225, 146), (192, 172), (225, 170)],
    ],
)
def test_what_is_as_large_as_a_digit_but_is_none_is_not_left_out(more, tmp_path):
    assert told_by(ONES, tmp_path / "two.png").replace(" ", "") == "11"
    assert "?" in told_by([*ONES, more], tmp_path / "more.png")


def test_digits_beside_the_thick_edge_of_a_table_are_not_taken_for_its_remains():
    mask = np.zeros((105, 320), bool)
    mask[88:102] = True
    for x in (70, 140, 210, 280):
        mask[30:68, x : x + 7] = True
    lines = ruled_lines.ruled(mask)
    assert lines[95].all()
    assert not lines[:80].any()


def test_an_unsure_digit_is_read_alone_but_not_in_a_number(tmp_path):
    assert told_by(ONES[:1], tmp_path / "one.png", 0.45) == "1"
    assert told_by(ONES, tmp_path / "two.png", 0.45).replace(" ", "") == "??"


@pytest.mark.parametrize(
    ("pictures", "p", "told", "found", "unread"),
    [
        (
            {"two.png": ONES},
            0.45,
            ["two.png: ? ? (2 numbers; {})"],
            "2 digits in 1 picture",
            "2 of 2 digits, in two.png",
        ),
        (
            {"one.png": ONES[:1], "two.png": ONES},
            0.45,
            ["one.png: 1 (45.0%)", "two.png: ? ? (2 numbers; {})"],
            "3 digits in 2 pictures",
            "2 of 3 digits, in two.png",
        ),
        (
            {"a.png": ONES, "b.png": ONES, "c.png": ONES, "d.png": ONES},
            0.45,
            [f"{name}.png: ? ? (2 numbers; {{}})" for name in "abcd"],
            "8 digits in 4 pictures",
            "8 of 8 digits, in a.png, b.png, c.png and 1 more",
        ),
        ({"two.png": ONES}, 0.95, ["two.png: 1 1 (2 numbers; at least 95.0%)"], "2 digits in 1 picture", ""),
        (
            {"lines.png": [*ONES, [(200, 290), (200, 390)]]},
            0.95,
            ["lines.png: 1 1 / 1 (3 numbers in 2 lines; at least 95.0%)"],
            "3 digits in 1 picture",
            "",
        ),
        (
            {"close.png": [[(x, 140), (x, 240)] for x in (150, 210)]},
            0.9997,
            ["close.png: 11 (at least 99.9%)"],
            "2 digits in 1 picture",
            "",
        ),
    ],
)
def test_what_is_read_and_what_is_not_is_printed_and_neither_is_an_error(
    pictures, p, told, found, unread, trained, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    copied(trained, tmp_path, "bag")
    row = np.where(np.arange(10) == 1, p, (1 - p) / 9)
    monkeypatch.setattr(predicting, "computed_probabilities", lambda runs, x, *_: [np.tile(row, (len(x), 1))] * 2)
    monkeypatch.setattr(predicting, "temperature", lambda *_: 1)
    for name, strokes in pictures.items():
        drawn(strokes, tmp_path / name)
    assert not predict.main(["bag", "--images", *pictures])
    expected = ["Learned from: scikit-learn's digits (1,437 of 1,797)"]
    expected += [line.format("? stands for digits that touch or are unclear") for line in told]
    expected += [f"Found {found}, and predicted with bag; preview: submissions/bag-images-preview.png"]
    expected += ["Predictions: submissions/bag-images.csv"]
    if unread:
        number, _, files = unread.partition(", ")
        expected += [f"Not read: {number}, marked ?, {files}: digits that touch or are unclear to this run"]
    printed = capsys.readouterr()
    assert printed.out.splitlines() == expected
    (line,) = printed.err.splitlines()
    assert "learned from digits of 8x8 pixels only" in line
    rows = (tmp_path / "submissions" / "bag-images.csv").read_text().splitlines()
    assert len(rows) == 1 + int(found.split()[0])


def test_a_row_of_boxes_is_no_sheet_of_paper(tmp_path):
    boxes = [[(x, 100), (x + 90, 100), (x + 90, 230), (x, 230), (x, 100)] for x in (40, 142, 244)]
    ones = [[(x + 45, 125), (x + 45, end)] for x, end in ((40, 205), (142, 205), (244, 232))]  # the last meets a line
    image = Image.new("L", (374, 330), 250)
    for points in boxes:
        ImageDraw.Draw(image).line(points, fill=20, width=4)
    for points in ones:
        ImageDraw.Draw(image).line(points, fill=20, width=10)
    image.save(tmp_path / "boxes.png")
    picture = segments.read_picture(tmp_path / "boxes.png")
    row = np.where(np.arange(10) == 1, 0.95, 0.005)
    told = segments.text(segments.digits([picture], [row] * len(segments.images([picture])))[0])
    assert told.replace(" ", "") in ("111", "11?")


def circle(x, y, radius, start, end):
    angles = np.radians(np.linspace(start, end, 20))
    return [(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles]


@needs_mnist
@pytest.mark.parametrize("gap", [0, 6, 20, *(pytest.param(gap, marks=pytest.mark.slow) for gap in (2, 12))])
@pytest.mark.parametrize("label", [3, 4, 5, 7])
def test_a_digit_whose_strokes_are_apart_is_one(label, gap, read, tmp_path):
    body = circle(190, 260, 75, -100, 130)
    strokes = {
        3: [circle(190, 125, 65, 180, 450), circle(190, 265 + gap, 75, 270, 530)],
        4: [[(140, 70), (110, 220), (225 - gap, 220)], [(240, 90), (240, 330)]],
        5: [[(140, 75), (135, 190), *body], [(155 + gap, 75), (280 + gap, 72)]],
        7: [[(110, 80), (280 - gap // 2, 80)], [(285, 80 + gap), (180, 330)]],
    }[label]
    assert read([drawn(strokes, tmp_path / "one.png")]) == [str(label)]


@needs_mnist
def test_two_digits_near_each_other_are_two_and_lines_are_read_from_the_top(read, tmp_path):
    one = [(60, 60), (60, 140)]
    seven = [(100, 60), (150, 60), (120, 140)]
    for gap in (-20, 0, 6, 20):
        moved = [(x + gap, y) for x, y in seven]
        assert read([drawn([one, moved], tmp_path / "17.png", 8, (300, 200))]) == ["17"]
    lower = [[(x, y + 130) for x, y in stroke] for stroke in (one, seven)]
    far = [(x + 170, y) for x, y in seven]
    assert read([drawn([one, seven, far, *lower], tmp_path / "lines.png", 8, (400, 350))]) == ["17 7 / 17"]


@pytest.mark.slow
def test_a_page_is_read_at_a_scale_that_suits_its_digits(read, tmp_path):
    images, rng = unseen(24), np.random.default_rng(3)
    ink = np.zeros((700, 1200))
    for i, image in enumerate(images.x):
        top, left = 60 + 160 * (i // 6), 90 + 60 * (i % 6) + 300 * (i % 6 > 2)
        ink[top : top + 70, left : left + 70] = np.asarray(Image.fromarray(image).resize((70, 70))) / 255
    lit(ink, rng, "uneven light", 1).resize((2400, 1400)).save(tmp_path / "page.jpg")
    (told,) = read([tmp_path / "page.jpg"])
    lines = told.split(" / ")
    assert [[len(number) for number in line.split(" ")] for line in lines] == [[3, 3]] * 4
    digits = "".join(lines).replace(" ", "")
    assert sum(int(one) == label for one, label in zip(digits, images.y, strict=True)) >= 22


def test_a_picture_of_small_print_is_refused_in_a_line(tmp_path):
    image = Image.new("L", (1000, 1000), 255)
    for i in range(400):
        ImageDraw.Draw(image).rectangle(
            [50 * (i % 20) + 10, 50 * (i // 20) + 10, 50 * (i % 20) + 30, 50 * (i // 20) + 40], 0
        )
    image.save(tmp_path / "print.png")
    with pytest.raises(UserError, match=r"print\.png shows more than 300 shapes: cut out"):
        segments.read_picture(tmp_path / "print.png")


@pytest.mark.slow
def test_pictures_in_folders_below_folders_and_in_zips_are_read_and_others_named(digits, tmp_path, trained):
    images, below = tmp_path / "in", tmp_path / "in" / "a" / "b"
    below.mkdir(parents=True)
    kinds = ["png", "jfif", "JPG", *["avif"] * features.check("avif")]
    for i, kind in enumerate(kinds):
        large = Image.fromarray(255 - digits.test.x[i]).resize((112, 112))
        large.save(below / f"{i}.{kind}", "JPEG" if kind == "jfif" else None)
    for name in ("notes.txt", ".DS_Store", "Thumbs.db"):
        (images / name).write_text("no image")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for file in sorted(images.rglob("*")):
            archive.write(file, file.relative_to(images))
        archive.writestr("__MACOSX/a/b/._0.png", b"")
    for path in (images, tmp_path / "in.zip"):
        pictures, faults, skipped = image_files.read_pictures([path])
        assert [picture.name.replace("\\", "/").rpartition("/in")[2] for picture in pictures] == sorted(
            f"{'.zip' * (path != images)}/a/b/{i}.{kind}" for i, kind in enumerate(kinds)
        )
        assert faults == []
        assert [name.replace("\\", "/").rpartition("/")[2] for name in skipped] == ["notes.txt"]
    (below / "cut.png").write_bytes((below / "0.png").read_bytes()[:-50])
    process = script("predict.py", "bag", "--images", images, "--out", tmp_path / "out.csv", cwd=trained)
    assert process.returncode == 2
    told = process.stderr.splitlines()
    assert len(told) == 3
    assert told[0].startswith("Skipped a file that is no image: ")
    assert told[0].endswith("notes.txt")
    assert "learned from digits of 8x8 pixels only" in told[1]
    assert "cut.png is not an image" in told[2]
    assert told[2].endswith(f"; all else is in {tmp_path / 'out.csv'}")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 1 + len(kinds)
    for i in range(9):
        (below / f"cut{i}.png").write_bytes(b"no image")
    process = script("predict.py", "bag", "--images", images, "--out", tmp_path / "out.csv", cwd=trained)
    assert f"10 of {10 + len(kinds)} image files cannot be read" in process.stderr
    assert max(map(len, process.stderr.splitlines())) < 300
    process = script("predict.py", "bag", "--images", below / "cut.png", "--out", tmp_path / "none.csv", cwd=trained)
    assert_one_line_error(process, "cut.png is not an image")
    assert not (tmp_path / "none.csv").exists()


@needs_mnist
def test_several_digits_have_a_row_each_with_its_place(read, reader, tmp_path):
    one, seven = [(60, 60), (60, 140)], [(100, 60), (150, 60), (120, 140)]
    drawn([one, seven], tmp_path / "number.png", 8, (300, 200))
    drawn([seven], tmp_path / "one.png", 8, (200, 200))
    process = script("predict.py", "reader", "--images", tmp_path, "--out", tmp_path / "out.csv", cwd=reader)
    assert process.returncode == 0, process.stderr
    assert f"{tmp_path / 'number.png'}: 17 (at least " in process.stdout
    header, *rows = [row.split(",") for row in (tmp_path / "out.csv").read_text().splitlines()]
    assert header == ["file", "label", "probability", "line", "number", "digit", "left", "top", "right", "bottom"]
    assert [row[1] for row in rows] == ["1", "7", "7"]
    assert [row[3:6] for row in rows] == [["1", "1", "1"], ["1", "1", "2"], ["1", "1", "1"]]
    places = [[int(side) for side in row[6:]] for row in rows]
    np.testing.assert_allclose(places[:2], [[56, 60, 64, 140], [100, 56, 154, 144]], atol=5)
    with Image.open(tmp_path / "out-preview.png") as picture:
        assert min(picture.size) > 300


def test_ink_of_any_shade_on_transparency_is_seen(tmp_path):
    for shade in ("white", "black", "yellow", "blue"):
        clear = Image.new("RGBA", (50, 50))
        clear.paste(shade, (20, 5, 26, 45))
        clear.save(tmp_path / "clear.png")
        assert handwriting.read_image(tmp_path / "clear.png")[4:24, 13:15].min() > 250
    card = Image.new("RGBA", (70, 70))
    card.paste("white", (10, 10, 60, 60))
    card.paste("black", (30, 15, 36, 55))
    card.save(tmp_path / "card.png")
    assert handwriting.read_image(tmp_path / "card.png")[4:24, 13:15].min() > 250


def test_a_photograph_of_108_megapixels_is_scaled_down_and_a_bomb_is_refused(tmp_path):
    photo = Image.new("L", (12_000, 9_000), 200)
    photo.paste(30, (5000, 2000, 6000, 7000))
    photo.save(tmp_path / "photo.jpg")
    assert handwriting.read_image(tmp_path / "photo.jpg")[5:23, 13:15].min() > 250
    Image.new("L", (30_000, 30_000)).save(tmp_path / "bomb.jpg")
    with pytest.raises(UserError, match=r"bomb\.jpg is not an image .*30000 x 30000 pixels are too many"):
        handwriting.read_image(tmp_path / "bomb.jpg")


def test_heic_is_read_or_what_it_needs_is_named(tmp_path, monkeypatch):
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with monkeypatch.context() as without:
        without.setattr(handwriting, "formats", lambda: ["PNG"])
        with pytest.raises(UserError, match=r"phone\.heic is not an image .*HEIC.* pip install pillow-heif"):
            handwriting.read_image(tmp_path / "phone.heic")
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    photo = Image.new("L", (300, 200), 200)
    photo.paste(30, (140, 20, 160, 180))
    photo.save(tmp_path / "phone.heic")
    assert handwriting.read_image(tmp_path / "phone.heic")[5:23, 13:15].min() > 200


@pytest.mark.slow
@needs_mnist
def test_underlines_boxes_and_sheets_on_desks_are_not_read(read, tmp_path):
    images, files, numbers = unseen(120), [], []
    for i in range(0, 120, 4):
        ink = np.zeros((220, 460))
        for k, digit in enumerate(images.x[i : i + 4]):
            part = np.asarray(Image.fromarray(digit).resize((84, 84))) / 255
            ink[68:152, 68 + 80 * k : 152 + 80 * k] = np.maximum(ink[68:152, 68 + 80 * k : 152 + 80 * k], part)
        kind = i // 4 % 3
        paper = Image.fromarray(np.uint8(220 - 180 * ink))
        draw = ImageDraw.Draw(paper)
        if kind == 0:
            draw.line([(60, 160), (410, 164)], 40, 3)
        if kind == 1:
            for k in range(4):
                draw.rectangle([71 + 80 * k, 60, 151 + 80 * k, 160], outline=60, width=2)
        if kind == 2:
            desk = Image.new("L", (700, 440), [20, 110, 250][i // 12 % 3])
            desk.paste(paper, (120, 110))
            paper = desk
        paper.save(tmp_path / f"{i}.png")
        files.append(tmp_path / f"{i}.png")
        numbers.append("".join(map(str, images.y[i : i + 4])))
    told = [one.replace(" ", "") for one in read(files)]
    right = [one == number for one, number in zip(told, numbers, strict=True)]
    assert min(sum(right[kind::3]) for kind in range(3)) >= 7, list(zip(numbers, told, strict=True))


@pytest.mark.slow
def test_empty_boxes_and_a_line_show_no_digit_but_a_one_does(read, tmp_path):
    box = [(40, 40), (140, 40), (140, 160), (40, 160), (40, 40)]
    other = [(x + 130, y) for x, y in box]
    for strokes in ([box], [box, other], [[(20, 100), (380, 106)]]):
        with pytest.raises(UserError, match="shows no digit"):
            segments.read_picture(drawn(strokes, tmp_path / "empty.png", 3, (400, 200)))
    for x, width in ((100, 5), (103, 16)):
        assert read([drawn([[(100, 10), (x, 190)]], tmp_path / "one.png", width, (200, 200))]) == ["1"]
