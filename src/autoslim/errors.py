"""The one family of errors that autoslim raises."""


class AutoslimError(ValueError):
    """Bad input or a bad state on disk: the message says what came, what was expected, and the way out."""


def first_line(error: BaseException, most: int = 200) -> str:
    """The first line of an error's text, at most so many characters; its type where it has no text.

    >>> first_line(ValueError("\\ntwo\\nlines")), first_line(KeyError())
    ('two', 'KeyError')
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:most]
