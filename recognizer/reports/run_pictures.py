"""The pictures of a run by name. OF_NETS are about the training of its nets, OF_DIGITS about their predictions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from recognizer.base.errors import UserError
from recognizer.base.files import read_rows
from recognizer.config import members
from recognizer.data.arrays import Digits
from recognizer.reports import charts
from recognizer.runs import run_folder
from recognizer.runs.predictions import Labelled, labelled_predictions


def curves(folder: Path, config: dict) -> Figure:
    """Draws loss, accuracy and learning rate by epoch."""
    results = run_folder.net_results(folder, config)
    logs, steps = _rows(folder, config, ".csv"), _rows(folder, config, ".steps.csv")
    finals = [
        (net.get("weights_epoch") or len(log), net["validation_accuracy"])
        for net, log in zip(results, logs, strict=True)
        if "validation_accuracy" in net
    ]
    return charts.curves(logs, steps, finals, folder.name, f"validation{validation_note(config)}")


def validation_note(config: dict) -> str:
    """Returns how validation during training differs from that of the saved net, as ", before ...", or ""."""
    changes = ["batch-norm statistics are recomputed"] * any(kind["update_bn"] for kind in members.kinds(config))
    changes += ["weights are averaged"] * (config["weights"] == "averaged")
    return f", before {' and '.join(changes)}" if changes else ""


def steps(folder: Path, config: dict) -> Figure:
    """Draws loss and learning rate by step."""
    return charts.steps(_rows(folder, config, ".steps.csv"), folder.name)


def layers(folder: Path, config: dict) -> Figure:
    """Draws the layers of the run's first net, and their parameters."""
    from recognizer.nn import saved_net

    model = saved_net.read_net(run_folder.net_file(folder, 1, ".keras"))
    return charts.layers(model, folder.name + ", net 1" * bool(config["members"]))


def spread(*folders: Path) -> Figure:
    """Draws the accuracy of each net of one or more runs, on validation rows if a run has any, else on the test set.

    Raises UserError if a run has no accuracies.
    """
    groups = {}
    for folder in folders:
        results = run_folder.net_results(folder, run_folder.read_config(folder))
        parts = [part for part in ("validation", "test") if f"{part}_accuracy" in results[0]]
        if not parts:
            raise UserError(f"run {folder.name!r} has no net with an accuracy")
        groups[f"{folder.name}, {parts[0]}"] = [net[f"{parts[0]}_accuracy"] for net in results]
    return charts.spread(groups)


def _rows(folder, config, suffix):
    paths = [run_folder.net_file(folder, net, suffix) for net in run_folder.net_numbers(config)]
    return [read_rows(path, *COLUMNS[suffix]) for path in paths]


# The columns of net-NN.csv and net-NN.steps.csv that pictures need.
COLUMNS = {".csv": ("epoch", "loss", "accuracy"), ".steps.csv": run_folder.STEP_COLUMNS}

Charts = dict[str, Callable[..., Figure]]  # by name
OF_NETS: Charts = {  # functions of (folder, config)
    "curves": curves,
    "steps": steps,
    "layers": layers,
    "spread": lambda folder, config: spread(folder),
}
OF_DIGITS: Charts = {  # functions of a result of predicted_digits
    "confusion": lambda part, title, **options: charts.confusion_matrix(
        part.y, part.probabilities.argmax(1), title, **options
    ),
    "mistakes": lambda part, title: charts.mistakes(part.x, part.y, part.probabilities, part.rows, title),
    "calibration": lambda part, title: charts.calibration(part.y, part.probabilities, title),
    "hardest": lambda part, title: charts.hardest(part.x, part.y, part.probabilities, title),
    "hardest-answers": lambda part, title: charts.hardest(part.x, part.y, part.probabilities, title, answers=True),
}


def run_pictures(folder: Path, digits: Digits | None, result: dict) -> list[Path]:
    """Draws all pictures of a run, and returns their paths. Its nets must be trained and gathered.

    digits: the run's Digits; None skips the pictures of digits. result: from gathered.gather.
    """
    config = run_folder.read_config(folder)
    measured = "validation_accuracy", "test_accuracy"
    several = config["nets"] > 1 and any(key in run_folder.net_results(folder, config)[0] for key in measured)
    figures = {name: draw(folder, config) for name, draw in OF_NETS.items() if name != "spread" or several}
    if digits and (predicted := predicted_digits(folder, config, digits, result)):
        figures |= {name: draw(*predicted) for name, draw in OF_DIGITS.items()}
    return [charts.save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def run_picture(name: str, folder: Path, **options: Any) -> Figure:
    """Returns the figure `name` of a finished run. options: keyword arguments for its function, such as in_percent.

    Raises UserError if the picture needs labelled digits, and the run has none or they cannot be read.
    """
    config = run_folder.read_config(folder)
    if name in OF_NETS:
        return OF_NETS[name](folder, config)
    result = run_folder.read_result(folder / "result.json")
    predicted = predicted_digits(folder, config, run_folder.load_data(folder, config), result)
    if predicted is None:
        raise UserError(f"run {folder.name!r} has neither validation rows nor a labelled test set to draw {name} from")
    return OF_DIGITS[name](*predicted, **options)


def predicted_digits(folder: Path, config: dict, digits: Digits, result: dict) -> tuple[Labelled, str] | None:
    """Returns (the first of `labelled_predictions`, a title), or None if a run has no labelled predictions."""
    parts = labelled_predictions(folder, config, digits, result)
    return (parts[0], f"{folder.name}: {parts[0].part} digits") if parts else None


def to_tensorboard(folder: Path, pictures: list[Path]) -> None:
    """Writes pictures (list of PNG paths) and, on TensorFlow, the graph of a run's first net, for TensorBoard."""
    import keras
    import tensorflow as tf

    from recognizer.nn import saved_net

    with tf.summary.create_file_writer(str(folder / "tensorboard")).as_default():
        if keras.backend.backend() == "tensorflow":
            model = saved_net.read_net(run_folder.net_file(folder, 1, ".keras"))
            tf.summary.graph(tf.function(model).get_concrete_function(tf.TensorSpec((None, 28, 28, 1))).graph)
        for path in pictures:
            tf.summary.image(path.stem, tf.io.decode_png(path.read_bytes(), channels=3)[None], step=0)
