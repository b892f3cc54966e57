"""Build the plain Keras model that a channel graph is at given widths."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.errors import AutoslimError
from autoslim.graph.axes import Axis, Dimension
from autoslim.graph.rules.base import weight_of
from autoslim.graph.run import Replaced
from autoslim.graph.structure import Structure
from autoslim.graph.trace import Node
from autoslim.graph.units import Units


def materialize(
    graph: Structure, units: Units, weights: bool, name: str | None, replaced: Replaced
) -> keras.Model:
    """The network that has these units of the traced one's; see `ChannelGraph.materialize`."""
    traced = graph.trace
    inputs = [
        keras.Input(batch_shape=shape, dtype=dtype, name=name_)
        for shape, dtype, name_ in zip(
            traced.input_shapes, traced.input_dtypes, traced.input_names, strict=True
        )
    ]
    copies: dict[int, Any] = {}  # id(original) -> its slimmed copy; a shared layer has one
    taken = set(traced.input_names)

    def visit(node: Node, tensors: list[Any]) -> list[Any]:
        if id(node.op) not in copies:
            copies[id(node.op)] = layer_with(graph, node, units, _free_name(node.name, taken))
        call = graph.call_arguments(node, _Taken(units))
        return keras.tree.flatten(call.call(tensors, op=copies[id(node.op)]))

    outputs = traced.walk(inputs, visit)
    model = keras.Model(
        traced.pack_inputs(inputs), traced.pack_outputs(outputs), name=name or graph.model.name
    )
    for node in traced.nodes:
        rule = graph.rule(node)
        if weights or (rule is not None and rule.measured):
            _copy_weights(graph, node, copies[id(node.op)], units, replaced)
    return model


def own_batch_norms(
    graph: Structure, widths: np.ndarray, suffix: str
) -> list[tuple[keras.Layer, keras.Layer]]:
    """Each of the model's batch norms that a rule covers, and a copy of it for the active channels.

    Args:
        graph: of the model.
        widths: int [G].
        suffix: of the copies' names, after the layers' own.

    Returns:
        (layer, copy) for each; a copy holds the active part of the layer's weights.
    """
    found: dict[int, tuple[keras.Layer, keras.Layer]] = {}
    for node in graph.trace.nodes:
        normalises = isinstance(node.op, keras.layers.BatchNormalization) and graph.rule(node) is not None
        if normalises and id(node.op) not in found:
            units = Units.first(graph.groups, graph.check(widths))
            found[id(node.op)] = (node.op, _slimmed_copy(graph, node, units, suffix))
    return list(found.values())


def _slimmed_copy(graph: Structure, node: Node, units: Units, suffix: str) -> keras.Layer:
    layer = layer_with(graph, node, units, node.name.replace("/", "_") + suffix)
    layer.build((*node.input_shapes[0][:-1], units.count(graph.input_axes(node)[0])))
    _copy_weights(graph, node, layer, units, {})
    return layer


class _Taken:
    """What a rule's `config` receives about the channels (`Channels`)."""

    def __init__(self, units: Units) -> None:
        self._units = units

    def __call__(self, axis: Axis) -> int:
        return self._units.count(axis)

    def take(self, value: Any, axis: Axis) -> Any:
        """The part of an array whose last axis is `axis` that there is; other sizes are left whole."""
        value = np.asarray(value)
        return value[..., self._units.indices(axis)] if value.shape[-1:] == (axis.size,) else value

    def part(self, value: Any, dims: Sequence[Dimension]) -> Any:
        """The part of an array whose dimensions are `dims` that there is."""
        return taken(np.asarray(value), tuple(dims), self._units)


def _free_name(name: str, taken: set[str]) -> str:
    """The layer's name, with that of the nested models around it, made distinct and then taken."""
    base = candidate = name.replace("/", "_")
    number = 1
    while candidate in taken:
        number += 1
        candidate = f"{base}_{number}"
    taken.add(candidate)
    return candidate


def layer_with(graph: Structure, node: Node, units: Units, name: str) -> Any:
    """The same layer for the channels that there are."""
    op = node.op
    rule = graph.rule(node)
    if isinstance(op, keras.layers.Lambda):
        return op  # holds no weights, and Keras refuses to build a lambda from its configuration
    try:
        config = op.get_config()
    except NotImplementedError as error:
        raise AutoslimError(
            f"Layer {node.name!r}, a {type(op).__name__}, can't be copied into the small model: it has no "
            "get_config(). Write one that returns its constructor's arguments."
        ) from error
    if rule is not None:
        config |= rule.config(op, _Taken(units), *graph.given_to_rule(node))
    if inspect.isfunction(getattr(op, "activation", None)):
        config["activation"] = op.activation  # as it is: a function of the user's need not be registered
    if not isinstance(op, keras.Layer):
        copy = type(op).from_config(config)
        copy.name = name
        return copy
    layer = type(op).from_config({**config, "name": name})
    layer.trainable = op.trainable
    return layer


def _copy_weights(graph: Structure, node: Node, layer: Any, units: Units, replaced: Replaced) -> None:
    if not isinstance(node.op, keras.Layer) or layer is node.op:
        return
    rule = graph.rule(node)
    if rule is None:
        layer.set_weights(node.op.get_weights())
        prepare(layer, node.op)
        return
    for name, dimensions in graph.weight_dimensions(node).items():
        variable = weight_of(node.op, name)
        if id(variable) in replaced:
            value = tf.convert_to_tensor(replaced[id(variable)])
        else:
            value = taken(tf.convert_to_tensor(variable).numpy(), dimensions, units)
        weight_of(layer, name).assign(value)
    if rule.measured:
        prepare(layer, layer)


def prepare(layer: keras.Layer, source: keras.Layer) -> None:
    """Load a layer's state as from a file: it then prepares what depends on it. Normalization does."""
    store: dict[str, Any] = {}
    source.save_own_variables(store)
    layer.load_own_variables(store)


def taken(value: np.ndarray, dimensions: tuple[Dimension, ...], units: Units) -> np.ndarray:
    """The entries of a weight that these units have."""
    for place, dimension in enumerate(dimensions):
        if isinstance(dimension, Axis):
            value = np.take(value, units.indices(dimension), axis=place)
    return value
