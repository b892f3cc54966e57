"""What is the same for every image in a network that was traced: zeros, places in a table, a table's rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from autoslim.graph.own_weights import Weight


def known_value(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], known: Mapping[int, Any]) -> Any:
    """What an operation returns, where that is known; else None.

    It is known of `zeros_like` of a single number, and of operations on what is known alone: a network that
    was written out makes the places at which its tables are looked up in this way.

    Args:
        op: operation or layer.
        args: of its call, tensors being symbolic.
        kwargs: likewise.
        known: id(symbolic tensor) -> its value.
    """
    tensors = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]
    if isinstance(op, keras.Layer) or not tensors:
        return None
    if type(op).__name__ == "ZerosLike" and tuple(tensors[0].shape) == ():
        return np.zeros((), tensors[0].dtype)
    if not all(id(x) in known for x in tensors):
        return None
    given, named = keras.tree.map_structure(lambda x: known.get(id(x), x), (args, kwargs))
    return np.asarray(op.call(*given, **named))


def whole_table(op: Any, args: tuple[Any, ...], known: Mapping[int, Any]) -> Weight | None:
    """The weight of an `Embedding` all of whose rows are looked up, in their order; else None."""
    if type(op) is not keras.layers.Embedding or len(args) != 1 or id(args[0]) not in known:
        return None
    if not np.array_equal(known[id(args[0])], np.arange(op.input_dim)):
        return None
    weight = Weight(op, op.embeddings)
    weight.name, weight.autocast, weight.compute_dtype = op.name, True, op.compute_dtype
    return weight
