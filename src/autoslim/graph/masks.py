"""Masks of steps: Keras hands them on with the tensors, and to the layers that take one."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from autoslim.graph.own_weights import attributes_of


def mask_of(x: Any) -> Any:
    """The mask that a tensor carries, bool [images, steps]; None: it has none."""
    return getattr(x, "_keras_mask", None)


def set_mask(x: Any, mask: Any) -> None:
    """Let a tensor carry a mask."""
    if mask is not None:
        x._keras_mask = mask


def masks_carried(op: Any, values: Sequence[Any]) -> list[tuple[int, Any]]:
    """(place, mask) of each value that carries one, where a layer is called with them."""
    if not isinstance(op, keras.Layer):
        return []
    return [(place, mask) for place, x in enumerate(values) if (mask := mask_of(x)) is not None]


@contextlib.contextmanager
def no_mask_warnings() -> Iterator[None]:
    """Without Keras's warnings of layers that don't hand a mask on: its author has seen them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Layer .* was passed an input with a mask attached", UserWarning)
        yield


class _Seen(Exception):
    """Ends a call once its arguments are known."""


def masks_taken(layer: keras.Layer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The masks that Keras hands to a layer beside its arguments, from those that the arguments carry.

    Args:
        layer: that is called.
        args: of the call, tensors being symbolic.
        kwargs: likewise.

    Returns:
        {name of an argument of the layer's `call`: a mask, or a structure of masks}.
    """
    found: dict[str, Any] = {}

    def see(*given: Any, **named: Any) -> Any:
        found.update(named)
        raise _Seen

    with attributes_of(layer, {"symbolic_call": see}), contextlib.suppress(_Seen):
        layer(*args, **kwargs)
    return {
        name: value
        for name, value in found.items()
        if (name == "mask" or name.endswith("_mask"))
        and kwargs.get(name) is None
        and any(isinstance(x, keras.KerasTensor) for x in keras.tree.flatten(value))
    }
