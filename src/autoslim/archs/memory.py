"""Refuse networks that would not fit into memory before they are built, where it can be known."""

from __future__ import annotations

import inspect
import os
from typing import Any

import keras
import numpy as np

from autoslim.archs.target import build
from autoslim.errors import AutoslimError
from autoslim.importing import function_at

WIDTHS = ("width", "widen")
"""Arguments in which the number of a network's parameters is a polynomial of second degree."""
FAR = 8  # times its default: from there on a width is looked at
COPIES = 3  # of the weights that training holds at least: themselves, gradients, the optimizer's


def memory_bytes() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def refuse_beyond_memory(parameters: float, asked: str) -> None:
    """Refuse a network of this many parameters where training could not hold them.

    Args:
        parameters: how many, about.
        asked: what makes the network so large, such as "arch.width=4096".

    Raises:
        AutoslimError: with the amounts.
    """
    needed, there = 4 * COPIES * parameters, memory_bytes()
    if needed > there:
        raise AutoslimError(
            f"{asked}: the network would have about {parameters / 1e9:,.3g} billion parameters. With "
            f"gradients and the optimizer's values they take {needed / 2**30:,.3g} GiB; this machine has "
            f"{there / 2**30:,.3g} GiB of memory. Ask for less."
        )


def refuse_too_wide(target: str, shape: Any, classes: Any, classifies: bool, args: dict[str, Any]) -> None:
    """Refuse a width far beyond the default of the network's function, if memory could not hold the network.

    Its parameters are known from three narrow networks. Arguments as of `archs.build`.

    Raises:
        AutoslimError: as `refuse_beyond_memory`.
    """
    for name in WIDTHS:
        value = args.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        known = inspect.signature(function_at(target, "arch._target_", "a model")).parameters
        usual = known[name].default if name in known else None
        if not isinstance(usual, int | float) or not 0 < FAR * usual < value:
            continue
        kind, counts = type(usual), []
        narrow = [kind(usual * ratio) for ratio in (1, 2, 3)]
        try:
            for width in narrow:
                model = build(target, shape, classes, classifies, **{**args, name: width})
                counts.append(model.count_params())
                keras.utils.clear_session()
        except AutoslimError:  # a function that does not take every width: nothing is known
            continue
        parameters = float(np.polyval(np.polyfit(narrow, counts, 2), value))
        refuse_beyond_memory(parameters, f"arch.{name}={value:g}")
