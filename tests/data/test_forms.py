"""Digits in every form in which people have them are read as the same digits, or refused in a line."""

import pytest
from form_files import WRITERS

from recognizer.data import sources
from recognizer.data.arrays import Digits, Images

pytestmark = pytest.mark.usefixtures("alone")
SMALL = 30  # images of each part; all of them in a slow test


def some(digits, n):
    return Digits(*(Images(one.x[:n], one.y[:n], "") for one in (digits.train, digits.test)), "")


def read_again(path):
    sources.load.cache_clear()
    found = sources.load(str(path))
    return found.train, found.test, sources.load_test(str(path))


@pytest.mark.parametrize("form", WRITERS)
def test_each_form_gives_the_same_digits(form, digits, tmp_path):
    small = some(digits, SMALL)
    (tmp_path / "set").mkdir()
    path = WRITERS[form](tmp_path / "set", small)
    for _ in range(2):  # then from the cache
        train, test, alone = read_again(path)
        assert train.fingerprint() == small.train.fingerprint()
        assert test.fingerprint() == small.test.fingerprint()
        assert alone.fingerprint() == (small.train if "one " in form else small.test).fingerprint()


@pytest.mark.slow
@pytest.mark.parametrize("form", WRITERS)
def test_each_form_gives_the_known_fingerprints(form, digits, tmp_path):
    (tmp_path / "set").mkdir()
    train, test, _ = read_again(WRITERS[form](tmp_path / "set", digits))
    assert (train.fingerprint(), test.fingerprint()) == ("36b08b006d381f2c", "ff976135b7c5ef58")
