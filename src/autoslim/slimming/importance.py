"""How important the channels of a trained network are, by what is known without training it further."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.graph import ChannelGraph
from autoslim.graph.axes import Axis
from autoslim.graph.rules.base import weight_of
from autoslim.graph.run import forward_gated
from autoslim.graph.sorting import sort_channels
from autoslim.graph.units import unit_counts, units_on
from autoslim.scoring import images_in
from autoslim.tasks import AnyTask, objective_of

Batch = tuple[Any, Any]  # images, labels as the task takes them
Importances = list[np.ndarray]  # [G], float64 [units of the group]


def by_magnitude(graph: ChannelGraph) -> Importances:
    """The squared norm of the weights that read each unit, over all layers that sum over it.

    A channel that is multiplied with small weights adds little; batch norms bring channels to one scale.
    """
    found = [np.zeros(count) for count in unit_counts(graph.groups)]
    seen: set[int] = set()
    for node in graph.trace.nodes:
        dimensions = graph.weight_dimensions(node)
        for name, summed in graph.summed_dimensions(node).items():
            variable = weight_of(node.op, name)
            if id(variable) in seen:  # a shared layer counts once
                continue
            seen.add(id(variable))
            squares = tf.convert_to_tensor(variable).numpy().astype(np.float64) ** 2
            for place in summed:
                axis = dimensions[name][place]
                assert isinstance(axis, Axis)
                entries = np.moveaxis(squares, place, 0).reshape(axis.size, -1).sum(1)
                for group, places in units_on(axis):
                    found[group] += entries[places].sum(1)
    return found


def put_important_first(graph: ChannelGraph) -> None:
    """Sort the channels of each group by magnitude, in the model's own weights; it computes the same."""
    sort_channels(graph, by_magnitude(graph))


def by_taylor(graph: ChannelGraph, batches: Iterable[Batch], task: AnyTask = "classification") -> Importances:
    """By how much the loss rises without each unit, in the second order of a Taylor expansion.

    With a gate z = 1 on the unit, of which every layer that reads it sums z times its output, the loss of an
    image without it differs by about -dL/dz + (dL/dz)^2 / 2, as the expected square of the gradient is the
    expected curvature. In a trained network the first term averages out over images, so half the mean square
    is what counts (the criterion of Molchanov et al. 2019). One pass forward and backward gives it for all
    units of all groups, in units of the loss.

    Args:
        graph: of a trained network; its moving statistics are used.
        batches: (images, labels as the task takes them).
        task: whose loss is meant, see `tasks.objective_of`.
    """
    groups = [group.index for group in graph.slimmable]
    counts = unit_counts(graph.groups)

    objective = objective_of(task, graph)

    @tf.function(autograph=False, reduce_retracing=True)
    def squares(images, labels):
        gates = {group: tf.ones([tf.shape(tf.nest.flatten(images)[0])[0], counts[group]]) for group in groups}
        with tf.GradientTape() as tape:
            tape.watch(gates)
            losses, _ = objective.scores(labels, forward_gated(graph, images, gates))
            loss = tf.reduce_sum(losses)
        found = tape.gradient(loss, gates, unconnected_gradients="zero")
        return [tf.reduce_sum(tf.square(found[group]), 0) for group in groups]

    totals = [np.zeros(count) for count in counts]
    images_seen = 0
    for images, labels in batches:
        images_seen += images_in(images)
        for group, part in zip(groups, squares(images, labels), strict=True):
            totals[group] += np.asarray(part, np.float64)
    return [total / (2 * max(1, images_seen)) for total in totals]


CRITERIA: dict[str, Callable[[ChannelGraph, Iterable[Batch], AnyTask], Importances]] = {
    "magnitude": lambda graph, batches, task: by_magnitude(graph),
    "taylor": by_taylor,
}
"""By name: (graph of a trained network, batches of images and labels, task) -> importances."""
