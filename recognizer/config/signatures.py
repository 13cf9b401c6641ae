"""The names of the arguments in models.py and augment.py, read as text, since importing them takes seconds."""

import ast

from recognizer.base import program


def architectures() -> dict[str, list[str]]:
    """Returns {function's name: names of its arguments} of the architectures in models.py."""
    return {
        node.name: [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        for node in _top_level("models.py")
        if isinstance(node, ast.FunctionDef) and "architecture" in map(ast.unparse, node.decorator_list)
    }


def augmentation() -> list[str]:
    """Returns the names of the augmentation settings."""
    (kind,) = (
        node for node in _top_level("augment.py") if isinstance(node, ast.ClassDef) and node.name == "Augmentation"
    )
    return [ast.unparse(field.target) for field in kind.body if isinstance(field, ast.AnnAssign)]


def _top_level(file):
    path = program.ROOT / file
    return ast.parse(path.read_bytes(), str(path)).body  # bytes: as Python itself reads its encoding
