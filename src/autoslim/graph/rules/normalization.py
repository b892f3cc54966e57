"""Rules of normalisation: batch, layer, RMS and group normalisation, and that of inputs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.graph.axes import Axis, Dimension
from autoslim.graph.groups import Grouping
from autoslim.graph.rules.base import (
    EACH_ZERO,
    Channels,
    LayerRule,
    RunCall,
    Unsupported,
    always,
    in_blocks,
)
from autoslim.graph.trace import Node


def _connect_batch_norm(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    rank = len(node.input_shapes[0])
    if op.axis not in (-1, rank - 1):
        raise Unsupported(f"normalisation over axis {op.axis}")
    if node.kwargs.get("mask") is not None:
        raise Unsupported("a mask")
    if op.dtype_policy.compute_dtype == "float64":
        raise Unsupported("float64")
    return [inputs[0]]


def _batch_norm_weights(op: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, tuple[Dimension, ...]]:
    names = ["gamma"] * op.scale + ["beta"] * op.center + ["moving_mean", "moving_variance"]
    return dict.fromkeys(names, (inputs[0],))


def _run_batch_norm(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    """Fused batch normalisation, which Keras 3 does not use: faster, and smaller on the tape."""
    x = inputs[0]
    axis = call.input_axes[0]
    mean, variance = weights["moving_mean"], weights["moving_variance"]
    gamma = weights["gamma"] if op.scale else tf.ones_like(mean)
    beta = weights["beta"] if op.center else tf.zeros_like(mean)
    asked = call.node.training
    own = op.trainable and (call.options.batch_statistics if asked is None else asked)
    shape = tf.shape(x)
    images = x if len(x.shape) == 4 else tf.reshape(x, [-1, 1, 1, shape[-1]])
    if own and call.options.sync_batch_norm and _replicas() > 1:
        mean, variance = _moments_of_all_replicas(images)
        y = tf.nn.batch_normalization(tf.cast(images, mean.dtype), mean, variance, beta, gamma, op.epsilon)
        y = tf.cast(y, images.dtype)
        call.record(op, (mean, variance), axis)
    elif own:
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            images, gamma, beta, epsilon=op.epsilon, is_training=True
        )
        count = tf.cast(tf.reduce_prod(shape[:-1]), variance.dtype)
        biased = variance * ((count - 1.0) / count)  # the fused op reports the unbiased variance
        call.record(op, (mean, biased), axis)
    else:
        y, _, _ = tf.compat.v1.nn.fused_batch_norm(
            images, gamma, beta, mean, variance, epsilon=op.epsilon, is_training=False
        )
    return y if len(x.shape) == 4 else tf.ensure_shape(tf.reshape(y, shape), x.shape)


def _replicas() -> int:
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context else 1


def _moments_of_all_replicas(images: Any) -> tuple[Any, Any]:
    """Mean and biased variance [C] over the images of all replicas, which hold n_r entries each.

    mean = sum n_r mean_r / n, variance = sum n_r (variance_r + (mean_r - mean)^2) / n (Chan et al. 1979): no
    small difference of large squares, and one exchange between the replicas.
    """
    context = tf.distribute.get_replica_context()
    mean, variance = tf.nn.moments(tf.cast(images, tf.float32), [0, 1, 2])
    count = tf.cast(tf.reduce_prod(tf.shape(images)[:-1]), tf.float32)
    own = tf.stack([mean, variance, tf.fill(tf.shape(mean), count)])
    place = tf.one_hot(context.replica_id_in_sync_group, context.num_replicas_in_sync)
    means, variances, counts = tf.unstack(
        context.all_reduce(tf.distribute.ReduceOp.SUM, place[:, None, None] * own), axis=1
    )
    shares = counts / tf.reduce_sum(counts, 0)
    total = tf.reduce_sum(shares * means, 0)
    return total, tf.reduce_sum(shares * (variances + tf.square(means - total)), 0)


BATCH_NORM = LayerRule(_connect_batch_norm, weights=_batch_norm_weights, run=_run_batch_norm, normalizes=True)


def _moments(x: Any, axes: list[int], channels: Axis, call: RunCall) -> tuple[Any, Any]:
    """Mean and variance over axes that the channels are among: of the active ones. The others are zero."""
    mask = call.mask(channels)
    if mask is None:
        return tf.nn.moments(x, axes, keepdims=True)
    more = tf.cast(channels.size, x.dtype) / tf.cast(call.active(channels), x.dtype)
    mean = tf.reduce_mean(x, axes, keepdims=True) * more
    centred = tf.where(mask, x - mean, tf.zeros([], x.dtype))
    return mean, tf.reduce_mean(tf.square(centred), axes, keepdims=True) * more


def _positive_axes(op: Any, rank: int) -> list[int]:
    axes = op.axis if isinstance(op.axis, (list, tuple)) else [op.axis]
    return [axis % rank for axis in axes]


def _connect_layer_norm(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    axes = _positive_axes(op, len(node.input_shapes[0]))
    if axes != sorted(axes) or 0 in axes:
        raise Unsupported(f"normalisation over axes {op.axis}")
    if getattr(op, "rms_scaling", False):
        raise Unsupported("rms_scaling")
    return [inputs[0]]


def _axes_of_weight(op: Any, weight: Any, channels: Axis) -> tuple[Dimension, ...]:
    """Dimensions of a scale: one for each axis that is normalised over, the channels the last if at all."""
    rank = len(op.get_build_config()["input_shape"])
    has_channels = rank - 1 in _positive_axes(op, rank)
    return (*weight.shape[:-1], channels if has_channels else weight.shape[-1])


def _layer_norm_weights(op: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, tuple[Dimension, ...]]:
    names = ["gamma"] * op.scale + ["beta"] * op.center
    return {name: _axes_of_weight(op, getattr(op, name), inputs[0]) for name in names}


def _precise(x: Any, weights: dict[str, Any]) -> Any:
    """`x` in a type in which statistics are exact enough, as Keras computes them: float32 or wider."""
    return tf.cast(x, keras.backend.result_type(x.dtype, "float32", *(w.dtype for w in weights.values())))


def _along(weight: Any, x: Any, axes: list[int]) -> Any:
    """A weight, whose dimensions are these axes of `x`, in a shape that broadcasts."""
    shape = [tf.shape(x)[i] if i in axes else 1 for i in range(len(x.shape))]
    return tf.reshape(tf.cast(weight, x.dtype), shape)


def _scaled(op: Any, y: Any, weights: dict[str, Any], axes: list[int]) -> Any:
    if "gamma" in weights:
        y = y * _along(weights["gamma"], y, axes)
    if "beta" in weights:
        y = y + _along(weights["beta"], y, axes)
    return tf.cast(y, op.compute_dtype)


def _run_layer_norm(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    x = _precise(inputs[0], weights)
    rank = len(x.shape)
    axes = _positive_axes(op, rank)
    if rank - 1 in axes:
        mean, variance = _moments(x, axes, call.input_axes[0], call)
    else:
        mean, variance = tf.nn.moments(x, axes, keepdims=True)
    return _scaled(op, (x - mean) * tf.math.rsqrt(variance + op.epsilon), weights, axes)


def _over_channels_alone(op: Any, inputs: list[Axis]) -> bool:
    rank = len(op.get_build_config()["input_shape"])
    return _positive_axes(op, rank) == [rank - 1]


LAYER_NORM = LayerRule(
    _connect_layer_norm,
    weights=_layer_norm_weights,
    run=_run_layer_norm,
    normalizes=True,
    pointwise=_over_channels_alone,
)


def _connect_rms_norm(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    rank = len(node.input_shapes[0])
    axes = _positive_axes(op, rank)
    if 0 in axes or axes != list(range(rank - len(axes), rank)):
        raise Unsupported(f"normalisation over axes {op.axis}")
    return [inputs[0]]


def _rms_weights(op: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, tuple[Dimension, ...]]:
    return {"scale": _axes_of_weight(op, op.scale, inputs[0])}


def _run_rms_norm(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    x = _precise(inputs[0], weights)
    channels, axes = call.input_axes[0], _positive_axes(op, len(x.shape))
    square = tf.reduce_mean(tf.square(x), axes, keepdims=True)
    if call.mask(channels) is not None:
        square *= tf.cast(channels.size, x.dtype) / tf.cast(call.active(channels), x.dtype)
    y = x * tf.math.rsqrt(square + op.epsilon)
    return tf.cast(y * tf.cast(weights["scale"], x.dtype), op.compute_dtype)


RMS_NORM = LAYER_NORM._replace(
    connect=_connect_rms_norm, weights=_rms_weights, run=_run_rms_norm, keeps_zero=always
)


def _connect_group_norm(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    rank = len(node.input_shapes[0])
    if op.axis not in (-1, rank - 1):
        raise Unsupported(f"normalisation over axis {op.axis}")
    if 1 < op.groups < inputs[0].size:
        in_blocks(inputs[0], op.groups, node.name, grouping)
    return [inputs[0]]


def _group_norm_weights(op: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, tuple[Dimension, ...]]:
    return dict.fromkeys(["gamma"] * op.scale + ["beta"] * op.center, (inputs[0],))


def _run_group_norm(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    """Statistics over the positions and one block of channels, which is active as a whole or not at all."""
    x = _precise(inputs[0], weights)
    rank, channels = len(x.shape), call.input_axes[0]
    if op.groups == 1:
        mean, variance = _moments(x, list(range(1, rank)), channels, call)
        y = (x - mean) * tf.math.rsqrt(variance + op.epsilon)
    else:
        shape = tf.shape(x)
        blocks = tf.reshape(x, tf.concat([shape[:-1], [-1, channels.size // op.groups]], 0))
        mean, variance = tf.nn.moments(blocks, [*range(1, rank - 1), rank], keepdims=True)
        y = tf.reshape((blocks - mean) * tf.math.rsqrt(variance + op.epsilon), shape)
    return _scaled(op, y, weights, [rank - 1])


def _group_norm_config(
    op: Any, channels: Channels, inputs: list[Axis], outputs: list[Axis]
) -> dict[str, Any]:
    return {"groups": channels(inputs[0]) * op.groups // inputs[0].size if op.groups > 1 else 1}


GROUP_NORM = LayerRule(
    _connect_group_norm,
    weights=_group_norm_weights,
    run=_run_group_norm,
    config=_group_norm_config,
    normalizes=True,
)

UNIT_NORM = EACH_ZERO  # a sum of squares: channels that are zero don't count


def _connect_input_norm(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    if any(axis not in (-1, len(node.input_shapes[0]) - 1) for axis in op.axis):
        raise Unsupported(f"statistics along axes {tuple(op.axis)}")
    return [inputs[0]]


def _input_norm_weights(op: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, tuple[Dimension, ...]]:
    if op.input_mean is not None:
        return {}
    dimensions = (inputs[0],) if op.axis else ()
    return {"adapt_mean": dimensions, "adapt_variance": dimensions, "count": ()}


def _run_input_norm(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    x = tf.cast(inputs[0], op.compute_dtype)
    mean, variance = (call.take(value, call.input_axes[0]) for value in (op.mean, op.variance))
    deviation = tf.maximum(tf.sqrt(variance), tf.cast(keras.backend.epsilon(), x.dtype))
    return mean + x * deviation if op.invert else (x - mean) / deviation


def _input_norm_config(
    op: Any, channels: Channels, inputs: list[Axis], outputs: list[Axis]
) -> dict[str, Any]:
    given = {"mean": op.input_mean, "variance": op.input_variance} if op.input_mean is not None else {}
    taken = {name: np.asarray(channels.take(np.asarray(value), inputs[0])) for name, value in given.items()}
    return {name: value.tolist() for name, value in taken.items()}


INPUT_NORM = LayerRule(
    _connect_input_norm,
    weights=_input_norm_weights,
    run=_run_input_norm,
    config=_input_norm_config,
    measured=True,
    pointwise=always,
)
