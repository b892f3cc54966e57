"""Run a channel graph at given widths: sliced, or masked at full shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from autoslim.errors import AutoslimError
from autoslim.graph.added import added_losses, forget_losses
from autoslim.graph.axes import Axis, Dimension, Layout
from autoslim.graph.options import DTYPES, RunOptions
from autoslim.graph.rules.base import call_layer, mixes_channels, weight_of
from autoslim.graph.structure import Structure
from autoslim.graph.trace import Node, Trace

Replaced = Mapping[int, Any]  # id(a weight of the model) -> what stands in its place, at the active widths
Statistics = list[tuple[keras.Layer, Axis, Any, Any]]  # (layer, its axis, batch mean, batch variance)


def forward(
    graph: Structure,
    images: Any,
    widths: Any,
    options: RunOptions,
    replaced: Replaced | None = None,
    added: list[Any] | None = None,
) -> tuple[Any, Statistics]:
    """See `ChannelGraph.run_with_statistics`; the losses that layers add are put into `added`."""
    if replaced and options.masked:
        raise AutoslimError(
            "Weights that are replaced have the widths' own shapes: expected execution='slice'."
        )
    run = _Pass(graph, _as_widths(graph, widths), options, replaced or {})
    run.added = added
    outputs = graph.trace.walk(as_images(graph.trace, images), run.visit)
    if DTYPES[options.precision]:
        outputs = [tf.cast(y, tf.float32) if y.dtype in (tf.bfloat16, tf.float16) else y for y in outputs]
    return graph.trace.pack_outputs(outputs), run.statistics


def forward_part(
    graph: Structure, part: Trace, inputs: list[Any], widths: Any, options: RunOptions
) -> list[Any]:
    """Run a stretch of the graph's nodes.

    Args:
        graph: whose nodes.
        part: a trace of some of its nodes; `inputs` stand at the part's inputs.
        inputs: tensors of the types that the nodes take.
        widths: int32 [G], an array or a tensor.
        options: how the nodes are computed.

    Returns:
        What stands at the part's outputs, flat.
    """
    return part.walk(inputs, _Pass(graph, widths, options, {}).visit)


def visitor(graph: Structure, widths: Any, replaced: Replaced) -> Callable[[Node, list[Any]], list[Any]]:
    """What computes a graph's nodes at given widths, sliced, one by one: (node, inputs) -> outputs."""
    return _Pass(graph, _as_widths(graph, widths), RunOptions(), replaced).visit


def forward_gated(graph: Structure, images: Any, gates: Mapping[int, Any]) -> Any:
    """The full network's outputs, with moving statistics and no dropout, its channels behind gates.

    Wherever a layer sums over channels, each is multiplied by its unit's gate first: at 0 it is as if it were
    not there.

    Args:
        graph: of the network.
        images: tensor [N, H, W, C], or what the model takes.
        gates: index of a group -> float32 [N, units], for the groups that have gates.
    """
    run = _GatedPass(graph, graph.full, RunOptions(), {})
    run.gates = gates
    return graph.trace.pack_outputs(graph.trace.walk(as_images(graph.trace, images), run.visit))


def as_images(traced: Trace, images: Any) -> list[Any]:
    """The model's inputs as tensors of the types that it declares."""
    flat = _flat_inputs(traced, images)
    if len(flat) != len(traced.inputs):
        raise AutoslimError(
            f"{len(flat)} input tensors were given; the model has {len(traced.inputs)} inputs: "
            f"{', '.join(traced.input_names)}."
        )
    tensors = []
    for x, shape, dtype, name in zip(
        flat, traced.input_shapes, traced.input_dtypes, traced.input_names, strict=True
    ):
        tensor = tf.convert_to_tensor(x)
        if tensor.dtype.is_floating and not tf.as_dtype(dtype).is_floating:
            raise AutoslimError(
                f"Input {name!r} takes {dtype}, and got {tensor.dtype.name}: expected pixels as they are, or "
                "whole numbers. Give images that are not normalised."
            )
        tensor = tf.cast(tensor, dtype)
        if not tensor.shape.is_compatible_with((None, *shape[1:])):
            raise AutoslimError(
                f"Input {name!r} has shape {tuple(tensor.shape)}; expected {('N', *shape[1:])}, N images."
            )
        tensors.append(tensor)
    return tensors


def _flat_inputs(traced: Trace, images: Any) -> list[Any]:
    """Inputs in the model's order: of a dict by the names of its own dict, or of its inputs."""
    if isinstance(images, Mapping):
        names = traced.input_names
        if isinstance(traced.input_structure, Mapping):
            names = tuple(sorted(traced.input_structure))
        lacking = [name for name in names if name not in images]
        if lacking and len(names) == len(set(names)):
            raise AutoslimError(
                f"Inputs {', '.join(map(str, images))} were given, and not {', '.join(lacking)}: the model's "
                f"inputs are {', '.join(names)}."
            )
        return [images[name] for name in names]
    return [images] if len(traced.inputs) == 1 else keras.tree.flatten(images)


def _as_widths(graph: Structure, widths: Any) -> Any:
    """Widths as NumPy where their values are known, so that shapes are static; else as a tensor."""
    if widths is None:
        return graph.full
    if tf.is_tensor(widths) or isinstance(widths, tf.Variable):
        static = None if isinstance(widths, tf.Variable) else tf.get_static_value(widths)
        return tf.convert_to_tensor(widths, tf.int32) if static is None else graph.check(static)
    return graph.check(widths)


def _lowers(op: Any, rank: int) -> bool:
    """Whether a layer computes in a low precision when the network is asked to.

    A layer whose author chose its type keeps it; a softmax is taken in float32.
    """
    if not isinstance(op, keras.Layer) or not op.autocast or op.compute_dtype != "float32":
        return False
    activation = getattr(op, "activation", None)
    return not isinstance(op, keras.layers.Softmax) and (
        activation is None or not mixes_channels(activation, rank)
    )


class _Pass:
    """One pass through the graph, and one node of it at a time as the rules see it (`RunCall`)."""

    node: Node
    compute_dtype: str | None  # of the node

    def __init__(self, graph: Structure, widths: Any, options: RunOptions, replaced: Replaced) -> None:
        self.graph = graph
        self.widths = widths
        self.options = options
        self.replaced = replaced
        self.statistics: Statistics = []
        self.added: list[Any] | None = None  # where the losses that layers add are put
        self._masks: dict[Axis, Any] = {}
        self._counts: dict[Axis, Any] = {}

    @property
    def input_axes(self) -> list[Axis]:
        return self.graph.input_axes(self.node)

    @property
    def output_axes(self) -> list[Axis]:
        return self.graph.output_axes(self.node)

    @property
    def input_layouts(self) -> list[Layout]:
        return self.graph.input_layouts(self.node)

    @property
    def output_layouts(self) -> list[Layout]:
        return self.graph.output_layouts(self.node)

    def visit(self, node: Node, inputs: list[Any]) -> list[Any]:
        self.node = node
        self.compute_dtype = self._dtype_of(node)
        forget_losses(node.op)
        outputs = self._run(node, inputs)
        if self.added is not None:
            self.added += added_losses(node.op, outputs)
        return outputs

    def _run(self, node: Node, inputs: list[Any]) -> list[Any]:
        rule = self.graph.rule(node)
        if rule is None:
            return keras.tree.flatten(call_layer(node.op, inputs, {}, cast(Any, self)))
        self.node = self.graph.call_arguments(node, self)
        inputs = self._autocast(inputs)
        weights = {
            name: self._weight(weight_of(node.op, name), dimensions)
            for name, dimensions in self.graph.weight_dimensions(node).items()
        }
        outputs = keras.tree.flatten(rule.run(node.op, inputs, weights, cast(Any, self)))
        self._fix_shapes(outputs)
        if self.options.masked and not self.graph.keeps_zero(node):
            outputs = [
                self._masked(y, layout) for y, layout in zip(outputs, self.output_layouts, strict=True)
            ]
        return outputs

    def _dtype_of(self, node: Node) -> str | None:
        """The type that a layer computes in: its own, or that of the precision where it takes another."""
        low = DTYPES[self.options.precision]
        if low and self.graph.rule(node) is not None and _lowers(node.op, len(node.output_shapes[0])):
            return low
        return getattr(node.op, "compute_dtype", None)

    def _autocast(self, inputs: list[Any]) -> list[Any]:
        """Floating-point inputs in the layer's compute type, as Keras hands them to `call`."""
        op = self.node.op
        if not isinstance(op, keras.Layer) or not op.autocast:
            return inputs
        return [tf.cast(x, self.compute_dtype) if x.dtype.is_floating else x for x in inputs]

    def _fix_shapes(self, outputs: list[Any]) -> None:
        """Tell TensorFlow, in a `tf.function`, the sizes that are known: some layers rely on them."""
        if tf.executing_eagerly():
            return
        for y, layout in zip(outputs, self.output_layouts, strict=True):
            if layout.rank > 1:
                sizes = [self.channels(d) if isinstance(d, Axis) else d for d in layout.dims]
                if layout.has_images:
                    sizes[layout.batch] = None
                y.set_shape([size if isinstance(size, int) else None for size in sizes])

    def __call__(self, axis: Axis) -> Any:
        """As `channels`."""
        return self.channels(axis)

    def channels(self, axis: Axis) -> Any:
        """Entries of the axis in this pass: an int, or a scalar int32 tensor."""
        return axis.size if self.options.masked else self.active(axis)

    def mask(self, axis: Axis) -> Any:
        """Which entries of the axis are active, or None where all that are there are."""
        return None if not self.options.masked or self._is_full(axis) else self._mask(axis)

    def take(self, value: Any, axis: Axis) -> Any:
        """The part of a constant that is there in this pass; a last axis of another size is left whole."""
        if self.options.masked or not value.shape.rank or value.shape[-1] != axis.size:
            return value
        return self._slice(value, (*value.shape[:-1], axis))

    def part(self, value: Any, dims: Sequence[Dimension]) -> Any:
        """The part of a constant, whose dimensions are `dims`, that is there in this pass."""
        value = tf.convert_to_tensor(value)
        return value if self.options.masked else self._slice(value, tuple(dims))

    def gate(self, layout: Layout) -> Any:
        """What the channels of the layer's own earlier outputs are multiplied by; None: nothing."""
        return None

    def record(self, layer: keras.Layer, statistics: tuple[Any, Any], axis: Axis) -> None:
        """Keep a batch normalisation's batch statistics."""
        self.statistics.append((layer, axis, *statistics))

    def active(self, axis: Axis) -> Any:
        """Active entries of the axis: an int where it is known, else a scalar int32 tensor."""
        if axis not in self._counts:
            if isinstance(self.widths, np.ndarray):
                self._counts[axis] = int(axis.active(self.widths))
            elif all(self.graph.groups[g].frozen for g in axis.groups):
                self._counts[axis] = axis.size
            else:
                self._counts[axis] = axis.active(self.widths)
        return self._counts[axis]

    def _weight(self, variable: Any, dimensions: tuple[Dimension, ...]) -> Any:
        """A weight at the active widths, in the layer's compute type."""
        value = tf.convert_to_tensor(self.replaced.get(id(variable), variable))
        if not self.options.masked and id(variable) not in self.replaced:
            value = self._slice(value, dimensions)
        rule = self.graph.rule(self.node)
        if rule is not None and rule.normalizes:
            return value  # statistics and their scale stay in float32
        return tf.cast(value, self.compute_dtype)

    def _slice(self, value: Any, dimensions: tuple[Dimension, ...]) -> Any:
        """The active part of a weight; the sizes that are known stay known to TensorFlow."""
        sizes: list[Any] = value.shape.as_list()
        sliced = False
        for place, dimension in enumerate(dimensions):
            if isinstance(dimension, Axis) and not self._is_full(dimension):
                if len(dimension.pieces) == dimension.tiles == 1:
                    sizes[place] = self.active(dimension)
                    sliced = True
                else:
                    value = self._slice_pieces(value, place, dimension)
                    sizes[place] = -1
        if not sliced:
            return value
        sizes = [tf.shape(value)[i] if isinstance(s, int) and s == -1 else s for i, s in enumerate(sizes)]
        return tf.slice(value, [0] * len(sizes), sizes)

    def _is_full(self, axis: Axis) -> bool:
        active = self.active(axis)
        return isinstance(active, int) and active == axis.size

    def _slice_pieces(self, value: Any, place: int, axis: Axis) -> Any:
        """Slice every piece of a concatenated or tiled axis that stands at `place` of a weight."""
        shape, tiles = value.shape.as_list(), axis.tiles
        before, after = tf.shape(value)[:place], tf.shape(value)[place + 1 :]
        sizes = [piece.size for piece in axis.pieces]
        tiled = tf.reshape(value, tf.concat([before, [tiles, sum(sizes)], after], 0)) if tiles > 1 else value
        at = place + (tiles > 1)
        parts = []
        for piece, part in zip(axis.pieces, tf.split(tiled, sizes, axis=at), strict=True):
            size = [-1] * (len(shape) + (tiles > 1))
            size[at] = piece.active(self.widths[piece.group])
            parts.append(tf.slice(part, [0] * len(size), size))
        joined = tf.concat(parts, at)
        if tiles > 1:
            joined = tf.reshape(joined, tf.concat([before, [-1], after], 0))
        active = self.active(axis)
        shape[place] = active if isinstance(active, int) else None
        return tf.ensure_shape(joined, shape)

    def _masked(self, y: Any, layout: Layout) -> Any:
        """`y` with its inactive channels at zero."""
        for place, axis in layout.axes:
            if not self._is_full(axis):
                mask = tf.reshape(self._mask(axis), [-1] + [1] * (layout.rank - 1 - place))
                y = tf.where(mask, y, tf.zeros([], y.dtype))
        return y

    def _mask(self, axis: Axis) -> Any:
        """Which entries of the axis are active: bool [size]."""
        if axis not in self._masks:
            parts = [
                tf.sequence_mask(piece.active(self.widths[piece.group]), piece.size) for piece in axis.pieces
            ]
            self._masks[axis] = tf.tile(tf.concat(parts, 0), [axis.tiles])
        return self._masks[axis]


class _GatedPass(_Pass):
    """A pass at full width in which units are multiplied by gates where they are summed over."""

    gates: Mapping[int, Any]  # group -> [N, units]

    def visit(self, node: Node, inputs: list[Any]) -> list[Any]:
        layouts = self.graph.input_layouts(node)
        if inputs and self.graph.summed_dimensions(node):
            inputs = [self._behind_gates(inputs[0], layouts[0]), *inputs[1:]]
        elif len(inputs) > 1 and self.graph.rule(node) and self.graph.products(node):
            left = {axis for layout in self.graph.output_layouts(node) for _, axis in layout.axes}
            summed = Layout(tuple(1 if d in left else d for d in layouts[0].dims), layouts[0].batch)
            inputs = [self._behind_gates(inputs[0], summed), *inputs[1:]]
        return super().visit(node, inputs)

    def gate(self, layout: Layout) -> Any:
        axis = layout.axis()
        if not any(group in self.gates for group in axis.groups):
            return None
        return tf.repeat(self._gate(axis), layout.dims[layout.batch], axis=0)

    def _behind_gates(self, x: Any, layout: Layout) -> Any:
        """`x`, each of its channel axes multiplied by the gates of the units there."""
        if not layout.has_images:
            return x
        rows = layout.dims[layout.batch] if layout.rank else 1
        for place, axis in layout.axes:
            if any(group in self.gates for group in axis.groups):
                gate = tf.repeat(self._gate(axis), rows, axis=0)  # images that were taken apart
                shape = [1] * layout.rank
                shape[layout.batch], shape[place] = -1, axis.size
                gate = tf.transpose(gate) if place < layout.batch else gate
                x = x * tf.cast(tf.reshape(gate, shape), x.dtype)
        return x

    def _gate(self, axis: Axis) -> Any:
        """The gates of an axis's entries: float32 [N, size]."""
        images = tf.shape(next(iter(self.gates.values())))[0]
        parts = [
            tf.repeat(self.gates[piece.group], piece.repeat, axis=1)
            if piece.group in self.gates
            else tf.ones([images, piece.size])
            for piece in axis.pieces
        ]
        return tf.tile(tf.concat(parts, 1), [1, axis.tiles])
