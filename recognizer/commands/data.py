"""Shows which digits train.py finds here, or downloads Kaggle's.

    python -m recognizer data                  what `auto` finds here
    python -m recognizer data --data kaggle    the digits of another SOURCE, checked
    python -m recognizer data fetch            download Kaggle's files into data/ by Kaggle's own client

SOURCE, here and for train.py, is one of
    auto      the first of: Kaggle's files, MNIST, digits
    kaggle    Kaggle's train.csv and test.csv, plain, gzipped, zipped or inside Kaggle's zip
    mnist     data/mnist.npz, Keras's cache of it, or Keras's download
    digits    the 1,797 digits of 8x8 pixels inside scikit-learn, in MNIST's form; a fixed fifth is the test set
    a path    a folder or zip as for kaggle, a labelled CSV, an mnist.npz, or a folder of image files with a
              train.csv of file names and labels (and a test.csv of file names)

Kaggle's files are searched for in data/; then in the folders and zips in it whose name contains "digit-recognizer"
("digit-recognizer (1).zip", or the zip unpacked, also one folder deeper); then where Kaggle mounts the competition:
/kaggle/input/competitions/digit-recognizer, /kaggle/input/digit-recognizer. A folder given as a path is searched like
data/. If `auto` takes other digits although data/ or /kaggle/input holds data files, it says why each is not used.
"""

from recognizer.base import cli


def parser():
    p = cli.Parser(prog="python -m recognizer data", description=__doc__)
    p.add_argument("command", nargs="?", choices=("fetch",), help="fetch: download Kaggle's files into data/")
    p.add_argument("--data", default="auto", metavar="SOURCE", help="which digits to show (default: auto)")
    return p


def main(argv=None):
    arguments = parser().parse_args(argv)
    from recognizer.data import competition, places, sources

    if arguments.command == "fetch":
        print(f"{competition.fetch(places.DATA)}: now python train.py --data kaggle")
        return
    digits = sources.load(arguments.data)
    for images, what in ((digits.train, "labelled"), (digits.test, "test")):
        if images is not None:
            print(f"{what}: {len(images.x):,} images of {images.origin}, fingerprint {images.fingerprint()}")
    if digits.hint:
        print(digits.hint)
