"""Checks names that a user types, and formats numbers and durations as text."""

import difflib
import re
import textwrap
from collections.abc import Collection

from recognizer.base.errors import LONGEST_LINE, UserError

SHORT = {"lr": "learning_rate", "bs": "batch_size", "warmup": "warmup_epochs"}  # names in other people's scripts


def choose(kind: str, name: object, valid: Collection[str]) -> str:
    """Returns `name` if it is in `valid`.

    Otherwise raises UserError with the closest valid name and a list of all. kind: what `name` names, for the message.

    >>> choose("recipe", "grenhol", ["grenholm", "deotte"])
    Traceback (most recent call last):
    recognizer.base.errors.UserError: no recipe 'grenhol'; did you mean 'grenholm'? There are: deotte, grenholm
    """
    if name in list(valid):  # a list, since a name read from a file may not be hashable
        return name
    close = closest(name, valid)
    hint = f"; did you mean {close!r}?" if close else "."
    line = f"no {kind} {name!r:.60}{hint} There are: {', '.join(sorted(valid)) or 'none'}"
    raise UserError(textwrap.shorten(line, LONGEST_LINE, placeholder=" ..."))


def closest(name: object, valid: Collection[str], cutoff: float = 0.6) -> str:
    """Returns the valid name that is most similar to `name`.

    If none has a similarity of `cutoff` or more, returns the valid name that begins with `name`. Returns "" if there
    are several such names or none, or if `name` has fewer than three letters.
    """
    name = SHORT.get(letters(name), name)
    same = {letters(key): key for key in valid}
    close = difflib.get_close_matches(letters(name)[:60], list(same), n=1, cutoff=cutoff)
    begun = [key for key in same if key.startswith(letters(name)) and len(letters(name)) > 2]
    return same[close[0]] if close else same[begun[0]] if len(begun) == 1 else ""


def choose_name(kind: str, name: object, valid: Collection[str]) -> str:
    """Like `choose`, but treats `-` and `_` as the same. Returns the name as spelled in `valid`.

    >>> choose_name("recipe", "vgg_dropout", ["vgg", "vgg-dropout"])
    'vgg-dropout'
    """
    same = {hyphens(key): key for key in valid}
    return choose(kind, name if name in list(valid) else same.get(hyphens(name), name), valid)


def hyphens(name: object) -> str:
    """Returns the displayed name of a recipe or an architecture, with `-` for `_`."""
    return str(name).replace("_", "-")


def letters(name: object) -> str:
    """Returns a name in lower case, without `-` and `_`, to compare the spellings that users write."""
    return str(name).lower().replace("-", "").replace("_", "")


def decimal_comma(text: str) -> str:
    """Returns "decimals take a point: 0.5, not 0,5" if the text is a number with a decimal comma, else ""."""
    wrong = re.fullmatch(r"[+-]?\d*,\d+([eE][+-]?\d+)?", text)
    return f"decimals take a point: {text.replace(',', '.')}, not {text}" if wrong else ""


def listed(parts: list[str]) -> str:
    """Returns parts as text: 'a', 'a, and b', 'a, b, and c'."""
    return ", ".join([*parts[:-1], f"and {parts[-1]}"]) if len(parts) > 1 else "".join(parts)


def plural(n: int, noun: str) -> str:
    """Returns a count as text: '1 net', '1,200 nets'."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def duration(seconds: float) -> str:
    """Returns seconds as text: '8 s', '3 min 20 s', '2 h 5 min'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
