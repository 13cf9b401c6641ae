"""Shows which digits train.py finds here, or downloads Kaggle's.

    python -m recognizer data                  what `auto` finds here
    python -m recognizer data --data kaggle    read and check another SOURCE
    python -m recognizer data fetch            download Kaggle's files into data/ by Kaggle's own client

It prints where the labelled and the test images come from, how many there are, and a fingerprint of their content.
"""

from recognizer.base import cli
from recognizer.data import competition, places, sources

SOURCE = sources.__doc__.partition("\n\n")[2]  # what --data takes, here and in train.py


def parser() -> cli.Parser:
    p = cli.Parser(prog="python -m recognizer data", description=f"{__doc__}\n{SOURCE}")
    p.add_argument("command", nargs="?", choices=("fetch",), help="fetch: download Kaggle's files into data/")
    p.add_argument("--data", default="auto", metavar="SOURCE", help="which digits to show (default: auto)")
    return p


def main(argv: list[str] | None = None) -> None:
    arguments = parser().parse_args(argv)
    if arguments.command == "fetch":
        print(f"Downloaded {competition.fetch(places.DATA)}. Next: python train.py --data kaggle")
        return
    digits = sources.load(arguments.data)
    for images, what in ((digits.train, "labelled"), (digits.test, "test")):
        if images is not None:
            without = "" if images.y is not None or what == "labelled" else ", without labels"
            print(f"{what}: {len(images.x):,} images of {images.origin}{without}, fingerprint {images.fingerprint()}")
    if digits.hint:
        print(digits.hint)
