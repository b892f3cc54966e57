"""Rules of convolution and dense layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf

from autoslim.graph.axes import Axis, Dimension, Piece
from autoslim.graph.groups import Grouping
from autoslim.graph.rules.base import (
    LayerRule,
    RunCall,
    Unsupported,
    always,
    freeze_if_mixed,
    no_products,
    require_channels_last,
    same_axis,
    same_config,
)
from autoslim.graph.trace import Node

_CHANNELS_LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}  # by the number of spatial dimensions


def _connect_conv(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    require_channels_last(op)
    if op.groups == 1:
        output = grouping.new(node.name, op.filters)
    else:  # inputs and outputs come and go in whole blocks, one for each convolution group
        blocks = grouping.new(node.name, op.groups, op.filters // op.groups)
        entering = Piece(blocks.pieces[0].group, inputs[0].size, inputs[0].size // op.groups)
        grouping.tie(inputs[0], Axis((entering,)), node.name)
        output = blocks
    freeze_if_mixed(op, output, node, grouping)
    return [output]


def _conv_weights(op: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, tuple[Dimension, ...]]:
    entering: Dimension = inputs[0] if op.groups == 1 else inputs[0].size // op.groups
    weights: dict[str, tuple[Dimension, ...]] = {"kernel": (*op.kernel_size, entering, outputs[0])}
    if op.use_bias:
        weights["bias"] = (outputs[0],)
    return weights


def _finish(op: Any, y: Any, weights: dict[str, Any]) -> Any:
    if op.use_bias:
        y = y + weights["bias"]
    return y if op.activation is None else op.activation(y)


def _run_conv(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    if op.groups > 1:
        y = _grouped_convolution(op, inputs[0], weights["kernel"], call.input_axes[0].size // op.groups)
    else:
        x, padding = inputs[0], op.padding.upper()
        if padding == "CAUSAL" or (padding == "SAME" and max(op.dilation_rate) > 1):
            x, padding = _padded(op, x), "VALID"
        y = tf.nn.convolution(
            x,
            weights["kernel"],
            strides=list(op.strides),
            padding=padding,
            data_format=_CHANNELS_LAST[len(op.kernel_size)],  # the gradient in three dimensions asks for it
            dilations=list(op.dilation_rate),
        )
    return _finish(op, y, weights)


def _padded(op: Any, x: Any) -> Any:
    """Padding of a causal convolution, or of a dilated one of stride 1.

    TensorFlow's own padding of dilated convolutions needs a kernel of known width.
    """
    before_after = []
    for size, dilation in zip(op.kernel_size, op.dilation_rate, strict=True):
        total = dilation * (size - 1)
        before = total if op.padding == "causal" else total // 2
        before_after.append([before, total - before])
    return tf.pad(x, [[0, 0], *before_after, [0, 0]])


def _grouped_convolution(op: Any, x: Any, kernel: Any, per_block: int) -> Any:
    """Grouped 2-D convolution of a number of groups that may be a tensor.

    TensorFlow has no grouped convolution on the CPU. Entry i of every block is convolved with its own filters
    depthwise, and the results are summed over i: [N, H, W, blocks * filters], block by block.
    """
    filters = op.filters // op.groups
    kh, kw = op.kernel_size
    blocks = tf.shape(kernel)[-1] // filters
    kernel = tf.reshape(kernel, [kh, kw, per_block, blocks, filters])
    total = None
    for i in range(per_block):
        y = _depthwise(x[..., i::per_block], kernel[:, :, i], op.strides, op.padding, op.dilation_rate)
        total = y if total is None else total + y
    return total


def _depthwise(x: Any, kernel: Any, strides: Any, padding: str, dilation: Any) -> Any:
    return keras.ops.depthwise_conv(x, kernel, strides, padding, "channels_last", dilation)


def _connect_grouped_conv2d_only(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    if op.groups > 1:
        raise Unsupported("grouped convolution in other than two dimensions")
    return _connect_conv(op, inputs, node, grouping)


def _output_positions(op: Any, node: Node) -> dict[str, int]:
    return {"kernel": node.positions(node.output_shapes[0])}


def _conv_config(op: Any, channels: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, Any]:
    config = {"filters": channels(outputs[0])}
    if op.groups > 1:
        config["groups"] = channels(inputs[0]) * op.groups // inputs[0].size
    return config


CONV2D = LayerRule(_connect_conv, _conv_weights, _run_conv, _output_positions, _conv_config)
CONV = CONV2D._replace(connect=_connect_grouped_conv2d_only)


def _connect_depthwise(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    require_channels_last(op)
    m = op.depth_multiplier
    output = inputs[0].rename(lambda p: replace(p, size=p.size * m, repeat=p.repeat * m))
    freeze_if_mixed(op, output, node, grouping)
    return [output]


def _depthwise_weights(op: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, tuple[Dimension, ...]]:
    weights: dict[str, tuple[Dimension, ...]] = {"kernel": (*op.kernel_size, inputs[0], op.depth_multiplier)}
    if op.use_bias:
        weights["bias"] = (outputs[0],)
    return weights


def _run_depthwise(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    y = _depthwise(inputs[0], weights["kernel"], op.strides, op.padding, op.dilation_rate)
    return _finish(op, y, weights)


DEPTHWISE = LayerRule(_connect_depthwise, _depthwise_weights, _run_depthwise, _output_positions, same_config)


def _connect_dense(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    output = grouping.new(node.name, op.units)
    freeze_if_mixed(op, output, node, grouping)
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


def _dense_config(op: Any, channels: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, Any]:
    return {"units": channels(outputs[0])}


DENSE = LayerRule(_connect_dense, _dense_weights, _run_dense, _output_positions, _dense_config)


def _prelu_weights(op: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, tuple[Dimension, ...]]:
    return {"alpha": (*op.alpha.shape[:-1], inputs[0] if op.alpha.shape[-1] != 1 else 1)}


def _run_prelu(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    return tf.nn.relu(inputs[0]) - weights["alpha"] * tf.nn.relu(-inputs[0])


PRELU = LayerRule(same_axis, _prelu_weights, _run_prelu, no_products, same_config, keeps_zero=always)
