"""Training steps: one network at full width, or a supernet arm by arm.

A step runs in every replica of the strategy that its network was made for (`replicas.strategy_of`): each
takes its part of the batch, losses are sums over images divided by the images of the whole batch, and the sum
of all gradients is applied once. The arms of a sandwich step are calls of one traced function, one after
another, so that memory stays near one arm's; their gradients are summed on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import tensorflow as tf

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.graph.replicas import strategy_of
from autoslim.slimming.levels import Levels
from autoslim.slimming.sandwich import arm_names, draw_arms
from autoslim.training.distribution import Strategy, on_replicas, total
from autoslim.training.gradients import (
    USUAL,
    Computing,
    Differentiation,
    Found,
    GradientSums,
    apply,
    images_in_all,
    part_of,
    prepare,
    update_moving_statistics,
)
from autoslim.training.losses import count_hits, cross_entropy, probabilities

Metrics = dict[str, Any]  # name -> scalar tensor


class Step(Protocol):
    """What the loop asks of a training step.

    A step owns its traced functions, each of which calls `strategy.run` once, so that nothing that exchanges
    values between replicas stands in a nested function. State that a step needs beside the variables of its
    model and optimizer would have to be in the checkpoint; there is none: what is drawn at random is a
    function of the step's number.
    """

    model: Any  # what is trained: a model, or what has its variables, output_shape and name
    optimizer: keras.optimizers.Optimizer
    strategy: Strategy
    computing: Computing

    @property
    def arms(self) -> Sequence[str]:
        """Names of the networks that a step trains."""

    def __call__(self, images: Any, labels: Any, step: int) -> Metrics:
        """One optimizer step.

        Args:
            images: [B, H, W, C], or what `distribution.distributed` made of them.
            labels: int [B], or probabilities float32 [B, classes], likewise.
            step: its number, from 0.

        Returns:
            {metric: scalar tensor}: means over all images of the batch.
        """


class PlainStep:
    """One optimizer step of a network at full width; batch-norm statistics move as Keras moves them.

    The loss is the mean cross-entropy plus what the weights' regularizers add.

    Args:
        graph: of the network; its model's weights are trained.
        optimizer: built on the model's trainable variables here.
        smoothing: label smoothing, in [0, 1).
        teacher: images -> logits of a teacher, or None.
        distill_weight: share of the loss that comes from the teacher.
        temperature: divides teacher's and student's logits in that share (Hinton et al. 2015).
        computing: precision and the like. With `accumulate`, batch norms normalise part by part.
    """

    arms = ("train",)

    def __init__(
        self,
        graph: ChannelGraph,
        optimizer: keras.optimizers.Optimizer,
        *,
        smoothing: float = 0.0,
        teacher: Callable[[Any], Any] | None = None,
        distill_weight: float = 0.5,
        temperature: float = 1.0,
        computing: Computing = USUAL,
    ) -> None:
        self.graph, self.model = graph, graph.model
        self.optimizer = optimizer
        self.computing = computing
        self.strategy = strategy_of(graph.model)
        self.variables = prepare(graph.model, optimizer, self.strategy)
        self.differentiation = Differentiation(graph, self.variables, optimizer, computing)
        self._smoothing = smoothing
        self._teacher = teacher
        self._distill_weight = distill_weight
        self._temperature = temperature
        self._whole = tf.function(self.compute, autograph=False)
        self._sums: GradientSums | None = None
        if computing.accumulate > 1:
            self._sums = GradientSums(self.variables, optimizer, self.strategy)
            self._clear = traced(self.strategy, self._sums.clear)
            self._add_part = traced(self.strategy, self._in_replica_part, summed=True)
            self._apply = traced(self.strategy, self._sums.apply)

    def __call__(self, images: Any, labels: Any, step: int) -> Metrics:
        if self._sums is None:
            return self._whole(images, labels)
        self._clear()
        found = [
            self._add_part(images, labels, tf.constant(part)) for part in range(self.computing.accumulate)
        ]
        self._apply()
        return named("train", [tf.add_n(values) for values in zip(*found, strict=True)])

    def compute(self, images: Any, labels: Any) -> Metrics:
        """The step, for use within a `tf.function`."""
        run = on_replicas(self.strategy, self._in_replica)
        return named("train", tf.unstack(total(self.strategy, run(images, labels))))

    def _in_replica(self, images: Any, labels: Any) -> Any:
        count = images_in_all(labels)
        found = self.full_pass(images, labels, count)
        apply(self.optimizer, found.gradients, self.variables)
        update_moving_statistics(found.statistics)
        return measured(found, labels, count)

    def _in_replica_part(self, images: Any, labels: Any, part: Any) -> Any:
        assert self._sums is not None
        count = images_in_all(labels)
        images, labels = (part_of(x, part, self.computing.accumulate) for x in (images, labels))
        found = self.full_pass(images, labels, count)
        self._sums.add(found.gradients)
        update_moving_statistics(found.statistics)
        return measured(found, labels, count)

    def full_pass(self, images: Any, labels: Any, count: Any) -> Found:
        """Forward and backward on images of one replica, within it; `count`: images of the whole batch."""
        soft = None if self._teacher is None else self._soft_targets(images)
        return self.differentiation(
            images, lambda logits: self._loss(labels, logits, soft) / count, weight_share=weight_share(self)
        )

    def _soft_targets(self, images: Any) -> Any:
        """The teacher's probabilities float32 [B, classes], outside the tape."""
        assert self._teacher is not None
        return tf.nn.softmax(tf.cast(self._teacher(images), tf.float32) / self._temperature)

    def _loss(self, labels: Any, logits: Any, soft: Any | None) -> Any:
        """Summed over the images."""
        loss = cross_entropy(probabilities(labels, logits.shape[-1], self._smoothing), logits)
        if soft is None:
            return loss
        if soft.shape[-1] != logits.shape[-1]:
            raise AutoslimError(
                f"The teacher returns logits of shape {tuple(soft.shape)}, the network of "
                f"{tuple(logits.shape)}: both must know the same classes."
            )
        t = self._temperature
        distilled = t * t * cross_entropy(soft, tf.cast(logits, tf.float32) / t)
        return (1.0 - self._distill_weight) * loss + self._distill_weight * distilled


class SandwichStep:
    """One optimizer step of a supernet by the sandwich rule with in-place distillation.

    The largest arm learns from the labels and the weights' regularizers; the others learn from its softmax
    (or from the labels, without distillation). Each arm normalises with its own batch statistics; moving
    statistics stay as they are. Gradients are summed over the arms.

    Args:
        graph: of the supernet; its model's weights are trained.
        levels: widths that each group may take.
        optimizer: built on the model's trainable variables here.
        seed: of the random widths.
        arms: arms of a step, at least 2.
        distill: in-place distillation.
        smoothing: label smoothing for arms that learn from labels.
        computing: precision and the like. With `accumulate`, batch norms normalise part by part.
    """

    def __init__(
        self,
        graph: ChannelGraph,
        levels: Levels,
        optimizer: keras.optimizers.Optimizer,
        *,
        seed: int = 0,
        arms: int = 4,
        distill: bool = True,
        smoothing: float = 0.0,
        computing: Computing = USUAL,
    ) -> None:
        self.graph, self.model = graph, graph.model
        self.levels = levels
        self.optimizer = optimizer
        self.computing = computing
        self.arms = arm_names(arms)
        self.strategy = strategy_of(graph.model)
        self.variables = prepare(graph.model, optimizer, self.strategy)
        self.differentiation = Differentiation(graph, self.variables, optimizer, computing)
        self._seed = seed
        self._distill = distill
        self._smoothing = smoothing
        self._sums = GradientSums(self.variables, optimizer, self.strategy)
        self._largest = tf.function(self._largest_arm, autograph=False)
        self._smaller = traced(self.strategy, self._smaller_in_replica, summed=True)
        self._clear = traced(self.strategy, self._sums.clear)
        self._apply = traced(self.strategy, self._sums.apply)

    def __call__(self, images: Any, labels: Any, step: int) -> Metrics:
        widths = [tf.constant(arm) for arm in draw_arms(self.levels, len(self.arms), self._seed, step)]
        parts = self.computing.accumulate
        found = [self._part(images, labels, None, widths)] if parts == 1 else []
        if not found:
            self._clear()
            found = [self._part(images, labels, tf.constant(part), widths) for part in range(parts)]
        self._apply()
        metrics: Metrics = {}
        for name, pairs in zip(self.arms, zip(*found, strict=True), strict=True):
            sums = pairs[0] if parts == 1 else [tf.add_n(values) for values in zip(*pairs, strict=True)]
            metrics |= named(name, sums)
        return metrics

    @property
    def traces(self) -> int:
        """How often the smaller arms' function was traced: once, whatever the widths."""
        return self._smaller.experimental_get_tracing_count()

    def _part(self, images: Any, labels: Any, part: Any | None, widths: list[Any]) -> list[Any]:
        """All arms on one part of the batch: (loss, share of hits) of each."""
        targets, count, largest = self._largest(images, labels, part)
        smaller = [self._smaller(images, labels, targets, count, arm, part) for arm in widths[1:]]
        return [largest, *smaller]

    def _largest_arm(self, images: Any, labels: Any, part: Any | None) -> tuple[Any, Any, Any]:
        run = on_replicas(self.strategy, self._largest_in_replica)
        targets, count, found = run(images, labels, part)
        return targets, count, tf.unstack(total(self.strategy, found))

    def _largest_in_replica(self, images: Any, labels: Any, part: Any | None) -> tuple[Any, Any, Any]:
        count = images_in_all(labels)
        images, labels = (part_of(x, part, self.computing.accumulate) for x in (images, labels))
        found = self.full_pass(images, labels, count)
        (self._sums.start if part is None else self._sums.add)(found.gradients)
        logits = tf.cast(found.logits, tf.float32)
        targets = tf.nn.softmax(logits) if self._distill else self._truth(labels, logits)
        return targets, count, measured(found, labels, count)

    def full_pass(self, images: Any, labels: Any, count: Any) -> Found:
        """The largest arm, forward and backward on images of one replica, within it.

        Args:
            images: of the replica.
            labels: likewise.
            count: images of the whole batch, float32.
        """
        return self.differentiation(
            images,
            lambda logits: cross_entropy(self._truth(labels, logits), logits) / count,
            weight_share=weight_share(self),
        )

    def _truth(self, labels: Any, logits: Any) -> Any:
        return probabilities(labels, logits.shape[-1], self._smoothing)

    def _smaller_in_replica(
        self, images: Any, labels: Any, targets: Any, count: Any, widths: Any, part: Any | None
    ) -> Any:
        images, labels = (part_of(x, part, self.computing.accumulate) for x in (images, labels))
        found = self.differentiation(images, lambda logits: cross_entropy(targets, logits) / count, widths)
        self._sums.add(found.gradients)
        return measured(found, labels, count)


def traced(strategy: Strategy, in_replica: Callable[..., Any], summed: bool = False) -> Any:
    """A traced function that runs `in_replica` in every replica.

    Args:
        strategy: of the replicas.
        in_replica: what each does.
        summed: return the sums over the replicas of the vector that each returns, as a list of scalars.
    """
    run = on_replicas(strategy, in_replica)

    def call(*arguments: Any) -> Any:
        result = run(*arguments)
        return tf.unstack(total(strategy, result)) if summed else None

    return tf.function(call, autograph=False)


def weight_share(step: Step) -> float:
    """The regularizers' losses are added once in all: so much of them in each part of each replica."""
    return 1.0 / (step.strategy.num_replicas_in_sync * step.computing.accumulate)


def measured(found: Found, labels: Any, count: Any) -> Any:
    """This replica's share of (loss, hits): float32 [2]."""
    return tf.stack([found.loss, count_hits(labels, found.logits) / count])


def named(arm: str, values: Sequence[Any]) -> Metrics:
    """The (loss, share of hits) of an arm by their names in the curves."""
    loss, top1 = values
    return {f"{arm}/loss": loss, f"{arm}/top1": top1}
