"""Build the plain Keras model that a channel graph is at given widths."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.errors import AutoslimError, first_line
from autoslim.graph.axes import Axis, Dimension
from autoslim.graph.comparing import check_network
from autoslim.graph.copying import as_it_is, initial_values, rebuilt
from autoslim.graph.masks import no_mask_warnings
from autoslim.graph.noise import as_dropout
from autoslim.graph.own_weights import Constant, Weight, Written, zero_of
from autoslim.graph.rules.base import weight_of
from autoslim.graph.run import Replaced
from autoslim.graph.structure import Structure
from autoslim.graph.trace import Node
from autoslim.graph.units import Units

log = logging.getLogger(__name__)


def materialize(
    graph: Structure,
    units: Units,
    weights: bool,
    name: str | None,
    replaced: Replaced,
    widths: np.ndarray | None = None,
) -> keras.Model:
    """The network that has these units of the traced one's; see `ChannelGraph.materialize`.

    With `widths` it is compared with the graph at these.
    """
    traced = graph.trace
    inputs = [
        keras.Input(batch_shape=shape, dtype=dtype, name=name_)
        for shape, dtype, name_ in zip(
            traced.input_shapes, traced.input_dtypes, traced.input_names, strict=True
        )
    ]
    made = _Made(graph, units, weights, replaced, inputs)
    with no_mask_warnings():
        outputs = traced.walk(inputs, made.visit)
    model = keras.Model(
        traced.pack_inputs(inputs), traced.pack_outputs(outputs), name=name or graph.model.name
    )
    if widths is not None:
        check_network(graph, model, widths, replaced, made.values)
    if not weights:
        made.initialise()
    return model


class _Made:
    """The layers of the new model, made one after another."""

    def __init__(
        self, graph: Structure, units: Units, weights: bool, replaced: Replaced, inputs: list[Any]
    ) -> None:
        self.graph, self.units, self.replaced = graph, units, replaced
        self.taken = set(graph.trace.input_names)  # names
        self.weights = weights
        self.layers: dict[int, Any] = {}  # id(original) -> its copy; a shared layer has one
        self.variables: dict[int, Any] = {}  # id(a variable that is whole in the new model) -> its copy
        self.values: list[list[Any]] = []  # symbolic outputs of each node
        self.inputs = inputs
        self._zero: Any = None  # made from them where a weight stands by itself
        self._initial: list[tuple[Any, Any]] = []  # (variable, the value that its initializer gave)

    def visit(self, node: Node, tensors: list[Any]) -> list[Any]:
        """The node's outputs in the new model."""
        if isinstance(node.op, (Weight, Constant)):
            self._zero = zero_of(self.inputs[0]) if self._zero is None else self._zero
            made = self._weight if isinstance(node.op, Weight) else self._constant
            self.values.append([made(node)])
            return self.values[-1]
        call = self.graph.call_arguments(node, _Kept(self.units))
        first = id(node.op) not in self.layers
        if first:
            name = _free_name(node.name, self.taken)
            self.layers[id(node.op)] = layer_with(self.graph, node, self.units, name, self.variables)
        layer = self.layers[id(node.op)]
        outputs = keras.tree.flatten(call.call(tensors, op=layer))
        if first:
            self._fill(node, layer)
        self.values.append(outputs)
        return outputs

    def _constant(self, node: Node) -> Any:
        """An array that a layer is called with."""
        value = kept_part(node.op.value, self.graph.output_layouts(node)[0].dims, self.units)
        zero = keras.ops.reshape(keras.ops.cast(self._zero, str(value.dtype)), (1,) * max(1, value.ndim))
        return keras.ops.add(zero, value)

    def _weight(self, node: Node) -> Any:
        """A weight that a layer holds itself."""
        op = node.op
        dimensions = self.graph.weight_dimensions(node)["variable"]
        if id(op) not in self.layers:
            shape = tuple(self.units.count(d) if isinstance(d, Axis) else d or 1 for d in dimensions)
            made = self.layers[id(op)] = Written(op, shape, _free_name(node.name, self.taken))
            _copy_weights(self.graph, node, made, self.units, self.replaced)
            self._initial += self._of_weight(node, op, made)
        return self.layers[id(op)](self._zero)

    def _of_weight(self, node: Node, op: Weight, made: Written) -> list[tuple[Any, Any]]:
        """A weight of the new model, and what its initializer gives at the units that it has."""
        if self.weights:
            return []
        dimensions = self.graph.weight_dimensions(node)["variable"]
        try:
            value = kept_part(op.initial_value(), dimensions, self.units)
        except Exception as error:  # a class of the user's may raise anything
            log.warning("Weight %r keeps its value: %s", node.name, first_line(error, 120))
            return []
        return [(made, value)]

    def _fill(self, node: Node, layer: Any) -> None:
        """Give a layer that was just built its weights."""
        rule = self.graph.rule(node)
        variables = getattr(layer, "variables", ()) if layer is not node.op else ()
        if rule is not None and not rule.measured:
            self._initial += [(variable, variable.numpy()) for variable in variables]
        elif rule is None and variables and not self.weights:
            self._initial += self._of_whole(node, variables)
        _copy_weights(self.graph, node, layer, self.units, self.replaced)
        for name in self.graph.weight_dimensions(node):
            old, new = weight_of(node.op, name), weight_of(layer, name)
            if id(old) not in self.replaced and tuple(old.shape) == tuple(new.shape):
                self.variables.setdefault(id(old), new)

    def _of_whole(self, node: Node, variables: Any) -> list[tuple[Any, Any]]:
        """The variables of a layer that stays whole, and what their initializers gave."""
        call = lambda layer, inputs: node.call(inputs, op=layer)  # noqa: E731
        try:
            return list(zip(variables, initial_values(node.op, node.input_shapes, call), strict=True))
        except Exception as error:  # a class of the user's may raise anything
            why = first_line(error, 120)
            log.warning("Layer %r keeps the weights that it has: it can't be made again: %s", node.name, why)
            return []

    def initialise(self) -> None:
        """Take the weights back to what their initializers gave; those that were measured stay."""
        for variable, value in self._initial:
            variable.assign(value)


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
    layer = layer_with(graph, node, units, node.name.replace("/", "_") + suffix, {})
    layer.build((*node.input_shapes[0][:-1], units.count(graph.input_axes(node)[0])))
    _copy_weights(graph, node, layer, units, {})
    return layer


class _Kept:
    """What a rule's `config` receives about the channels (`Channels`)."""

    def __init__(self, units: Units) -> None:
        self._units = units

    def __call__(self, axis: Axis) -> int:
        return self._units.count(axis)

    def take(self, value: Any, axis: Axis) -> Any:
        """What the narrower network keeps of an array whose last axis is `axis`; others are left whole."""
        value = np.asarray(value)
        return value[..., self._units.indices(axis)] if value.shape[-1:] == (axis.size,) else value

    def part(self, value: Any, dims: Sequence[Dimension]) -> Any:
        """What the narrower network keeps of an array whose dimensions are `dims`."""
        return kept_part(np.asarray(value), tuple(dims), self._units)


def _free_name(name: str, taken: set[str]) -> str:
    """The layer's name, with that of the nested models around it, made distinct and then taken."""
    base = candidate = name.replace("/", "_")
    number = 1
    while candidate in taken:
        number += 1
        candidate = f"{base}_{number}"
    taken.add(candidate)
    return candidate


def layer_with(graph: Structure, node: Node, units: Units, name: str, known: dict[int, Any]) -> Any:
    """The same layer for the channels that there are.

    A layer of the user's that keeps all its channels is copied attribute by attribute; others are made again
    from their configuration. One that drops whole images in training becomes a `Dropout`.

    Args:
        graph: that the node is of.
        node: a call of the layer.
        units: that there are.
        name: of the new layer.
        known: {id(a variable that is whole in the new model): its copy}; variables that are copied join it.
    """
    op, rule = node.op, graph.rule(node)
    if node.noise and (made := as_dropout(op, node.input_shapes[0], name)) is not None:
        return made
    if (
        rule is None
        or node.noise
        or (not type(op).__module__.startswith("keras.") and _is_whole(node, graph, units))
    ):
        return as_it_is(op, name, node.input_shapes, known, lambda layer, inputs: node.call(inputs, op=layer))
    try:
        return rebuilt(op, rule.config(op, _Kept(units), *graph.given_to_rule(node)), name)
    except Exception as error:  # a class of the user's may raise anything
        if _is_whole(node, graph, units):
            call = lambda layer, inputs: node.call(inputs, op=layer)  # noqa: E731
            return as_it_is(op, name, node.input_shapes, known, call)
        raise AutoslimError(
            f"Layer {node.name!r}, a {type(op).__name__}, can't be made again with fewer channels: "
            f"{first_line(error, 200)}. Its get_config() must return its constructor's arguments."
        ) from error


def _is_whole(node: Node, graph: Structure, units: Units) -> bool:
    """Whether all channels are there that a node touches."""
    layouts = [*graph.input_layouts(node), *graph.output_layouts(node)]
    return all(units.count(axis) == axis.size for layout in layouts for _, axis in layout.axes)


def _copy_weights(graph: Structure, node: Node, layer: Any, units: Units, replaced: Replaced) -> None:
    rule = graph.rule(node)
    if not isinstance(node.op, (keras.Layer, Weight)) or layer is node.op or rule is None:
        return
    summed = graph.summed_dimensions(node) if units.new is not None else {}
    for name, dimensions in graph.weight_dimensions(node).items():
        variable = weight_of(node.op, name)
        if id(variable) in replaced:
            value = tf.convert_to_tensor(replaced[id(variable)])
        else:
            value = kept_part(tf.convert_to_tensor(variable).numpy(), dimensions, units)
            if units.new is not None:
                value = made_new(value, dimensions, summed.get(name, ()), units)
        weight_of(layer, name).assign(value)
    if rule.measured:
        prepare(layer, layer)


def made_new(
    value: np.ndarray, dimensions: tuple[Dimension, ...], summed: tuple[int, ...], units: Units
) -> np.ndarray:
    """A weight with its entries for new units: those that make one in another order, those that read one 0.

    Args:
        value: the weight, its entries of new units those of the units that they are taken from.
        dimensions: of the weight.
        summed: the places of the dimensions that are summed over (`Structure.summed_dimensions`).
        units: of the new model.
    """
    assert units.generator is not None
    value = value.copy()
    entries = {
        place: (units.new_entries(dimension), np.moveaxis(value, place, 0))
        for place, dimension in enumerate(dimensions)
        if isinstance(dimension, Axis)
    }
    for place, (new, of) in entries.items():
        if new.any() and place not in summed:
            rows = of[new]
            of[new] = units.generator.permuted(rows.reshape(len(rows), -1), axis=1).reshape(rows.shape)
    for place in summed:
        new, of = entries[place]
        of[new] = 0
    return value


def prepare(layer: keras.Layer, source: keras.Layer) -> None:
    """Load a layer's state as from a file: it then prepares what depends on it. Normalization does."""
    store: dict[str, Any] = {}
    source.save_own_variables(store)
    layer.load_own_variables(store)


def kept_part(value: np.ndarray, dimensions: tuple[Dimension, ...], units: Units) -> np.ndarray:
    """The entries of a weight that a network of these units keeps."""
    for place, dimension in enumerate(dimensions):
        if isinstance(dimension, Axis):
            value = np.take(value, units.indices(dimension), axis=place)
    return value
