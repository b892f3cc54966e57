"""Rules of operations that move entries: reshapes, transpositions, new axes and axes of size one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import tensorflow as tf

from autoslim.graph.axes import NO_IMAGES, Axis, Dimension, Layout, Piece, size_of
from autoslim.graph.groups import Grouping
from autoslim.graph.rules.base import (
    Channels,
    LayerRule,
    NeedsCut,
    RunCall,
    Unsupported,
    always,
    require_channels_last,
)
from autoslim.graph.rules.reduction import axes_of, without
from autoslim.graph.trace import Node

NARROW = 4  # channels; the last part of a dimension that is taken apart is what is slimmed unless narrower

_Atom = Axis | int  # what a dimension is made of, from the slowest to the fastest index


def _atoms(dimension: Dimension) -> Iterator[_Atom]:
    """A dimension as an index within an index: tiles, units of channels, entries of each unit."""
    if dimension is None:
        raise Unsupported("a dynamic shape")
    if isinstance(dimension, int):
        yield dimension
        return
    repeat = reduce(math.gcd, [piece.repeat for piece in dimension.pieces])
    yield dimension.tiles
    yield Axis(tuple(Piece(p.group, p.size // repeat, p.repeat // repeat, p.unit) for p in dimension.pieces))
    yield repeat


def _joined(atoms: Sequence[_Atom]) -> Dimension:
    """The dimension that atoms make together.

    Raises:
        Unsupported: if there are two channel axes among them.
    """
    places = [place for place, atom in enumerate(atoms) if isinstance(atom, Axis)]
    if not places:
        return math.prod(atom for atom in atoms if isinstance(atom, int))
    if len(places) > 1:
        raise Unsupported("two axes of channels that become one")
    before, after = (
        math.prod(atom for atom in some if isinstance(atom, int))
        for some in (atoms[: places[0]], atoms[places[0] + 1 :])
    )
    axis = atoms[places[0]]
    assert isinstance(axis, Axis)
    repeated = axis.repeated(after)
    return Axis(repeated.pieces, repeated.tiles * before)


class _Reshaping:
    """A tensor's entries shared out among the dimensions of another shape, from the first to the last."""

    def __init__(self, dims: Sequence[Dimension], sizes: Sequence[int], node: Node, grouping: Grouping):
        self._atoms: list[_Atom] = []
        for atom in (atom for dimension in dims for atom in _atoms(dimension) if size_of(atom) != 1):
            if self._atoms and isinstance(atom, int) and isinstance(self._atoms[-1], int):
                self._atoms[-1] *= atom
            else:
                self._atoms.append(atom)
        self._sizes = list(sizes)
        self._node, self._grouping = node, grouping

    def dims(self) -> list[Dimension]:
        return [self._dimension(place, size) for place, size in enumerate(self._sizes)]

    def _dimension(self, place: int, size: int) -> Dimension:
        taken: list[_Atom] = []
        left = size
        while left > 1:
            first = self._atoms[0]
            held = size_of(first) or 1
            if left % held == 0:
                taken.append(self._atoms.pop(0))
                left //= held
            elif held % left == 0 and isinstance(first, int):
                self._atoms[0] = held // left
                taken.append(left)
                left = 1
            elif held % left == 0 and isinstance(first, Axis):
                self._atoms[:1] = self._apart(first, [left, *self._sizes[place + 1 :]])
            else:
                raise Unsupported(self._why())
        return _joined(taken)

    def _apart(self, axis: Axis, sizes: Sequence[int]) -> list[_Atom]:
        """An axis as the first sizes, which make it up: one of them is slimmed, the others are kept."""
        parts: list[int] = []
        for size in sizes:
            rest = axis.size // math.prod(parts)
            if rest > 1:
                parts.append(size if rest % size == 0 else math.gcd(rest, size))
        if math.prod(parts) != axis.size or not parts:
            raise Unsupported(self._why())
        slim = len(parts) - 1
        if parts[slim] < NARROW:
            slim = parts.index(max(parts))
        tiles, block = math.prod(parts[:slim]), math.prod(parts[slim + 1 :])
        one = self._grouping.tiled(axis, tiles, self._node.name)
        if one is None or any(piece.size % block for piece in one.pieces):
            raise NeedsCut("channels that are taken apart where they can't be cut")
        blocks = [self._grouping.blocks(piece, block, self._node.name) for piece in one.pieces]
        units = tuple(Piece(piece.group, piece.size // block) for piece in blocks)
        return [*parts[:slim], Axis(units, one.tiles), *parts[slim + 1 :]]

    def _why(self) -> str:
        shapes = self._node.input_shapes[0][1:], self._node.output_shapes[0][1:]
        return f"reshaping {shapes[0]} to {shapes[1]}"


def _arrange_reshape(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    """Follow the channels into flat dimensions and out of them, and where a dimension is taken apart."""
    require_channels_last(op)
    (layout,) = inputs
    shape = node.output_shapes[0]
    if not layout.has_images:
        return [
            Layout(tuple(_Reshaping(layout.dims, [n or 1 for n in shape], node, grouping).dims()), NO_IMAGES)
        ]
    if not layout.batch and shape[:1] == (None,) and (None in layout.dims or None in shape[1:]):
        return [_with_unknown_sizes(layout, shape)]
    if None in layout.dims or shape.count(None) != 1:
        raise Unsupported("the batch's axis")
    batch = shape.index(None)
    before, dims = layout.dims[: layout.batch], layout.dims[layout.batch :]
    sizes = [size or 1 for size in shape[batch + 1 :]]
    rows, rest = divmod(_entries(dims), math.prod(sizes))
    if rest or not rows or _entries(before) != _entries(shape[:batch]):
        raise Unsupported("the batch's axis")
    first = _Reshaping(before, [size or 1 for size in shape[:batch]], node, grouping).dims()
    others = _Reshaping(dims, [rows, *sizes], node, grouping).dims()
    if isinstance(others[0], Axis):
        raise Unsupported("channels that become images")
    return [Layout((*first, *others), batch)]


def _entries(dims: Sequence[Dimension]) -> int:
    return math.prod(size_of(d) or 1 for d in dims)


def _with_unknown_sizes(layout: Layout, shape: tuple[int | None, ...]) -> Layout:
    """Positions of unknown number may be moved about, as long as the channels are the last axis still."""
    if not layout.axes and len(shape) > 1:
        return Layout((layout.dims[0], *shape[1:]))
    if layout.rank < 2 or len(shape) < 2 or shape[-1] is None or size_of(layout.dims[-1]) != shape[-1]:
        raise Unsupported("a dynamic shape")
    if any(place != layout.rank - 1 for place, _ in layout.axes):
        raise Unsupported("a dynamic shape")
    return Layout((layout.dims[0], *shape[1:-1], layout.dims[-1]))


def _run_reshape(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    layout = call.output_layouts[0]
    dims = layout.dims
    sizes = [call.channels(d) if isinstance(d, Axis) else d for d in dims]
    if None in dims:  # the layer's own -1 stands for one of unknown size
        given = getattr(op, "target_shape", None) or op.newshape[1:]
        sizes = [0, *(n if n == -1 else size for n, size in zip(given, sizes[1:], strict=True))]
    if sizes:  # not a single number
        sizes[max(0, layout.batch)] = tf.shape(inputs[0])[0] if None in dims else -1
    return tf.reshape(inputs[0], sizes)


def _reshape_config(
    op: Any, channels: Channels, inputs: list[Layout], outputs: list[Layout]
) -> dict[str, Any]:
    name = "target_shape" if hasattr(op, "target_shape") else "newshape"
    shape = list(getattr(op, name))
    for place, axis in outputs[0].axes:
        place -= outputs[0].rank
        if shape[place] != -1:
            shape[place] = channels(axis)
    return {name: tuple(shape)}


RESHAPE = LayerRule(arrange=_arrange_reshape, run=_run_reshape, config=_reshape_config, keeps_zero=always)
FLATTEN = RESHAPE._replace(config=lambda op, channels, inputs, outputs: {})


def order_of(op: Any, rank: int) -> list[int]:
    """The axes of a transposing operation's input, in the order of its output."""
    places = list(range(rank))
    if hasattr(op, "dims"):
        return [0, *op.dims]
    if hasattr(op, "source"):
        moved = dict(zip(*([i % rank for i in some] for some in (op.destination, op.source)), strict=True))
        others = iter(place for place in places if place not in moved.values())
        return [moved[place] if place in moved else next(others) for place in places]
    if hasattr(op, "axis1"):
        first, second = op.axis1 % rank, op.axis2 % rank
        places[first], places[second] = second, first
        return places
    return places[::-1] if op.axes is None else [axis % rank for axis in op.axes]


def _arrange_transpose(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    (layout,) = inputs
    order = order_of(op, layout.rank)
    batch = order.index(layout.batch) if layout.has_images else NO_IMAGES
    return [Layout(tuple(layout.dims[place] for place in order), batch)]


def _arrange_expand(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    (layout,) = inputs
    for place in axes_of(op, len(node.output_shapes[0])):
        before = place <= layout.batch
        layout = Layout((*layout.dims[:place], 1, *layout.dims[place:]), layout.batch + before)
    return [layout]


def _arrange_squeeze(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    (layout,) = inputs
    if op.axis is None:
        places = tuple(p for p, d in enumerate(layout.dims) if p != layout.batch and size_of(d) == 1)
    else:
        places = axes_of(op, layout.rank)
    return [without(layout, places)]


TRANSPOSE = LayerRule(arrange=_arrange_transpose, keeps_zero=always)
EXPAND = LayerRule(arrange=_arrange_expand, keeps_zero=always)
SQUEEZE = LayerRule(arrange=_arrange_squeeze, keeps_zero=always)


def _arrange_kept(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    """Positions that change places among themselves."""
    (layout,) = inputs
    places = axes_of(op, layout.rank)
    if layout.batch in places or any(place in places for place, _ in layout.axes):
        raise Unsupported(f"axis={op.axis}: the images or the channels")
    return [layout]


POSITIONS = LayerRule(arrange=_arrange_kept, keeps_zero=always)


def _arrange_sized(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    """Positions that become more or fewer along `axis`."""
    (layout,) = inputs[:1]
    (place,) = axes_of(op, layout.rank) if op.axis is not None else (layout.batch,)
    if len(inputs) > 1 or len(node.output_shapes[0]) != layout.rank:
        raise Unsupported("indices that are computed, or of several dimensions")
    if place == layout.batch or isinstance(layout.dims[place], Axis):
        raise Unsupported(f"axis={op.axis}: the images or the channels")
    return [layout.with_dim(place, node.output_shapes[0][place])]


SIZED = POSITIONS._replace(arrange=_arrange_sized)


def _arrange_tile(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    (layout,) = inputs
    times = [1] * (layout.rank - len(op.repeats)) + list(op.repeats)
    if layout.rank < len(times) and not layout.has_images:
        layout = Layout((1,) * (len(times) - layout.rank) + layout.dims, NO_IMAGES)
    if len(times) != layout.rank or (layout.has_images and times[layout.batch] != 1):
        raise Unsupported(f"repeats={tuple(op.repeats)}: the images")
    dims = [
        Axis(d.pieces * n) if isinstance(d, Axis) and d.tiles == 1
        else Axis(d.pieces, d.tiles * n) if isinstance(d, Axis)
        else d and d * n
        for d, n in zip(layout.dims, times, strict=True)
    ]  # fmt: skip
    return [Layout(tuple(dims), layout.batch)]


TILE = POSITIONS._replace(arrange=_arrange_tile)


def _arrange_repeat(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    (layout,) = inputs
    (place,) = axes_of(op, layout.rank) if op.axis is not None else (layout.batch,)
    dimension = layout.dims[place]
    if place == layout.batch or (isinstance(dimension, Axis) and not isinstance(op.repeats, int)):
        raise Unsupported(f"axis={op.axis} and repeats={op.repeats}")
    if isinstance(dimension, Axis):
        return [layout.with_dim(place, dimension.repeated(op.repeats))]
    return [layout.with_dim(place, node.output_shapes[0][place])]


REPEAT = POSITIONS._replace(arrange=_arrange_repeat)


def _arrange_depth(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    """Channels that become positions, block by block: [block, block, channels]; and the way back."""
    require_channels_last(op)
    (layout,) = inputs
    axis, count = layout.axis(), op.block_size**2
    if len(layout.axes) > 1:
        raise Unsupported("channels on several axes")
    if axis.size > (node.output_shapes[0][-1] or 0):
        one = grouping.tiled(axis, count, node.name)
        if one is None:
            raise NeedsCut("channels that are taken apart where they can't be cut")
    else:
        one = Axis(axis.pieces, axis.tiles * count)
    return [Layout((layout.dims[0], *node.output_shapes[0][1:-1], one))]


def _run_depth(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    wider = call.input_layouts[0].axis().size < call.output_layouts[0].axis().size
    function = tf.nn.space_to_depth if wider else tf.nn.depth_to_space
    return function(inputs[0], op.block_size)


DEPTH = LayerRule(arrange=_arrange_depth, run=_run_depth, keeps_zero=always)
