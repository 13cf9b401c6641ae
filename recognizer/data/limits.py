"""How much is read at most: larger files and images are refused, further files in a folder are not looked at."""

FILE_BYTES = 512 * 2**20  # of one file, decompressed; Kaggle's train.csv has 77 million
HEADER_BYTES = 2**16  # of a CSV's first line
IMAGE_PIXELS = 2**26  # of an image file, half as many of 16 bits and more: they take 256 MB
JPEG_PIXELS = 2**28  # of a JPEG, which is scaled down while it is read
FOLDER_ENTRIES = 1000  # of one folder
FILES = 10_000  # of a folder and all below it
SET_FILES = 500_000  # of a folder or an archive that --data names
