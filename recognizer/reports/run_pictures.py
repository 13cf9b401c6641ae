from recognizer.base.files import read_json, read_rows
from recognizer.reports import charts
from recognizer.runs import run_folder
from recognizer.runs.predictions import mean_of_test, out_of_bag, read_predictions


def run_pictures(folder, digits):
    """Draws a run's pictures into its folder, when all its nets are finished; returns their paths.

    digits: the run's dataset.Digits. The digits shown are the validation rows (of several nets: each row judged by the
    nets that did not train on it), or the test rows of a run that has no validation split.
    """
    from recognizer.nn import saved_net

    config = run_folder.read_config(folder)
    numbers = range(1, config["nets"] + 1)

    def of_nets(suffix, read):
        return [read(run_folder.net_file(folder, net, suffix)) for net in numbers]

    figures = {"curves": charts.curves(of_nets(".csv", read_rows), folder.name)}
    figures["steps"] = charts.steps(of_nets(".steps.csv", read_rows), folder.name)
    first = saved_net.read_net(run_folder.net_file(folder, 1, ".keras"))
    figures["layers"] = charts.layers(first, folder.name + ", net 1" * bool(config["members"]))
    results = of_nets(".json", read_json)
    if len(results) > 1 and (found := charts.accuracies(folder.name, results)):
        figures["spread"] = charts.spread(found)
    judged = judged_digits(folder, config, digits)
    if judged:
        x, y, probabilities, part = judged
        title = f"{folder.name}: {part} digits"
        figures["confusion"] = charts.confusion_matrix(y, probabilities.argmax(1), title)
        figures["mistakes"] = charts.mistakes(x, y, probabilities, title)
        figures["calibration"] = charts.calibration(y, probabilities, title)
        figures["hardest"], figures["hardest-answers"] = charts.hardest(x, y, probabilities, title)
    return [charts.save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def to_tensorboard(folder, pictures):
    """Writes a run's pictures (paths of PNGs) and its first net's graph where TensorBoard finds its curves.

    On another backend than TensorFlow there is no graph.
    """
    import keras
    import tensorflow as tf

    from recognizer.nn import saved_net

    with tf.summary.create_file_writer(str(folder / "tensorboard")).as_default():
        if keras.backend.backend() == "tensorflow":
            net = saved_net.read_net(run_folder.net_file(folder, 1, ".keras"))
            tf.summary.graph(tf.function(net).get_concrete_function(tf.TensorSpec((None, 28, 28, 1))).graph)
        for path in pictures:
            tf.summary.image(path.stem, tf.io.decode_png(path.read_bytes(), channels=3)[None], step=0)


def judged_digits(folder, config, digits):
    """(images, labels, mean probabilities, "validation" or "test") of a run; None where it has no labelled ones."""
    train, test, numbers = digits.train, digits.test, range(1, config["nets"] + 1)
    predictions = read_predictions(folder / "predictions.npz", digits)
    rows, probabilities = out_of_bag(predictions, len(train.y), numbers)
    if len(rows):
        return train.x[rows], train.y[rows], probabilities, "validation"
    if test is not None and test.y is not None:
        return test.x, test.y, mean_of_test(predictions, numbers), "test"
    return None
