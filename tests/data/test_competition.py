"""Kaggle's client is called as it should be, and what it refuses is told in one line.

The client here is a stand-in with the same functions: nothing is sent anywhere.
"""

import sys
from pathlib import Path

import pytest
from conftest import assert_one_line_error, script

from recognizer.base.errors import UserError
from recognizer.commands import data
from recognizer.data import competition

CLIENT = """
import os, shutil, sys
class Refused(Exception):
    @property
    def response(self):
        return type("Response", (), {"status_code": int(os.environ["FAKE_STATUS"])})
def refuse():
    if "FAKE_STATUS" in os.environ:
        raise Refused("HTTP error")
class KaggleApi:
    def authenticate(self):
        print("You must authenticate")
        if not os.environ.get("FAKE_KEY"):
            sys.exit(1)
    def competition_submit(self, file_name, message, competition, quiet=False, sandbox=False):
        refuse()
        shutil.copy(file_name, "handed-in.csv")
        open("message", "w").write(competition + ": " + message)
        return type("Response", (), {"message": "Successfully submitted to Digit Recognizer"})()
    def competition_download_files(self, competition, path=None, force=False, quiet=True, unzip=False):
        refuse()
        shutil.copy("there.zip", os.path.join(path, competition + ".zip"))
"""


@pytest.fixture
def client(tmp_path, monkeypatch):
    """The stand-in, installed, with a key. The working folder contains only the stand-in."""
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "fake" / "kaggle" / "api"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "kaggle_api_extended.py").write_text(CLIENT)
    monkeypatch.syspath_prepend(tmp_path / "fake")
    monkeypatch.setenv("FAKE_KEY", "key")
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "kaggle"]:
        del sys.modules[name]


# What a user has wrong, and what is said then.
REFUSALS = [
    ({"FAKE_KEY": ""}, "no credentials: make a token"),
    ({"FAKE_STATUS": "403"}, "accept the competition's rules"),
    ({"FAKE_STATUS": "401"}, "make a new token"),
    ({"FAKE_STATUS": "500"}, r"Kaggle's client failed \(HTTP error\)"),
]


@pytest.mark.parametrize(("wrong", "told"), REFUSALS)
def test_what_kaggle_refuses_is_a_line_that_says_what_to_do(wrong, told, client, tmp_path, monkeypatch):
    for key, value in wrong.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UserError, match=f"{told}.*; nothing was downloaded") as error:
        data.main(["fetch"])
    assert "\n" not in str(error.value)
    assert list(Path("data").iterdir()) == []
    with pytest.raises(UserError, match=rf"{told}.*; nothing was handed in; s\.csv is written"):
        competition.submit("s.csv", "my first")


def test_a_submission_is_handed_in(client, tmp_path):
    Path("s.csv").write_text("ImageId,Label\n1,2\n")
    assert competition.submit("s.csv", "my first") == "Successfully submitted to Digit Recognizer"
    assert Path("handed-in.csv").read_bytes() == Path("s.csv").read_bytes()
    assert Path("message").read_text() == "digit-recognizer: my first"


def test_kaggles_files_are_fetched_once(client, tmp_path, capsys):
    Path("there.zip").write_bytes(b"PK")
    data.main(["fetch"])
    zipped = Path("data/digit-recognizer.zip")
    assert zipped.read_bytes() == b"PK"
    assert capsys.readouterr().out == f"Downloaded {zipped}. Next: python train.py --data kaggle\n"
    assert_one_line_error(script("data", "fetch", cwd=tmp_path), "is there already")


def test_what_data_there_is_is_told(capsys):
    data.main(["--data", "digits"])
    said = capsys.readouterr().out
    assert "labelled: 1,437 images of scikit-learn's digits" in said
    assert "test: 360 images" in said
