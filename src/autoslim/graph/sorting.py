"""Sort the channels of a network: a permutation of each group's channels that changes nothing computed.

A narrower network has the first channels of each group, so it is as good as the channels that stand first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.errors import AutoslimError
from autoslim.graph.axes import Axis, Dimension
from autoslim.graph.materialize import kept_part, prepare
from autoslim.graph.rules.base import weight_of
from autoslim.graph.structure import Structure
from autoslim.graph.units import Units, unit_counts


def sort_channels(graph: Structure, importances: Sequence[np.ndarray]) -> Units:
    """Put the most important channels of every group first, in the model's own weights.

    Every layer whose channels are in a group is permuted alike, blocks of channels that stay together as
    blocks, so that the network computes the same. Groups whose order something outside the weights depends on
    are left alone: those that are frozen, and those whose channels stand in a layer's settings.

    Args:
        graph: of the model.
        importances: of each group's units, float [G] of [units]; a unit is `ChannelGroup.unit` channels.
            Equally important ones keep their order.

    Returns:
        For every group, the units in their new order by their old places.

    Raises:
        AutoslimError: for importances of other shapes, or such that are not finite.
    """
    counts = unit_counts(graph.groups)
    for group, count, importance in zip(graph.groups, counts, importances, strict=True):
        if np.shape(importance) != (count,) or not np.isfinite(importance).all():
            raise AutoslimError(
                f"The importances of group {group.name!r} have shape {np.shape(importance)}"
                f"{'' if np.isfinite(importance).all() else ' and are not all finite'}: expected {count} "
                "finite numbers, one for each unit of its channels."
            )
    fixed = _fixed(graph)
    order = Units(
        tuple(
            np.arange(count) if group.index in fixed else np.argsort(-np.asarray(importance), kind="stable")
            for group, count, importance in zip(graph.groups, counts, importances, strict=True)
        )
    )
    permuted: set[int] = set()
    for node in graph.trace.nodes:
        for name, dimensions in graph.weight_dimensions(node).items():
            variable = weight_of(node.op, name)
            if id(variable) not in permuted:  # a shared layer is permuted once
                permuted.add(id(variable))
                variable.assign(kept_part(tf.convert_to_tensor(variable).numpy(), dimensions, order))
        rule = graph.rule(node)
        if rule is not None and rule.measured:
            prepare(node.op, node.op)
    return order


def _fixed(graph: Structure) -> set[int]:
    """Indices of the groups whose channels keep their order."""
    found = {group.index for group in graph.groups if group.frozen}
    for node in graph.trace.nodes:
        rule = graph.rule(node)
        if rule is not None:
            asked = _Asked()
            rule.config(node.op, asked, *graph.given_to_rule(node))
            graph.call_arguments(node, asked)
            found |= asked.groups
            if rule.arrange is None and not rule.pointwise(node.op, graph.input_axes(node)):
                layouts = graph.input_layouts(node)  # neighbours matter on an axis that is gone along
                found |= {g for x in layouts for place, a in x.axes for g in a.groups if place != x.rank - 1}
    return found


class _Asked:
    """Stands for the channels (`Channels`) and notes the groups whose entries settings or constants hold."""

    def __init__(self) -> None:
        self.groups: set[int] = set()

    def __call__(self, axis: Axis) -> int:
        return axis.size

    def take(self, value: Any, axis: Axis) -> Any:
        """The value, which has the channels of the axis if it is as long."""
        if np.shape(value)[-1:] == (axis.size,):
            self.groups.update(axis.groups)
        return value

    def part(self, value: Any, dims: Sequence[Dimension]) -> Any:
        """The value, which has the channels of its dimensions."""
        for dimension in dims:
            if isinstance(dimension, Axis):
                self.groups.update(dimension.groups)
        return value
