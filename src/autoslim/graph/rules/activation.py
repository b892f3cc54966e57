"""Rules of activations and of layers that treat every channel alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.graph.axes import Axis, Dimension, Layout
from autoslim.graph.groups import Grouping
from autoslim.graph.rules.base import (
    EACH,
    EACH_ZERO,
    PASS_ZERO,
    Channels,
    NeedsCut,
    RunCall,
    Unsupported,
    freeze_if_mixed,
    same_axis,
    zero_at_zero,
)
from autoslim.graph.rules.elementwise import merged
from autoslim.graph.trace import Node


def _connect_activation(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    freeze_if_mixed(op.activation, inputs[0], node, grouping)
    return same_axis(op, inputs, node, grouping)


def _arrange_softmax(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    axes = op.axis if isinstance(op.axis, (list, tuple)) else [op.axis]
    for axis in axes:
        for layout in inputs:  # a mask too
            if layout.rank >= (-axis if axis < 0 else axis + 1):
                grouping.freeze(layout.axis(axis), f"softmax over the channels in {node.name}")
    return [merged(inputs, node, grouping) if len(inputs) > 1 else inputs[0]]


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


def _run_masking(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    """Zero where all channels that there are have one value."""
    x, mask = inputs[0], call.mask(call.input_axes[0])
    other = tf.not_equal(x, tf.cast(op.mask_value, x.dtype))
    if mask is not None:
        other = tf.logical_and(other, mask)
    return tf.where(tf.reduce_any(other, -1, keepdims=True), x, tf.zeros([], x.dtype))


def _connect_alpha_dropout(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    if len(node.inputs) > 1:
        raise Unsupported("a mask")
    return _connect_dropout(op, inputs, node, grouping)


def _arrange_gate(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    """The first half of an axis, times the sigmoid of the second: the halves keep the same channels."""
    (layout,) = inputs
    place = op.axis % layout.rank
    if place == layout.batch:
        raise Unsupported("the batch's axis")
    dimension = layout.dims[place]
    if isinstance(dimension, Axis):
        half: Dimension = grouping.tiled(dimension, 2, node.name)
        if half is None:
            raise NeedsCut("channels that are split where they can't be cut")
    else:
        half = None if dimension is None else dimension // 2
    return [layout.with_dim(place, half)]


def _run_gate(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    """As Keras, which needs to know the axis's size."""
    first, second = tf.split(inputs[0], 2, axis=op.axis)
    return first * tf.sigmoid(second)


ACTIVATE = EACH._replace(activates=True)
ACTIVATE_ZERO = EACH_ZERO._replace(activates=True)
ACTIVATION = EACH._replace(
    connect=_connect_activation, keeps_zero=lambda op, inputs: zero_at_zero(op.activation)
)
RELU = ACTIVATE._replace(keeps_zero=lambda op, inputs: not (op.negative_slope and op.threshold))
SOFTMAX = ACTIVATE._replace(arrange=_arrange_softmax)
DROPOUT = EACH_ZERO._replace(connect=_connect_dropout)
GLU = ACTIVATE_ZERO._replace(arrange=_arrange_gate, run=_run_gate)
ALPHA_DROPOUT = EACH._replace(connect=_connect_alpha_dropout)
MASKING = PASS_ZERO._replace(run=_run_masking)
RESCALING = EACH._replace(connect=_connect_rescaling, run=_run_rescaling, config=_rescaling_config)
