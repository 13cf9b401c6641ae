"""Draws the floors (layers) of recognizer/ and how many imports go from each to lower ones: docs/pictures/floors.svg.

python docs/floors.py            draw it
python docs/floors.py --check    exit code 1 if the picture does not show the imports of today
"""

import argparse
import ast
import collections
import sys
import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "pictures" / "floors.svg"
WIDTH, HEIGHT, GAP = 570, 40, 16  # of a floor's box, and between two of them, in pixels


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--check", action="store_true", help="compare the picture with the imports, write nothing")
    check = p.parse_args().check
    picture = draw(floors(), imports())
    if not check:
        PICTURE.write_text(picture, encoding="utf-8")
    elif PICTURE.read_text(encoding="utf-8") != picture:
        sys.exit("docs/pictures/floors.svg does not show the imports of today: make floors")


def floors():
    """Returns {floor: its docstring} from the top down, in the order of import-linter's contract."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    names = [name for name in settings["contracts"][0]["layers"] if not name.startswith("(")]  # (name): optional
    files = {name: ROOT / "recognizer" / name / "__init__.py" for name in names}
    return {name: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for name, path in files.items()}


def imports():
    """Returns {(floor, floor that it imports from): number of pairs of modules}."""
    sys.path.insert(0, str(ROOT))
    graph = grimp.build_graph("recognizer", cache_dir=None)
    floor = {module: module.split(".")[1] for module in graph.modules if module.count(".") > 1}
    pairs = (
        (floor[importer], floor[imported])
        for importer in floor
        for imported in graph.find_modules_directly_imported_by(importer) & floor.keys()
    )
    return collections.Counter((upper, lower) for upper, lower in pairs if upper != lower)


def draw(holds, numbers):
    """Returns the SVG: a box for each floor, and an arc with its number for each pair of floors."""
    step = HEIGHT + GAP
    middle = {name: 8 + HEIGHT / 2 + i * step for i, name in enumerate(holds)}
    parts = []
    for name, y in middle.items():
        parts += [
            f'<rect x="8" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#dce9f7"/>',
            f'<text x="20" y="{y + 5:g}"><tspan font-weight="bold">{name}</tspan></text>',
            f'<text x="116" y="{y + 5:g}" class="holds">{holds[name] or ""}</text>',
        ]
    for (upper, lower), number in sorted(numbers.items()):
        start, end, right = middle[upper] + 6, middle[lower] - 6, WIDTH + 8
        bend = right + 0.62 * (end - start)
        curve = f"M{right} {start:g} C{bend:g} {start:g} {bend:g} {end:g} {right} {end:g}"
        parts += [
            f'<path d="{curve}" stroke-width="{0.6 + number / 8:g}" marker-end="url(#arrow)"/>',
            f'<text x="{right + 0.75 * (bend - right):g}" y="{(start + end) / 2 + 4:g}" class="n">{number}</text>',
        ]
    size = f'width="{WIDTH + 250}" height="{len(holds) * step + 8}"'
    style = (
        "text { font: 14px sans-serif } path { fill: none; stroke: #4878a8; stroke-opacity: .6 } "
        ".n, .holds { font-size: 12px } "
        ".n { text-anchor: middle; stroke: white; stroke-width: 4px; paint-order: stroke }"
    )
    arrow = (
        '<marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto" '
        'markerUnits="userSpaceOnUse"><path d="M0 0 L8 4 L0 8 z" style="fill: #4878a8; stroke: none"/></marker>'
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{style}</style><defs>{arrow}</defs>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>", ""])


if __name__ == "__main__":
    main()
