"""The mechanism of options: classes whose fields carry their line of documentation, range and unit.

An option class is a dataclass that derives from `Options`. Its objects check themselves when they are made,
from YAML files or in Python alike, and are what the functions that they belong to take. `gather` makes them
out of plain keyword arguments.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar, TypeVar

from autoslim.errors import AutoslimError, near

BEYOND = 2**63  # the first whole number that takes more than 64 bits

_WANTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a mapping",
}


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and one that fits into 64 bits if it is whole.

    >>> is_number(2**63 - 1), is_number(2**63), is_number(float("nan")), is_number(True)
    (True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < BEYOND if isinstance(value, int) else math.isfinite(value)


@dataclass(frozen=True)
class Check:
    """What one key may be. The bounds of a list hold for each of its entries."""

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    words: Sequence[str] | None = None  # the words there are
    length: int | None = None  # of a list
    holds: Callable[[Any], bool] | None = None  # whether a value is good, where bounds can't say it
    unit: str = ""  # what is counted or measured, such as "seconds" or "a share"
    expected: str = ""  # the range in words, where bounds and unit don't say it well

    def passes(self, value: Any) -> bool:
        """Whether the value, of the right type, is in range."""
        if isinstance(value, list) and (self.length not in (None, len(value))):
            return False
        entries = value if isinstance(value, list) else [value]
        in_range = all(self._in_range(entry) for entry in entries)
        return in_range and (self.holds is None or bool(self.holds(value)))

    def _in_range(self, value: Any) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return True
        return (
            is_number(value)
            and (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.below is None or value < self.below)
            and (self.most is None or value <= self.most)
        )

    def range(self, noun: str) -> str:
        """The range in words.

        >>> Check(above=0, most=1, unit="a share").range("a number"), Check(least=1).range("a whole number")
        ('a share in (0, 1]', 'a whole number of 1 or more')
        >>> Check(least=0, unit="seconds").range("a number")
        'seconds, 0 or more'
        """
        if self.expected:
            return self.expected
        noun = self.unit or noun
        low = self.above if self.above is not None else self.least
        high = self.below if self.below is not None else self.most
        if low is not None and high is not None:
            return f"{noun} in {'[('[self.least is None]}{low:g}, {high:g}{'])'[self.most is None]}"
        if low is not None:
            joint = ", " if self.unit else " of "
            return f"{noun} above {low:g}" if self.least is None else f"{noun}{joint}{low:g} or more"
        if high is not None:
            return f"{noun} below {high:g}" if self.most is None else f"{noun}, {high:g} or less"
        return noun


def key(default: Any, doc: str, *, affects_result: bool = True, **check: Any) -> Any:
    """A field of an option class.

    Args:
        default: its value where none is given; mutable ones are copied.
        doc: one line of documentation.
        affects_result: whether results depend on it; if so, it is in the hash that names a stage's folder.
        check: fields of `Check`: above, least, below, most, words, length, holds, unit, expected.
    """
    metadata = {"doc": doc, "check": Check(**check), "affects_result": affects_result}
    if isinstance(default, list | dict):
        kind = type(default)
        return field(default_factory=lambda: kind(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def group(kind: Any, doc: str) -> Any:
    """A field that holds another option class."""
    return field(default_factory=kind, metadata={"doc": doc})


@dataclass
class Options:
    """Base of the option classes: checks the type and the range of every `key` when an object is made.

    Raises:
        AutoslimError: for a value that does not fit, naming the key and what is expected.
    """

    section: ClassVar[str] = ""  # the key under which the object stands in the configuration; "": none

    def __post_init__(self) -> None:
        kinds = typing.get_type_hints(type(self))
        for item in dataclasses.fields(self):
            if "check" in item.metadata:
                setattr(self, item.name, self._checked(item, kinds[item.name]))

    def _checked(self, item: Any, kind: Any) -> Any:
        value, check = getattr(self, item.name), item.metadata["check"]
        alternatives = typing.get_args(kind) if _is_union(kind) else (kind,)
        if value is None and types.NoneType in alternatives:
            return value
        plain = next(one for one in alternatives if one is not types.NoneType)
        name = self.key_of(item.name)
        fits, value = _converted(value, plain)
        if fits and check.words is not None:
            for word in value if isinstance(value, list) else [value]:
                one_of(name, word, check.words)
        noun = _WANTED.get(typing.get_origin(plain) or plain, "a value")
        null = ", or null" if types.NoneType in alternatives and not check.expected else ""
        shown = _shown(value) if fits else repr(value)
        large = ", that fits into 64 bits" if _beyond(value) else ""
        need(fits and check.passes(value), name, shown, check.range(noun) + null + large)
        return value

    def key_of(self, name: str) -> str:
        """The full name of a key, as it is typed on the command line."""
        return f"{self.section}.{name}" if self.section else name

    def affecting_result(self) -> dict[str, Any]:
        """Name -> value of the keys that results depend on."""
        return {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if item.metadata.get("affects_result", True)
        }


_T = TypeVar("_T", bound=Options)


def gathered(kind: type[_T], given: Sequence[Options], keys: Mapping[str, Any]) -> _T:
    """An object of an option class, out of option objects and keyword arguments, which come first.

    An object of a class that shares a base with `kind` fills the keys that they share.

    >>> gathered(Options, [], {})
    Options()
    """
    own = {item.name for item in dataclasses.fields(kind)}
    values = {name: value for name, value in keys.items() if name in own}
    for one in given:
        if isinstance(one, kind):
            return dataclasses.replace(one, **values)
        if shared := _shared(one, kind):
            return kind(**{**{name: getattr(one, name) for name in shared}, **values})
    return kind(**values)


def gather(
    function: str, kinds: Sequence[type[Options]], given: Sequence[Options], keys: Mapping[str, Any]
) -> list[Any]:
    """One object of each option class, for a function that takes option objects and plain keyword arguments.

    A keyword goes into every class that has a key of that name.

    Args:
        function: its name, for messages.
        kinds: the classes.
        given: objects of them, or of classes that share keys with them; what is not given has its default.
        keys: key -> value, which come before those of the objects.

    Raises:
        AutoslimError: for a keyword that none of the classes has, or an object that fits none of them.
    """
    known = sorted({item.name for kind in kinds for item in dataclasses.fields(kind)})
    for name in keys:
        if name not in known:
            raise AutoslimError(
                f"{function}() has no option {name!r}.{near(name, known)} There are: {', '.join(known)}."
            )
    for one in given:
        if not any(isinstance(one, kind) or _shared(one, kind) for kind in kinds):
            names = ", ".join(kind.__name__ for kind in kinds)
            raise AutoslimError(f"{function}() takes no {type(one).__name__}: expected {names}.")
    return [gathered(kind, given, keys) for kind in kinds]


def _shared(one: Options, kind: type[Options]) -> list[str]:
    """The keys that an object has from the same base classes as `kind`."""
    bases = [base for base in type(one).__mro__ if base in kind.__mro__ and base not in (Options, object)]
    return list(dict.fromkeys(item.name for base in bases for item in dataclasses.fields(base)))


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


def _beyond(value: Any) -> bool:
    """Whether a whole number, or one in a list, takes more than 64 bits."""
    entries = value if isinstance(value, list) else [value]
    return any(isinstance(entry, int) and abs(entry) >= BEYOND for entry in entries)


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (types.UnionType, typing.Union)


def _shown(value: Any) -> str:
    """A value as it is typed; text only in quotes where blanks would hide."""
    if value is None:
        return "null"
    return repr(value) if isinstance(value, str) and not value.strip() else str(value)


def _converted(value: Any, kind: Any) -> tuple[bool, Any]:
    """Whether a value is of a kind, and the value as Python's own type of that kind."""
    if kind is Any:
        return True, value
    origin = typing.get_origin(kind)
    if origin is list:
        if not isinstance(value, list | tuple):
            return False, value
        pairs = [_converted(entry, typing.get_args(kind)[0]) for entry in value]
        return all(fits for fits, _ in pairs), [entry for _, entry in pairs]
    if origin is dict:
        return isinstance(value, Mapping), value
    if kind in (int, float):
        number = Integral if kind is int else Real
        if isinstance(value, bool) or not isinstance(value, number):
            return False, value
        try:
            return True, kind(value)
        except OverflowError:  # a whole number of hundreds of digits
            return False, value
    return isinstance(value, kind), value
