"""Rules for valid values of settings. Each rule has a test, and words for the error message."""

from collections.abc import Callable
from typing import Any, NamedTuple

from recognizer.base.errors import UserError

LARGEST = 1e30  # float32 holds it, and results computed from it


class Rule(NamedTuple):
    """A rule for valid values.

    words: the text after "KEY must be" in a message. valid: returns whether a value is valid.
    """

    words: str
    valid: Callable[[Any], bool]

    def check(self, key: str, value: object) -> None:
        """Raises UserError, which names the setting `key`, if the value is not valid."""
        if not self.valid(value):
            raise UserError(f"{key} must be {self.words}, not {value!r:.60}")

    def __or__(self, other):
        return Rule(f"{self.words}, or {other.words}", lambda value: self.valid(value) or other.valid(value))


def number(low: float = 0, below: float = LARGEST, whole: bool = False) -> Rule:
    """Returns the rule low <= value < below for numbers. NaN, true and false are not valid."""
    kinds = int if whole else (int, float)
    limit = f" and below {below}" if below < LARGEST else ""
    return Rule(
        f"{'a whole' if whole else 'a'} number of {low} or more{limit}",
        lambda value: isinstance(value, kinds) and not isinstance(value, bool) and low <= value < below,
    )


def whole(low: int = 0, below: float = LARGEST) -> Rule:
    """Returns the rule low <= value < below for whole numbers."""
    return number(low, below, whole=True)


def one_of(*names: str) -> Rule:
    """Returns the rule for a string that is one of `names`."""
    return Rule(" or ".join(map(repr, names)), lambda value: isinstance(value, str) and value in names)


def list_of(rule: Rule, words: str) -> Rule:
    """Returns the rule for a list whose elements all follow `rule`."""
    return Rule(words, lambda value: isinstance(value, list) and all(map(rule.valid, value)))


NUMBER = Rule("a number", number(-LARGEST).valid)
FLAG = Rule("true or false", lambda value: isinstance(value, bool))
NULL = Rule("null", lambda value: value is None)
OBJECT = Rule("an object {NAME: VALUE, ...}", lambda value: isinstance(value, dict))
TEXT = Rule("a string", lambda value: isinstance(value, str))
