"""Searches for files that make a reader do anything else than return or raise UserError in a line.

    FUZZ_INPUTS=100000 python -m pytest tests -k in_a_line      a long search, with new inputs each time

The files are sound ones that have been edited.
"""

import os
import resource
import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recognizer.base.errors import UserError

INPUTS = int(os.environ.get("FUZZ_INPUTS", "2500"))
# Values that readers trip over: numbers past every limit, other types, names that mean something elsewhere.
ODD = [
    b"",
    b"-1",
    b"256",
    b"1e9",
    b"nan",
    b"99999999999999999999",
    b"\x00",
    b"\xff\xfe",
    b'"',
    b",",
    b"\n",
    b"\r",
    b"../x",
]
LIMIT = 2**19  # KiB, by which a search may raise the peak memory of this process


def edited(sample):
    """Copies of some bytes with a few places changed, doubled, cut out or cut short."""
    places = st.integers(0, len(sample))
    return st.lists(
        st.tuples(
            st.sampled_from(["set", "insert", "odd", "cut", "double", "end"]),
            places,
            st.binary(min_size=1, max_size=8),
            st.sampled_from(ODD),
            st.integers(1, 64),
        ),
        max_size=6,
    ).map(lambda edits: apply(sample, edits))


def apply(sample, edits):
    content = bytearray(sample)
    for kind, place, some, odd, n in edits:
        place = min(place, len(content))
        if kind == "set":
            content[place : place + len(some)] = some
        elif kind == "insert":
            content[place:place] = some
        elif kind == "odd":
            content[place : place + n % 4] = odd
        elif kind == "cut":
            del content[place : place + n]
        elif kind == "double":
            content[place:place] = content[place : place + n] * 3
        else:
            del content[place:]
    return bytes(content)


def any_json(keys):
    values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(keys)
    return st.recursive(
        values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=3)
    )


def search(content, read, share, tmp_path, name):
    """Gives `read` many files drawn from `content`, a strategy: each is read or refused in one line, within seconds."""
    path = tmp_path / name

    @settings(
        max_examples=max(10, round(INPUTS * share)),
        deadline=None,
        database=None,
        derandomize="FUZZ_INPUTS" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    @given(content)
    def check(content):
        path.write_bytes(content)
        started, told = time.monotonic(), ""
        try:
            read(path)
        except UserError as error:
            told = str(error)
        assert "\n" not in told
        assert time.monotonic() - started < 20

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < LIMIT
