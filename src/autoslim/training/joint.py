"""Several networks trained as one: slices of the same weights, with batch norms of each network's own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.datasets import BatchSource
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.graph.materialize import own_batch_norms
from autoslim.graph.replicas import strategy_of
from autoslim.graph.run import Replaced
from autoslim.training.distribution import on_replicas, total
from autoslim.training.fit import default_optimizer
from autoslim.training.gradients import (
    USUAL,
    Computing,
    Differentiation,
    GradientSums,
    images_in_all,
    part_of,
    prepare,
    update_moving_statistics,
)
from autoslim.training.loop import Evaluate, train
from autoslim.training.losses import cross_entropy, probabilities
from autoslim.training.progress import History
from autoslim.training.running import USUALLY, Running
from autoslim.training.steps import Metrics, measured, named, traced, weight_share


class JointNetwork:
    """One set of weights for several widths, with switchable batch norms (Yu et al. 2018, section 3.3).

    Each width has its own scale, shift and moving statistics at every batch norm that a rule covers, taken at
    first from the full network's; all else is the active part of the full network's weights.

    Args:
        graph: of the full network, whose weights are shared.
        widths: int32 [N, G], of the networks, the largest first.
    """

    def __init__(self, graph: ChannelGraph, widths: Sequence[np.ndarray]) -> None:
        self.graph = graph
        self.widths = [graph.check(one) for one in widths]
        with strategy_of(graph.model).scope():
            self._norms = [own_batch_norms(graph, one, f"_{i}") for i, one in enumerate(self.widths)]
        norms = {id(weight) for layer, _ in self._norms[0] for weight in layer.variables}
        own = [copy for pairs in self._norms for _, copy in pairs]
        model = graph.model
        self.variables = [v for v in model.variables if id(v) not in norms]
        self.variables += [v for layer in own for v in layer.variables]
        self.trainable_variables = [v for v in model.trainable_variables if id(v) not in norms]
        self.trainable_variables += [v for layer in own for v in layer.trainable_variables]

    @property
    def name(self) -> str:
        """The full network's."""
        return self.graph.model.name

    @property
    def layers(self) -> list[keras.Layer]:
        """The full network's."""
        return self.graph.model.layers

    @property
    def output_shape(self) -> tuple[Any, ...]:
        """Shape of the logits."""
        return self.graph.model.output_shape

    def replaced(self, place: int) -> Replaced:
        """What network number `place` has in place of the full network's batch norms."""
        return {
            id(full): own
            for layer, copy in self._norms[place]
            for full, own in zip(layer.variables, copy.variables, strict=True)
        }

    def own_layers(self, place: int) -> dict[int, keras.Layer]:
        """id(batch norm of the full network) -> that of network number `place`."""
        return {id(layer): copy for layer, copy in self._norms[place]}

    def run(self, images: Any, place: int, **options: Any) -> Any:
        """Logits of network number `place`; options as of `ChannelGraph.run`."""
        return self.graph.run(images, self.widths[place], replaced=self.replaced(place), **options)

    def materialize(self, place: int) -> keras.Model:
        """Network number `place` as a plain Keras model."""
        return self.graph.materialize(self.widths[place], replaced=self.replaced(place))


def train_joint(
    model: JointNetwork,
    batches: BatchSource,
    epochs: int,
    *,
    optimizer: keras.optimizers.Optimizer | None = None,
    names: Sequence[str] | None = None,
    distill: bool = True,
    smoothing: float = 0.0,
    folder: Path | str | None = None,
    running: Running = USUALLY,
    evaluate: Evaluate | None = None,
    description: str = "joint",
    computing: Computing = USUAL,
) -> History:
    """Train several networks as one.

    Args:
        model: of the networks; its weights are trained.
        batches: training images.
        epochs: passes over them.
        optimizer: None: SGD with Nesterov momentum, weight decay and a cosine schedule from 0.1.
        names, distill, smoothing: as in `JointStep`.
        folder, running, evaluate, description, computing: as in `fit`.

    Returns:
        Mean metrics of every epoch, each network's.
    """
    steps = epochs * batches.steps_per_epoch
    step = JointStep(
        model,
        optimizer or default_optimizer(model, steps, computing.precision),
        names=names,
        distill=distill,
        smoothing=smoothing,
        computing=computing,
    )
    return train(
        step,
        batches,
        epochs,
        folder=folder,
        running=running,
        evaluate=evaluate,
        description=description,
    )


class JointStep:
    """One optimizer step of all networks of a `JointNetwork`.

    The largest learns from the labels and the weights' regularizers, the others from its softmax (or from the
    labels). Each normalises with its own batch statistics and moves its own moving ones. Gradients are
    summed over the networks.

    Args:
        model: whose weights are trained.
        optimizer: built on its trainable variables here.
        names: of the networks, for curves; None: network1, network2, ...
        distill: whether the others learn from the largest one's outputs.
        smoothing: label smoothing for those that learn from labels.
        computing: precision and the like. With `accumulate`, batch norms normalise part by part.

    Raises:
        AutoslimError: for another number of names than of networks.
    """

    def __init__(
        self,
        model: JointNetwork,
        optimizer: keras.optimizers.Optimizer,
        *,
        names: Sequence[str] | None = None,
        distill: bool = True,
        smoothing: float = 0.0,
        computing: Computing = USUAL,
    ) -> None:
        self.arms = tuple(names or [f"network{i}" for i in range(1, len(model.widths) + 1)])
        if len(self.arms) != len(model.widths):
            raise AutoslimError(f"{len(self.arms)} names were given for {len(model.widths)} networks.")
        self.model = model
        self.graph = model.graph
        self.optimizer = optimizer
        self.computing = computing
        self.strategy = strategy_of(model)
        self.variables = prepare(model, optimizer, self.strategy)
        self.differentiation = Differentiation(model.graph, self.variables, optimizer, computing)
        self._distill = distill
        self._smoothing = smoothing
        self._sums = GradientSums(self.variables, optimizer, self.strategy)
        self._largest = tf.function(self._largest_network, autograph=False)
        self._smaller = [
            traced(self.strategy, partial(self._smaller_in_replica, place), summed=True)
            for place in range(1, len(self.arms))
        ]
        self._clear = traced(self.strategy, self._sums.clear)
        self._apply = traced(self.strategy, self._sums.apply)

    def __call__(self, images: Any, labels: Any, step: int) -> Metrics:
        parts = self.computing.accumulate
        self._clear()
        places = [None] if parts == 1 else [tf.constant(part) for part in range(parts)]
        found = [self._part(images, labels, place) for place in places]
        self._apply()
        metrics: Metrics = {}
        for name, pairs in zip(self.arms, zip(*found, strict=True), strict=True):
            metrics |= named(name, [tf.add_n(values) for values in zip(*pairs, strict=True)])
        return metrics

    def _part(self, images: Any, labels: Any, part: Any | None) -> list[Any]:
        """All networks on one part of the batch: (loss, share of hits) of each."""
        targets, count, largest = self._largest(images, labels, part)
        return [largest, *(smaller(images, labels, targets, count, part) for smaller in self._smaller)]

    def _largest_network(self, images: Any, labels: Any, part: Any | None) -> tuple[Any, Any, Any]:
        run = on_replicas(self.strategy, self._largest_in_replica)
        targets, count, found = run(images, labels, part)
        return targets, count, tf.unstack(total(self.strategy, found))

    def _largest_in_replica(self, images: Any, labels: Any, part: Any | None) -> tuple[Any, Any, Any]:
        count = images_in_all(labels)
        images, labels = (part_of(x, part, self.computing.accumulate) for x in (images, labels))
        truth = probabilities(labels, self.model.output_shape[-1], self._smoothing)
        logits, found = self._learn(0, images, labels, truth, count)
        targets = tf.nn.softmax(tf.cast(logits, tf.float32)) if self._distill else truth
        return targets, count, found

    def _smaller_in_replica(
        self, place: int, images: Any, labels: Any, targets: Any, count: Any, part: Any | None
    ) -> Any:
        images, labels = (part_of(x, part, self.computing.accumulate) for x in (images, labels))
        return self._learn(place, images, labels, targets, count)[1]

    def _learn(self, place: int, images: Any, labels: Any, targets: Any, count: Any) -> tuple[Any, Any]:
        """Add a network's gradients to the sums: its logits, and its share of (loss, hits)."""
        found = self.differentiation(
            images,
            lambda logits: cross_entropy(targets, logits) / count,
            self.model.widths[place],
            weight_share=weight_share(self) if place == 0 else 0.0,
            replaced=self.model.replaced(place),
        )
        self._sums.add(found.gradients)
        own = self.model.own_layers(place)
        update_moving_statistics([(own.get(id(layer), layer), *pair) for layer, *pair in found.statistics])
        return found.logits, measured(found, labels, count)
