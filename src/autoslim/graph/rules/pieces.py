"""Rules of operations that take tensors apart and put them together: slices, splits, padding, stacks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.graph.axes import NO_IMAGES, Axis, Dimension, Layout, Piece
from autoslim.graph.groups import Grouping, stretches_of
from autoslim.graph.rules.base import (
    Call,
    Channels,
    LayerRule,
    NeedsCut,
    RunCall,
    Unsupported,
    always,
    call_layer,
)
from autoslim.graph.rules.elementwise import merged
from autoslim.graph.rules.reduction import without
from autoslim.graph.trace import Node


def stretches(axis: Axis, sizes: Sequence[int], grouping: Grouping) -> list[Axis]:
    """An axis cut into stretches of the given sizes.

    Raises:
        NeedsCut: if one ends within a piece.
    """
    found = stretches_of(axis.flat_pieces(), sizes)
    if found is None:
        grouping.cut(axis, itertools.accumulate(sizes))
        raise NeedsCut("channels that are split where they can't be cut")
    return [Axis(pieces) for pieces in found]


def _arrange_concatenate(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    rank = inputs[0].rank
    place = op.axis % rank
    if place == inputs[0].batch:
        raise Unsupported("the batch's axis")
    if len(inputs) == 1:
        return [inputs[0]]
    layout = merged(inputs, node, grouping, apart=place - rank)
    dims = [other.dims[place] for other in inputs]
    if any(isinstance(d, Axis) for d in dims):
        axes = [other.axis(place) for other in inputs]
        return [layout.with_dim(place, Axis(tuple(p for axis in axes for p in axis.flat_pieces())))]
    known = [d for d in dims if isinstance(d, int)]
    return [layout.with_dim(place, sum(known) if len(known) == len(dims) else None)]


CONCATENATE = LayerRule(arrange=_arrange_concatenate, keeps_zero=always)


def _arrange_split(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    """Along the positions; or along the channels, which are cut there."""
    (layout,) = inputs
    place = op.axis % layout.rank
    if place == layout.batch:
        raise Unsupported("the batch's axis")
    sizes = [shape[place] for shape in node.output_shapes]
    if isinstance(layout.dims[place], Axis):
        parts: Sequence[Dimension] = stretches(layout.axis(place), [size or 0 for size in sizes], grouping)
    else:
        parts = sizes
    return [layout.with_dim(place, part) for part in parts]


def _split_axis(op: Any, layout: Layout) -> int | None:
    place = op.axis % layout.rank
    return place if isinstance(layout.dims[place], Axis) else None


def _run_split(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    place = _split_axis(op, call.input_layouts[0])
    if place is None or len(call.output_layouts) == 1:
        return call_layer(op, inputs, weights, call)
    sizes = [call.channels(layout.axis(place)) for layout in call.output_layouts]
    return tf.split(inputs[0], tf.stack(sizes), axis=place, num=len(sizes))


def _split_config(op: Any, channels: Channels, inputs: list[Layout], outputs: list[Layout]) -> dict[str, Any]:
    place = _split_axis(op, inputs[0])
    if place is None or len(outputs) == 1:
        return {}
    sizes = [channels(layout.axis(place)) for layout in outputs]
    return {"indices_or_sections": tuple(itertools.accumulate(sizes[:-1]))}


SPLIT = LayerRule(arrange=_arrange_split, run=_run_split, config=_split_config, keeps_zero=always)


def _arrange_stack(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    layout = merged(inputs, node, grouping)
    place = op.axis % (layout.rank + 1)
    dims = (*layout.dims[:place], len(inputs), *layout.dims[place:])
    return [Layout(dims, layout.batch + (place <= layout.batch))]


def _arrange_unstack(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    (layout,) = inputs
    place = op.axis % layout.rank
    if place == layout.batch or isinstance(layout.dims[place], Axis):
        raise Unsupported(f"axis={op.axis}: the images or the channels")
    return [without(layout, [place])] * len(node.outputs)


STACK = LayerRule(arrange=_arrange_stack, keeps_zero=always)
UNSTACK = LayerRule(arrange=_arrange_unstack, keeps_zero=always)


def key_of(node: Node, rank: int) -> list[Any]:
    """The key of an indexing operation, one entry for each dimension and each new one, the ellipsis filled.

    Raises:
        Unsupported: for an index that is neither a number, a slice, None nor an ellipsis.
    """
    key = node.args[1] if len(node.args) > 1 else node.kwargs["key"]
    key = list(key) if isinstance(key, (tuple, list)) else [key]
    if any(not isinstance(k, (int, np.integer, slice)) and k not in (None, Ellipsis) for k in key):
        raise Unsupported("an index other than numbers, slices, None and an ellipsis")
    if Ellipsis not in key:
        key.append(Ellipsis)
    place = key.index(Ellipsis)
    missing = rank - sum(k is not None for k in key) + 1
    key[place : place + 1] = [slice(None)] * missing
    return key


def _stretch(axis: Axis, index: slice, grouping: Grouping) -> Axis:
    """The part of a channel axis that a slice takes."""
    start, stop, step = index.indices(axis.size)
    if step == 1:
        sizes = [start, max(stop - start, 0), axis.size - max(stop, start)]
        kept = [size for size in sizes if size]
        parts = stretches(axis, kept, grouping)
        return parts[1 if start else 0]
    whole = start < step and stop > axis.size - step
    if step < 1 or not whole or any(piece.repeat % step or piece.size % step for piece in axis.pieces):
        raise Unsupported(f"every {step}th of the channels")
    return axis.map_pieces(lambda p: Piece(p.group, p.size // step, p.repeat // step, p.unit))


def _arrange_item(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    """Indexing: `x[:, 0]`, `x[..., None, ::2, 4:]`; channels are cut where a slice begins and ends."""
    layout = inputs[0]
    if len(inputs) > 1:
        raise Unsupported("an index that is computed")
    shape = iter(node.output_shapes[0])
    dims: list[Dimension] = []
    place, batch = 0, NO_IMAGES
    for index in key_of(node, layout.rank):
        size = None if isinstance(index, (int, np.integer)) else next(shape)
        if index is None:
            dims.append(1)
            continue
        dimension = layout.dims[place]
        if place == layout.batch:
            if index != slice(None):
                raise Unsupported("an index into the images")
            batch = len(dims)
            dims.append(dimension)
        elif isinstance(dimension, Axis):
            if not isinstance(index, slice):
                if layout.has_images:
                    raise Unsupported("an index of a single channel; a slice of one can be followed")
                grouping.freeze(dimension, f"{node.name} takes one of them")
                place += 1
                continue
            dims.append(dimension if index == slice(None) else _stretch(dimension, index, grouping))
        elif isinstance(index, slice):
            dims.append(size)
        place += 1
    return [Layout(tuple(dims), batch)]


def _before(axis: Axis, entry: int, channels: Channels) -> Any:
    """Active entries before an entry of an axis, at which a piece ends."""
    ends = [0, *itertools.accumulate(piece.size for piece in axis.flat_pieces())]
    pieces = axis.flat_pieces()[: ends.index(entry)]
    return channels(Axis(pieces)) if pieces else 0


def _item_arguments(
    op: Any, node: Node, channels: Channels, inputs: list[Layout], outputs: list[Layout]
) -> Call:
    layout = inputs[0]
    key, place = [], 0
    for index in key_of(node, layout.rank):
        dimension = None if index is None else layout.dims[place]
        if isinstance(dimension, Axis) and isinstance(index, slice) and index != slice(None):
            start, stop, step = index.indices(dimension.size)
            if step == 1:
                index = slice(*(_before(dimension, entry, channels) for entry in (start, stop)))
            else:
                index = slice(start, None, step)
        key.append(index)
        place += index is not None
    return (node.args[0], tuple(key)), {}


ITEM = LayerRule(arrange=_arrange_item, arguments=_item_arguments, keeps_zero=always)


def _pad_width(op: Any, rank: int) -> list[tuple[int, int]]:
    widths = list(op.pad_width) * (rank if len(op.pad_width) == 1 else 1)
    return [(int(before), int(after)) for before, after in widths]


def _pads_zeros(node: Node) -> bool:
    value = node.args[1] if len(node.args) > 1 else node.kwargs.get("constant_values")
    return node.op.mode == "constant" and not isinstance(value, (tf.Tensor,)) and not value


def _arrange_pad(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    """Positions are padded with anything, channels with zeros: those make groups of their own."""
    (layout,) = inputs
    widths = _pad_width(op, layout.rank)
    if layout.has_images and any(widths[layout.batch]):
        raise Unsupported("more images")
    padded = [(place, axis) for place, axis in layout.axes if any(widths[place])]
    if padded and not _pads_zeros(node):
        raise Unsupported(f"channels that are padded with something else than zeros (mode={op.mode!r})")
    for place, (before, after) in enumerate(widths):
        dimension = layout.dims[place]
        if isinstance(dimension, int) and place != layout.batch:
            layout = layout.with_dim(place, dimension + before + after)
    for place, axis in padded:
        zeros = [grouping.new(node.name, n).pieces if n else () for n in widths[place]]
        layout = layout.with_dim(place, Axis((*zeros[0], *axis.flat_pieces(), *zeros[1])))
    return [layout]


def _pad_at(op: Any, channels: Any, inputs: list[Layout], outputs: list[Layout]) -> list[list[Any]]:
    """What is added before and behind each dimension, at the channels that are there."""
    widths: list[list[Any]] = [list(pair) for pair in _pad_width(op, inputs[0].rank)]
    for place, axis in outputs[0].axes:
        before, after = widths[place]
        if before or after:
            pieces = axis.flat_pieces()
            ends = list(itertools.accumulate(piece.size for piece in pieces))
            head = pieces[: ends.index(before) + 1] if before else ()
            tail = pieces[ends.index(ends[-1] - after) + 1 :] if after else ()
            widths[place] = [channels(Axis(some)) if some else 0 for some in (head, tail)]
    return widths


def _run_pad(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    widths = _pad_at(op, call.channels, call.input_layouts, call.output_layouts)
    if op.mode != "constant":
        return tf.pad(inputs[0], widths, op.mode.upper())
    value = call.node.args[1] if len(call.node.args) > 1 else call.node.kwargs.get("constant_values")
    return tf.pad(inputs[0], widths, constant_values=0 if value is None else value)


def _pad_config(op: Any, channels: Channels, inputs: list[Layout], outputs: list[Layout]) -> dict[str, Any]:
    return {"pad_width": [tuple(pair) for pair in _pad_at(op, channels, inputs, outputs)]}


PAD = LayerRule(arrange=_arrange_pad, run=_run_pad, config=_pad_config)
