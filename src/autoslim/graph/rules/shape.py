"""Rules of layers that change the shape: flatten, reshape; and that move or reduce positions."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from autoslim.graph.axes import Axis
from autoslim.graph.groups import Grouping
from autoslim.graph.rules.base import (
    PASS_ZERO,
    Channels,
    LayerRule,
    RunCall,
    Unsupported,
    always,
    require_channels_last,
    same_config,
)
from autoslim.graph.trace import Node


def _static(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    if None in shape:
        raise Unsupported("a dynamic shape")
    return tuple(size for size in shape if size is not None)


def _connect_reshape(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    """Follow the channels where they stay the last axis, are flattened, or come back from being flat."""
    require_channels_last(op)
    before, after = _static(node.input_shapes[0][1:]), _static(node.output_shapes[0][1:])
    axis = inputs[0]
    if math.prod(before) != math.prod(after):
        raise Unsupported("the batch's axis")
    if before[-1] == after[-1]:
        return [axis]
    spatial = math.prod(before[:-1])
    if len(after) == 1:
        return [Axis(axis.pieces, axis.tiles * spatial)]
    if len(before) == 1 and axis.tiles % math.prod(after[:-1]) == 0:
        return [Axis(axis.pieces, axis.tiles // math.prod(after[:-1]))]
    raise Unsupported(f"reshaping {before} to {after}")


def _run_reshape(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    spatial = call.node.output_shapes[0][1:-1]
    return tf.reshape(inputs[0], [tf.shape(inputs[0])[0], *spatial, call.channels(call.output_axes[0])])


def _reshape_config(op: Any, channels: Channels, inputs: list[Axis], outputs: list[Axis]) -> dict[str, Any]:
    name = "target_shape" if hasattr(op, "target_shape") else "newshape"
    shape = tuple(getattr(op, name))
    return {name: (*shape[:-1], channels(outputs[0]) if shape[-1] != -1 else -1)}


RESHAPE = LayerRule(_connect_reshape, run=_run_reshape, config=_reshape_config, keeps_zero=always)
FLATTEN = RESHAPE._replace(config=same_config)


def _axes_of(op: Any, rank: int) -> set[int]:
    """The axes that an operation names, from 0 to `rank` - 1; all of them for None."""
    axes = range(rank) if op.axis is None else [op.axis] if isinstance(op.axis, int) else op.axis
    return {axis % rank for axis in axes}


def _connect_over_positions(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    """Means, maxima, axes of size one that are removed: neither the images' nor the channels'."""
    rank = len(node.input_shapes[0])
    if not _axes_of(op, rank) <= set(range(1, rank - 1)):
        raise Unsupported(f"axis={op.axis}: the positions only, not images or channels")
    return [inputs[0]]


def _connect_expand(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    rank = len(node.output_shapes[0])
    if not _axes_of(op, rank) <= set(range(1, rank - 1)):
        raise Unsupported(f"axis={op.axis}: a new axis before the images or behind the channels")
    return [inputs[0]]


def _connect_transpose(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    rank = len(node.input_shapes[0])
    order = [0, *op.dims] if hasattr(op, "dims") else op.axes
    order = [axis % rank for axis in (order if order is not None else range(rank)[::-1])]
    if order[0] != 0 or order[-1] != rank - 1:
        raise Unsupported(f"the axes in the order {tuple(order)}")
    return [inputs[0]]


def _connect_item(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    """Indexing among the positions: `x[:, 0]`, `x[:, 1:-1, ::2]`."""
    key = node.args[1] if len(node.args) > 1 else node.kwargs["key"]
    key = list(key) if isinstance(key, (tuple, list)) else [key]
    if any(not isinstance(k, (int, slice)) and k is not Ellipsis for k in key):
        raise Unsupported("an index other than numbers, slices and an ellipsis")
    whole = slice(None)
    if Ellipsis in key:
        place = key.index(Ellipsis)
        key[place : place + 1] = [whole] * (len(node.input_shapes[0]) - len(key) + 1)
    key += [whole] * (len(node.input_shapes[0]) - len(key))
    if key[0] != whole or key[-1] != whole:
        raise Unsupported("an index into the images or the channels")
    return [inputs[0]]


OVER_POSITIONS = PASS_ZERO._replace(connect=_connect_over_positions)
EXPAND = PASS_ZERO._replace(connect=_connect_expand)
TRANSPOSE = PASS_ZERO._replace(connect=_connect_transpose)
ITEM = PASS_ZERO._replace(connect=_connect_item)
