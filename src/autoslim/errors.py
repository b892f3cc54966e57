"""The one family of errors that autoslim raises, and what their messages are made of."""

import difflib
from collections.abc import Iterable


class AutoslimError(ValueError):
    """Bad input or a bad state on disk: the message says what came, what was expected, and the way out."""


def first_line(error: BaseException, most: int = 200) -> str:
    """The first line of an error's text, cut after that many characters; its type where it has no text.

    >>> first_line(ValueError("\\ntwo\\nlines")), first_line(KeyError())
    ('two', 'KeyError')
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:most]


def either(names: Iterable[str]) -> str:
    """Names as alternatives.

    >>> either(["flops", "params", "memory"]), either(["flops"])
    ('flops, params or memory', 'flops')
    """
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def near(word: str, options: Iterable[str]) -> str:
    """A sentence that names the options closest to ``word``, or nothing.

    Options that end in the same part after the last dot come first (``epochs`` -> ``baseline.epochs``).

    >>> near("slim.tagret", ["slim.target", "seed"])
    ' Did you mean slim.target?'
    >>> near("zzz", ["seed"])
    ''
    """
    names = [name for name in options if not word.startswith(name + ".")]
    last = {name: name.rpartition(".")[2] for name in names}
    tail = word.rpartition(".")[2]
    found = difflib.get_close_matches(word, names, n=1, cutoff=0.75)
    found = found or [name for name in names if last[name] == tail]
    if not found:
        close = difflib.get_close_matches(tail, last.values(), n=1)
        found = [name for name in names if close and last[name] == close[0]]
    return f" Did you mean {' or '.join(found[:4])}?" if found else ""
