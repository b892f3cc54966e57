"""Rules of layers that join several tensors."""

from __future__ import annotations

from typing import Any

import keras

from autoslim.graph.axes import Axis
from autoslim.graph.groups import Grouping
from autoslim.graph.rules.base import (
    LayerRule,
    Unsupported,
    always,
    call_layer,
    no_products,
    no_weights,
    same_config,
    tie_all,
)
from autoslim.graph.trace import Node, Slot


def _connect_merge(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    """Add and its kin, entry by entry; with broadcasting, as in squeeze-and-excitation."""
    ranks = {len(shape) for shape in node.input_shapes}
    if len(ranks) > 1:
        raise Unsupported("inputs of different rank")
    if len(inputs) < len(keras.tree.flatten((node.args, node.kwargs))) and not isinstance(op, keras.Layer):
        _require_scalars(node)
    return [tie_all(inputs, node.name, grouping)]


def _require_scalars(node: Node) -> None:
    for value in keras.tree.flatten((node.args, node.kwargs)):
        if not isinstance(value, (Slot, int, float)) and getattr(value, "shape", ()) != ():
            raise Unsupported("a constant tensor operand")


def _same_sizes(op: Any, inputs: list[Axis]) -> bool:
    """A single channel that is broadcast is not zero where the others are."""
    return len({axis.size for axis in inputs}) == 1


MERGE = LayerRule(
    _connect_merge, no_weights, call_layer, no_products, same_config
)  # constants may be among it
ADD = MERGE._replace(keeps_zero=_same_sizes)
MULTIPLY = MERGE._replace(keeps_zero=always)


def _connect_concatenate(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    rank = len(node.input_shapes[0])
    if op.axis not in (-1, rank - 1):
        for axis in inputs[1:]:
            grouping.tie(inputs[0], axis, node.name)
        return [inputs[0]]
    if len(inputs) == 1:
        return [inputs[0]]
    return [Axis(tuple(piece for axis in inputs for piece in axis.flat_pieces()))]


CONCATENATE = LayerRule(
    _connect_concatenate, no_weights, call_layer, no_products, same_config, keeps_zero=always
)
