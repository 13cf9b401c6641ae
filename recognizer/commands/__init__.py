"""python -m recognizer COMMAND: a file each, with arguments and printed lines."""
