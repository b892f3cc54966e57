"""Rules of activations and of layers that treat every channel alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.graph.axes import Axis
from autoslim.graph.groups import Grouping
from autoslim.graph.rules.base import (
    PASS,
    PASS_ZERO,
    Channels,
    RunCall,
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
    for value in (op.scale, op.offset):
        if np.shape(value) not in ((), (1,), (inputs[0].size,)):
            raise Unsupported(f"a scale or an offset of shape {np.shape(value)}")
    return same_axis(op, inputs, node, grouping)


def _run_rescaling(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    scale, offset = (
        call.take(tf.constant(value, op.compute_dtype), call.input_axes[0]) for value in (op.scale, op.offset)
    )
    return tf.cast(inputs[0], op.compute_dtype) * scale + offset


def _rescaling_config(op: Any, channels: Channels, inputs: list[Axis], outputs: list[Axis]) -> dict[str, Any]:
    changed = {}
    for name in ("scale", "offset"):
        value = np.asarray(getattr(op, name))
        if value.ndim:
            changed[name] = np.asarray(channels.take(value, inputs[0])).tolist()
    return changed


def _connect_alpha_dropout(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    if len(node.inputs) > 1:
        raise Unsupported("a mask")
    return _connect_dropout(op, inputs, node, grouping)


ACTIVATE = PASS._replace(activates=True)
ACTIVATE_ZERO = PASS_ZERO._replace(activates=True)
ACTIVATION = PASS._replace(
    connect=_connect_activation, keeps_zero=lambda op, inputs: zero_at_zero(op.activation)
)
RELU = ACTIVATE._replace(keeps_zero=lambda op, inputs: not (op.negative_slope and op.threshold))
SOFTMAX = ACTIVATE._replace(connect=_connect_softmax)
DROPOUT = PASS_ZERO._replace(connect=_connect_dropout)
ALPHA_DROPOUT = PASS._replace(connect=_connect_alpha_dropout)
RESCALING = PASS._replace(connect=_connect_rescaling, run=_run_rescaling, config=_rescaling_config)
