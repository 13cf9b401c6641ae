"""Pictures, reports and the table of runs say what the runs did."""

import csv
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from conftest import TINY, assert_one_line_error, load, script, write_csv
from PIL import Image

import recipes
from recognizer.base.errors import UserError
from recognizer.base.files import read_rows, write_arrays
from recognizer.commands import plot, runs
from recognizer.config.overrides import resolve
from recognizer.reports import charts, digit_charts, report_page
from recognizer.runs import compare, metrics

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PICTURES = ("curves", "steps", "layers", "spread", "confusion", "mistakes", "calibration", "hardest", "hardest-answers")


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
    before = page
    (run / "report.html").unlink()
    process = script("report", "bag", cwd=trained)
    assert process.stdout == "runs/bag/report.html\n", process.stderr
    assert (run / "report.html").read_text() == before


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
    charts.hardest(digits.test.x, digits.test.y, probabilities, "title")
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
    charts.mistakes(digits.test.x[:4], labels, probabilities, "title")
    ((shown, captions),) = asked
    assert captions == ["5 taken for 6\n90%", "8 taken for 0\n80%", "3 taken for 2\n70%"]
    np.testing.assert_array_equal(shown, digits.test.x[[1, 2, 0]])
    figure = charts.confusion_matrix(labels, probabilities.argmax(1), "title")
    (axes,) = figure.axes
    found = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert found == {((2, 3), "1"), ((6, 5), "1"), ((0, 8), "1"), ((1, 1), "1")}  # (predicted, label)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "label")
    assert "3 of 4 wrong (75.00%)" in axes.get_title()


def test_the_spread_says_whose_accuracies_and_on_what():
    results = [dict(validation_accuracy=0.98, test_accuracy=0.9), dict(validation_accuracy=0.96, test_accuracy=0.9)]
    tested = [dict(test_accuracy=0.9)]
    figure = charts.spread(charts.accuracies("a", results) | charts.accuracies("b", tested))
    told = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert told == ["a, validation\n97.00% ± 1.41%, n 2", "b, test\n90.00%, n 1"]
    assert charts.accuracies("c", [{}]) == {}


def test_the_augmented_digits_of_a_recipe_are_as_its_kinds_of_nets_see_them(digits, monkeypatch):
    kinds = [{}, {"augmentation.erasing_range": [3, 9]}, {"augmentation.mixup_alpha": 0.2}]
    config = resolve("ensemble", [("members", kinds)])
    seen = []

    def transformed(augmentation, x, *_, mixed=False):
        seen.append((augmentation.erasing_range, augmentation.mixup_alpha if mixed else 0))
        return x

    monkeypatch.setattr("recognizer.training.batches.augmented_images", transformed)
    arguments = plot.parser().parse_args(["augmented", "--recipe", "ensemble"])
    plot.PICTURES["augmented"](arguments, config, digits.train)
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


def test_a_run_that_a_picture_is_not_of_is_refused():
    with pytest.raises(UserError, match="layers is of no run"):
        plot.main(["layers", "deotte-1"])


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


@pytest.mark.parametrize("picture", ["digit", "samples", "augmented", "centres", "layers"])
def test_every_picture_of_digits_is_one_command(picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plot.main([picture, "--data", "digits", "--out", f"new/{picture}.png"])
    with Image.open(tmp_path / "new" / f"{picture}.png") as drawn:
        assert min(drawn.size) > 200


def test_pictures_of_nothing_are_refused(trained):
    assert_one_line_error(script("plot", "digit", "--data", "digits", "--row", 1438, cwd=trained), "from 1 to 1,437")
    assert_one_line_error(script("plot", "samples", "--out", "x", cwd=trained), "must name a .png file")
    assert_one_line_error(script("plot", "spread", cwd=trained), "needs the names of runs")
    assert_one_line_error(script("plot", "dgit", cwd=trained), "invalid choice")


# Runs side by side


@pytest.fixture
def three_runs(trained, tmp_path, monkeypatch):
    """runs/ with a finished run, the same with other predictions and settings, and one that is not finished."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c"):
        shutil.copytree(trained / "runs" / "bag", tmp_path / "runs" / name)
    (tmp_path / "runs" / "c" / "result.json").unlink()
    other = tmp_path / "runs" / "b"
    config = json.loads((other / "config.json").read_text())
    config["schedule"]["decay"] = 0.5
    (other / "config.json").write_text(json.dumps(config))
    result = json.loads((other / "result.json").read_text())
    result["ensemble_validation"]["accuracy"] = 0.9
    (other / "result.json").write_text(json.dumps(result))
    return tmp_path / "runs"


def test_runs_are_listed_the_best_first_as_text_page_and_csv(three_runs, capsys):
    runs.main(["--html", "runs.html", "--csv", "runs.csv"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["b", "a", "c"]
    assert "90.00%" in lines[1]
    assert "scikit-learn's digits" in lines[1]  # accuracies on other data are not to be compared
    low, high = metrics.interval(
        0.9, json.loads((three_runs / "b" / "result.json").read_text())["ensemble_validation"]["rows"]
    )
    assert f"{low:.2%}-{high:.2%}" in lines[1]
    assert "unfinished" in lines[3]
    with open("runs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["b", "a", "c"]
    assert float(rows[0]["validation"]) == 0.9
    page = (three_runs.parent / "runs.html").read_text()
    assert page.index(">b<") < page.index(">a<") < page.index(">c<")
    assert 'src="' not in page
    runs.main(["--html", "runs.html", "--csv", "runs.csv"])  # over its own
    (three_runs.parent / "mine.csv").write_text("label,pixel0")
    with pytest.raises(UserError, match=r"mine\.csv exists and is no table of runs"):
        runs.main(["--csv", "mine.csv"])


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_the_page_of_runs_is_sorted_by_a_click(three_runs):
    for name, seconds in (("a", 1000), ("b", 90), ("c", 200)):
        for path in (three_runs / name).glob("net-*.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": seconds / 2}))  # of two nets
    runs.main(["--html", "runs.html"])
    page = three_runs.parent / "runs.html"
    written = page.read_text()

    def by(column, clicks):
        head = f"[...document.querySelectorAll('th')].find(head => head.textContent === '{column}')"
        click = f"for (let i = 0; i < {clicks}; i++) {head}.click()"
        page.write_text(written.replace("</body>", f"<script>{click}</script></body>"))
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
        dom = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
        return sorted("abc", key=lambda run: dom.index(f">{run}<"))

    assert by("run", clicks=2) == ["a", "b", "c"]
    assert by("seconds", clicks=1) == ["a", "c", "b"]  # 1,000 seconds, 200, 90


def test_two_runs_are_compared_by_settings_and_digits_with_mcnemars_test(three_runs, digits, capsys, monkeypatch):
    arrays = load(three_runs / "b" / "predictions.npz")
    for key in ("test_01", "test_02"):
        arrays[key][:] = np.eye(10)[digits.test.y]  # b is right throughout
        arrays[key][3] = np.eye(10)[(digits.test.y[3] + 1) % 10]
    write_arrays(three_runs / "b" / "predictions.npz", arrays)
    first = load(three_runs / "a" / "predictions.npz")
    wrong = (first["test_01"] + first["test_02"]).argmax(1) != digits.test.y
    runs.main(["diff", "a", "b"])
    told = capsys.readouterr().out
    assert "schedule.decay: 0.95 | 0.5" in told
    gained, lost = wrong.sum() - wrong[3], 1 - wrong[3]
    from scipy.stats import binomtest

    p = binomtest(int(lost), int(lost + gained)).pvalue
    assert f"Test digits that both predict: 360; right: {1 - wrong.mean():.2%} | 99.72%; McNemar's p = {p:.2g}" in told
    assert f"only b is right: {gained}" in told
    assert "Validation digits that both predict" in told
    with pytest.raises(UserError, match="'c' is not finished"):
        runs.main(["diff", "a", "c"])
    monkeypatch.setattr(compare, "_predicted", lambda *_: {})
    runs.main(["diff", "a", "b"])
    assert "Digits: no labelled one that both runs predict" in capsys.readouterr().out


def test_runs_with_different_test_sets_are_compared_on_validation_digits_alone(three_runs, digits, tmp_path, capsys):
    write_csv(tmp_path / "train.csv", digits.train.x, digits.train.y)
    config = json.loads((three_runs / "b" / "config.json").read_text())
    config["data"] |= {"source": str(tmp_path / "train.csv"), "test_fingerprint": None}
    (three_runs / "b" / "config.json").write_text(json.dumps(config))
    arrays = load(three_runs / "b" / "predictions.npz")
    kept = {key: array for key, array in arrays.items() if not key.startswith("test")}
    write_arrays(three_runs / "b" / "predictions.npz", kept)
    for pair in (("a", "b"), ("b", "a")):
        runs.main(["diff", *pair])
        told = capsys.readouterr().out
        assert "Test digits: the runs had different ones" in told
        assert "Validation digits that both predict" in told
        assert "Test digits that both predict" not in told


def test_a_run_whose_figures_are_none_is_left_out_of_the_table(three_runs, capsys):
    (three_runs / "b" / "result.json").write_text('{"ensemble_test": {"accuracy": "high"}}')
    runs.main([])
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines()] == ["run", "a", "c"]
    assert "runs/b is no run that can be read" in told.err


def test_there_being_no_runs_is_one_line(tmp_path):
    assert_one_line_error(script("runs", cwd=tmp_path), "there are no runs in runs/")


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
