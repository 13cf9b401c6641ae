"""Captions of a run's pictures by name, for `plot --help` and the report."""

CAPTIONS = {  # in the order of the report
    "curves": "loss, accuracy and learning rate by epoch",
    "steps": "loss and learning rate by step",
    "spread": "the accuracy of each net",
    "confusion": "how often each label was predicted as each digit (confusion matrix)",
    "mistakes": "the misclassified digits, the most confident mistakes first",
    "calibration": "how often predictions are right, by their probability",
    "layers": "layers and parameters",
}
QUIZ = {
    "hardest": "the digits whose true label gets the lowest probability, as a quiz",
    "hardest-answers": "the hardest digits, with their labels",
}
