"""The one family of errors that autoslim raises."""


class AutoslimError(ValueError):
    """Bad input or a bad state on disk: the message says what came, what was expected, and the way out."""
