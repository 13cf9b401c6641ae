"""Names that a user types, numbers and durations as a user reads them."""

import difflib
import textwrap

from recognizer.base.errors import LONGEST_LINE, UserError


def choose(kind, name, valid):
    """Returns `name` if it is one of `valid`.

    Raises UserError otherwise, with the closest name and the list of all. kind: what is named, for that line.

    >>> choose("recipe", "grenhol", ["grenholm", "deotte"])
    Traceback (most recent call last):
    recognizer.base.errors.UserError: no recipe 'grenhol'; did you mean 'grenholm'? There are: deotte, grenholm
    """
    if name in list(valid):  # a list, since a name read from a file may not be hashable
        return name
    same = {letters(key): key for key in valid}
    close = difflib.get_close_matches(letters(name)[:60], list(same), n=1)
    hint = f"; did you mean {same[close[0]]!r}?" if close else "."
    line = f"no {kind} {name!r:.60}{hint} There are: {', '.join(sorted(valid)) or 'none'}"
    raise UserError(textwrap.shorten(line, LONGEST_LINE, placeholder=" ..."))


def choose_name(kind, name, valid):
    """Like `choose`, for names in which `-` and `_` are the same. Returns the name as it is in `valid`.

    >>> choose_name("recipe", "vgg_dropout", ["vgg", "vgg-dropout"])
    'vgg-dropout'
    """
    same = {hyphens(key): key for key in valid}
    return choose(kind, name if name in list(valid) else same.get(hyphens(name), name), valid)


def hyphens(name):
    """Returns the name of a recipe or an architecture as it is shown, with `-` for `_`."""
    return str(name).replace("_", "-")


def letters(name):
    """Returns the name of one of Keras's classes without case, `-` and `_`, which a user may write in many ways."""
    return str(name).lower().replace("-", "").replace("_", "")


def plural(n, noun):
    """Returns a count as text: '1 net', '1,200 nets'."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def duration(seconds):
    """Returns seconds as text: '8 s', '3 min 20 s', '2 h 5 min'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
