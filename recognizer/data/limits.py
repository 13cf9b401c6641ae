"""How much is read at most: larger files and images are refused, further files in a folder are not looked at."""

FILE_BYTES = 512 * 2**20  # of one file, decompressed; Kaggle's train.csv has 77 million
HEADER_BYTES = 2**16  # of a CSV's first line
IMAGE_PIXELS = 2**25  # of an image file other than JPEG, which takes 256 MB
FOLDER_ENTRIES = 1000  # of one folder
FILES = 10_000  # of a folder and all below it
SET_FILES = 500_000  # of a folder or an archive that --data names
