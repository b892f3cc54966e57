"""What a channel graph is: a traced network, its channel groups, and where they stand in every tensor."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from autoslim.errors import AutoslimError
from autoslim.graph.axes import FIXED, Axis, Dimension, Layout, size_of
from autoslim.graph.connecting import connect
from autoslim.graph.groups import ChannelGroup
from autoslim.graph.measure import Uncountable, measured_macs
from autoslim.graph.own_weights import Weight
from autoslim.graph.recording import trace
from autoslim.graph.rules import LayerRule, stands_whole
from autoslim.graph.rules.base import Channels
from autoslim.graph.trace import Node, Trace, UnknownSize

log = logging.getLogger(__name__)

NAMED = 5  # layers that a warning names


def trace_of(model: keras.Model, image_shape: tuple[int | None, ...] | None = None) -> Trace:
    """Trace a functional or Sequential model; layers that no rule covers are looked into.

    Args:
        model: to trace.
        image_shape: sizes of the images, without the batch, in the place of those that the model leaves open.

    Raises:
        AutoslimError: if the model is subclassed.
    """
    return trace(model, stands_whole, image_shape)


class Structure:
    """The channel groups of a model, and where each stands: all that run, cost and materialize read.

    Args:
        model: a functional or Sequential Keras model, channels last. Nested models are traced through.
        freeze: shell-style patterns of layer names; the groups of their outputs keep full width.
        image_shape: sizes of the images, without the batch: FLOPs and memory are counted for these where the
            model leaves sizes open. None: they are not known there.

    Raises:
        AutoslimError: for a subclassed model, one with channels first, or a pattern that matches no layer.
    """

    def __init__(
        self,
        model: keras.Model,
        freeze: Sequence[str] | str = (),
        image_shape: Sequence[int | None] | None = None,
    ) -> None:
        self.model = model
        patterns = (freeze,) if isinstance(freeze, str) else tuple(freeze)
        self._connect(trace_of(model), patterns)
        self._warn()
        open_sizes = any(None in shape[1:] for shape in self.trace.input_shapes)
        self.counted: Structure = (
            self._at(patterns, tuple(image_shape)) if image_shape is not None and open_sizes else self
        )

    def _connect(self, traced: Trace, patterns: tuple[str, ...], declared: Any = None) -> None:
        """Find the groups of a trace, and where each stands; `declared`: see `connect`."""
        self.trace = traced
        found = connect(traced, patterns, declared)
        self.groups: tuple[ChannelGroup, ...] = found.groups
        self.uncovered: dict[str, str] = found.uncovered  # layer name -> why no rule covers it
        self._layouts, self._rules = found.layouts, found.rules
        self._weights: list[dict[str, tuple[Dimension, ...]]] = []
        self._keeps_zero: list[bool] = []
        for node, rule in zip(self.trace.nodes, self._rules, strict=True):
            inputs, outputs = self.given_to_rule(node)
            self._weights.append(rule.weights(node.op, inputs, outputs) if rule else {})
            self._keeps_zero.append(rule is not None and rule.keeps_zero(node.op, inputs))
        self._sizes = self.full
        self._units = np.array([group.unit for group in self.groups], np.int32)
        self._frozen = np.array([group.frozen is not None for group in self.groups])

    def _at(self, patterns: tuple[str, ...], image_shape: tuple[int | None, ...]) -> Structure:
        """The same structure for images of these sizes, which costs are counted by; itself if it differs."""
        known = Structure.__new__(Structure)
        known.model = self.model
        known._connect(trace_of(self.model, image_shape), patterns, self.trace.input_shapes)
        known.counted = known

        def described(graph: Structure) -> Any:
            nodes = [node.name for node in graph.trace.nodes]
            return nodes, [(group.name, group.size, group.unit, group.frozen) for group in graph.groups]

        if described(known) == described(self):
            return known
        log.warning(
            "Model %r has other layers or channel groups for images of %s: costs are those for any size.",
            self.model.name,
            image_shape,
        )
        return self

    def _warn(self) -> None:
        """Log, once, which layers no rule covers, if that costs anything.

        It does not where all they touch is fixed anyway: preprocessing that stands before the first weights.
        """
        weighted = {
            node.name
            for node, rule in zip(self.trace.nodes, self._rules, strict=True)
            if self._weights[node.index] and rule is not None and not rule.measured
        }
        uncovered = []
        for node in self.trace.nodes:
            layouts = [*self.input_layouts(node), *self.output_layouts(node)]
            axes = [axis for layout in layouts for _, axis in layout.axes]
            touched = {name for axis in axes for g in axis.groups for name in self.groups[g].layers}
            if node.name in self.uncovered and touched & weighted:
                uncovered.append(f"{node.name} ({self.uncovered[node.name]})")
        uncovered = list(dict.fromkeys(uncovered))
        plain = [x.name for x in self.trace.looked if isinstance(x.layer, keras.layers.SpectralNormalization)]
        if plain:
            log.warning(
                "These layers are trained without normalising their kernels: %s", ", ".join(plain[:NAMED])
            )
        if self.trace.masked:
            log.warning(
                "An output of model %r carries a mask of steps. Keras's fit leaves masked steps out of the "
                "loss; here every step counts, unless a task of your own weighs them.",
                self.model.name,
            )
        if uncovered:
            more = (
                f" and {len(uncovered) - NAMED} more, see graph.uncovered" if len(uncovered) > NAMED else ""
            )
            log.warning(
                "No rule covers these layers; the channels they touch keep their full width: %s%s. "
                "A rule (autoslim.register_rule) would say which channels each ties, where they stand in its "
                "weights, and how it runs with fewer.",
                ", ".join(uncovered[:NAMED]),
                more,
            )

    def input_axes(self, node: Node) -> list[Axis]:
        """Channel axis, the last, of each of a node's inputs."""
        return [layout.axis() for layout in self.input_layouts(node)]

    def output_axes(self, node: Node) -> list[Axis]:
        """Channel axis, the last, of each of a node's outputs."""
        return [layout.axis() for layout in self.output_layouts(node)]

    def input_layouts(self, node: Node) -> list[Layout]:
        """Layout of each of a node's inputs."""
        return [self._layouts[i] for i in node.inputs]

    def output_layouts(self, node: Node) -> list[Layout]:
        """Layout of each of a node's outputs."""
        return [self._layouts[i] for i in node.outputs]

    def layout(self, value: int) -> Layout:
        """Layout of a value of the trace."""
        return self._layouts[value]

    def given_to_rule(self, node: Node) -> tuple[list[Any], list[Any]]:
        """What the node's rule receives about its inputs and outputs: their layouts, or their last axes."""
        rule = self._rules[node.index]
        if rule is not None and rule.arrange is not None:
            return self.input_layouts(node), self.output_layouts(node)
        return self.input_axes(node), self.output_axes(node)

    def rule(self, node: Node) -> LayerRule | None:
        """The rule that covers a node, or None."""
        return self._rules[node.index]

    def keeps_zero(self, node: Node) -> bool:
        """Whether channels that are zero in the node's inputs are zero in its outputs."""
        return self._keeps_zero[node.index]

    @functools.cached_property
    def _measured(self) -> dict[int, int | str | UnknownSize]:
        """Index of each node without a rule -> its multiply-accumulates, or why they are not counted."""
        found: dict[int, int | str | UnknownSize] = {}
        for node, rule in zip(self.trace.nodes, self._rules, strict=True):
            if rule is None:
                try:
                    found[node.index] = measured_macs(node, [_rows(x) for x in self.input_layouts(node)])
                except Uncountable as why:
                    found[node.index] = str(why)
                except UnknownSize as why:
                    found[node.index] = why
        uncounted = {self.trace.nodes[i].name: why for i, why in found.items() if isinstance(why, str)}
        if uncounted:
            named = [f"{name} ({why})" for name, why in uncounted.items()]
            more = f" and {len(named) - NAMED} more, see graph.uncounted" if len(named) > NAMED else ""
            log.warning("FLOPs of these layers could not be counted: %s%s", "; ".join(named[:NAMED]), more)
        return found

    @property
    def uncounted(self) -> dict[str, str]:
        """Layer name -> why its FLOPs could not be counted; they are missing in every cost."""
        nodes, measured = self.trace.nodes, self.counted._measured
        return {nodes[index].name: why for index, why in measured.items() if isinstance(why, str)}

    def measured_macs(self, node: Node) -> int:
        """Multiply-accumulates of a node that no rule covers; 0 where they could not be counted.

        Raises:
            UnknownSize: if sizes of its inputs are not known.
        """
        macs = self._measured.get(node.index, 0)
        if isinstance(macs, UnknownSize):
            raise macs
        return macs if isinstance(macs, int) else 0

    def weight_dimensions(self, node: Node) -> dict[str, tuple[Dimension, ...]]:
        """Weight attribute -> its dimensions, for a node that a rule covers."""
        return self._weights[node.index]

    def summed_dimensions(self, node: Node) -> dict[str, tuple[int, ...]]:
        """Weight attribute -> the places of the dimensions that are summed over: channels that it reads.

        A weight that has the channels of inputs and of outputs is summed over the former, as the kernel of a
        convolution is; one that has channels of one kind only is applied to each of them alone, unless it
        feeds back. A weight that stands by itself is summed over those that what it meets images in lacks.
        """
        rule = self.rule(node)
        if rule is None:
            return {}
        if isinstance(node.op, Weight):
            own = self._summed_by_itself(node)
            return {"variable": own} if own else {}
        count = len(self.groups)
        inputs, outputs = self.given_to_rule(node)
        found = {}
        for name, dimensions in rule.weights(node.op, [_marked(x, count) for x in inputs], outputs).items():
            axes = [(place, d) for place, d in enumerate(dimensions) if isinstance(d, Axis) and d.groups]
            entering = [place for place, axis in axes if any(group >= count for group in axis.groups)]
            if 0 < len(entering) < len(axes):
                found[name] = tuple(entering)
            elif name in rule.feeds_back and len(dimensions) - 2 in dict(axes):
                found[name] = (len(dimensions) - 2,)
        return found

    def _summed_by_itself(self, node: Node) -> tuple[int, ...]:
        """Places of the channels of a weight that is a node which its first product with images sums over."""
        made = set(node.outputs)  # values that depend on weights alone
        for later in self.trace.nodes[node.index + 1 :]:
            if made.isdisjoint(later.inputs):
                continue
            if not any(layout.has_images for layout in self.input_layouts(later)):
                made.update(later.outputs)
                continue
            left = [axis.groups for layout in self.output_layouts(later) for _, axis in layout.axes]
            summed = []
            dimensions = self.weight_dimensions(node)["variable"]
            for place, axis in reversed(list(enumerate(dimensions))):  # of equal ones the first is read
                if isinstance(axis, Axis) and axis.groups:
                    if axis.groups in left:
                        left.remove(axis.groups)
                    else:
                        summed.append(place)
            return tuple(reversed(summed))
        return ()

    def products(self, node: Node) -> list[tuple[Dimension, ...]]:
        """Dimensions whose product is a number of multiply-accumulates, of a node that a rule covers.

        Raises:
            UnknownSize: if sizes of its tensors are not known.
        """
        rule = self._rules[node.index]
        if rule is None:
            return []
        inputs, outputs = self.input_layouts(node), self.output_layouts(node)
        rows = outputs[0].dims[0] if outputs[0].rank else 1
        weights = self._weights[node.index]
        found = [(rows, n, *weights[name]) for name, n in rule.positions(node.op, node).items()]
        found += rule.products(node.op, node, inputs, outputs)
        if any(None in dimensions for dimensions in found):
            for shape in (*node.output_shapes, *node.input_shapes):
                node.positions(shape)  # tells of the first that is not known
        return found

    def call_arguments(self, node: Node, channels: Channels) -> Node:
        """The node with the arguments that its call has at the widths that `channels` knows."""
        rule = self._rules[node.index]
        if rule is None or rule.arguments is None:
            return node
        given = self.input_layouts(node), self.output_layouts(node)
        args, kwargs = rule.arguments(node.op, node, channels, *given)
        return dataclasses.replace(node, args=args, kwargs=kwargs)

    @property
    def slimmable(self) -> tuple[ChannelGroup, ...]:
        """The groups that may take other widths than full."""
        return tuple(group for group in self.groups if not group.frozen)

    @property
    def full(self) -> np.ndarray:
        """Widths of the whole network: int32 [G]."""
        return np.array([group.size for group in self.groups], np.int32)

    def uniform(self, ratio: float) -> np.ndarray:
        """Every slimmable group at `ratio` (0 to 1) of its size, rounded, at least one unit: int32 [G]."""
        widths = self.full
        for group in self.slimmable:
            units = max(1, round(ratio * group.size / group.unit))
            widths[group.index] = min(units * group.unit, group.size)
        return widths

    def check(self, widths: Any) -> np.ndarray:
        """`widths` as int32 [..., G], checked.

        Raises:
            AutoslimError: naming the first group whose width is not possible.
        """
        try:
            array = np.asarray(widths)
        except ValueError:  # a ragged list
            array = np.empty(0)
        if array.shape[-1:] != (len(self.groups),) or not np.issubdtype(array.dtype, np.integer):
            raise AutoslimError(
                f"Widths of shape {array.shape} and type {array.dtype} were given; expected integers "
                f"[{len(self.groups)}], one for each group of graph.groups."
            )
        wrong = (array < 1) | (array > self._sizes) | (array % self._units != 0)
        wrong |= self._frozen & (array != self._sizes)
        if wrong.any():
            place = np.argwhere(wrong)[0]
            group = self.groups[place[-1]]
            raise AutoslimError(
                f"Width {array[tuple(place)]} of group {group.name!r} is not possible: {_possible(group)}."
            )
        return array.astype(np.int32)

    def widths_from(self, channels: dict[str, int]) -> np.ndarray:
        """Widths from {group name: width}; groups that are not named keep their full width: int32 [G].

        Raises:
            AutoslimError: for unknown names (with the nearest that exist) and impossible widths.
        """
        index = {group.name: group.index for group in self.groups}
        widths = self.full
        for name, width in channels.items():
            if name not in index:
                near = difflib.get_close_matches(str(name), index, 3)
                raise AutoslimError(
                    f"No channel group is named {name!r}. "
                    f"Nearest: {', '.join(near) or ', '.join(list(index)[:5])}."
                )
            if isinstance(width, bool) or not isinstance(width, (int, np.integer)):
                raise AutoslimError(f"Width {width!r} of group {name!r} is not a whole number of channels.")
            widths[index[name]] = max(0, min(width, 2**31 - 1))  # beyond any group: refused below
        return self.check(widths)

    def channels(self, widths: Any) -> dict[str, int]:
        """{group name: width} of the slimmable groups."""
        array = self.check(widths)
        return {group.name: int(array[group.index]) for group in self.slimmable}


def _marked(given: Any, by: int) -> Any:
    """An axis, or the axes of a layout, with numbers of groups raised by a number."""
    if isinstance(given, Layout):
        return given.map_axes(lambda axis: _marked(axis, by))
    return given.map_pieces(lambda p: p if p.group == FIXED else replace(p, group=p.group + by))


def _possible(group: ChannelGroup) -> str:
    if group.frozen:
        return f"it is frozen at {group.size} ({group.frozen})"
    multiples = f" in multiples of {group.unit}" if group.unit > 1 else ""
    return f"it takes {group.unit} to {group.size}{multiples}"


def _rows(layout: Layout) -> int:
    """Entries of a tensor's first axis for one image: 1, or more where positions stand on it too."""
    return (size_of(layout.dims[0]) or 1) if layout.rank else 1
