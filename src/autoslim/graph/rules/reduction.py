"""Rules of means, maxima and the like, over positions and over channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from autoslim.graph.axes import Axis, Layout
from autoslim.graph.groups import Grouping
from autoslim.graph.rules.base import LayerRule, RunCall, Unsupported, always, call_layer
from autoslim.graph.rules.elementwise import only_active
from autoslim.graph.trace import Node


def axes_of(op: Any, rank: int) -> tuple[int, ...]:
    """The axes that an operation names, from 0 to `rank` - 1; all of them for None."""
    axes = range(rank) if op.axis is None else [op.axis] if isinstance(op.axis, int) else op.axis
    return tuple(sorted(axis % rank for axis in axes))


def without(layout: Layout, places: Sequence[int]) -> Layout:
    """The layout without some of its dimensions."""
    dims = tuple(d for place, d in enumerate(layout.dims) if place not in places)
    return Layout(dims, layout.batch - sum(place < layout.batch for place in places))


def _arrange(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    (layout,) = inputs
    places = axes_of(op, layout.rank)
    if layout.batch in places:
        raise Unsupported(f"axis={op.axis}: over the images")
    if op.keepdims:
        for place in places:
            layout = layout.with_dim(place, 1)
        return [layout]
    return [without(layout, places)]


def _arrange_index(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    """Where the largest entry stands: among the positions, whose numbers no width changes."""
    if any(place in axes_of(op, inputs[0].rank) for place, _ in inputs[0].axes):
        raise Unsupported(f"axis={op.axis}: a place among the channels")
    return _arrange(op, inputs, node, grouping)


def _reduced(call: RunCall, op: Any) -> list[tuple[int, Axis]]:
    """The dimensions that are reduced and that have inactive channels in this pass."""
    layout = call.input_layouts[0]
    places = axes_of(op, layout.rank)
    return [(p, axis) for p, axis in layout.axes if p in places and call.mask(axis) is not None]


def _share(x: Any, axes: list[tuple[int, Axis]], call: RunCall) -> Any:
    """Entries of the reduced axes over the active ones: inactive channels are zero, but are counted."""
    share: Any = tf.ones([], x.dtype)
    for _, axis in axes:
        share = share * tf.cast(axis.size, x.dtype) / tf.cast(call.active(axis), x.dtype)
    return share


def _filled(fill: Callable[[tf.DType], Any]) -> Callable[[Any, list[Any], dict[str, Any], RunCall], Any]:
    """A `run` in which inactive channels have a value that doesn't change the result."""

    def run(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
        places = [place for place, _ in _reduced(call, op)]
        x = inputs[0]
        if places:
            x = only_active(x, call.input_layouts[0], fill(x.dtype), call, places)
        return call_layer(op, [x], weights, call)

    return run


def _run_mean(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    y = call_layer(op, inputs, weights, call)
    axes = _reduced(call, op)
    return y * _share(y, axes, call) if axes else y


def _run_variance(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    axes = _reduced(call, op)
    if not axes:
        return call_layer(op, inputs, weights, call)
    x, layout = inputs[0], call.input_layouts[0]
    places = list(axes_of(op, layout.rank))
    share = _share(x, axes, call)
    mean = tf.reduce_mean(x, places, keepdims=True) * share
    centred = only_active(x - mean, layout, 0, call, [place for place, _ in axes])
    return tf.reduce_mean(tf.square(centred), places, keepdims=op.keepdims) * share


def _run_deviation(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    """The root of the variance: of one where channels are inactive, as its slope at zero is infinite."""
    if all(call.mask(axis) is None for _, axis in call.input_layouts[0].axes):
        return call_layer(op, inputs, weights, call)
    x, layout = inputs[0], call.input_layouts[0]
    if _reduced(call, op):
        variance = _run_variance(op, inputs, weights, call)
    else:
        variance = tf.math.reduce_variance(x, list(axes_of(op, layout.rank)), keepdims=op.keepdims)
    return tf.sqrt(only_active(variance, call.output_layouts[0], 1, call))


def _lowest(dtype: tf.DType) -> Any:
    return dtype.min


def _highest(dtype: tf.DType) -> Any:
    return dtype.max


SUM = LayerRule(arrange=_arrange, keeps_zero=always)
MEAN = SUM._replace(run=_run_mean)
MAXIMUM = SUM._replace(run=_filled(_lowest))
MINIMUM = SUM._replace(run=_filled(_highest))
PRODUCT = SUM._replace(run=_filled(lambda dtype: 1))
VARIANCE = SUM._replace(run=_run_variance)
DEVIATION = LayerRule(arrange=_arrange, run=_run_deviation)
INDEX = LayerRule(arrange=_arrange_index)
LOGSUMEXP = LayerRule(arrange=_arrange, run=_filled(_lowest))
ALL = LayerRule(arrange=_arrange, run=_filled(lambda dtype: True))
