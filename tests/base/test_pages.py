"""The pages for readers: the files that they name exist, and the commands and examples that they show work."""

import importlib
import os
import re
import shlex

import pytest
from conftest import ROOT

import recipes
from recognizer.config import overrides

PAGES = ["CONTRIBUTING.md", "README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_a_page_names_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w-]+/[\w./-]*|[\w-]+\.(?:py|txt|md))`", text)) if page == "CONTRIBUTING.md" else set()
    named |= {os.path.join(os.path.dirname(page), path) for path in re.findall(r"\]\(([^):#]+)(?:#[^)]*)?\)", text)}
    assert named or page.startswith("docs/")
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def commands():
    """The command lines of the scripts in all pages' blocks, each once."""
    found = {}
    for page in PAGES:
        for block in re.findall(r"```\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL):
            for line in re.findall(r"(?m)^(?:\.venv/bin/)?python (train\.py.*|predict\.py.*|-m recognizer .*)$", block):
                found[line.partition(" #")[0].strip()] = None
    return list(found)


@pytest.mark.parametrize("line", commands())
def test_the_commands_on_the_pages_are_understood(line):
    name, *arguments = shlex.split(line.removeprefix("-m recognizer "))
    module = importlib.import_module(name.removesuffix(".py") if ".py" in name else f"recognizer.commands.{name}")
    if name in ("runs", "plot", "data") and arguments and arguments[0] in ("diff", "lr", "fetch"):
        pytest.skip("a command below a command reads its own arguments")
    module.parser().parse_args(arguments)


def architectures():
    """The source code of each architecture that README.md shows, by name."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    functions = [part for block in blocks for part in re.split(r"(?m)^(?=@architecture)", block)]
    return {name[1]: part for part in functions if (name := re.match(r"@architecture\ndef (\w+)", part))}


@pytest.mark.parametrize(("name", "kind"), [("mine", "Sequential"), ("mine_residual", "Functional")])
def test_the_architectures_in_the_readme_are_built(name, kind):
    import numpy as np

    import models

    space = vars(models) | {"architecture": lambda function: function}  # not registered for the other tests
    exec(architectures()[name], space)
    net = space[name]()
    assert type(net).__name__ == kind
    outputs = net.predict(np.zeros((2, 28, 28, 1), np.float32), verbose=0)
    np.testing.assert_allclose(outputs.sum(1), 1, rtol=1e-5)
    assert outputs.shape == (2, 10)


def test_the_recipe_in_the_readme_is_one(monkeypatch):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example = re.search(r'```\n( +"mine": dict\(.*?\n    \),)\n```', text, re.DOTALL)[1]
    own = eval(f"{{{example}}}", vars(recipes).copy())
    monkeypatch.setitem(recipes.RECIPES, "mine", own["mine"])
    config = overrides.resolve("mine")
    assert (config["model"], config["epochs"], config["schedule"]["name"]) == ("mine", 15, "CosineDecay")
