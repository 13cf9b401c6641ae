"""python -m recognizer COMMAND: arguments and printed lines."""
