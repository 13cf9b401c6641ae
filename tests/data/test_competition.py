"""Kaggle's client is called as it is to be called, and what it refuses is told in one line.

The client here is a stand-in with the same functions: nothing is sent anywhere.
"""

import numpy as np
import pytest
from conftest import TINY, assert_one_line_error, read_submission, script, write_csv

CLIENT = """
import os, shutil, sys
class Refused(Exception):
    class response:
        status_code = int(os.environ.get("FAKE_STATUS", 0))
class KaggleApi:
    def authenticate(self):
        print("You must authenticate")
        if not os.environ.get("FAKE_KEY"):
            sys.exit(1)
    def competition_submit(self, file_name, message, competition, quiet=False, sandbox=False):
        if Refused.response.status_code:
            raise Refused("HTTP error")
        shutil.copy(file_name, "handed-in.csv")
        open("message", "w").write(competition + ": " + message)
        return type("Response", (), {"message": "Successfully submitted to Digit Recognizer"})()
    def competition_download_files(self, competition, path=None, force=False, quiet=True, unzip=False):
        if Refused.response.status_code:
            raise Refused("HTTP error")
        shutil.copy("there.zip", os.path.join(path, competition + ".zip"))
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory, digits):
    """A folder with the stand-in, Kaggle's 28,000 test rows and a run, and the environment to use them in."""
    folder = tmp_path_factory.mktemp("kaggle")
    package = folder / "fake" / "kaggle" / "api"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "kaggle_api_extended.py").write_text(CLIENT)
    write_csv(folder / "kaggle.csv", np.resize(digits.test.x, (28_000, 28, 28)))
    assert script("train.py", "codeastar", *TINY, "--data", "digits", "--run", "fast", cwd=folder).returncode == 0
    return folder, {"PYTHONPATH": str(folder / "fake"), "FAKE_KEY": "key"}


def test_a_submission_is_handed_in_or_kept_with_a_line_that_says_what_to_do(client):
    folder, environment = client
    command = ["predict.py", "fast", "--test", "kaggle.csv", "--out", "s.csv", "--submit", "my first"]
    process = script(*command, cwd=folder, **environment)
    assert process.returncode == 0, process.stderr
    assert "not for Kaggle" not in process.stdout
    assert "Validation accuracy of fast" in process.stdout
    assert len(read_submission(folder / "s.csv")) == 28_000
    assert process.stdout.endswith("Kaggle: Successfully submitted to Digit Recognizer\n")
    assert (folder / "handed-in.csv").read_bytes() == (folder / "s.csv").read_bytes()
    assert (folder / "message").read_text() == "digit-recognizer: my first"
    process = script(*command, cwd=folder, **environment | {"FAKE_STATUS": "403"})
    assert_one_line_error(process, "accept the competition's rules", "s.csv is written")
    process = script("predict.py", "fast", "--out", "s.csv", "--submit", "x", cwd=folder, **environment)
    assert_one_line_error(process, "Kaggle's test rows only", "--test kaggle")


def test_kaggles_files_are_fetched_or_a_line_says_what_to_do(client, tmp_path):
    _, environment = client
    (tmp_path / "there.zip").write_bytes(b"PK")
    for changed, told in (
        ({"FAKE_KEY": ""}, "no credentials: make a token"),
        ({"FAKE_STATUS": "403"}, "accept the competition's rules"),
        ({"FAKE_STATUS": "401"}, "make a new token"),
        ({"FAKE_STATUS": "500"}, "Kaggle's client failed (HTTP error)"),
    ):
        assert_one_line_error(script("data", "fetch", cwd=tmp_path, **environment | changed), told)
    process = script("data", "fetch", cwd=tmp_path, **environment)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "data" / "digit-recognizer.zip").read_bytes() == b"PK"
    process = script("data", "fetch", cwd=tmp_path, **environment)
    assert_one_line_error(process, "is there already")


def test_what_data_there_is_is_told(tmp_path):
    process = script("data", "--data", "digits", cwd=tmp_path)
    assert "labelled: 1,437 images of scikit-learn's digits" in process.stdout
    assert "test: 360 images" in process.stdout
