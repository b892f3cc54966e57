"""Build the plain Keras model that a channel graph is at given widths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from autoslim.graph.axes import Axis, Dimension
from autoslim.graph.trace import Node

if TYPE_CHECKING:
    from autoslim.graph.channel_graph import ChannelGraph


def materialize(graph: ChannelGraph, widths: np.ndarray, weights: bool, name: str | None) -> keras.Model:
    """See `ChannelGraph.materialize`."""
    traced = graph.trace
    inputs = [
        keras.Input(batch_shape=shape, name=name_)
        for shape, name_ in zip(traced.input_shapes, traced.input_names, strict=True)
    ]
    layers: dict[int, Any] = {}  # id(original) -> its slimmed copy; a shared layer has one

    def visit(node: Node, tensors: list[Any]) -> list[Any]:
        if id(node.op) not in layers:
            layers[id(node.op)] = _slimmed(graph, node, widths)
        return keras.tree.flatten(node.call(tensors, op=layers[id(node.op)]))

    outputs = traced.walk(inputs, visit)
    model = keras.Model(
        inputs[0] if len(inputs) == 1 else inputs,
        outputs[0] if len(outputs) == 1 else outputs,
        name=name or graph.model.name,
    )
    if weights:
        for node in traced.nodes:
            _copy_weights(graph, node, layers[id(node.op)], widths)
    return model


def _slimmed(graph: ChannelGraph, node: Node, widths: np.ndarray) -> Any:
    """The same layer for the channels that are left."""
    op = node.op
    if not isinstance(op, keras.Layer):
        return op
    rule = graph.rule(node)
    changes: dict[str, Any] = {"name": node.name.replace("/", "_")}
    if rule is not None:
        count = lambda axis: int(axis.active(widths))  # noqa: E731
        changes |= rule.config(op, count, graph.input_axes(node), graph.output_axes(node))
    layer = type(op).from_config({**op.get_config(), **changes})
    layer.trainable = op.trainable
    return layer


def _copy_weights(graph: ChannelGraph, node: Node, layer: Any, widths: np.ndarray) -> None:
    if not isinstance(node.op, keras.Layer):
        return
    if graph.rule(node) is None:
        layer.set_weights(node.op.get_weights())
        return
    for name, dimensions in graph.weight_dimensions(node).items():
        value = keras.ops.convert_to_numpy(getattr(node.op, name))
        getattr(layer, name).assign(_take(value, dimensions, widths))


def _take(value: np.ndarray, dimensions: tuple[Dimension, ...], widths: np.ndarray) -> np.ndarray:
    """The entries of a weight that are active at the widths."""
    for place, dimension in enumerate(dimensions):
        if isinstance(dimension, Axis):
            value = np.take(value, dimension.indices(widths), axis=place)
    return value
