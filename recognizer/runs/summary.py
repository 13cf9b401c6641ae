"""The lines that train.py prints about finished nets and a finished run."""

from recognizer.base.words import duration
from recognizer.runs import metrics

GUESSING = 0.2  # an accuracy; the most frequent digit is about a tenth of the rows


def net_line(result: dict, nets: int) -> str:
    """Returns a line on a net's result. nets: the number of nets in the run."""
    parts = [f"Net {result['net']}/{nets}:"]
    if "validation_accuracy" in result:
        parts.append(f"validation {result['validation_accuracy']:.2%} of {result['validation_rows']:,}")
    if "test_accuracy" in result:
        parts.append(f"test {result['test_accuracy']:.2%}")
    if "test_accuracy_augmented" in result:
        parts.append(f"augmented test {result['test_accuracy_augmented']:.2%}")
    if result.get("epochs", 0) < result.get("planned_epochs", 0):
        planned = f"epoch {result['epochs']} of {result['planned_epochs']}"
        parts.append(f"stopped after {planned}, best {result['weights_epoch']}")
    parts.append(f"{duration(result['seconds'])}, {result['images_per_second']:,.0f} images/s")
    return "  ".join(parts)


def guessing_line(result: dict, config: dict) -> str | None:
    """Returns advice on a net that is hardly better than guessing, or None. result: as in `net_line`."""
    accuracy = result.get("validation_accuracy", result.get("test_accuracy", 1))
    if accuracy >= GUESSING:
        return None
    command = f"python -m recognizer plot lr --recipe {config['recipe']} --model {config['model']}"
    needs = [f"a lower learning rate ({command} suggests one)", f"more steps than {result['steps']:,}"]
    if not config["update_bn"]:
        needs.append("with batch normalization, --set update_bn=50")
    return f"Net {result['net']} is hardly better than guessing. It may need {', or '.join(needs)}."


def accuracy_lines(result: dict) -> list[str]:
    """Returns the lines on a run's accuracies. result: from gathered.gather."""
    lines = []
    if "ensemble_validation" in result:
        part = result["ensemble_validation"]
        rows = f"{part['rows']:,} {'out-of-bag ' * part['out_of_bag']}rows"
        note = f"{part['coverage']:.0%} of the labelled ones" + f", {metrics.BIASED}" * result["chosen_on_validation"]
        lines.append(f"Validation accuracy: {part['accuracy']:.2%} on {rows} ({note})")
    if "ensemble_test" in result:
        part = result["ensemble_test"]
        several = ", all nets" * (result["nets"] > 1)
        lines.append(f"Test accuracy:       {part['accuracy']:.2%} on {part['rows']:,} rows{several}")
    why = "no labelled rows were held back (--validation-split 0.1 holds back 10 %), and there is no labelled test set"
    return lines or [f"Accuracy: not measured, since {why}"]
