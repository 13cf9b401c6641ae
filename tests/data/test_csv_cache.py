"""A parsed CSV is cached until the CSV changes, in a folder that can be written."""

import os

import numpy as np
import pytest
from conftest import write_csv
from kaggle_files import assert_same

from recognizer.data import sources

pytestmark = pytest.mark.usefixtures("alone")


def test_a_cache_is_used_only_while_its_source_is_unchanged(kaggle_folder, digits):
    sources.load(str(kaggle_folder))
    cache = kaggle_folder / ".train.csv.cache.npz"
    assert cache.is_file()
    before = os.stat(kaggle_folder / "train.csv")
    write_csv(kaggle_folder / "train.csv", digits.train.x[:40], (digits.train.y[:40] + 1) % 10)
    os.utime(kaggle_folder / "train.csv", ns=(before.st_atime_ns, before.st_mtime_ns))
    sources.load.cache_clear()
    np.testing.assert_array_equal(sources.load(str(kaggle_folder)).train.y, (digits.train.y[:40] + 1) % 10)
    cache.write_bytes(cache.read_bytes()[:1000])
    sources.load.cache_clear()
    assert len(sources.load(str(kaggle_folder)).train.x) == 40


def test_the_cache_goes_to_the_users_folder_where_the_source_is_read_only(kaggle_folder, digits, tmp_path):
    kaggle_folder.chmod(0o555)
    try:
        assert_same(sources.load(str(kaggle_folder)), digits)
        assert sorted(p.name for p in kaggle_folder.iterdir()) == ["test.csv", "train.csv"]
        assert len(list((tmp_path / "cache" / "digit-recognizer").glob("*.npz"))) == 2
        sources.load.cache_clear()
        assert_same(sources.load(str(kaggle_folder)), digits)
    finally:
        kaggle_folder.chmod(0o755)
