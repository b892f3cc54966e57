"""Rules of layers that change the shape: flatten, reshape."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from autoslim.graph.axes import Axis
from autoslim.graph.groups import Grouping
from autoslim.graph.rules.base import (
    LayerRule,
    RunCall,
    Unsupported,
    always,
    no_products,
    no_weights,
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


def _reshape_config(op: Any, channels: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, Any]:
    shape = tuple(op.target_shape)
    return {"target_shape": (*shape[:-1], channels(outputs[0]) if shape[-1] != -1 else -1)}


RESHAPE = LayerRule(
    _connect_reshape, no_weights, _run_reshape, no_products, _reshape_config, keeps_zero=always
)
FLATTEN = RESHAPE._replace(config=same_config)
