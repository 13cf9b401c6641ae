"""The notebook runs from top to bottom."""

import os
import re
import shutil

import pytest
from conftest import ROOT, read_submission

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

PATH = ROOT / "notebooks" / "digit_recognizer.ipynb"


def outputs(cell, kind):
    """The outputs of a cell of one kind: "image/png" for example, or the name of a stream."""
    return [output for output in cell.outputs if kind in output.get("data", {}) or kind == output.get("name")]


def client(notebook, folder):
    return nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}})


@pytest.mark.slow
def test_the_notebook_runs_on_scikit_learns_digits_and_ends_with_a_submission(tmp_path, monkeypatch, digits):
    (tmp_path / "clone").mkdir()
    for path in ROOT.glob("*.py"):
        shutil.copy(path, tmp_path / "clone")
    for name in ("recognizer", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / "clone" / name)
    monkeypatch.setenv("DATA", "digits")
    monkeypatch.setenv("RECIPE", "quick")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")  # of the kernel's own libraries
    notebook = nbformat.read(PATH, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # stored outputs would soon be out of date
    assert not any(re.search(r"\bpip\b", cell.source) for cell in notebook.cells)  # it installs nothing
    client(notebook, tmp_path / "clone" / "notebooks").execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in code)
    told = "".join(output["text"] for cell in code for output in outputs(cell, "stdout"))
    assert "Traceback" not in told
    assert not re.search(r"^\s*(\w+\.py|recognizer): ", told, re.MULTILINE)  # a line of bad input
    assert not any(outputs(cell, "stderr") for cell in code)
    assert sum(len(outputs(cell, "image/png")) for cell in code) == 14
    for line in (
        "with Keras 3.",
        "labelled: 1,437 images",
        "pictures/augmented.png",
        "Validation accuracy:",
        "Validation digits that both predict",
        "McNemar's p",
        "Submission: submission.csv",
    ):
        assert line in told
    assert len(read_submission(tmp_path / "clone" / "submission.csv")) == len(digits.test.x)


def test_without_the_scripts_the_notebook_says_what_to_do(tmp_path):
    notebook = nbformat.read(PATH, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code"][:1]
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="set REPOSITORY above"):
        client(notebook, tmp_path).execute()
    assert os.listdir(tmp_path) == []
