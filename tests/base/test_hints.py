"""Public functions say which types they take and return; mypy, in `make lint`, checks that this is true."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "recognizer").rglob("*.py"))
FILES += ["train.py", "predict.py", "models.py", "augment.py"]


def public_functions(nodes):
    """Yields the functions and methods among some nodes whose names, and whose classes' names, have no underscore."""
    for node in nodes:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body)
        elif isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__init__"):
            yield node


def unhinted(function):
    """Returns what has no type hint: names of arguments, and "return"."""
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    missing = [a.arg for a in arguments if a and a.annotation is None and a.arg not in ("self", "cls")]
    return missing + ["return"] * (function.returns is None and function.name != "__init__")


@pytest.mark.parametrize("file", FILES)
def test_public_functions_have_type_hints(file):
    tree = ast.parse((ROOT / file).read_text())
    missing = {f"{f.name}, line {f.lineno}": unhinted(f) for f in public_functions(tree.body)}
    assert not {name: words for name, words in missing.items() if words}
