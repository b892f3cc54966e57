"""Connect the channels of a traced network, node by node: the groups, and the axis of every value."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from autoslim.errors import AutoslimError
from autoslim.graph.axes import NO_IMAGES, Axis, Layout
from autoslim.graph.groups import ChannelGroup, Cuts, Grouping, matches
from autoslim.graph.own_weights import Constant, Weight
from autoslim.graph.rules import NOISE, LayerRule, NeedsCut, Unsupported, rule_for, same_config
from autoslim.graph.rules.base import weight_of
from autoslim.graph.trace import Node, Slot, Trace, call_defaults

CONNECTIONS = 10  # times that a graph is connected at most, each with more cuts


@dataclass(frozen=True)
class Connected:
    """What `connect` finds."""

    groups: tuple[ChannelGroup, ...]
    layouts: dict[int, Layout]  # value id -> layout
    rules: tuple[LayerRule | None, ...]  # of each node; None: no rule covers it
    uncovered: dict[str, str]  # layer name -> why no rule covers it


def connect(
    traced: Trace, freeze: tuple[str, ...], declared: Sequence[tuple[int | None, ...]] | None = None
) -> Connected:
    """Find the axis of every value, and the groups; again, as long as channels are to be cut.

    Args:
        traced: the network.
        freeze: shell-style patterns of layer names; the groups of their outputs keep full width.
        declared: shapes of the model's inputs as it declares them, where the trace knows more.

    Raises:
        AutoslimError: for a pattern that matches no layer, a convolution with its channels first, or a
            recurrent layer that goes on from batch to batch, or whose cell another one has too.
    """
    _check_patterns(traced, freeze)
    _require_channels_last(traced)
    _require_no_memory(traced)
    _require_own_cells(traced)
    cuts: Cuts = {}
    for _ in range(CONNECTIONS):
        attempt = _Attempt(traced, freeze, cuts, declared or traced.input_shapes)
        cuts = attempt.grouping.more_cuts()
        if not cuts:
            break
    makers = [(node.name, value) for node in traced.nodes for value in node.outputs]
    solution = attempt.grouping.solve(attempt.layouts, makers)
    return Connected(solution.groups, solution.layouts, tuple(attempt.rules), attempt.uncovered)


class _Attempt:
    """One walk through the network, in which every node connects its channels."""

    def __init__(
        self,
        traced: Trace,
        freeze: tuple[str, ...],
        cuts: Cuts,
        declared: Sequence[tuple[int | None, ...]],
    ) -> None:
        self.grouping = Grouping(cuts)
        self.layouts: dict[int, Layout] = {}  # value id -> layout
        self.rules: list[LayerRule | None] = []
        self.uncovered: dict[str, str] = {}
        self._freeze = freeze
        self._read = {value for node in traced.nodes for value in node.inputs}
        self._first_calls: dict[int, tuple[Arguments, list[Layout]]] = {}  # id(layer) -> of its first call
        inputs = zip(traced.inputs, traced.input_shapes, traced.input_names, declared, strict=True)
        for value, shape, name, (*_, last) in inputs:
            known = self._frozen(name, shape, "model input") if last is not None else Layout.of(shape)
            self.layouts[value] = known
        for layout in traced.walk([self.layouts[i] for i in traced.inputs], self._visit):
            self._freeze_all(layout, "model output")

    def _frozen(
        self,
        name: str,
        shape: tuple[int | None, ...],
        reason: str,
        fixed: bool = True,
        varies: bool = True,
    ) -> Layout:
        """The layout of a tensor that nothing is known of: channels last, at full width.

        It `varies` with the image, or is one and the same for all.
        """
        if not varies and None not in shape[:1]:
            return Layout(shape, NO_IMAGES)
        if len(shape) < 2 or shape[-1] is None:
            return Layout.of(shape)
        axis = self.grouping.new(name, shape[-1])
        self.grouping.freeze(axis, reason, fixed)
        return Layout.of(shape, axis)

    def _freeze_all(self, layout: Layout, reason: str, fixed: bool = True) -> None:
        for _, axis in layout.axes:
            self.grouping.freeze(axis, reason, fixed)

    def _visit(self, node: Node, inputs: list[Layout]) -> list[Layout]:
        outputs = self._connect(node, inputs)
        self._tie_calls(node, inputs, outputs)
        pattern = matches(node.name, self._freeze)
        for value, layout in zip(node.outputs, outputs, strict=True):
            self.layouts[value] = layout
            if not node.inputs and value not in self._read:
                self._freeze_all(layout, "nothing reads it")
            if pattern:
                self._freeze_all(layout, f"matches {pattern!r}")
        return outputs

    def _connect(self, node: Node, inputs: list[Layout]) -> list[Layout]:
        """Let the node's rule connect it; where there is none, freeze all that it touches."""
        rule = NOISE if node.noise else rule_for(node.op)
        fixed = True
        reason = f"a {type(node.op).__name__} {'layer' if isinstance(node.op, keras.Layer) else 'operation'}"
        if rule is not None and (inputs or isinstance(node.op, (Weight, Constant))):
            try:
                _require_known_weights(rule, node, inputs)
                outputs = _arranged(rule, node, inputs, self.grouping)
                self.rules.append(rule)
                return outputs
            except Unsupported as why:
                reason += f" with {why}"
                fixed = not isinstance(why, NeedsCut)
        if node.whole:
            reason += f" that can't be looked into: {node.whole}"
        self.rules.append(None)
        self.uncovered[node.name] = reason
        why_frozen = f"no rule covers {node.name}, {reason}"
        for layout in inputs:
            self._freeze_all(layout, why_frozen, fixed)
        varies = not inputs or any(layout.has_images for layout in inputs)
        return [self._frozen(node.name, shape, why_frozen, fixed, varies) for shape in node.output_shapes]

    def _tie_calls(self, node: Node, inputs: list[Layout], outputs: list[Layout]) -> None:
        """Tie the calls of a shared layer: it has one set of weights, and one configuration, for all.

        Where the calls have different numbers of channels neither can depend on them.
        """
        rule = self.rules[node.index]
        if rule is None or (rule.config is same_config and not getattr(node.op, "weights", None)):
            return
        given = _arguments(node, inputs)
        first, made = self._first_calls.setdefault(id(node.op), (given, outputs))
        # One call may have a mask, another one states.
        alike = [(given[argument], first[argument]) for argument in given if argument in first]
        for layout, earlier in [*alike, *zip(outputs, made, strict=True)]:
            for place in range(-min(layout.rank, earlier.rank), 0):
                axis, other = layout.axis(place), earlier.axis(place)
                if layout is not earlier and axis.size == other.size:
                    self.grouping.tie(other, axis, node.name)


Arguments = dict[tuple[str, int], Layout]
"""(name of a call's argument, place among the tensors in it) -> layout."""


def _arguments(node: Node, inputs: list[Layout]) -> Arguments:
    """The layouts of a node's inputs by the arguments of its call that they stand in."""
    names = list(call_defaults(node.op.__class__))[1:]  # the first is the operation itself
    names += [f"argument {place}" for place in range(len(names), len(node.args))]
    found: Arguments = {}
    for name, value in [*zip(names, node.args, strict=False), *node.kwargs.items()]:
        slots = [x for x in keras.tree.flatten(value) if isinstance(x, Slot)]
        found |= {(name, place): inputs[slot] for place, slot in enumerate(slots)}
    return found


def _arranged(rule: LayerRule, node: Node, inputs: list[Layout], grouping: Grouping) -> list[Layout]:
    """The layouts of a node's outputs, by its rule."""
    if rule.arrange is not None:
        return rule.arrange(node.op, inputs, node, grouping)
    if any(layout.batch > 0 for layout in inputs):
        raise Unsupported("the images on another axis than the first")
    varies = any(layout.has_images for layout in inputs)
    pointwise = rule.pointwise(node.op, [layout.axis() for layout in inputs])
    if inputs[0].rank > 1 and inputs[0].dims[-1] is None:
        if not pointwise:
            raise Unsupported("channels of unknown number")
        return inputs[:1]
    axes = rule.connect(node.op, [layout.axis() for layout in inputs], node, grouping)
    if pointwise:
        (layout, *_) = inputs
        channels = layout.rank > (1 if layout.has_images else 0)
        return [Layout((*layout.dims[:-1], axis), layout.batch) if channels else layout for axis in axes]
    slid: dict[int, Axis] = {}  # place -> channels that a layer goes along
    for layout in inputs:
        for place, axis in layout.axes:
            if place == layout.rank - 1:
                continue
            if rule.slides(node.op, axis) and len(inputs) == 1:
                slid[place] = axis
            else:
                grouping.freeze(axis, f"{node.name} takes axis {place}, on which they stand, for positions")
    rows = inputs[0].dims[0] if inputs[0].rank else 1
    outputs = []
    for axis, shape in zip(axes, node.output_shapes, strict=True):
        output = Layout.of(shape, axis, rows if isinstance(rows, int) else 1)
        if not varies:
            output = Layout((*shape[:-1], axis), NO_IMAGES)
        for place, along in slid.items():
            output = output.with_dim(place, along)
        outputs.append(output)
    return outputs


def _check_patterns(traced: Trace, freeze: tuple[str, ...]) -> None:
    names = [node.name for node in traced.nodes]
    for pattern in freeze:
        if not any(matches(name, (pattern,)) for name in names):
            near = difflib.get_close_matches(pattern, names, 3, 0.3)
            raise AutoslimError(
                f"freeze={pattern!r} matches no layer. Nearest names: {', '.join(near) or 'none'}; "
                "stages=[describe] lists all."
            )


def _require_channels_last(traced: Trace) -> None:
    for node in traced.nodes:
        first = getattr(node.op, "data_format", None) == "channels_first"
        if first and rule_for(node.op) and getattr(node.op, "weights", None):
            raise AutoslimError(
                f"Layer {node.name!r} has data_format='channels_first': channels are slimmed where they are "
                "the last axis. Build the model with data_format='channels_last' "
                "(keras.config.set_image_data_format); the layers' weights have the same shapes in both."
            )


def _require_no_memory(traced: Trace) -> None:
    for name, layer in _recurrent_layers(traced):
        if layer.stateful:
            raise AutoslimError(
                f"Layer {name!r} has stateful=True: it goes on from the batch before, so what the "
                "network returns depends on the order of its batches. Build the model with stateful=False, "
                "or with the states as inputs and outputs."
            )


def _require_own_cells(traced: Trace) -> None:
    """Refuse a cell in two layers: each layer's weights are its own where the network is saved and loaded."""
    first: dict[int, tuple[str, Any]] = {}  # id(cell) -> (name, layer)
    for name, layer in _recurrent_layers(traced):
        for cell in getattr(layer.cell, "cells", [layer.cell]):
            earlier, holder = first.setdefault(id(cell), (name, layer))
            if holder is not layer:
                raise AutoslimError(
                    f"Layers {earlier!r} and {name!r} have one and the same cell, {cell.name!r}: Keras can't "
                    "load a saved network of such layers. Give each a cell of its own, or call one layer "
                    "twice."
                )


def _recurrent_layers(traced: Trace) -> Iterator[tuple[str, Any]]:
    """(name, layer) of each recurrent layer, also of those inside of layers that stay whole."""
    for node in traced.nodes:
        for layer in node.op._flatten_layers() if isinstance(node.op, keras.Layer) else ():
            if isinstance(layer, keras.layers.RNN):
                yield node.name if layer is node.op else f"{node.name}/{layer.name}", layer


def _require_known_weights(rule: LayerRule, node: Node, inputs: list[Layout]) -> None:
    """Raise Unsupported if the layer holds weights that its rule doesn't know: an activation's, LoRA's."""
    given: list = inputs if rule.arrange else [layout.axis() for layout in inputs]
    names = rule.weights(node.op, given, given)  # whatever the axes: only the names count here
    known = {id(weight_of(node.op, name)) for name in names}
    unknown = [weight.path for weight in getattr(node.op, "weights", []) if id(weight) not in known]
    activation = getattr(node.op, "activation", None)
    if isinstance(activation, keras.Layer) and not activation.built:
        raise Unsupported(f"the activation {activation.name}, a layer that may make weights later")
    if unknown:
        raise Unsupported(f"weights that its rule doesn't know ({unknown[0]})")
