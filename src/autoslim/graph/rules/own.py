"""Rules of weights as they are, and of what is looked up in tables of them."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from autoslim.graph.axes import NO_IMAGES, Axis, Dimension, Layout, size_of
from autoslim.graph.groups import Grouping
from autoslim.graph.rules.base import Channels, LayerRule, RunCall, Unsupported
from autoslim.graph.rules.reduction import axes_of
from autoslim.graph.trace import Node


def _arrange(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    """Each dimension of a weight or constant may turn out to be one of channels."""
    shape = op.variable.shape if hasattr(op, "variable") else op.value.shape
    dims = [grouping.new(node.name, n, tentative=True) if n > 1 else n for n in shape]
    return [Layout(tuple(dims), NO_IMAGES)]


def _weight_dimensions(
    op: Any, inputs: list[Layout], outputs: list[Layout]
) -> dict[str, tuple[Dimension, ...]]:
    return {"variable": outputs[0].dims if outputs else tuple(op.variable.shape)}


def _run_weight(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    return weights["variable"]


def _run_constant(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    return call.part(op.value, call.output_layouts[0].dims)


CONSTANT = LayerRule(arrange=_arrange, run=_run_constant)
WEIGHT = LayerRule(arrange=_arrange, weights=_weight_dimensions, run=_run_weight)


def _arrange_embedding(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    """The width of what is looked up is slimmed; the rows stay."""
    (layout,) = inputs
    for _, axis in layout.axes:
        grouping.freeze(axis, f"{node.name} looks up each of them")
    dims = [size_of(d) for d in layout.dims]
    return [Layout((*dims, grouping.new(node.name, op.output_dim)), layout.batch)]


def _embedding_weights(
    op: Any, inputs: list[Layout], outputs: list[Layout]
) -> dict[str, tuple[Dimension, ...]]:
    return {"_embeddings": (op.input_dim, outputs[0].dims[-1] if outputs else op.output_dim)}


def _run_embedding(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    return keras.ops.take(weights["_embeddings"], tf.cast(inputs[0], "int32"), axis=0)


def _embedding_config(
    op: Any, channels: Channels, inputs: list[Layout], outputs: list[Layout]
) -> dict[str, Any]:
    return {"output_dim": channels(outputs[0].axis())}


EMBEDDING = LayerRule(
    arrange=_arrange_embedding, weights=_embedding_weights, run=_run_embedding, config=_embedding_config
)


def _arrange_take(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    """Entries along an axis that is no channels': by indices that are known, or by a tensor of them."""
    layout, *indices = inputs
    if op.axis is None or len(indices) > 1:
        raise Unsupported(f"axis={op.axis}")
    (place,) = axes_of(op, layout.rank)
    if place == layout.batch or (indices and layout.has_images):
        raise Unsupported(f"axis={op.axis}: the images or the channels")
    if isinstance(layout.dims[place], Axis):
        if layout.has_images:
            raise Unsupported(f"axis={op.axis}: the images or the channels")
        grouping.freeze(layout.axis(place), f"{node.name} takes entries by their places")
    rank = len(node.output_shapes[0]) - layout.rank + 1
    taken = indices[0].dims if indices else node.output_shapes[0][place : place + rank]
    dims = (*layout.dims[:place], *taken, *layout.dims[place + 1 :])
    if indices:
        return [Layout(dims, place + indices[0].batch if indices[0].has_images else NO_IMAGES)]
    batch = layout.batch + (rank - 1) * (place < layout.batch)
    return [Layout(dims, batch)]


TAKE = LayerRule(arrange=_arrange_take)
