"""Random streams, one for each use, and the validation splits that are drawn from them."""

import numpy as np

from recognizer.base.errors import UserError

PURPOSES = ("split", "weights", "dropout", "order", "transform", "elastic", "test transform", "preview", "update_bn")


def rng(purpose: str, seed: int, net: int = 0, epoch: int = 0, step: int = 0) -> np.random.Generator:
    """Returns the numpy.random.Generator for (seed, net, epoch, step, purpose). purpose: one of PURPOSES.

    All random numbers come from such streams. seed, net, epoch and step are whole numbers below 2^32, so no
    two streams coincide.
    """
    entropy = [seed, net, epoch, step, PURPOSES.index(purpose)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def split_rows(config: dict, net: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (training rows, validation rows) of net number `net`, sorted int64 arrays. n: number of labelled rows.

    The split is that of scikit-learn's train_test_split. Raises UserError if there are too few rows to split.
    """
    from sklearn.model_selection import train_test_split

    share, state = config["validation_split"], config["split_seed"]
    if not share:
        return np.arange(n), np.arange(0)
    if state is None or config["bagging"]:
        bag = net if config["bagging"] else 0
        state = int(rng("split", config["seed"], bag).integers(2**32))
    try:
        train, validation = train_test_split(np.arange(n), test_size=share, random_state=state)
    except ValueError as error:
        raise UserError(f"{n} labelled rows cannot be split by {share}: {error}") from error
    return np.sort(train), np.sort(validation)
