"""The floors of recognizer/: imports go downwards, and `make lint` fails where one does not."""

import ast
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

FOLDERS = ("recognizer", "benchmarks", "docs", "tests")
FILES = [*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]


def imported(path):
    """The modules that a file imports, anywhere in it: "a.b" for `import a.b` and for `from a import b`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_what_a_user_edits_imports_no_more_than_it_needs():
    floors = {
        name: {".".join(module.split(".")[:2]) for module in imported(ROOT / name) if module.startswith("recognizer")}
        for name in ("models.py", "augment.py", "recipes.py")
    }
    assert floors == {"models.py": {"recognizer.nn"}, "augment.py": {"recognizer.base"}, "recipes.py": set()}


def test_train_py_and_predict_py_are_imported_by_tests_alone():
    importing = {path.relative_to(ROOT).parts[0] for path in FILES if {"train", "predict"} & imported(path)}
    assert importing <= {"tests"}


def test_every_module_says_what_it_holds():
    missing = [
        str(path.relative_to(ROOT)) for path in FILES if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert missing == []


@pytest.fixture
def house(tmp_path):
    """A copy of the package, and of the root folder's files that it imports."""
    for name in ("pyproject.toml", "models.py", "recipes.py", "augment.py"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "recognizer", tmp_path / "recognizer")
    return tmp_path


def lint(folder):
    pytest.importorskip("importlinter")
    code = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", code, "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=60)


@pytest.mark.parametrize(
    ("planted", "path", "broken"),
    [
        ("", "base/words.py", None),
        ("import recognizer.runs.metrics", "base/words.py", "Imports go downwards"),
        ("def f():\n    from recognizer.training import trainer", "data/sources.py", "Imports go downwards"),
        ("from recognizer.base import files", "base/errors.py", "No circles"),
        ("import train", "commands/report.py", "Nothing imports train.py"),
        ("import models", "data/sources.py", "Only the floors that need them"),
    ],
)
def test_an_import_that_goes_up_is_an_error(planted, path, broken, house):
    with open(house / "recognizer" / path, "a", encoding="utf-8") as file:
        file.write(f"\n\n{planted}\n")
    process = lint(house)
    assert (process.returncode == 0) == (broken is None), process.stdout + process.stderr
    assert broken is None or re.search(rf"^{broken}.* BROKEN$", process.stdout, re.MULTILINE), process.stdout


def test_environment_variables_are_set_in_one_file():
    setting = re.compile(r"os\.environ(\[[^\]]*\] =|\.(setdefault|update|pop|clear)\b)|os\.putenv")
    files = {path.relative_to(ROOT) for path in FILES if setting.search(path.read_text("utf-8"))}
    assert {path.as_posix() for path in files if path.parts[0] != "tests"} == {"recognizer/base/environment.py"}
