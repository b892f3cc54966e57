"""Fields with their documentation, and the checks of their values."""

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from autoslim.errors import AutoslimError, near


def key(default: Any, doc: str) -> Any:
    """A field with its one line of documentation (``metadata["doc"]``); mutable defaults are copied."""
    if isinstance(default, list | dict):
        kind = type(default)
        return field(default_factory=lambda: kind(default), metadata={"doc": doc})
    return field(default=default, metadata={"doc": doc})


def group(kind: Any, doc: str) -> Any:
    """A field that holds another config dataclass."""
    return field(default_factory=kind, metadata={"doc": doc})


def need(holds: bool, key: str, value: object, expected: str) -> None:
    """Refuse a value outside its range, naming the key."""
    if not holds:
        raise AutoslimError(f"{key}={value} is out of range: {expected}.")


def one_of(key: str, value: str, options: Sequence[str]) -> None:
    """Refuse a word that is not among the options, naming those that are."""
    if value not in options:
        raise AutoslimError(
            f"unknown {key} {value!r}.{near(value, options)} There are: {', '.join(options)}."
        )
