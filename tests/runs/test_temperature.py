"""Probabilities mean what they say: a fitted temperature sharpens them, and changes no label."""

import json

import numpy as np
import pytest
from conftest import copied
from hypothesis import given, settings
from hypothesis import strategies as st

import predict
from recognizer.base.errors import UserError
from recognizer.config.schema import TEMPERATURES
from recognizer.reports.run_pictures import predicted_digits
from recognizer.runs import metrics, run_folder
from recognizer.training import predicting


def smoothed(n, share_right=0.99, seed=0):
    """Returns labels, and probabilities that are right as often as they say if they are sharpened by 0.5."""
    rng = np.random.default_rng(seed)
    sure = rng.dirichlet(np.full(10, (1 - share_right) * 3), n)
    labels = np.array([rng.choice(10, p=row) for row in sure])
    raw = np.sqrt(np.clip(sure, 1e-12, None))
    return labels, raw / raw.sum(1, keepdims=True)


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(
    st.floats(*TEMPERATURES),
    st.lists(st.lists(st.sampled_from([0, 1e-30, 0.01, 0.1, 0.3, 0.5, 0.9]), min_size=10, max_size=10), min_size=1),
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from([-1, 0, 1])), max_size=10),
    st.sampled_from([np.float32, np.float64]),
)
def test_no_label_changes_however_near_two_digits_are(temperature, rows, nudges, dtype):
    probabilities = np.array(rows, dtype) + dtype(1e-9)
    probabilities /= probabilities.sum(1, keepdims=True)
    for digit, by in nudges:  # sets some digits to the maximum, or to the next float above or below it
        probabilities[:, digit] = np.nextafter(probabilities.max(1), dtype(2 * by)) if by else probabilities.max(1)
    found = metrics.sharpened(probabilities, temperature)
    np.testing.assert_array_equal(found.argmax(1), probabilities.argmax(1))
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(
        found,
        probabilities ** np.float64(1 / temperature)
        / (probabilities ** np.float64(1 / temperature)).sum(1, keepdims=True),
        atol=1e-6,
    )


def test_a_temperature_of_1_leaves_every_bit():
    _, raw = smoothed(50)
    assert metrics.sharpened(raw, 1) is raw


@pytest.mark.parametrize(
    ("n", "expected", "low", "high"), [(20_000, 1, 0.46, 0.54), (0, 0.48, 0.479, 0.481), (30, 0.48, 0.38, 0.6)]
)
def test_many_rows_decide_the_temperature_and_few_keep_the_recipes_own(n, expected, low, high):
    labels, raw = smoothed(20_000)
    assert low < metrics.fitted_temperature(labels[:n], raw[:n], expected) < high


def test_few_rows_without_an_error_do_not_make_a_net_certain():
    labels = np.arange(300) % 10
    raw = np.full((300, 10), 0.01)
    raw[np.arange(300), labels] = 0.91
    assert 0.25 < metrics.fitted_temperature(labels, raw, 0.48) < 0.48


def test_the_calibration_error_is_of_rows_that_did_not_fit_the_temperature(monkeypatch):
    labels, raw = smoothed(6_000)
    assert metrics.calibration(labels, raw)[0] > 0.02
    assert metrics.calibration(labels, metrics.cross_fitted(labels, raw, 0.48))[0] < 0.01
    fitted = []
    monkeypatch.setattr(metrics, "fitted_temperature", lambda y, p, _: fitted.append(len(y)) or len(fitted))
    found = metrics.cross_fitted(labels, raw, 1)
    np.testing.assert_array_equal(found[0::2], raw[0::2])  # by the first temperature, 1
    np.testing.assert_array_equal(found[1::2], metrics.sharpened(raw[1::2], 2))
    assert fitted == [3_000, 3_000]


def test_a_run_records_its_temperature_and_its_pictures_show_what_it_predicts(trained, digits):
    folder = trained / "runs" / "bag"
    result, config = json.loads((folder / "result.json").read_text()), run_folder.read_config(folder)
    (_, _, labels, shown, *_), _ = predicted_digits(folder, config, digits, result)
    assert metrics.calibration(labels, shown)[0] == result["ensemble_validation"]["calibration_error"]
    (_, _, _, raw, *_), _ = predicted_digits(folder, config, digits, {})
    assert metrics.calibration(labels, raw)[0] == result["ensemble_validation"]["raw_calibration_error"]
    assert result["temperature"] == metrics.fitted_temperature(labels, raw, config["temperature"]) != 1


def test_label_smoothing_is_undone_on_held_out_rows(reader, shared):
    result = json.loads((reader / "runs" / "reader" / "result.json").read_text())
    for part in ("ensemble_validation", "ensemble_test"):
        assert result[part]["raw_calibration_error"] > 0.05
        assert result[part]["calibration_error"] < 0.01


def test_several_runs_have_one_temperature_and_an_older_run_none(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = copied(trained, tmp_path, "a", "b", "old")
    for folder, temperature in zip(folders, (0.25, 1.0, None), strict=True):
        (folder / "result.json").write_text(json.dumps({"temperature": temperature} if temperature else {}))
    configs = [run_folder.read_config(folder) for folder in folders]
    assert predicting.temperature(folders[:2], configs[:2]) == pytest.approx(0.5)
    assert predicting.temperature(folders[2:], configs[2:]) == 1
    labels = []
    for runs in (["a"], ["old"], ["a", "b"]):
        predict.main([*runs, "--out", "s.csv"])
        labels.append((tmp_path / "s.csv").read_text())
    assert labels[0] == labels[1] == labels[2]


@pytest.mark.parametrize("temperature", ["0.5", 0, -1, 100, True, None, [1]])
def test_a_temperature_that_is_none_is_one_line(temperature, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (folder,) = copied(trained, tmp_path, "bag")
    (folder / "result.json").write_text(json.dumps({"temperature": temperature}))
    with pytest.raises(UserError, match=r"result\.json: temperature must be a number of 0\.05 or more and below 20"):
        predict.main(["bag"])
    assert not (tmp_path / "submissions" / "bag.csv").exists()
