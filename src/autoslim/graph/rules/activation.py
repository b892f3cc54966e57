"""Rules of activations and of layers that treat every channel alike."""

from __future__ import annotations

from typing import Any

from autoslim.graph.axes import Axis
from autoslim.graph.groups import Grouping
from autoslim.graph.rules.base import (
    PASS,
    PASS_ZERO,
    Unsupported,
    freeze_if_mixed,
    same_axis,
    zero_at_zero,
)
from autoslim.graph.trace import Node


def _connect_activation(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    freeze_if_mixed(op, inputs[0], node, grouping)
    return same_axis(op, inputs, node, grouping)


def _connect_softmax(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    if len(node.inputs) > 1:
        raise Unsupported("a mask")
    axes = op.axis if isinstance(op.axis, (list, tuple)) else [op.axis]
    if any(axis in (-1, len(node.input_shapes[0]) - 1) for axis in axes):
        grouping.freeze(inputs[0], f"softmax over the channels in {node.name}")
    return [inputs[0]]


def _connect_dropout(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    if op.noise_shape is not None and op.noise_shape[-1] not in (None, 1):
        raise Unsupported(f"noise_shape={tuple(op.noise_shape)}")
    return [inputs[0]]


def _connect_rescaling(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    if not all(isinstance(value, (int, float)) for value in (op.scale, op.offset)):
        raise Unsupported("a scale or an offset for each channel")
    return same_axis(op, inputs, node, grouping)


ACTIVATION = PASS._replace(
    connect=_connect_activation, keeps_zero=lambda op, inputs: zero_at_zero(op.activation)
)
RELU = PASS._replace(keeps_zero=lambda op, inputs: not (op.negative_slope and op.threshold))
SOFTMAX = PASS._replace(connect=_connect_softmax)
DROPOUT = PASS_ZERO._replace(connect=_connect_dropout)
RESCALING = PASS._replace(connect=_connect_rescaling)
