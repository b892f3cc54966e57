"""Connect the channels of a traced network, node by node: the groups, and the axis of every value."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import keras

from autoslim.errors import AutoslimError
from autoslim.graph.axes import Axis
from autoslim.graph.groups import ChannelGroup, Cuts, Grouping, matches
from autoslim.graph.rules import NOISE, LayerRule, NeedsCut, Unsupported, rule_for, same_config
from autoslim.graph.trace import Node, Trace

CONNECTIONS = 10  # times that a graph is connected at most, each with more cuts


@dataclass(frozen=True)
class Connected:
    """What `connect` finds."""

    groups: tuple[ChannelGroup, ...]
    axes: dict[int, Axis]  # value id -> axis
    rules: tuple[LayerRule | None, ...]  # of each node; None: no rule covers it
    uncovered: dict[str, str]  # layer name -> why no rule covers it


def connect(traced: Trace, freeze: tuple[str, ...]) -> Connected:
    """Find the axis of every value, and the groups; again, as long as channels are to be cut.

    Args:
        traced: the network.
        freeze: shell-style patterns of layer names; the groups of their outputs keep full width.

    Raises:
        AutoslimError: for a pattern that matches no layer.
    """
    _check_patterns(traced, freeze)
    cuts: Cuts = {}
    for _ in range(CONNECTIONS):
        attempt = _Attempt(traced, freeze, cuts)
        cuts = attempt.grouping.more_cuts()
        if not cuts:
            break
    makers = [(node.name, value) for node in traced.nodes for value in node.outputs]
    solution = attempt.grouping.solve(attempt.axes, makers)
    return Connected(solution.groups, solution.axes, tuple(attempt.rules), attempt.uncovered)


class _Attempt:
    """One walk through the network, in which every node connects its channels."""

    def __init__(self, traced: Trace, freeze: tuple[str, ...], cuts: Cuts) -> None:
        self.grouping = Grouping(cuts)
        self.axes: dict[int, Axis] = {}  # value id -> axis
        self.rules: list[LayerRule | None] = []
        self.uncovered: dict[str, str] = {}
        self._freeze = freeze
        self._first_calls: dict[int, list[Axis]] = {}  # id(layer) -> axes of its first call
        for value, shape, name in zip(traced.inputs, traced.input_shapes, traced.input_names, strict=True):
            self.axes[value] = self.grouping.new(name, (shape[-1] if shape else 1) or 1)
            self.grouping.freeze(self.axes[value], "model input")
        for axis in traced.walk([self.axes[i] for i in traced.inputs], self._visit):
            self.grouping.freeze(axis, "model output")

    def _visit(self, node: Node, inputs: list[Axis]) -> list[Axis]:
        outputs = self._connect(node, inputs)
        self._tie_calls(node, [*inputs, *outputs])
        pattern = matches(node.name, self._freeze)
        for value, axis in zip(node.outputs, outputs, strict=True):
            self.axes[value] = axis
            if pattern:
                self.grouping.freeze(axis, f"matches {pattern!r}")
        return outputs

    def _connect(self, node: Node, inputs: list[Axis]) -> list[Axis]:
        """Let the node's rule connect it; where there is none, freeze all that it touches."""
        rule = NOISE if node.noise else rule_for(node.op)
        fixed = True
        reason = f"a {type(node.op).__name__} {'layer' if isinstance(node.op, keras.Layer) else 'operation'}"
        if rule is not None and inputs:
            try:
                _require_known_weights(rule, node, inputs)
                outputs = rule.connect(node.op, inputs, node, self.grouping)
                self.rules.append(rule)
                return outputs
            except Unsupported as why:
                reason += f" with {why}"
                fixed = not isinstance(why, NeedsCut)
        if node.whole:
            reason += f" that can't be looked into: {node.whole}"
        self.rules.append(None)
        self.uncovered[node.name] = reason
        outputs = [self.grouping.new(node.name, (s[-1] if s else 1) or 1) for s in node.output_shapes]
        for axis in [*inputs, *outputs]:
            self.grouping.freeze(axis, f"no rule covers {node.name}, {reason}", fixed)
        return outputs

    def _tie_calls(self, node: Node, axes: list[Axis]) -> None:
        """Tie the calls of a shared layer: it has one set of weights, and one configuration, for all.

        Where the calls have different numbers of channels neither can depend on them.
        """
        rule = self.rules[node.index]
        if rule is None or (rule.config is same_config and not getattr(node.op, "weights", None)):
            return
        for axis, earlier in zip(axes, self._first_calls.setdefault(id(node.op), axes), strict=True):
            if axis is not earlier and axis.size == earlier.size:
                self.grouping.tie(earlier, axis, node.name)


def _check_patterns(traced: Trace, freeze: tuple[str, ...]) -> None:
    names = [node.name for node in traced.nodes]
    for pattern in freeze:
        if not any(matches(name, (pattern,)) for name in names):
            near = difflib.get_close_matches(pattern, names, 3, 0.3)
            raise AutoslimError(
                f"freeze={pattern!r} matches no layer. Nearest names: {', '.join(near) or 'none'}; "
                "stages=[describe] lists all."
            )


def _require_known_weights(rule: LayerRule, node: Node, inputs: list[Axis]) -> None:
    """Raise Unsupported if the layer holds weights that its rule doesn't know: an activation's, LoRA's."""
    names = rule.weights(node.op, inputs, inputs)  # whatever the axes: only the names count here
    known = {id(getattr(node.op, name)) for name in names}
    unknown = [weight.path for weight in getattr(node.op, "weights", []) if id(weight) not in known]
    activation = getattr(node.op, "activation", None)
    if isinstance(activation, keras.Layer) and not activation.built:
        raise Unsupported(f"the activation {activation.name}, a layer that may make weights later")
    if unknown:
        raise Unsupported(f"weights that its rule doesn't know ({unknown[0]})")
