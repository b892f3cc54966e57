"""What a task, or anything that holds functions, is: the same words in every process."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import types
from collections.abc import Mapping
from typing import Any

import numpy as np


def identity(value: Any, within: tuple[int, ...] = ()) -> Any:
    """A description of a value that can be written as JSON, and does not depend on where in memory it lies.

    Functions are told by their dotted names and by what they close over, Keras's objects by their
    configurations, arrays by their content, other objects by their classes and plain attributes.

    >>> identity({"loss": len, "weights": (1, 2.5)})
    {'loss': 'builtins.len', 'weights': [1, 2.5]}

    Args:
        value: anything.
        within: of values that hold this one, what `id` gives: a function may hold itself.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if id(value) in within:
        return "itself"
    part = functools.partial(identity, within=(*within, id(value)))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"is": _name(type(value))} | {f.name: part(getattr(value, f.name)) for f in _fields(value)}
    if isinstance(value, Mapping):
        return {str(key): part(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [
            part(one) for one in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)
        ]
    if isinstance(value, np.ndarray | np.generic):
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    return _of_function(value, part) or _of_object(value, part)


def _of_function(value: Any, part: Any) -> Any:
    if isinstance(value, functools.partial):
        return {"is": part(value.func), "args": part(value.args), "keywords": part(value.keywords)}
    if isinstance(value, types.MethodType):
        return {"is": part(value.__func__), "of": part(value.__self__)}
    value = getattr(value, "python_function", value)  # of a tf.function
    if not isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return None
    cells = [_content(cell) for cell in getattr(value, "__closure__", None) or ()]
    return {"is": _name(value), "over": part(cells)} if cells else _name(value)


def _of_object(value: Any, part: Any) -> Any:
    found, held = {"is": _name(type(value))}, getattr(value, "__dict__", {})
    plain = bool | int | float | str | np.ndarray
    if not callable(getattr(value, "get_config", None)):
        return found | {key: part(v) for key, v in held.items() if isinstance(v, plain)}
    # of Keras's losses some arguments stand in a dict alone, and not in the configuration: Huber's delta
    dicts = {
        key: part(v)
        for key, v in held.items()
        if type(v) is dict and all(one is None or isinstance(one, plain) for one in v.values())
    }
    return found | {"config": part(value.get_config())} | dicts


def _fields(value: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(value)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"
