"""What removing channels does to the loss, to first order, for all groups from one backward pass.

Scaling the weights that make a channel by (1 - e) changes the loss by -e times the sum of weight times
gradient; e = 1 removes the channel. Behind a batch normalisation by the batch's own statistics the term of
the convolution's kernel vanishes, and scale and shift give activation times gradient (Molchanov et al. 2017).
Where layers that hold the same group follow on one another without normalisation, each counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.graph import ChannelGraph
from autoslim.graph.axes import Axis
from autoslim.graph.replicas import in_replicas
from autoslim.scoring import scores
from autoslim.slimming.scorer import Scorer

BACKWARD = 3  # a forward and a backward pass, in forward passes


class FirstOrder:
    """First-order effects of narrowing groups, on a scorer's images; traced once for all widths.

    Args:
        graph: of the trained supernet.
        scorer: whose held-out images; it is told what is spent.
    """

    def __init__(self, graph: ChannelGraph, scorer: Scorer) -> None:
        self._graph, self._scorer = graph, scorer
        self._made = _makers(graph)
        like = keras.tree.map_structure(
            lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), scorer.batch(0)
        )
        signature = [[like] * scorer.segments.replicas, tf.TensorSpec([len(graph.groups)], tf.int32)]
        self._slopes = tf.function(self._slopes_of_round, input_signature=signature, autograph=False)

    def __call__(self, base: np.ndarray, candidates: np.ndarray, batches: Sequence[int]) -> np.ndarray:
        """Change of the mean cross-entropy on some batches, to first order.

        Args:
            base: widths int32 [G] of the current network.
            candidates: widths int32 [K, G], nowhere wider.
            batches: indices of the batches.

        Returns:
            float64 [K], above 0 where narrowing hurts.
        """
        images = sum(self._scorer.sizes[batch] for batch in batches)
        slopes = [np.zeros(axis.size) for axis, _, _ in self._made]
        replicas = self._scorer.segments.replicas
        for begin in range(0, len(batches), replicas):
            given = [self._scorer.batch(batch) for batch in batches[begin : begin + replicas]]
            filled = given + [given[-1]] * (replicas - len(given))
            for found in self._slopes(filled, tf.constant(base, tf.int32))[: len(given)]:
                slopes = [total + np.asarray(s, np.float64) for total, s in zip(slopes, found, strict=True)]
        self._scorer.spend(BACKWARD * self._graph.cost(base).flops * images, images)
        effects = np.zeros(len(candidates))
        for (axis, _, _), slope in zip(self._made, slopes, strict=True):
            if any((candidates[:, g] != base[g]).any() for g in axis.groups):
                whole = slope[axis.indices(base)].sum()
                effects += [slope[axis.indices(widths)].sum() - whole for widths in candidates]
        return effects / images

    def _slopes_of_round(self, batches: Any, widths: Any) -> list[list[Any]]:
        """The slopes of a batch a replica."""
        return in_replicas(
            self._scorer.segments.strategy,
            lambda replica: self._slopes_of_batch(batches[replica][0], batches[replica][1], widths),
        )

    def _slopes_of_batch(self, images: Any, labels: Any, widths: Any) -> list[Any]:
        """Weight times gradient of the summed loss, summed to each channel: float32 [channels] per weight."""
        variables = [variable for _, variable, _ in self._made]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            losses, _ = scores(labels, self._graph.run(images, widths, batch_statistics=True))
            loss = tf.reduce_sum(losses)
        gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        slopes = []
        for (_, variable, place), gradient in zip(self._made, gradients, strict=True):
            others = [i for i in range(len(variable.shape)) if i != place]
            slopes.append(tf.reduce_sum(tf.cast(variable * gradient, tf.float32), others))
        return slopes


def _makers(graph: ChannelGraph) -> list[tuple[Axis, Any, int]]:
    """Weights that make channels of slimmable groups: (axis, variable, the dimension where it stands).

    A layer that is called several times has its weights once, and their gradient is the sum.
    """
    made, known = [], set()
    for node in graph.trace.nodes:
        rule = graph.rule(node)
        if rule is None or rule.measured or id(node.op) in known:
            continue
        known.add(id(node.op))
        output = graph.output_axes(node)[0]
        if all(graph.groups[g].frozen for g in output.groups):
            continue
        for name, dimensions in graph.weight_dimensions(node).items():
            places = [place for place, dimension in enumerate(dimensions) if dimension == output]
            if places and not name.startswith("moving_"):
                made.append((output, _variable(getattr(node.op, name)), places[-1]))
    return made


def _variable(weight: Any) -> Any:
    """The TensorFlow variable of a Keras one."""
    return weight.value if isinstance(weight, keras.Variable) else weight
