"""Pictures and reports say what the runs did."""

import base64
import csv
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY, assert_one_line_error, copied, load, script
from matplotlib import cbook
from matplotlib.text import Text
from PIL import Image

import recipes
from recognizer.base.errors import UserError
from recognizer.base.files import read_json, read_rows, write_json
from recognizer.commands import plot, report
from recognizer.config.overrides import resolve
from recognizer.data import arrays
from recognizer.reports import charts, digit_charts, report_page, run_pictures
from recognizer.reports.run_pictures import predicted_digits
from recognizer.runs import metrics, run_folder

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PICTURES = ("curves", "steps", "layers", "spread", "confusion", "mistakes", "calibration", "hardest", "hardest-answers")

# What report.html is filled with, besides the title and the file to send.
PAGE = ("summary", "figures", "net_columns", "nets", "pictures", "quiz", "lines", "command", "settings", "mistakes")


def test_a_run_leaves_its_pictures_and_a_report_that_needs_nothing_else(trained):
    run = trained / "runs" / "bag"
    for name in PICTURES:
        with Image.open(run / f"{name}.png") as picture:
            assert min(picture.size) > 150
            assert len(set(picture.convert("L").get_flattened_data())) > 20  # something is drawn
    page = (run / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert page.count('src="data:image/png;base64,') == len(PICTURES)
    result = json.loads((run / "result.json").read_text())["ensemble_validation"]
    low, high = metrics.interval(result["accuracy"], result["rows"])
    for told in (f"{result['accuracy']:.2%}", f"{low:.2%} to {high:.2%}", f"{result['calibration_error']:.2%}"):
        assert told in page
    assert "<code>0.4</code>" in page  # model_config.dropout
    # In the order of schema.py; what is also recorded comes last.
    keys = ("model", "nets", "validation_split", "optimizer", "schedule.decay", "epochs", "seed", "created")
    assert [key for key in re.findall(r"<th>([\w.]+)</th>", page) if key in keys] == list(keys)
    drawn = {path: path.read_bytes() for path in [*run.glob("*.png"), run / "report.html"]}
    mistakes = (run / "mistakes.csv").read_bytes()
    assert (
        base64.b64decode(re.search(r'download="mistakes.csv" href="data:text/csv;base64,(.*?)"', page)[1]) == mistakes
    )
    for path in [*drawn, run / "mistakes.csv"]:
        path.unlink()
    process = script("report", "bag", cwd=trained)
    assert (run / "mistakes.csv").read_bytes() == mistakes
    assert {trained / line for line in process.stdout.splitlines()} == drawn.keys(), process.stderr
    assert {path: path.read_bytes() for path in drawn} == drawn


def test_what_a_report_shows_is_escaped():
    page = report_page.render(
        "runs.html", title="<b>", columns=["run"], numbers=set(), rows=[["<script>alert(1)</script>"]]
    )
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
@pytest.mark.parametrize("width", [500, 1200])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_report_fits_the_window_in_light_and_dark(width, dark, trained, tmp_path):
    page = (trained / "runs" / "bag" / "report.html").as_uri()
    out = tmp_path / "page.png"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={out}"]
    command += [f"--window-size={width},900", *(["--blink-settings=preferredColorScheme=0"] if dark else [])]
    subprocess.run([*command, page], check=True, capture_output=True, timeout=60)
    with Image.open(out) as picture:
        gray = np.asarray(picture.convert("L"))
    assert (np.median(gray) < 64) == dark
    ink = np.abs(gray.astype(int) - int(np.median(gray))) > 60
    assert ink.any()
    assert not ink[:, -4:].any()  # nothing runs out of the window
    if not dark:
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", "--dump-dom"]
        dom = subprocess.run([*command, page], check=True, capture_output=True, text=True, timeout=60).stdout
        assert dom.count("<img") == len(PICTURES)


def test_the_loss_by_step_has_every_step_and_the_epochs_means(trained):
    run = trained / "runs" / "bag"
    steps, epochs = (read_rows(run / f"net-01{suffix}") for suffix in (".steps.csv", ".csv"))
    assert [row["step"] for row in steps] == list(range(1, 11))
    last = steps[5:]
    assert np.mean([row["loss"] for row in last]) == pytest.approx(epochs[-1]["loss"], rel=1e-3)
    assert last[-1]["learning_rate"] == pytest.approx(epochs[-1]["learning_rate"], rel=1e-4)


def test_the_loss_of_a_last_partial_batch_counts_by_its_images(tmp_path, monkeypatch, no_pictures):
    import train

    monkeypatch.chdir(tmp_path)
    train.main(["linear", "--epochs", "1", "--batch-size", "400", "--data", "digits", "--run", "r"])
    steps, epochs = (read_rows(tmp_path / "runs" / "r" / f"net-01{suffix}") for suffix in (".steps.csv", ".csv"))
    losses = [row["loss"] for row in steps]
    assert len(losses) == 4
    assert np.average(losses, weights=[400, 400, 400, 237]) == pytest.approx(epochs[0]["loss"], rel=1e-4)


def test_calibration_is_the_gap_between_sureness_and_being_right():
    labels = np.zeros(100, int)
    probabilities = np.full((100, 10), 0.2 / 9)
    probabilities[:60, 0] = 0.8  # right in 60 of 100, always 80 % sure
    probabilities[60:, 1] = 0.8
    error, means, accuracies, counts = metrics.calibration(labels, probabilities)
    assert error == pytest.approx(0.2)
    assert (means.tolist(), accuracies.tolist()) == ([pytest.approx(0.8)], [pytest.approx(0.6)])
    assert counts.sum() == 100


def test_the_hardest_digits_are_those_given_the_least_probability(digits, monkeypatch):
    asked = []
    monkeypatch.setattr(charts, "digit_grid", lambda x, captions, *_: asked.append((x, captions)))
    probabilities = np.full((360, 10), 0.0)
    probabilities[np.arange(360), digits.test.y] = np.linspace(1, 0.5, 360)
    probabilities[7, digits.test.y[7]] = 0.1
    probabilities[7, (digits.test.y[7] + 1) % 10] = 0.9
    for answers in (False, True):
        charts.hardest(digits.test.x, digits.test.y, probabilities, "title", answers)
    (quiz, numbers), (_, answers) = asked
    assert len(quiz) == 50
    np.testing.assert_array_equal(quiz[0], digits.test.x[7])
    np.testing.assert_array_equal(quiz[1], digits.test.x[359])
    assert numbers[0] == "1"
    assert answers[0] == f"1: {digits.test.y[7]} (not {(digits.test.y[7] + 1) % 10})"
    assert answers[1] == f"2: {digits.test.y[359]}"


def test_mistakes_and_confusions_are_those_of_label_and_prediction(digits, monkeypatch):
    asked = []
    monkeypatch.setattr(charts, "digit_grid", lambda x, captions, *_: asked.append((x, captions)))
    labels, sure = np.array([3, 5, 8, 1]), np.array([0.7, 0.9, 0.8, 0.99])
    probabilities = np.full((4, 10), 0.001)
    probabilities[np.arange(4), [2, 6, 0, 1]] = sure
    charts.mistakes(digits.test.x[:4], labels, probabilities, np.array([0, 41, 7, 12_344]), "title")
    ((shown, captions),) = asked
    assert captions == ["5 taken for 6\n90%\nrow 42", "8 taken for 0\n80%\nrow 8", "3 taken for 2\n70%\nrow 1"]
    np.testing.assert_array_equal(shown, digits.test.x[[1, 2, 0]])
    figure = charts.confusion_matrix(labels, probabilities.argmax(1), "title")
    (axes,) = figure.axes
    found = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert found == {((2, 3), "1"), ((6, 5), "1"), ((0, 8), "1"), ((1, 1), "1")}  # (predicted, label)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "label")
    assert "3 of 4 wrong (75.00%)" in axes.get_title()


def test_the_spread_says_whose_accuracies_and_on_what(trained, tmp_path):
    ours, theirs = copied(trained, tmp_path, "ours", "theirs")
    for net, accuracy in ((1, 0.98), (2, 0.96)):
        path = ours / f"net-0{net}.json"
        path.write_text(json.dumps(read_json(path) | {"validation_accuracy": accuracy}))
        path = theirs / f"net-0{net}.json"
        path.write_text(json.dumps({"test_accuracy": 0.9}))
    figure = run_pictures.spread(ours, theirs)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["ours, validation\n97.00% ± 1.41%, n 2", "theirs, test\n90.00% ± 0.00%, n 2"]
    path.write_text("{}")
    (theirs / "net-01.json").write_text("{}")
    with pytest.raises(UserError, match="run 'theirs' has no net with an accuracy"):
        run_pictures.spread(ours, theirs)


@pytest.mark.parametrize("accuracies", [[0.97], [0.97, 0.98], [0.97, 0.98, 0.985]], ids=str)
def test_the_spread_of_one_net_has_no_error_bar(accuracies):
    (axes,) = charts.spread({"one": accuracies}).axes
    bars = [np.ptp(bar[:, 0]) for bar in axes.collections[0].get_segments() if len(bar)]
    assert bars == ([pytest.approx(2 * np.std(accuracies, ddof=1))] if len(accuracies) > 1 else [])


def test_the_curves_show_the_saved_models_and_that_validation_was_before_batch_norm_statistics(trained):
    folder = trained / "runs" / "bag"
    config = run_folder.read_config(folder)
    accuracy = run_pictures.curves(folder, config).axes[1]
    lines = {line.get_label(): line for line in accuracy.lines if not line.get_label().startswith("_")}
    assert list(lines) == [
        "training",
        "validation, before batch-norm statistics are recomputed",
        "validation, the saved nets",
    ]
    saved = lines["validation, the saved nets"]
    nets = [read_json(folder / f"net-0{net}.json") for net in (1, 2)]
    assert list(saved.get_ydata()) == [net["validation_accuracy"] for net in nets]
    assert list(saved.get_xdata()) == [2, 2]
    assert accuracy.get_ylim()[0] < min(saved.get_ydata())
    with open(folder / "log.csv", newline="") as file:
        log = list(csv.DictReader(file))
    assert [row["final_val_accuracy"] for row in log[::2]] == ["", ""]
    finals = [float(row["final_val_accuracy"]) for row in log[1::2]]
    assert finals == pytest.approx([net["validation_accuracy"] for net in nets], rel=1e-5)
    page = (folder / "report.html").read_text()
    assert "Each epoch is validated before batch-norm statistics are recomputed; the diamond is the saved net" in page
    assert "deotte (deotte), 2 nets" in page


def test_the_curves_of_a_single_epoch_show_its_steps():
    steps = [{"step": i + 1, "loss": 2 - i / 100, "learning_rate": i / 1e5} for i in range(150)]
    log = [{"epoch": 1, "loss": 1.2, "accuracy": 0.8, "val_loss": 0.5, "val_accuracy": 0.9}]
    loss, accuracy, rate = charts.curves([log], [steps], [(1, 0.97)], "title").axes
    assert [len(loss.lines[0].get_xdata()), len(rate.lines[0].get_xdata())] == [150, 150]
    assert loss.lines[0].get_xdata()[-1] == 1
    assert "validation, the saved net: 97.00%" in [text.get_text() for text in accuracy.get_legend().get_texts()]


@pytest.mark.parametrize("saved", [1.0, 0.9997, 0.993, 0.9, 0.1])
@pytest.mark.parametrize("last", [1.0, 0.999, 0.5])
@pytest.mark.parametrize("label", ["validation", "validation, before something"])
def test_the_saved_net_is_always_within_the_axes_of_the_curves(saved, last, label):
    steps = [{"step": i + 1, "loss": 1, "learning_rate": 0.1} for i in range(30)]
    training = [0.7, 0.99, 0.999, *[last] * 27]
    log = [
        {"epoch": i + 1, "loss": 1, "accuracy": share, "val_loss": 1, "val_accuracy": share / 2}
        for i, share in enumerate(training)
    ]
    accuracy = charts.curves([log], [steps], [(30, saved)], "title", label).axes[1]
    lowest, highest = accuracy.get_ylim()
    assert lowest <= saved <= highest
    texts = [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert f"validation, the saved net: {saved:.2%}" in texts
    assert not any("(below 100%)" in text for text in texts)


def test_the_loss_of_many_steps_is_shown_by_its_running_mean_over_the_faint_losses():
    losses = np.random.default_rng(0).uniform(0.5, 1.5, 10_000)
    log = [{"step": i + 1, "loss": loss, "learning_rate": 0.1} for i, loss in enumerate(losses)]
    raw, mean = charts.steps([log], "title").axes[0].lines
    assert raw.get_alpha() < 0.5 < mean.get_alpha()
    assert np.ptp(mean.get_ydata()) < np.ptp(raw.get_ydata()) / 3
    assert mean.get_ydata()[5000] == pytest.approx(losses[4900:5100].mean(), abs=0.02)
    assert mean.get_ydata()[0] == pytest.approx(losses[:100].mean(), abs=0.02)  # the ends are no lower


def test_the_augmented_digits_of_a_recipe_are_as_its_kinds_of_nets_see_them(digits, monkeypatch):
    kinds = [{}, {"augmentation.erasing_range": [3, 9]}, {"augmentation.mixup_alpha": 0.2}]
    config = resolve("ensemble", [("members", kinds)])
    seen = []

    def transformed(augmentation, x, *_, mixed=False):
        seen.append((augmentation.erasing_range, augmentation.mixup_alpha if mixed else 0))
        return x

    monkeypatch.setattr("recognizer.training.batches.augmented_images", transformed)
    digit_charts.augmented("ensemble", config, digits.train, 0)
    assert seen == [(0, 0), ([3, 9], 0), (0, 0.2)] * 2


def test_the_augmented_digits_are_shown_with_the_settings_given_and_flipped_in_turn(digits, monkeypatch, tmp_path):
    shown, digit_grid, out = [], charts.digit_grid, str(tmp_path / "a.png")
    monkeypatch.setattr(
        "recognizer.reports.charts.digit_grid", lambda x, *rest: shown.append((x, rest[-1])) or digit_grid(x, *rest)
    )
    plain = [f"augmentation.{key}=0" for key in recipes.RECIPES["single"]["augmentation"]]
    settings = [part for text in [*plain, 'joint_flips=["horizontal"]'] for part in ("--set", text)]
    plot.main(["augmented", "--data", "digits", "--out", out, *settings])
    ((x, title),) = shown
    assert "joint_flips ['horizontal']" in title
    for row in x.reshape(5, 7, 28, 28):
        for i, image in enumerate(row[1:]):
            np.testing.assert_allclose(image, row[0][:, ::-1] if i % 2 else row[0], atol=1e-3)


def test_where_digits_lie_and_what_covers_them_is_measured():
    x = np.zeros((4, 28, 28), np.uint8)
    x[0, 4:24, 4:24] = 255  # in the middle
    x[1, 7:27, 2:22] = 255  # three down, two left
    x[2, 4:24, 13:15] = 255
    for row in range(28):  # a line at 45 degrees, its top to the right
        x[3, row, 27 - row] = 255
    box, mass, size, slant = digit_charts.shapes(x)
    np.testing.assert_allclose(box[:2], [[0, 0], [3, -2]])
    np.testing.assert_allclose(mass[:2], [[0, 0], [3, -2]], atol=1e-5)
    np.testing.assert_allclose(size[[0, 2]], [20, np.sqrt(40)], rtol=1e-6)
    np.testing.assert_allclose(slant[[0, 3]], [0, 45], atol=1e-4)
    assert digit_charts.covers(np.arange(-100, 101)) == 95
    assert digit_charts.covers(np.array([[0, 1], [0, -2]]), 1) == 2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["cost$1_$2.png", "$x^$", "\\$5", "odd\udce9.png", "写.png", "a_b^c {d}"], ids=ascii)
def test_any_name_is_drawn_as_it_is(name, digits, tmp_path):
    figure = charts.digit_grid(digits.train.x[:2], [name, name], 2, name)
    charts.save(figure, tmp_path / "a.png")
    texts = [text.get_text() for text in figure.findobj(Text) if len(text.get_text()) > 2]
    assert texts
    assert not any(map(cbook.is_math_text, texts))


@pytest.mark.filterwarnings("error")
def test_the_positions_of_digits_are_drawn_if_some_digits_are_absent(digits):
    some = digits.train.y[:50] < 2
    digit_charts.centres(arrays.images("", digits.train.x[:50][some], digits.train.y[:50][some]))


@pytest.mark.parametrize("picture", ["digit", "samples", "augmented", "centres", "layers"])
def test_every_picture_of_digits_is_one_command(picture, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = [] if picture == "layers" else ["--data", "digits"]
    plot.main([picture, *source, "--out", f"new/{picture}.png"])
    assert capsys.readouterr().out == f"{Path('new', picture)}.png\n"
    with Image.open(tmp_path / "new" / f"{picture}.png") as drawn:
        assert min(drawn.size) > 200


@pytest.mark.parametrize("out", [[], ["--out", "mine.png"]], ids=str)
def test_a_picture_that_plot_did_not_draw_is_not_overwritten(out, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = (out or ["digit.png"])[-1]
    Image.fromarray(digits.train.x[0]).save(name)
    own = Path(name).read_bytes()
    with pytest.raises(UserError, match=f"^{name} exists and was not drawn by plot: choose another --out"):
        plot.main(["digit", "--data", "digits", *out])
    assert Path(name).read_bytes() == own
    Path(name).unlink()
    for row in ("1", "2"):  # the second time over the first
        before = Path(name).read_bytes() if row == "2" else b""
        plot.main(["digit", "--data", "digits", "--row", row, *out])
        assert Path(name).read_bytes() != before


@pytest.mark.parametrize(("options", "origin"), [([], "(1,437 of 1,797)"), (["--test"], "the fixed fifth")])
def test_a_row_of_mistakes_csv_can_be_looked_at(options, origin, digits, monkeypatch):
    drawn = []
    monkeypatch.setattr(digit_charts, "digit", lambda images, row: drawn.append((images, row)))
    monkeypatch.setattr(charts, "save", lambda figure, path: path)
    plot.main(["digit", "--data", "digits", "--row", "7", *options])
    ((images, row),) = drawn
    assert row == 7
    assert origin in images.origin


@pytest.mark.parametrize("options", [[], ["--test"]])
def test_a_row_of_a_runs_own_data_is_drawn(options, trained, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copied(trained, tmp_path, "bag")
    drawn = []
    monkeypatch.setattr(digit_charts, "digit", lambda images, row: drawn.append(images.x[row - 1]))
    monkeypatch.setattr(charts, "save", lambda figure, path: path)
    plot.main(["digit", "bag", "--row", "7", *options])
    np.testing.assert_array_equal(drawn[0], (digits.test if options else digits.train).x[6])
    with pytest.raises(UserError, match="leave out RUN or --data"):
        plot.main(["digit", "bag", "--data", "digits"])


def test_every_picture_of_a_run_is_one_command_and_as_training_drew_it(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (folder,) = copied(trained, tmp_path, "bag")
    before = {name: (folder / f"{name}.png").read_bytes() for name in PICTURES}
    for name in PICTURES:
        (folder / f"{name}.png").unlink()
        plot.main([name, *["bag"] * (name in ("layers", "spread"))])  # the others are of the newest run
        assert capsys.readouterr().out == f"{Path('runs', 'bag', name)}.png\n"
    assert {name: (folder / f"{name}.png").read_bytes() for name in PICTURES} == before
    plot.main(["confusion", "bag", "--percent"])
    assert capsys.readouterr().out == f"{Path('runs', 'bag', 'confusion-percent')}.png\n"
    assert (folder / "confusion.png").read_bytes() == before["confusion"]
    plot.main(["spread", "bag", "bag", "--out", "own.png"])
    assert (tmp_path / "own.png").is_file()


def test_a_confusion_matrix_in_percent_is_of_each_label():
    labels = np.array([3] * 8 + [5] * 2)
    predicted = np.array([3, 3, 3, 3, 3, 3, 3, 8, 5, 5])
    (axes,) = charts.confusion_matrix(labels, predicted, "title", in_percent=True).axes
    cells = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert cells == {((3, 3), "87.5"), ((8, 3), "12.5"), ((5, 5), "100.0")}  # (predicted, label)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["digit", "--data", "digits", "--row", "1438"], "--row must be from 1 to 1,437, not 1438"),
        (["digit", "--data", "digits", "--test", "--row", "0"], "--row must be from 1 to 360, not 0"),
        (["samples", "--data", "digits", "--seed", "-1"], "--seed must be a whole number of 0 or more"),
        (["samples", "--out", "x"], "must name a .png file"),
        (["confusion", "bog"], "no run 'bog'; did you mean 'bag'? There are: bag, moved, unfinished, unlabelled"),
        (["confusion", "unfinished"], "run 'unfinished' is not finished"),
        (["confusion", "unlabelled"], "run 'unlabelled' has neither validation rows nor a labelled test set"),
        (["mistakes", "moved"], "the data of run 'moved' is no longer at gone.npz"),
        (["layers", "bag", "--recipe", "single"], "a run or a recipe"),
        (["layers", "--recipe", "sigle"], "did you mean 'single'"),
        (["lr", "--recipe", "sigle"], "no recipe 'sigle'; did you mean 'single'?"),
        (["lr", "--model", "lnear", "--data", "digits"], "no architecture 'lnear'; did you mean 'linear'?"),
        (["lr", "--set", "optimzer=sgd"], "no setting 'optimzer'; did you mean 'optimizer'?"),
        (["lr", "--seed", "-1"], "--seed must be a whole number of 0 or more"),
        (["lr", "--out", "x.svg"], "must name a .png file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_pictures_of_nothing_are_one_line(arguments, line, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, unfinished, _, moved = copied(trained, tmp_path, "bag", "unfinished", "unlabelled", "moved")
    (unfinished / "result.json").unlink()
    config = read_json(moved / "config.json")
    write_json(moved / "config.json", config | {"data": config["data"] | {"source": "gone.npz"}})
    monkeypatch.setattr(
        "recognizer.reports.run_pictures.predicted_digits",
        lambda folder, *rest: None if folder.name == "unlabelled" else predicted_digits(folder, *rest),
    )
    with pytest.raises(UserError) as error:
        plot.main(arguments)
    assert line in str(error.value)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["plot", "dgit"], "no PICTURE 'dgit'; did you mean 'digit'?"),
        (["plot", "confusions", "bag"], "no PICTURE 'confusions'; did you mean 'confusion'? There are: augmented, cal"),
        (["export", "--format", "saved-model"], "no --format 'saved-model'; did you mean 'saved_model'?"),
        (["plot", "mistakes", "--percent"], "unrecognized arguments: --percent"),
        (["plot", "mistakes", "bag", "bag"], "unrecognized arguments: bag"),
        (["data", "mnist"], "no command 'mnist'. There are: fetch; did you mean --data mnist? (see python -m"),
        (["plto"], "no command 'plto'; did you mean 'plot'?"),
    ],
    ids=" ".join,
)
def test_commands_and_pictures_that_do_not_exist_are_one_line(arguments, word, tmp_path):
    assert_one_line_error(script(*arguments, cwd=tmp_path), word)


def test_a_report_of_a_run_whose_data_is_gone_keeps_the_pictures_of_digits(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (folder,) = copied(trained, tmp_path, "bag")
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"data": config["data"] | {"source": "gone.npz"}})
    before = (folder / "confusion.png").read_bytes()
    (folder / "curves.png").unlink()
    report.main(["bag"])
    printed = capsys.readouterr()
    assert "no longer at gone.npz" in printed.err
    assert "pictures that show digits are left as they are" in printed.err
    assert printed.err.count("\n") == 1
    assert (folder / "confusion.png").read_bytes() == before
    assert (folder / "curves.png").is_file()
    assert (folder / "report.html").read_text().count('src="data:image/png;base64,') == len(PICTURES)


@pytest.mark.slow
def test_tensorboard_finds_curves_learning_rate_graph_and_pictures(tmp_path, monkeypatch):
    import tensorflow as tf

    import train

    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.chdir(tmp_path)
    schedule = 'schedule={"name": "one_cycle", "learning_rate": 0.001}'
    train.main(["codeastar", *TINY, "--set", schedule, "--data", "digits", "--tensorboard", "--run", "r"])

    def found(folder):
        accumulator = accumulators.EventAccumulator(str(tmp_path / "runs" / "r" / "tensorboard" / folder))
        accumulator.Reload()
        return accumulator

    log = read_rows(tmp_path / "runs" / "r" / "net-01.csv")
    for folder, prefix in (("net-01/train", ""), ("net-01/validation", "val_")):
        for key in ("loss", "accuracy"):
            told = [float(tf.make_ndarray(event.tensor_proto)) for event in found(folder).Tensors(f"epoch_{key}")]
            assert told == pytest.approx([row[prefix + key] for row in log], rel=1e-5)
    rates = found("net-01/train").Tensors("epoch_learning_rate")
    assert [float(tf.make_ndarray(event.tensor_proto)) for event in rates] == pytest.approx(
        [row["learning_rate"] for row in log]
    )
    ends = found("")
    assert ends.Tags()["graph"]
    assert {"curves", "confusion", "hardest"} <= set(ends.Tags()["tensors"])


def blocks():
    """The lines for someone who has only Keras: those of a report, and those of README.md, by name."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = [block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "load_model" in block]
    return {"report": None} | {f"README {i}": block for i, block in enumerate(found, 1)}


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks().values(), ids=blocks())
def test_the_lines_for_someone_who_has_only_keras_predict_as_predict_py_does(block, trained, digits, tmp_path):
    (folder,) = copied(trained, tmp_path, "bag")
    page = html.unescape((folder / "report.html").read_text())
    assert "python -m recognizer export bag --format keras" in page
    assert "net-01.keras</code> alone lacks the other 1 net and the mean over shifts by 1 and the temperature" in page
    lines = block or re.search(r"<pre><code>(.*?)</code>", page, re.DOTALL)[1]
    assert len(re.findall(r"(?m)^.+$", lines)) == 5
    process = script("export", "bag", "--format", "keras", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    friend = tmp_path / "friend"
    friend.mkdir()
    shutil.copy(tmp_path / "exports" / "bag.keras", friend / re.search(r'"(\S+\.keras)"', lines)[1].split("/")[-1])
    lines = re.sub(r'"[^"]*/(?=[^/"]+\.keras")', '"', lines)
    np.save(friend / "digits.npy", digits.test.x[:50])
    hidden = "import sys; sys.modules |= dict(recognizer=None, models=None)\n"  # neither can be imported
    ran = subprocess.run(
        [sys.executable, "-c", hidden + lines], cwd=friend, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    predictions = load(folder / "predictions.npz")
    expected = (predictions["test_01"] + predictions["test_02"])[:50].argmax(1)
    found = np.array(re.findall(r"\d", ran.stdout.split("[")[-1]), int)
    assert np.mean(found == expected) >= 0.96  # the run may have computed in half precision


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "Send <code>runs/bag/net-01.keras</code>. It gives the labels of"),
        ({"test_shift": 2}, "alone lacks the mean over shifts by 2 and the temperature"),
        ({"nets": 8}, "alone lacks the other 7 nets and the temperature"),
    ],
    ids=str,
)
def test_a_report_names_the_file_to_send(changes, told):
    config, result = {"nets": 1, "test_shift": 0} | changes, {"temperature": 0.5}
    sent = report_page.handed_on(Path("runs/bag"), config, result, [{"own_outputs": None}])
    page = report_page.render("report.html", **dict.fromkeys(PAGE, ""), title="bag", handed_on=sent)
    assert told in page
    assert "layers of models.py" not in page
    sent = report_page.handed_on(Path("runs/bag"), config, result, [{"own_outputs": [[0.1]]}])
    page = report_page.render("report.html", **dict.fromkeys(PAGE, ""), title="bag", handed_on=sent)
    assert "import models" in page
