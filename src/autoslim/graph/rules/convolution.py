"""Rules of convolution and dense layers."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from autoslim.graph.axes import Axis, Dimension, Layout, Piece
from autoslim.graph.groups import Grouping, stretches_of
from autoslim.graph.rules.base import (
    Channels,
    LayerRule,
    Products,
    RunCall,
    Unsupported,
    always,
    freeze_if_mixed,
    in_blocks,
    require_channels_last,
)
from autoslim.graph.trace import Node

_CHANNELS_LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}  # by the number of spatial dimensions


def _connect_conv(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    require_channels_last(op)
    if op.groups == 1:
        output = grouping.new(node.name, op.filters)
    elif len(op.kernel_size) > 2:
        raise Unsupported("grouped convolution in three dimensions")
    else:
        output = _connect_groups(op, inputs[0], node, grouping)
    freeze_if_mixed(op.activation, output, node, grouping)
    return [output]


def _connect_groups(op: Any, axis: Axis, node: Node, grouping: Grouping) -> Axis:
    """Inputs and outputs come and go in whole blocks, one for each convolution group.

    Where tensors share a block, each holds a single one, or shuffled channels stand in several, all blocks
    are slimmed alike instead; those that enter stay as they are where they can't be.
    """
    size, entering = op.filters // op.groups, axis.size // op.groups
    pieces = axis.flat_pieces()
    whole = all(piece.size % entering == 0 for piece in pieces)
    shuffled = any(piece.repeat > 1 and piece.repeat % entering for piece in pieces)
    if whole and not shuffled and max(piece.size for piece in pieces) > entering:
        blocks = in_blocks(axis, op.groups, node.name, grouping)
        return blocks.map_pieces(lambda p: Piece(p.group, p.size // p.repeat * size, size))
    if grouping.tiled(axis, op.groups, node.name) is None:
        why = f"{node.name} takes {op.groups} blocks of them, between which they can't be cut"
        grouping.freeze(axis, why, fixed=False)
    output = grouping.new(node.name, size)
    return Axis(output.pieces, op.groups)


def _slimmed_alike(op: Any, output: Axis) -> bool:
    """Whether a grouped convolution keeps its groups, all slimmed alike."""
    return op.groups > 1 and output.tiles % op.groups == 0


def _conv_weights(op: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, tuple[Dimension, ...]]:
    entering: Dimension = inputs[0] if op.groups == 1 else inputs[0].size // op.groups
    if _slimmed_alike(op, outputs[0]):
        entering = _first_block(inputs[0], op.groups)
    weights: dict[str, tuple[Dimension, ...]] = {"kernel": (*op.kernel_size, entering, outputs[0])}
    if op.use_bias:
        weights["bias"] = (outputs[0],)
    return weights


def _first_block(axis: Axis, count: int) -> Dimension:
    """One of the equal blocks that an axis is made of."""
    if axis.tiles % count == 0:
        return Axis(axis.pieces, axis.tiles // count)
    blocks = stretches_of(axis.flat_pieces(), [axis.size // count] * count)
    return axis.size // count if blocks is None else Axis(blocks[0])


def _finish(op: Any, y: Any, weights: dict[str, Any]) -> Any:
    if op.use_bias:
        y = y + weights["bias"]
    return y if op.activation is None else op.activation(y)


def _run_conv(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    x, padding = _padded(op, inputs[0])
    if _slimmed_alike(op, call.output_axes[0]):
        parts = zip(*(tf.split(z, op.groups, axis=-1) for z in (x, weights["kernel"])), strict=True)
        y = tf.concat([_convolution(op, part, kernel, padding) for part, kernel in parts], -1)
    elif op.groups > 1:
        y = _grouped_convolution(op, x, weights["kernel"], padding, call.input_axes[0].size // op.groups)
    else:
        y = _convolution(op, x, weights["kernel"], padding)
    return _finish(op, y, weights)


def _convolution(op: Any, x: Any, kernel: Any, padding: str) -> Any:
    return tf.nn.convolution(
        x,
        kernel,
        strides=list(op.strides),
        padding=padding.upper(),
        data_format=_CHANNELS_LAST[len(op.kernel_size)],  # the gradient in three dimensions asks for it
        dilations=list(op.dilation_rate),
    )


def _padded(op: Any, x: Any) -> tuple[Any, str]:
    """`x` and the padding left to do: that of causal convolutions, and of dilated ones of stride 1, is done.

    TensorFlow's own padding of dilated convolutions needs a kernel of known width.
    """
    if op.padding != "causal" and not (op.padding == "same" and max(op.dilation_rate) > 1):
        return x, op.padding
    before_after = []
    for size, dilation in zip(op.kernel_size, op.dilation_rate, strict=True):
        total = dilation * (size - 1)
        before = total if op.padding == "causal" else total // 2
        before_after.append([before, total - before])
    return tf.pad(x, [[0, 0], *before_after, [0, 0]]), "valid"


def _grouped_convolution(op: Any, x: Any, kernel: Any, padding: str, per_block: int) -> Any:
    """Grouped convolution, in one or two dimensions, of a number of groups that may be a tensor.

    TensorFlow has no grouped convolution on the CPU. Entry i of every block is convolved with its own filters
    depthwise, and the results are summed over i: [N, H, W, blocks * filters], block by block.
    """
    filters = op.filters // op.groups
    blocks = tf.shape(kernel)[-1] // filters
    kernel = tf.reshape(kernel, [*op.kernel_size, per_block, blocks, filters])
    total = None
    for i in range(per_block):
        entry = kernel[..., i, :, :]
        y = _depthwise(x[..., i::per_block], entry, op.strides, padding, op.dilation_rate)
        total = y if total is None else total + y
    return total


def _depthwise(x: Any, kernel: Any, strides: Any, padding: str, dilation: Any) -> Any:
    return keras.ops.depthwise_conv(x, kernel, strides, padding, "channels_last", dilation)


def _output_positions(op: Any, node: Node) -> dict[str, int]:
    return {"kernel": node.positions(node.output_shapes[0])}


def _conv_config(op: Any, channels: Channels, inputs: list[Axis], outputs: list[Axis]) -> dict[str, Any]:
    config = {"filters": channels(outputs[0])}
    if op.groups > 1 and not _slimmed_alike(op, outputs[0]):
        config["groups"] = channels(inputs[0]) * op.groups // inputs[0].size
    return config


def _conv_products(op: Any, node: Node, inputs: list[Layout], outputs: list[Layout]) -> Products:
    kernel = _conv_weights(op, [inputs[0].axis()], [outputs[0].axis()])["kernel"]
    return [(*outputs[0].dims[:-1], *kernel)]


def _slides(op: Any, axis: Axis) -> bool:
    """Whether zeros behind the active channels are what a convolution along them is padded with anyway."""
    same = op.padding == "same" and max(op.strides) == 1 and op.groups == 1
    return same and len(axis.pieces) == axis.tiles == 1


CONV = LayerRule(
    _connect_conv,
    weights=_conv_weights,
    run=_run_conv,
    products=_conv_products,
    config=_conv_config,
    slides=_slides,
)


def _connect_transposed(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    require_channels_last(op)
    if max(op.dilation_rate) > 1:
        raise Unsupported("dilation")
    if None in node.output_shapes[0][1:]:
        raise Unsupported("a dynamic shape")
    output = grouping.new(node.name, op.filters)
    freeze_if_mixed(op.activation, output, node, grouping)
    return [output]


def _transposed_weights(op: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, tuple[Dimension, ...]]:
    weights: dict[str, tuple[Dimension, ...]] = {"kernel": (*op.kernel_size, outputs[0], inputs[0])}
    if op.use_bias:
        weights["bias"] = (outputs[0],)
    return weights


def _run_transposed(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    x, kernel = inputs[0], weights["kernel"]
    spatial = call.node.output_shapes[0][1:-1]
    y = tf.nn.conv_transpose(
        x,
        kernel,
        [tf.shape(x)[0], *spatial, tf.shape(kernel)[-2]],
        strides=list(op.strides),
        padding=op.padding.upper(),
        data_format=_CHANNELS_LAST[len(op.kernel_size)],
    )
    return _finish(op, y, weights)


def _input_positions(op: Any, node: Node) -> dict[str, int]:
    return {"kernel": node.positions(node.input_shapes[0])}


def _filters_config(op: Any, channels: Channels, inputs: list[Axis], outputs: list[Axis]) -> dict[str, Any]:
    return {"filters": channels(outputs[0])}


TRANSPOSED = LayerRule(
    _connect_transposed,
    weights=_transposed_weights,
    run=_run_transposed,
    positions=_input_positions,
    config=_filters_config,
)


def _connect_depthwise(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    require_channels_last(op)
    output = inputs[0].repeated(op.depth_multiplier)
    freeze_if_mixed(op.activation, output, node, grouping)
    return [output]


def _depthwise_weights(op: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, tuple[Dimension, ...]]:
    weights: dict[str, tuple[Dimension, ...]] = {"kernel": (*op.kernel_size, inputs[0], op.depth_multiplier)}
    if op.use_bias:
        weights["bias"] = (outputs[0],)
    return weights


def _run_depthwise(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    x, padding = _padded(op, inputs[0])
    y = _depthwise(x, weights["kernel"], op.strides, padding, op.dilation_rate)
    return _finish(op, y, weights)


DEPTHWISE = LayerRule(
    _connect_depthwise, weights=_depthwise_weights, run=_run_depthwise, positions=_output_positions
)


def _connect_separable(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    require_channels_last(op)
    output = grouping.new(node.name, op.filters)
    freeze_if_mixed(op.activation, output, node, grouping)
    return [output]


def _separable_weights(op: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, tuple[Dimension, ...]]:
    between = inputs[0].repeated(op.depth_multiplier)
    weights: dict[str, tuple[Dimension, ...]] = {
        "depthwise_kernel": (*op.kernel_size, inputs[0], op.depth_multiplier),
        "pointwise_kernel": (*[1] * len(op.kernel_size), between, outputs[0]),
    }
    if op.use_bias:
        weights["bias"] = (outputs[0],)
    return weights


def _run_separable(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    x, padding = _padded(op, inputs[0])
    y = _depthwise(x, weights["depthwise_kernel"], op.strides, padding, op.dilation_rate)
    y = tf.nn.convolution(y, weights["pointwise_kernel"], data_format=_CHANNELS_LAST[len(op.kernel_size)])
    return _finish(op, y, weights)


def _separable_positions(op: Any, node: Node) -> dict[str, int]:
    positions = node.positions(node.output_shapes[0])
    return {"depthwise_kernel": positions, "pointwise_kernel": positions}


SEPARABLE = LayerRule(
    _connect_separable,
    weights=_separable_weights,
    run=_run_separable,
    positions=_separable_positions,
    config=_filters_config,
)


def _connect_dense(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    output = grouping.new(node.name, op.units)
    freeze_if_mixed(op.activation, output, node, grouping)
    return [output]


def _dense_weights(op: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, tuple[Dimension, ...]]:
    weights: dict[str, tuple[Dimension, ...]] = {"kernel": (inputs[0], outputs[0])}
    if op.use_bias:
        weights["bias"] = (outputs[0],)
    return weights


def _run_dense(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    x, kernel = inputs[0], weights["kernel"]
    y = tf.matmul(x, kernel) if len(x.shape) == 2 else tf.tensordot(x, kernel, axes=[[-1], [0]])
    return _finish(op, y, weights)


def _dense_config(op: Any, channels: Channels, inputs: list[Axis], outputs: list[Axis]) -> dict[str, Any]:
    return {"units": channels(outputs[0])}


def _dense_products(op: Any, node: Node, inputs: list[Layout], outputs: list[Layout]) -> Products:
    return [(*outputs[0].dims, inputs[0].axis())]


DENSE = LayerRule(
    _connect_dense,
    weights=_dense_weights,
    run=_run_dense,
    products=_dense_products,
    config=_dense_config,
    pointwise=always,
)


def _prelu_weights(op: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, tuple[Dimension, ...]]:
    return {"alpha": (*op.alpha.shape[:-1], inputs[0] if op.alpha.shape[-1] != 1 else 1)}


def _run_prelu(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    return tf.nn.relu(inputs[0]) - weights["alpha"] * tf.nn.relu(-inputs[0])


PRELU = LayerRule(weights=_prelu_weights, run=_run_prelu, keeps_zero=always, activates=True)
