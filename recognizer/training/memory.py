"""Advice for the user if memory runs out."""

from pathlib import Path


def smaller_batches(settings: dict, folder: Path | None = None) -> str:
    """Returns the advice as the rest of a line. folder: the run's folder, if it exists already."""
    size, replicas = settings["batch_size"], settings["replicas"]
    half = size // 2 // replicas * replicas
    smaller = f"--batch-size {half} (it is {size})" if half else "a smaller net"
    close = "close other programs that use this machine's memory or its GPU's"
    if folder is None:
        return f"try {smaller}, or {close}"
    return f"{close}, and go on with python train.py --run {folder.name} --resume; or start a new run with {smaller}"
