"""Rules of functions of each entry, of one tensor or of several that are broadcast, constants among them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.graph.axes import NO_IMAGES, Axis, Dimension, Layout, size_of
from autoslim.graph.groups import Grouping
from autoslim.graph.rules.base import (
    EACH,
    Call,
    Channels,
    LayerRule,
    RunCall,
    Unsupported,
    always,
    call_layer,
)
from autoslim.graph.trace import Node, Slot


def merged(layouts: Sequence[Layout], node: Node, grouping: Grouping, apart: int | None = None) -> Layout:
    """The layout of tensors that are broadcast against each other, their channels tied.

    Args:
        layouts: aligned at their last dimension.
        node: that joins them.
        grouping: to which the ties are added.
        apart: a dimension, counted from the end and negative, that is left alone: it is the first tensor's.

    Raises:
        Unsupported: if their images stand on different axes.
    """
    rank = max(layout.rank for layout in layouts)
    batches = {layout.batch - layout.rank for layout in layouts if layout.rank and layout.has_images}
    for layout in layouts:
        same = not layout.has_images and layout.rank >= -max(batches, default=-layout.rank - 1)
        if len(batches) > 1 or (same and size_of(layout.dims[max(batches)]) != 1):
            raise Unsupported("inputs of different rank")
    dims: list[Dimension] = []
    for place in range(-rank, 0):
        held = [layout.dims[place] for layout in layouts if layout.rank >= -place]
        dims.append(held[0] if place == apart else _joined(held, node, grouping))
    return Layout(tuple(dims), rank + max(batches) if batches else NO_IMAGES)


def _joined(dims: Sequence[Dimension], node: Node, grouping: Grouping) -> Dimension:
    """A dimension of tensors that are broadcast: a size of 1 goes with any other."""
    wide = [d for d in dims if size_of(d) != 1] or list(dims)
    axes = [layout.axis() for layout in (Layout((1, d)) for d in wide)]
    first = next((axis for axis in axes if axis.groups), axes[0])
    if None in wide:  # of the size of the others, or 1
        for axis in axes:
            grouping.freeze(axis, f"{node.name} joins them with a dimension of unknown size")
        return next((d for d in wide if d is not None), None)
    for axis in axes:
        if axis is not first:
            grouping.tie(first, axis, node.name)
    return next((axis for axis in axes if not axis.groups), first)


def is_constant(value: Any) -> bool:
    """Whether a recorded call argument is an array, a tensor or a variable of one dimension at least."""
    return not isinstance(value, Slot) and bool(getattr(value, "shape", ()))


def _constants(node: Node) -> list[Any]:
    return [value for value in keras.tree.flatten((node.args, node.kwargs)) if is_constant(value)]


def _arrange_merge(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    """Add and its kin, entry by entry; with broadcasting, as in squeeze-and-excitation."""
    layout = merged(inputs, node, grouping)
    for value in _constants(node):
        if layout.has_images and len(value.shape) > layout.rank:
            raise Unsupported(f"a constant operand of shape {tuple(value.shape)}")
        layout = Layout((1,) * (len(value.shape) - layout.rank) + layout.dims, layout.batch)
        if layout.has_images and len(value.shape) == layout.rank and value.shape[layout.batch] != 1:
            raise Unsupported(f"a constant operand of shape {tuple(value.shape)}")
        for place, (d, n) in enumerate(_aligned(layout, value), layout.rank - len(value.shape)):
            if size_of(d) == 1 and n > 1 and place != layout.batch:
                layout = layout.with_dim(place, n)
            elif n not in (1, size_of(d)):
                raise Unsupported(f"a constant operand of shape {tuple(value.shape)}")
    return [layout]


def _aligned(layout: Layout, value: Any) -> list[tuple[Dimension, int]]:
    """(dimension of the layout, size of the constant there), from the constant's first dimension on."""
    count = len(value.shape)
    return list(zip(layout.dims[layout.rank - count :], value.shape, strict=True))


def _merge_arguments(
    op: Any, node: Node, channels: Channels, inputs: list[Layout], outputs: list[Layout]
) -> Call:
    """Constants at the channels that are there."""

    def part(value: Any) -> Any:
        if not is_constant(value):
            return value
        dims = [d if isinstance(d, Axis) and n != 1 else n for d, n in _aligned(outputs[0], value)]
        return channels.part(value, dims) if any(isinstance(d, Axis) for d in dims) else value

    return keras.tree.map_structure(part, node.args), keras.tree.map_structure(part, node.kwargs)


def _run_defined(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    """Inactive channels count as two: at zero the function, or its slope, may be infinite."""
    filled = [only_active(x, layout, 2, call) for x, layout in zip(inputs, call.input_layouts, strict=True)]
    return call_layer(op, filled, weights, call)


def only_active(x: Any, layout: Layout, fill: Any, call: RunCall, places: Sequence[int] | None = None) -> Any:
    """A tensor with a value in the place of inactive channels; along some dimensions only, where given."""
    for place, axis in layout.axes:
        mask = call.mask(axis)
        if mask is not None and (places is None or place in places):
            mask = tf.reshape(mask, [-1] + [1] * (layout.rank - 1 - place))
            x = tf.where(mask, x, tf.cast(fill, x.dtype))
    return x


def _same_sizes(op: Any, inputs: list[Layout]) -> bool:
    """A single channel that is broadcast is not zero where the others are."""
    return len({tuple(map(size_of, layout.dims)) for layout in inputs}) == 1


MERGE = LayerRule(arrange=_arrange_merge, arguments=_merge_arguments)  # keeps no zeros: constants are added
DEFINED = MERGE._replace(run=_run_defined)
ADD = MERGE._replace(keeps_zero=_same_sizes)
MULTIPLY = MERGE._replace(keeps_zero=always)


@functools.lru_cache(maxsize=1024)
def _is_zero_at_zero(op: Any) -> bool:
    with tf.init_scope():
        try:
            return not np.any(np.asarray(op.call(tf.zeros([2, 2]))))
        except Exception:  # an operation may refuse the type
            return False


FUNCTION = EACH._replace(keeps_zero=lambda op, inputs: _is_zero_at_zero(op))

# Names of operations in keras.ops, by module. Of one tensor:
FUNCTIONS = {
    "numpy": (
        *("Absolute", "Fabs", "Negative", "Sign", "Signbit", "Square", "Exp", "Exp2", "Expm1", "Log1p"),
        *("Ceil", "Floor", "Round", "Trunc", "Clip", "Copy", "Real", "Deg2rad", "Rad2deg", "NanToNum"),
        *("Sin", "Cos", "Tan", "Sinc", "Arcsin", "Arccos", "Arctan"),
        *("Sinh", "Cosh", "Arcsinh", "Arctanh"),
        *("Isfinite", "Isinf", "Isnan", "Isneginf", "Isposinf", "LogicalNot", "OnesLike", "ZerosLike"),
    ),
    "math": ("Erf", "Erfc", "Erfinv"),
    "core": ("Cast", "StopGradient"),
}
# Of one tensor, with a value or a slope that is infinite at zero:
SINGULAR = {"numpy": ("Arccosh", "Cbrt", "Log", "Log10", "Log2", "Reciprocal", "Sqrt"), "math": ("Rsqrt",)}
# Of several tensors:
MERGING = (
    *("Add", "Subtract", "Maximum", "Minimum", "Fmax", "Fmin", "Arctan2", "Logaddexp", "Logaddexp2"),
    *("Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual", "Isclose", "Heaviside"),
    *("LogicalAnd", "LogicalOr", "LogicalXor", "Where"),
)
SINGULAR_MERGING = ("Divide", "DivideNoNan", "FloorDivide", "Fmod", "Hypot", "Mod", "Power", "TrueDivide")
