"""scikit-learn's 1,797 digits of 8x8 pixels, converted to MNIST's form."""

import numpy as np

from recognizer.data.arrays import Digits, Images
from recognizer.data.handwriting import mnist_form


def read() -> Digits:
    """Returns the Digits. The test set is a fixed fifth of them."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    small, labels = load_digits(return_X_y=True)
    x = np.stack([mnist_form(image.reshape(8, 8) * (255 / 16)) for image in small])
    y = labels.astype(np.uint8)
    train, test = train_test_split(np.arange(len(y)), test_size=0.2, random_state=0, stratify=y)
    return Digits(
        Images(x[train], y[train], f"scikit-learn's digits ({len(train):,} of {len(y):,})"),
        Images(x[test], y[test], "the fixed fifth of scikit-learn's digits"),
        "digits",
    )
