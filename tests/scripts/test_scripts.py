"""train.py and predict.py as a user runs them: what they leave, print and refuse."""

import csv
import importlib
import json
import os
import signal
import subprocess
import sys

import driver
import numpy as np
import pytest
import scipy.ndimage
from conftest import ROOT, TINY, assert_one_line_error, copied, interrupted, load, read_submission, script, write_csv
from PIL import Image

import predict
import recipes
from recognizer.base import cli
from recognizer.base.errors import UserError
from recognizer.commands import draw, export, runs
from recognizer.config import members
from recognizer.config.overrides import resolve
from recognizer.data import sources
from recognizer.reports import submission
from recognizer.runs import metrics, run_folder


def test_two_bagged_nets_leave_their_logs_results_weights_and_an_out_of_bag_figure(trained, digits):
    run = trained / "runs" / "bag"
    names = {path.name for path in run.iterdir()}
    nets = {f"net-0{i}.{suffix}" for i in (1, 2) for suffix in ("csv", "steps.csv", "json", "keras")}
    pictures = {path.name for path in run.glob("*.png")} | {"report.html"}
    records = {"config.json", "architectures.json", "seen.npy", "log.csv", "result.json", "predictions.npz", ".lock"}
    records |= {"mistakes.csv"}
    assert names == nets | pictures | records
    config = json.loads((run / "config.json").read_text())
    assert (config["recipe"], config["nets"], config["epochs"], config["seed"]) == ("deotte", 2, 2, 0)
    assert config["data"]["fingerprint"] == digits.train.fingerprint()
    assert {"python", "keras", "tensorflow", "numpy"} <= set(config["versions"])
    with open(run / "log.csv", newline="") as file:
        log = list(csv.DictReader(file))
    assert [(row["net"], row["epoch"]) for row in log] == [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")]
    assert [float(row["learning_rate"]) for row in log[:2]] == [0.001, 0.00095]
    predictions = load(run / "predictions.npz")
    first, second = (set(predictions[f"validation_rows_0{i}"]) for i in (1, 2))
    assert first != second
    result = json.loads((run / "result.json").read_text())
    part = result["ensemble_validation"]
    assert part["rows"] == len(first | second)
    assert part["coverage"] == pytest.approx(len(first | second) / 1437)
    assert json.loads((run / "net-01.json").read_text())["steps"] == 10
    # Each row is scored by the mean of the nets that did not train on it.
    judged = np.full((2, 1437, 10), np.nan)
    for i in (1, 2):
        judged[i - 1, predictions[f"validation_rows_0{i}"]] = predictions[f"validation_0{i}"]
    rows = sorted(first | second)
    mean, labels = np.nanmean(judged[:, rows], axis=0), digits.train.y[rows]
    assert part["accuracy"] == pytest.approx(np.mean(mean.argmax(1) == labels))
    mean = metrics.cross_fitted(labels, mean, 1)
    assert part["loss"] == pytest.approx(-np.log(mean[np.arange(len(rows)), labels]).mean(), rel=1e-5)
    mean = (predictions["test_01"] + predictions["test_02"]) / 2
    assert result["ensemble_test"]["accuracy"] == pytest.approx(np.mean(mean.argmax(1) == digits.test.y))
    out = (trained / "train.out").read_text()
    assert "out-of-bag rows (19% of the labelled ones" in out
    assert f"Mistakes: {os.path.join('runs', 'bag', 'mistakes.csv')} (rows count from 1" in out
    assert "about " in out.split("Run:")[0]  # the time to expect, before it starts


def test_predictions_are_the_mean_of_all_nets_and_the_csv_is_valid(trained, digits):
    process = script("predict.py", "--probabilities", cwd=trained)
    assert process.returncode == 0, process.stderr
    assert "submissions/bag.csv (not for Kaggle" in process.stdout
    assert "Test accuracy" in process.stdout
    predictions = load(trained / "runs" / "bag" / "predictions.npz")
    mean = (predictions["test_01"] + predictions["test_02"]) / 2
    np.testing.assert_array_equal(read_submission(trained / "submissions" / "bag.csv"), mean.argmax(1))
    table = np.loadtxt(trained / "submissions" / "bag-probabilities.csv", delimiter=",", skiprows=1)
    temperature = run_folder.temperature(trained / "runs" / "bag")
    np.testing.assert_allclose(table[:, 1:], metrics.sharpened(mean, temperature), atol=1e-5)
    with Image.open(trained / "submissions" / "bag-preview.png") as picture:
        assert min(picture.size) > 500


def test_a_test_shift_predicts_by_the_mean_over_an_image_and_its_four_shifts(trained, digits):
    import keras

    net = keras.saving.load_model(trained / "runs" / "bag" / "net-01.keras", compile=False)
    shifts = [(0, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    views = [scipy.ndimage.shift(digits.test.x, by, order=0) for by in shifts]
    expected = np.mean([net.predict(view[..., None] / np.float32(255), verbose=0) for view in views], axis=0)
    found = load(trained / "runs" / "bag" / "predictions.npz")["test_01"]
    np.testing.assert_allclose(found, expected, atol=0.02)  # by bfloat16 where the processor has it
    assert np.abs(found - net.predict(views[0][..., None] / np.float32(255), verbose=0)).max() > 0.02


def test_image_files_of_any_size_and_polarity_are_predicted_as_the_digits_they_show(trained, digits):
    folder = trained / "photos"
    folder.mkdir()
    for i in range(5):
        image = Image.fromarray(255 - digits.test.x[i]).resize((112, 112))
        image.save(folder / f"{i}.png")
    Image.fromarray(digits.test.x[5]).save(trained / "plain.png")
    process = script("predict.py", "bag", "--images", "photos", "plain.png", cwd=trained)
    assert process.returncode == 0, process.stderr
    rows = (trained / "submissions" / "bag-images.csv").read_text().splitlines()
    assert rows[0] == "file,label,probability"
    assert [row.split(",")[0] for row in rows[1:]] == [
        *(os.path.join("photos", f"{i}.png") for i in range(5)),
        "plain.png",
    ]
    labels = [int(row.split(",")[1]) for row in rows[1:]]
    votes = load(trained / "runs" / "bag" / "predictions.npz")
    expected = np.mean([votes["test_01"][:6], votes["test_02"][:6]], axis=0).argmax(1)  # from pixels, not image files
    assert (labels == expected).sum() >= 5


def test_predict_refuses_to_overwrite_other_files_and_refuses_wrong_arguments(trained):
    (trained / "precious.csv").write_text("a,b\n1,2\n")
    process = script("predict.py", "bag", "--out", "precious.csv", cwd=trained)
    assert_one_line_error(process, "precious.csv exists and is not a submission")
    assert (trained / "precious.csv").read_text() == "a,b\n1,2\n"
    (trained / "mine-preview.png").write_bytes(b"a picture")
    process = script("predict.py", "bag", "--out", "mine.csv", cwd=trained)
    assert_one_line_error(process, "mine-preview.png exists")
    assert (trained / "mine-preview.png").read_bytes() == b"a picture"
    assert_one_line_error(script("predict.py", "bog", cwd=trained), "no run 'bog'", "bag")
    assert_one_line_error(script("predict.py", "--out", "x.txt", cwd=trained), "must name a .csv file")
    assert_one_line_error(script("predict.py", "--images", "none.png", cwd=trained), "no image at none.png")
    assert_one_line_error(script("predict.py", "../bag", cwd=trained), "is not a name: use letters")


@pytest.mark.parametrize(
    ("images", "named"),
    [
        (["a.png", "bag"], "bag"),
        (["bag"], "bag"),
        (["a.png", "runs/bag", "a.png"], "runs/bag"),
        (["runs/bag/"], "runs/bag"),
        ([str(ROOT), "{}/runs/bag"], "{}/runs/bag"),
    ],
)
def test_a_run_given_as_an_image_is_refused_with_the_way_to_name_it(images, named, trained, monkeypatch):
    monkeypatch.chdir(trained)
    with pytest.raises(UserError) as error:
        predict.main(["--images", *(path.format(trained) for path in images)])
    told = f"{named.format(trained)} is a run: name runs before --images, as in predict.py bag --images PATH"
    assert str(error.value) == told


def test_pictures_in_a_folder_named_like_a_run_are_read(trained, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    copied(trained, tmp_path, "bag")
    (tmp_path / "bag").mkdir()
    Image.fromarray(digits.test.x[0]).save(tmp_path / "bag" / "0.png")
    predict.main(["bag", "--images", "bag", "runs/bag/../../bag/0.png"])
    said = capsys.readouterr()
    assert "Found 2 digits in 2 pictures, and predicted with bag; preview: " in said.out
    assert "Learned from: scikit-learn's digits" in said.out
    assert "the nets learned from digits of 8x8 pixels only: train on Kaggle's digits or MNIST" in said.err


def test_nets_trained_on_the_small_digits_warn_on_other_test_sets(trained, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    write_csv(tmp_path / "own.csv", digits.test.x[:20])
    for test, warned in (("digits", False), (str(tmp_path / "own.csv"), True)):
        predict.main(["bag", "--test", test, "--out", str(tmp_path / "out.csv"), "--allow-leak"])
        assert ("the nets learned from digits of 8x8 pixels only" in capsys.readouterr().err) == warned


def test_a_submission_is_handed_in_to_kaggle(trained, digits, monkeypatch, capsys):
    from recognizer.data import arrays, competition
    from recognizer.training import predicting

    monkeypatch.chdir(trained)
    monkeypatch.setattr(arrays, "KAGGLE_TEST_ROWS", 30)
    monkeypatch.setattr(
        predicting, "mean_probabilities", lambda folders, configs, test, what: np.eye(10)[[1] * len(test.x)]
    )
    handed_in = []
    monkeypatch.setattr(competition, "submit", lambda path, message: handed_in.append((path.name, message)) or "thanks")
    write_csv("kaggle.csv", digits.test.x[:30])
    predict.main(["bag", "--test", "kaggle.csv", "--out", "kaggle-s.csv", "--submit", "my first"])
    said = capsys.readouterr().out
    assert "not for Kaggle" not in said
    assert "Validation accuracy of bag" in said
    assert said.endswith("Kaggle: thanks\n")
    assert len(read_submission(trained / "kaggle-s.csv")) == 30
    assert handed_in == [("kaggle-s.csv", "my first")]
    with pytest.raises(UserError, match=r"Kaggle's test rows only.*--test kaggle"):
        predict.main(["bag", "--out", "kaggle-s.csv", "--submit", "x"])


def test_a_runs_name_is_never_reused(trained):
    before = {path: path.read_bytes() for path in (trained / "runs" / "bag").iterdir()}
    process = script("train.py", "linear", "--data", "digits", "--run", "bag", cwd=trained)
    assert_one_line_error(process, "run 'bag' exists")
    assert {path: path.read_bytes() for path in (trained / "runs" / "bag").iterdir()} == before
    process = script("train.py", "--resume", "--run", "bag", cwd=trained)
    assert_one_line_error(process, "'bag' is finished")
    process = script("train.py", "--resume", "--epochs", 3, cwd=trained)
    assert_one_line_error(process, "leave out epochs")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_an_interrupted_run_goes_on_after_its_last_epoch_and_ends_as_if_it_never_stopped(tmp_path):
    arguments = ["codeastar", "--data", "digits", "--epochs", 12, "--set", "steps_per_epoch=40"]
    assert script("train.py", *arguments, "--run", "whole", cwd=tmp_path).returncode == 0
    what = arguments
    for number, code, epochs in ((signal.SIGINT, 130, 2), (signal.SIGTERM, 143, 6)):
        returned, told = interrupted(tmp_path, "broken", number, epochs, *what)
        assert returned == code
        assert told.strip() == "train.py: stopped; go on with: python train.py --run broken --resume"
        assert not (tmp_path / "runs" / "broken" / "result.json").exists()
        assert (tmp_path / "runs" / "broken" / "net-01.checkpoint-1.npz").exists()
        what = ["--resume"]
    process = script("train.py", "--run", "broken", "--resume", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    logs = [
        [row.rsplit(",", 1)[0] for row in (tmp_path / "runs" / run / "net-01.csv").read_text().splitlines()]
        for run in ("whole", "broken")
    ]
    assert logs[0] == logs[1]
    whole, resumed = (load(tmp_path / "runs" / run / "predictions.npz") for run in ("whole", "broken"))
    for key in whole:
        np.testing.assert_array_equal(whole[key], resumed[key])


@pytest.fixture
def scripts(tmp_path):
    """A copy of the scripts, to be changed."""
    return driver.copied(tmp_path)


@pytest.mark.parametrize("broken", ["def f(:", "import kerras"])
@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("recipes.py", "train.py single"),
        ("recipes.py", "-m recognizer plot augmented --recipe single --data digits"),
        pytest.param("models.py", "train.py --data digits", marks=pytest.mark.slow),
        ("augment.py", "train.py --data digits"),
    ],
)
def test_an_error_in_a_file_that_users_edit_is_one_line(file, command, broken, scripts):
    line = (scripts / file).read_text().count("\n") + 1
    with open(scripts / file, "a") as opened:
        opened.write(f"{broken}\n")
    process = subprocess.run(
        [sys.executable, *command.split()], cwd=scripts, capture_output=True, text=True, timeout=120
    )
    assert_one_line_error(process, f"{file}, line {line}: ")
    assert not (scripts / "runs").exists()


def test_a_name_without_quotes_in_a_recipe_is_told_so(scripts):
    with open(scripts / "recipes.py", "a") as opened:
        opened.write('RECIPES["mine"] = dict(model=my_net)\n')
    process = subprocess.run(
        [sys.executable, "train.py", "mine"], cwd=scripts, capture_output=True, text=True, timeout=60
    )
    assert_one_line_error(process, "NameError: name 'my_net' is not defined; a recipe has names in quotes")


@pytest.mark.parametrize("name", ["residual", "my_net", "my-net"])
def test_an_architecture_named_as_a_recipe_is_refused_with_the_option_to_write(name, scripts, tmp_path):
    with open(scripts / "models.py", "a") as file:
        file.write("\n\n@architecture\ndef my_net():\n    pass\n\n\ndef helper():\n    pass\n")

    def refused(name):
        command = [sys.executable, str(scripts / "train.py"), name]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    told = f"no recipe '{name}', but an architecture: write --model {name}, or --set model={name}"
    assert_one_line_error(refused(name), told)
    assert_one_line_error(refused("helper"), "no recipe 'helper'. There are: ")


def test_a_function_added_to_models_py_trains_by_name_and_is_listed(scripts, tmp_path):
    with open(scripts / "models.py", "a") as file:
        file.write(
            "\n\n@architecture\ndef my_own(dropout=0.1):\n    '''Mine.'''\n    return keras.Sequential([images(), "
            "Conv2D(4, 3, activation='relu'), MaxPooling2D(), Flatten(), Dropout(dropout), classes()])\n"
        )

    def run(*arguments):
        command = [sys.executable, str(scripts / "train.py"), *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    process = run("--model", "my-own", *TINY, "--data", "digits", "--set", "model_config.dropout=0.2")
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "runs" / "my-own-1" / "net-01.keras").is_file()
    listed = run("--list").stdout
    assert "my-own" in listed
    assert "6,810" in listed  # its parameters
    assert all(name in listed for name in recipes.RECIPES)
    assert_one_line_error(run("--model", "my-onw", "--data", "digits"), "did you mean 'my-own'", "deotte")


# In the "-phases" recipes only the schedule is new. The other vgg recipes show what these two do.
LONG = ("ensemble", "vgg-phases", "vgg-dropout-phases", "vgg-bn-dropout-phases", "vgg-dropout", "vgg-augmented")


def marks(name):
    return [pytest.mark.slow] * (name in LONG) + [pytest.mark.by_hand] * (name in LONG[1:])


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in recipes.RECIPES])
def test_every_recipe_trains(name, tmp_path, monkeypatch, no_pictures):
    import train

    monkeypatch.chdir(tmp_path)
    tiny = ["--epochs", "1", "--set", "steps_per_epoch=2", "--set", "min_steps_per_epoch=1", "--batch-size", "32"]
    tiny += ["--set", "update_bn=1", "--set", "test_shift=0"]
    nets = max(1, len(resolve(name)["members"]))  # one of each kind
    train.main([name, "--nets", str(nets), *tiny, "--data", "digits", "--run", "r"])
    result = json.loads((tmp_path / "runs" / "r" / "result.json").read_text())
    assert ("validation_accuracy" in result) == (resolve(name)["validation_split"] > 0)
    assert "test_accuracy" in result
    assert ("test_accuracy_augmented" in result) == name.endswith("-augmented")


@pytest.mark.parametrize(("rate", "guesses"), [(1e-9, True), (0.002, False)])
def test_a_net_hardly_better_than_guessing_is_told_with_what_may_help(
    rate, guesses, tmp_path, monkeypatch, no_pictures, capsys
):
    import train

    monkeypatch.chdir(tmp_path)
    settings = ["--epochs", "1", "--set", "steps_per_epoch=60", "--set", f"schedule.learning_rate={rate}"]
    train.main(["codeastar", *settings, "--data", "digits", "--run", "r"])
    told = capsys.readouterr().out
    assert ("Net 1 is hardly better than guessing" in told) == guesses
    assert ("plot lr --recipe codeastar --model codeastar suggests one" in told) == guesses
    assert ("more steps than 60, or with batch normalization, --set update_bn=50" in told) == guesses


@pytest.mark.parametrize(
    "options",
    [
        ["--augment-engine", "keras", "--set", "augmentation.brightness_range=[0.5, 1]"],
        pytest.param(["--augment-engine", "keras", "--set", "augmentation.elastic_alpha=34"], marks=pytest.mark.slow),
        pytest.param(["--set", "augmentation.elastic_alpha=34"], marks=pytest.mark.slow),
        ["--weights", "best"],
        ["--nets", "2", "--set", "bagging=false"],
        ["--nets", "2", "--set", 'members=[{}, {"epochs": 1, "model": "grenholm"}]'],
        pytest.param(
            ["--nets", "2", "--set", 'members=[{}, {"epochs": 1, "model": "vgg", "model_config.dropout": 0.2}]'],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--nets", "2", "--model", "vgg", "--set", 'members=[{}, {"epochs": 1, "model_config": {"dropout": 0.2}}]'],
            marks=pytest.mark.slow,
        ),
        ["--validation-split", "0"],
    ],
    ids=lambda options: " ".join(options),
)
def test_training_options_do_what_they_say(options, tmp_path, monkeypatch, no_pictures, capsys):
    import train

    monkeypatch.chdir(tmp_path)
    tiny = ["--epochs", "2", "--set", "steps_per_epoch=3", "--batch-size", "16"]
    train.main(
        [
            "deotte",
            *(["--nets", "1"] if "--nets" not in options else []),
            *tiny,
            *options,
            "--run",
            "r",
            "--data",
            "digits",
        ]
    )
    run = tmp_path / "runs" / "r"
    result, net = (json.loads((run / name).read_text()) for name in ("result.json", "net-01.json"))
    if "best" in options:
        with open(run / "net-01.csv", newline="") as file:
            accuracies = [float(row["val_accuracy"]) for row in csv.DictReader(file)]
        assert result["chosen_on_validation"]
        assert net["validation_accuracy"] == pytest.approx(max(accuracies), abs=1e-6)
        assert net["weights_epoch"] == 1 + int(np.argmax(accuracies))
        capsys.readouterr()
        submission.print_validation(run, run_folder.read_config(run))
        runs.main([])
        assert capsys.readouterr().out.count("biased upward") == 2
    if "bagging=false" in options:
        predictions = load(run / "predictions.npz")
        np.testing.assert_array_equal(predictions["validation_rows_01"], predictions["validation_rows_02"])
        assert not np.array_equal(predictions["test_01"], predictions["test_02"])
    if any("members" in option for option in options):
        other = json.loads((run / "net-02.json").read_text())
        assert (net["epochs"], other["epochs"]) == (2, 1)
        vgg = "dropout" in options[-1]
        first = 594_922 if "--model" in options else 327_242
        assert (net["parameters"], other["parameters"]) == (first, 594_922 if vgg else 814_970)
        if vgg:
            own = members.member(json.loads((run / "config.json").read_text()), 2)["model_config"]
            assert own["dropout"] == 0.2
            assert own["mean"] == pytest.approx(0.13, abs=0.1)  # the training pixels', not the default 0
            assert own["mean"] != 0
    if "--validation-split" in options:
        assert net["training_rows"] == 1437
        assert "validation_accuracy" not in result


@pytest.mark.slow
def test_how_many_steps_are_executed_at_once_changes_nothing_but_time(tmp_path, monkeypatch, no_pictures):
    import train
    from recognizer.training import model

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model, "CALL", 1e6)  # seconds: as many steps a call as are allowed
    tiny = ["--epochs", "2", "--set", "steps_per_epoch=7", "--set", "min_steps_per_epoch=1", "--batch-size", "16"]
    for executed in (1, 3):
        monkeypatch.setattr(model, "MOST_STEPS", executed)
        train.main(["single", *tiny, "--data", "digits", "--run", f"r{executed}"])
        assert json.loads((tmp_path / "runs" / f"r{executed}" / "net-01.json").read_text())["steps"] == 14
    one, other = (load(tmp_path / "runs" / f"r{executed}" / "predictions.npz") for executed in (1, 3))
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])
    logs = [(tmp_path / "runs" / f"r{executed}" / "net-01.steps.csv").read_text() for executed in (1, 3)]
    assert logs[0] == logs[1]
    assert logs[0].count("\n") == 1 + 14


def test_rows_watched_while_training_are_from_all_over_the_file():
    from recognizer.training.trainer import evenly

    rows = np.arange(100, 1100, 2)
    watched = evenly(rows, 40)
    assert len(watched) == 40
    assert set(watched) <= set(rows)
    assert np.histogram(watched, 4, (100, 1100))[0].tolist() == [10, 10, 10, 10]
    for most in (None, 500, 501):
        np.testing.assert_array_equal(evenly(rows, most), rows)


@pytest.mark.parametrize(
    ("seconds", "steps", "expected"), [(0.1, 500, 5), (0.001, 500, 32), (0.001, 3, 3), (0.001, 1, 1), (7.0, 500, 1)]
)
def test_a_call_executes_steps_of_half_a_second_in_all_at_most(seconds, steps, expected, monkeypatch):
    from recognizer.nn import building, optimizers
    from recognizer.training.model import TrainingModel

    trainer = TrainingModel(building.build("linear"), steps)
    trainer.compile(optimizers.make("sgd"))
    monkeypatch.setattr(trainer, "_time", lambda batches, several: seconds)
    trainer.warm_up(None)
    assert trainer.steps_per_execution == expected
    assert trainer.step_seconds == seconds


@pytest.mark.slow
def test_the_precision_is_printed_and_recorded_and_predict_uses_it(tmp_path, capsys, monkeypatch, no_pictures, digits):
    import keras

    import train
    from recognizer.nn.precision import native_precision

    monkeypatch.chdir(tmp_path)
    for choice in ("auto", "float32", "bfloat16"):
        train.main(["codeastar", *TINY, "--data", "digits", "--precision", choice, "--run", choice])
        resolved = native_precision() if choice == "auto" else choice
        assert f", {resolved}\n" in capsys.readouterr().out
        assert json.loads((tmp_path / "runs" / choice / "config.json").read_text())["precision"] == resolved
        net = keras.saving.load_model(tmp_path / "runs" / choice / "net-01.keras")
        assert {layer.dtype_policy.name for layer in net.layers} == {"float32"}
        assert {weight.dtype for weight in net.weights} == {"float32"}
    a, b = (load(tmp_path / "runs" / choice / "predictions.npz")["test_01"] for choice in ("float32", "bfloat16"))
    assert 0 < np.abs(a - b).max() < 0.5
    if native_precision() == "bfloat16":  # predict.py computes as the run did
        write_csv("own.csv", digits.test.x)  # a file of its own: computed, not taken from what training predicted
        predict.main(["bfloat16", "--test", "own.csv", "--probabilities"])
        table = np.loadtxt("submissions/bfloat16-own-probabilities.csv", delimiter=",", skiprows=1)
        temperature = run_folder.temperature(tmp_path / "runs" / "bfloat16")
        np.testing.assert_allclose(table[:, 1:], metrics.sharpened(b, temperature), atol=1e-6)


ONE_NET = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from recognizer.base import environment, files
config = files.read_json(Path(sys.argv[2], "config.json"))
environment.choose_threads(config)
from recognizer.config import members
from recognizer.data import sources
from recognizer.training.trainer import Trainer
Trainer(members.kinds(config)[0], sources.load("digits")).fit(2, Path.cwd())
"""


@pytest.mark.slow
def test_a_net_does_not_depend_on_those_trained_before_it_in_the_process(trained, tmp_path):
    run = trained / "runs" / "bag"
    subprocess.run([sys.executable, "-c", ONE_NET, str(ROOT), str(run)], cwd=tmp_path, check=True, timeout=300)
    ours, theirs = load(tmp_path / "net-02.predictions.npz"), load(run / "predictions.npz")
    np.testing.assert_array_equal(ours["test"], theirs["test_02"])
    np.testing.assert_array_equal(ours["validation"], theirs["validation_02"])


MEMORY = """
import sys; sys.path.insert(0, sys.argv[1])
import os, train
from pathlib import Path
from recognizer.runs import summary
line = summary.net_line
def net_line(result, nets):
    memory = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
    return f"{line(result, nets)}\\nRSS {memory}"
summary.net_line = net_line
train.main(["deotte", "--nets", "7", "--epochs", "1", "--set", "steps_per_epoch=5", "--data", "digits"])
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="Linux tells a process's memory")
def test_memory_does_not_grow_from_net_to_net(tmp_path):
    process = subprocess.run(
        [sys.executable, "-c", MEMORY, str(ROOT)], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr
    resident = [int(line.split()[1]) for line in process.stdout.splitlines() if line.startswith("RSS")]
    assert len(resident) == 7
    # MB. TensorFlow would keep the traced training step of each net, some 13 MB.
    assert resident[-1] - resident[1] < 5 * 7, resident
    assert max(resident) < 1500


def test_a_mistyped_name_or_option_answers_without_importing_keras(tmp_path):
    for arguments, told in (
        (["grenhol"], "did you mean 'grenholm'"),
        (["--set", "epocs=3"], "did you mean 'epochs'"),
        (["--epochz", "3"], "--epochz; did you mean --epochs 3?"),
        (["--set", "learning_rate=fast"], "schedule.learning_rate must be a number"),
        (["quick-1", "--resume"], "--resume takes the run's name after --run: train.py --run quick-1 --resume"),
        (["quick-1", "--resume", "--epochs", "3"], "leave out recipe, epochs; give the run's name with --run"),
        (["--seed", "-1"], "--seed"),
        (["--epochs", "0"], "epochs"),
    ):
        assert_one_line_error(script("train.py", *arguments, cwd=tmp_path), told)


@pytest.mark.parametrize(
    ("line", "unknown", "meant"),
    [
        ("plot lr mine", "mine", "--recipe mine"),
        ("plot lr mnist", "mnist", "--data mnist"),
        ("plot augmented grenholm", "grenholm", "--recipe grenholm"),
        ("plot samples .", ".", "--data ."),
        ("plot layers --model vgg", "--model", "--set model=vgg"),
        ("plot layers --recipee vgg", "--recipee", "--recipe vgg"),
        ("plot confusion --run bag", "--run", "bag without --run"),
        ("report --run=bag", "--run=bag", "bag without --run"),
        ("sweep single --model X", "--model X", "--set model=X"),
        ("sweep single --batch-size=32", "--batch-size=32", "--set batch_size=32"),
        ("sweep --learning-rate 0.1", "--learning-rate", "--set learning_rate=0.1"),
        ("sweep --nets 3 --seeds 2", "--nets", "--set nets=3"),
        ("sweep --early-stopping 3", "--early-stopping", "--set early_stopping=3"),
        ("sweep --deterministic --seeds 2", "--deterministic", "--set deterministic=VALUE"),
        ("sweep --run mine", "--run", "--sweep mine"),
        ("sweep --recipe single", "--recipe", "single without --recipe"),
        ("train --optimizer adamw", "--optimizer", "--set optimizer=adamw"),
        ("train --recipe quick", "--recipe", "quick without --recipe"),
        ("train --batch_size 32", "--batch_size", "--batch-size 32"),
        ("train --early_stopping=3", "--early_stopping=3", "--early-stopping 3"),
        ("train --lr 0.1", "--lr", "--learning-rate 0.1"),
        ("train --bs=64", "--bs=64", "--batch-size 64"),
        ("train --num-epochs 3", "--num-epochs", "--epochs 3"),
        ("sweep --lr 0.1", "--lr", "--set learning_rate=0.1"),
        ("sweep --validation_split .2", "--validation_split", "--validation-split .2"),
        ("train quick mnist", "mnist", "--data mnist"),
        ("predict --data mnist", "--data", "--test mnist"),
        ("predict --run bag", "--run", "bag without --run"),
        ("predict --image P --run R", "--image --run R", "--images P, and R without --run"),
        ("predict --run R --image P", "--run --image P", "R without --run, and --images P"),
        ("predict R --image=P --data mnist", "--image=P --data mnist", "--images P, and --test mnist"),
        (
            "train single --epoch 3 --batchsize 64 --lr .1",
            "--epoch 3 --batchsize 64 --lr .1",
            "--epochs 3, --batch-size 64, and --learning-rate .1",
        ),
        ("train single --epoch=3 mnist", "--epoch=3 mnist", "--epochs 3, and --data mnist"),
        ("train --optimiser adamw", "--optimiser", "--set optimizer=adamw"),
        (
            "train single --lerning-rate .1 --verbos",
            "--lerning-rate .1 --verbos",
            "--learning-rate .1, and --verbose VALUE",
        ),
        ("train --resum", "--resum", "--resume"),
        (
            "sweep single --nets 3 --batchsize 64 --count",
            "--nets 3 --batchsize 64 --count",
            "--set nets=3, and --set batch_size=64",
        ),
        ("plot digit --rows 850", "--rows", "--row 850"),
        ("plot samples 3", "3", "--seed 3"),
        ("plot augmented 3", "3", "--seed 3"),
        ("plot augmented grenholm 3", "grenholm 3", "--recipe grenholm, and --seed 3"),
        ("plot lr 3", "3", "--seed 3"),
        ("draw single-1 8000", "8000", "--port 8000"),
        ("train single 10", "10", "--nets 10 or --epochs 10 or --batch-size 10"),
        ("train single 0.1", "0.1", "--validation-split 0.1 or --learning-rate 0.1 or --cpus 0.1"),
        ("sweep grenholm 16", "16", "--seeds 16 or --trials 16 or --epochs 16"),
        ("export single-1 --fromat keras --ot x", "--fromat keras --ot x", "--format keras, and --out x"),
        ("train quick float32", "float32", "--precision float32"),
        ("export single-1 --out x keras", "keras", "--format keras"),
        ("predict R --image P probabilities", "--image P probabilities", "--images P, and --probabilities"),
        ("plot confusion R percent", "percent", "--percent"),
        ("runs --run=mine", "--run=mine", ""),
        ("train quick --steps 10", "--steps 10", "--set steps_per_epoch=10"),
        ("train train quick", "quick", "train.py quick"),
        ("train quick epochs=3", "epochs=3", "--set epochs=3"),
    ],
)
def test_the_message_says_what_to_write_instead_of_an_unknown_argument(line, unknown, meant, capsys):
    name, *arguments = line.split()
    module = importlib.import_module(f"recognizer.commands.{name}" if name in COMMANDS else name)
    with pytest.raises(SystemExit) as stop:
        module.main(arguments)
    assert stop.value.code == 2
    program = (
        f"python -m recognizer {name}" + f" {arguments[0]}" * (name == "plot") if name in COMMANDS else f"{name}.py"
    )
    hint = f"; did you mean {meant}?" * bool(meant)
    told = f"{program}: error: unrecognized arguments: {unknown}{hint} (see {program} --help)\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("train single ensemble", "unrecognized arguments: ensemble; usage: train.py [RECIPE] [OPTIONS]"),
        ("report R 3", "unrecognized arguments: 3; usage: python -m recognizer report [RUN] [OPTIONS]"),
        ("data fetch x", "unrecognized arguments: x; usage: python -m recognizer data [fetch] [OPTIONS]"),
        ("plot lr 1e-3", "unrecognized arguments: 1e-3; usage: python -m recognizer plot lr [OPTIONS]"),
        ("plot samples -3", "unrecognized arguments: -3; usage: python -m recognizer plot samples [OPTIONS]"),
        ("plot digit 850", "no RUN '850'; did you mean --row 850?"),
        ("plot lr vgg-dropout", "unrecognized arguments: vgg-dropout; did you mean --recipe vgg-dropout?"),
        ("plot lr residual", "unrecognized arguments: residual; did you mean --model residual?"),
        ("plot R confusion", "'R' stands before 'confusion'; did you mean python -m recognizer plot confusion R?"),
        ("runs R diff", "'R' stands before 'diff'; did you mean python -m recognizer runs diff R?"),
        ("export R --keras", "unrecognized arguments: --keras; did you mean --format keras?"),
        ("sweep a b", "unrecognized arguments: b; usage: python -m recognizer sweep [RECIPE|STUDY] [OPTIONS]"),
        ("runs diff R S T", "unrecognized arguments: T; usage: python -m recognizer runs diff RUN RUN [OPTIONS]"),
        (
            "runs R",
            "no command 'R'. There are: diff; usage: python -m recognizer runs [diff RUN RUN] [OPTIONS]",
        ),
        ("draw 8000", "no RUN '8000'; did you mean --port 8000?"),
        ("draw 8000 R", "no RUN '8000'; did you mean --port 8000?"),
        ("export R onnx", "no RUN 'onnx'; did you mean --format onnx?"),
        ("train 10", "no RECIPE '10'; did you mean --nets 10 or --epochs 10 or --batch-size 10?"),
        ("train list", "no RECIPE 'list'; did you mean --list?"),
        ("sweep 16", "no RECIPE|STUDY '16'; did you mean --seeds 16 or --trials 16 or --epochs 16?"),
        ("train --augment-engine 3", "no --augment-engine '3'. There are: batch, keras"),
        ("train --precision mnist", "no --precision 'mnist'. There are: auto, bfloat16, float16, float32"),
    ],
)
def test_a_surplus_or_misplaced_word_is_answered_with_what_the_command_takes(line, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name, *arguments = line.split()
    module = importlib.import_module(f"recognizer.commands.{name}" if name in COMMANDS else name)
    with pytest.raises(SystemExit) as stop:
        module.main(arguments)
    assert stop.value.code == 2
    assert f": error: {told} (see " in capsys.readouterr().err


def test_a_name_that_could_also_be_the_value_of_an_option_is_taken_if_it_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("8000", "onnx"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").write_text("{}")
    for module, name in ((draw, "8000"), (export, "onnx")):
        with pytest.raises(UserError, match=f"run '{name}' is not finished"):
            module.main([name])


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("train single --set epochs 3", "--set epochs=3"),
        ("train --set epochs 3", "--set epochs=3"),
        ("train --set epochs 3 single", "--set epochs=3"),
        ("train --nets 2 --set epochs = 3 --seed 1", "--set epochs=3"),
        ("train --set epochs= 3", "--set epochs=3"),
        ("train --set epochs =3", "--set epochs=3"),
        ("train --set label_smoothing .1 --set epochs 3", "--set label_smoothing=.1"),
        ("train --set epochs=3 --set optimizer sgd", "--set optimizer=sgd"),
        ("train --set augmentation.erasing_range=[3, 9]", "--set augmentation.erasing_range=[3,9]"),
        ("train --set augmentation.cval -1", "--set augmentation.cval=-1"),
        ("plot lr --set batch_size 64", "--set batch_size=64"),
        ("plot augmented --set augmentation.shear_range 3", "--set augmentation.shear_range=3"),
        ("plot layers --set model vgg", "--set model=vgg"),
        ("sweep grenholm --set epochs 3 --seeds 2", "--set epochs=3"),
        ("sweep grenholm --grid batch_size 16,32", "--grid batch_size=16,32"),
        ("sweep --grid batch_size 16,32", "--grid batch_size=16,32"),
        ("sweep --grid batch_size=16, 32, 64 --seeds 3", "--grid batch_size=16,32,64"),
        ("sweep --range epochs 5..20 --trials 3", "--range epochs=5..20"),
    ],
)
def test_a_key_and_its_value_that_are_written_with_blanks_are_refused_with_what_to_write(line, meant, capsys):
    name, *arguments = line.split()
    module = importlib.import_module(f"recognizer.commands.{name}" if name in COMMANDS else name)
    with pytest.raises(SystemExit) as stop:
        module.main(arguments)
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"error: {meant.split()[0]} takes KEY=" in told
    assert f" without blanks; did you mean {meant}? (see " in told


@pytest.mark.parametrize(("finished", "told"), [(True, "it is finished:"), (False, "go on with it by --resume, or")])
def test_the_name_of_a_run_that_exists_is_refused(finished, told, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (folder,) = copied(trained, tmp_path, "bag")
    if not finished:
        (folder / "result.json").unlink()
    with pytest.raises(UserError, match=f"run 'bag' exists: {told} choose another name"):
        importlib.import_module("train").main(["quick", "--run", "bag", "--data", "digits"])


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize("option", ["--learning-rate", "--validation-split", "--cpus", "--gpus"])
def test_an_option_that_is_not_a_finite_number_is_refused(option, value, capsys):
    with pytest.raises(SystemExit) as stop:
        importlib.import_module("train").main([f"{option}={value}"])
    assert stop.value.code == 2
    assert f"error: argument {option}: {float(value)} is not a finite number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", ""], "an argument is empty: leave it out"),
        (["train", "--data="], "the value of --data is empty: give one, or leave out --data"),
        (["train", "--data", "", "--epochs", "1"], "the value of --data is empty: give one, or leave out --data"),
        (["train", "--set", "epochs=3", ""], "an argument is empty: leave it out"),
        (["runs", ""], "an argument is empty: leave it out"),
        (["sweep", "--jobs", ""], "the value of --jobs is empty: give one, or leave out --jobs"),
    ],
)
def test_an_empty_argument_is_refused(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name, *arguments = arguments
    module = importlib.import_module(f"recognizer.commands.{name}" if name in COMMANDS else name)
    with pytest.raises(SystemExit) as stop:
        module.main(arguments)
    assert stop.value.code == 2
    assert f"error: {told} (see " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "epochs=3", "=4"], "no recipe '=4'"),
        (["--set", "=", "quick"], "--set takes KEY=VALUE, not '='"),
        (["--set", "epochs,", "quick"], "--set takes KEY=VALUE, not 'epochs,'"),
        (["--set", "{}:2", "quick"], "--set takes KEY=VALUE, not '{}:2'"),
    ],
)
def test_words_that_make_no_key_and_value_get_no_hint_to_leave_out_the_blanks(arguments, told):
    import train

    with pytest.raises(UserError) as error:
        train.main(arguments)
    assert str(error.value).startswith(told)
    assert "did you mean" not in str(error.value)


@pytest.mark.parametrize("key", ["epochs", "schedule.decay"])
def test_a_colon_between_key_and_value_is_refused_with_what_to_write(key):
    import train

    with pytest.raises(UserError) as error:
        train.main(["quick", "--set", f"{key}:2"])
    assert str(error.value) == f"--set takes KEY=VALUE, not '{key}:2'; did you mean --set {key}=2?"


def test_a_run_before_the_command_is_refused_with_what_to_write():
    from recognizer.__main__ import main

    with pytest.raises(UserError, match=r"^write the command first: python -m recognizer plot confusion quick-1$"):
        main(["quick-1", "plot", "confusion"])


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("diff A B", "python -m recognizer runs diff A B"),
        ("confusion A", "python -m recognizer plot confusion A"),
        ("train.py quick", "python train.py quick"),
    ],
)
def test_a_word_that_is_no_command_of_its_own_is_refused_with_what_to_write(line, meant):
    from recognizer.__main__ import main

    with pytest.raises(UserError, match=f"^write {meant}$"):
        main(line.split())


def test_the_commands_run_without_m_too(tmp_path):
    command = [sys.executable, str(ROOT / "recognizer"), "runs"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert process.stderr.startswith("recognizer: there are no runs in runs/")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("train mnist", "no recipe 'mnist', but data: write --data mnist"),
        ("train .", "no recipe '.', but data: write --data ."),
        ("sweep digits --seeds 2", "no recipe 'digits', but data: write --data digits"),
        ("sweep vgg_rms --seeds 2", "no recipe or study 'vgg_rms'; did you mean 'vgg-rmsprop'? There are: codeastar, "),
        ("plot layers vgg_dropout", "no run 'vgg_dropout', but a recipe: write --recipe vgg_dropout"),
        ("predict test.csv", "test.csv is no run: predict.py takes pictures by --images, a test set by --test"),
        ("predict scans/1.png", "scans/1.png is no run: predict.py takes pictures by --images, a test set by --test"),
        ("predict no.JPG", "no.JPG is no run: predict.py takes pictures by --images, a test set by --test"),
        ("plot confusion scans", "scans is no run: predict.py takes pictures by --images, a test set by --test"),
    ],
)
def test_the_message_says_what_to_write_instead_of_a_name_of_another_kind(line, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    for file in ("test.csv", "scans/1.png"):
        (tmp_path / file).touch()
    name, *arguments = line.split()
    module = importlib.import_module(f"recognizer.commands.{name}" if name in COMMANDS else name)
    with pytest.raises(UserError) as error:
        module.main(arguments)
    assert str(error.value)[: len(told)] == told


def test_the_sources_of_the_command_line_are_those_that_are_read():
    assert list(sources.SOURCES) == list(cli.SOURCES)


@pytest.mark.slow
def test_a_net_whose_batch_norm_will_lag_is_told_before_training(tmp_path):
    few = ["quick", "--check", "--data", "digits", "--set", "steps_per_epoch=20", "--set", "model_config.momentum=0.99"]
    told = "batch-norm statistics lag behind after so few steps: --set update_bn="
    assert told in script("train.py", *few, cwd=tmp_path).stdout
    assert told not in script("train.py", *few, "--set", "update_bn=5", cwd=tmp_path).stdout


LIGHT = """
import importlib, sys; sys.path.insert(0, sys.argv[1])
script = importlib.import_module(sys.argv[2])
try: script.main(["--help"])
except SystemExit: pass
assert not {"keras", "tensorflow", "matplotlib", "pandas", "sklearn", "gradio", "kaggle", "optuna"} & set(sys.modules)
"""
COMMANDS = ["data", "runs", "plot", "report", "export", "draw", "sweep"]


@pytest.mark.parametrize("name", ["train", "predict", "recognizer", *COMMANDS])
def test_help_has_examples_a_word_on_every_option_and_the_exit_codes(name, tmp_path):
    module = {"train": "train", "predict": "predict", "recognizer": "recognizer.__main__"}.get(name)
    module = module or f"recognizer.commands.{name}"
    command = f"python -m recognizer {name}" if name in COMMANDS else f"python {name}.py"
    command = "python -m recognizer" if name == "recognizer" else command
    process = subprocess.run(
        [sys.executable, "-c", LIGHT, str(ROOT), module], capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 0, process.stderr
    assert f"\n    {command}" in process.stdout
    assert "Exit codes: 0 done" in process.stdout
    for action in importlib.import_module(module).parser()._actions:
        assert action.help or action.choices, action


@pytest.mark.parametrize(
    ("line", "completed"),
    [("train.py gren", ["grenholm"]), ("train.py --see", ["--seed"]), ("predict.py b", ["bag"])],
)
def test_the_shell_completes_options_recipes_and_runs(line, completed, trained, tmp_path):
    pytest.importorskip("argcomplete")
    told = tmp_path / "told"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(told)}
    environment = os.environ | asked | {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    command = [sys.executable, str(ROOT / line.split()[0])]
    subprocess.run(command, cwd=trained, env=environment, capture_output=True, timeout=60)
    assert [word.strip() for word in told.read_text().split("\n")] == completed


def test_augmented_digits_are_drawn_by_command(tmp_path):
    process = script("plot", "augmented", "--recipe", "vgg-augmented", "--data", "digits", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    with Image.open(tmp_path / "augmented.png") as picture:
        assert min(picture.size) > 500


def test_a_keras_that_is_too_old_is_one_line(tmp_path):
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "__init__.py").write_text('from keras import distribution\n__version__ = "3.8.0"\n')
    (tmp_path / "keras" / "distribution.py").write_text("list_devices = list\n")
    process = script("train.py", "--data", "digits", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert_one_line_error(process, "Keras 3.8.0 is too old", "'keras>=3.12'")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["train.py", "--data", "nowhere"],
        ["predict.py", "no-run"],
        ["data", "--data", "nowhere"],
        ["runs", "diff", "a", "b"],
        ["plot", "spread", "no-run"],
        ["report", "no-run"],
        ["export", "no-run"],
        ["draw", "no-run"],
    ],
    ids=lambda command: command[0],
)
def test_debug_shows_the_traceback_behind_a_line(command, tmp_path):
    assert_one_line_error(script(*command, cwd=tmp_path))
    process = script(*command, "--debug", cwd=tmp_path)
    assert process.returncode == 2
    lines = process.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith(f"{command[0] if command[0].endswith('.py') else 'recognizer'}: ")
    assert "--debug" in script(command[0], "--help", cwd=tmp_path).stdout
