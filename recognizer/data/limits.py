"""Limits of reading. Larger files, images and sets are refused.

FOLDER_ENTRIES and FILES are limits of unused.py, which ignores further files.
"""

FILE_BYTES = 512 * 2**20  # of one file, decompressed; Kaggle's train.csv has 77 million
HEADER_BYTES = 2**16  # of a CSV's first line
IMAGE_PIXELS = 2**26  # of an image file, up to 256 MB when decoded; half as many if a pixel has 16 bits or more
JPEG_PIXELS = 2**28  # of a JPEG, which is scaled down while it is read
FOLDER_ENTRIES = 1000  # of one folder
FILES = 10_000  # of a folder and its subfolders
SET_FILES = 500_000  # of a folder or an archive that --data names
