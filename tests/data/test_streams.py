"""Splits are scikit-learn's, and every use of random numbers has a stream of its own."""

import numpy as np

from recognizer.data import streams


def test_splits_are_scikit_learns_and_streams_never_meet():
    from sklearn.model_selection import train_test_split

    settings = {"seed": 0, "split_seed": 7, "bagging": False, "validation_split": 0.08}
    rows, held_out = streams.split_rows(settings, 1, 1000)
    expected = train_test_split(np.arange(1000), test_size=0.08, random_state=7)
    assert set(rows) == set(expected[0])
    assert set(held_out) == set(expected[1])
    seen = set()
    for purpose in streams.PURPOSES:
        for key in np.ndindex(3, 3, 3, 2):
            seen.add(streams.rng(purpose, *key).integers(2**63))
    assert len(seen) == len(streams.PURPOSES) * 54
