"""Functions of the user's own that a key names by their dotted path."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from autoslim.errors import AutoslimError


def function_at(path: str, key: str, returns: str) -> Callable[..., Any]:
    """The function at a dotted path, such as my.module.net.

    Args:
        path: of the function.
        key: that names it, for messages, such as "arch._target_".
        returns: what the function is expected to return, such as "a Keras functional model".

    Raises:
        AutoslimError: if the path is none, its module can't be imported, or it has no such function.
    """
    module_name, _, name = path.rpartition(".")
    if not module_name or not name:
        raise AutoslimError(
            f"{key}={path} is not a dotted path: expected module and function, such as my.module."
            f"{path.strip('.') or 'function'}."
        )
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's module may fail with anything
        raise AutoslimError(
            f"{key}={path}: cannot import {module_name} ({type(error).__name__}: {error}). "
            "Expected the dotted path of a function. Check its spelling, and that the folder that holds it "
            "is in PYTHONPATH."
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        found = "has no" if function is None else f"holds a {type(function).__name__}, not a function, as"
        own = [k for k, v in vars(module).items() if inspect.isfunction(v) and not k.startswith("_")]
        raise AutoslimError(
            f"{key}={path}: {module_name} {found} {name}. Expected a function that returns {returns}. "
            f"Functions there: {', '.join(sorted(own)) or 'none'}."
        )
    return function
