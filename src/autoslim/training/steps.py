"""Training steps: one network at fixed widths, or a supernet arm by arm.

Each step is a callable (images [B, H, W, C], labels int [B], step number) -> {name: scalar tensor}. The arms of
a sandwich step are calls of one traced function, one after another, so that memory stays near one arm's; their
gradients are summed on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.graph import ChannelGraph
from autoslim.graph.run import Statistics
from autoslim.slimming.levels import Levels
from autoslim.slimming.sandwich import arm_names, draw_arms

Metrics = dict[str, Any]


def soft_labels(labels: Any, classes: int, smoothing: float = 0.0) -> Any:
    """Labels int [B] as probabilities float32 [B, classes], a share `smoothing` spread over all classes."""
    return tf.one_hot(labels, classes) * (1.0 - smoothing) + smoothing / classes


def cross_entropy(targets: Any, logits: Any) -> Any:
    """Mean cross-entropy of logits [B, classes] against probabilities [B, classes], in float32."""
    losses = tf.nn.softmax_cross_entropy_with_logits(targets, tf.cast(logits, tf.float32))
    return tf.reduce_mean(losses)


def top1(labels: Any, logits: Any) -> Any:
    """Share of images whose largest logit is their label's: float32 scalar."""
    return tf.reduce_mean(keras.metrics.sparse_categorical_accuracy(labels, logits))


def update_moving_statistics(statistics: Statistics) -> None:
    """Move every batch norm's moving mean and variance towards the batch's own, by the layer's momentum."""
    for layer, _, mean, variance in statistics:
        for moving, batch in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(moving * layer.momentum + batch * (1.0 - layer.momentum))


class PlainStep:
    """One optimizer step of a network at full width; batch-norm statistics move as Keras moves them.

    Args:
        graph: of the network; its model's weights are trained.
        optimizer: built on the model's trainable variables here.
        smoothing: label smoothing, in [0, 1).
        teacher: images -> logits of a teacher, or None.
        distill_weight: share of the loss that comes from the teacher.
        temperature: divides teacher's and student's logits in that share (Hinton et al. 2015).
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
    ) -> None:
        self.graph = graph
        self.optimizer = optimizer
        self.variables = list(graph.model.trainable_variables)
        optimizer.build(self.variables)
        self._smoothing = smoothing
        self._teacher = teacher
        self._distill_weight = distill_weight
        self._temperature = temperature
        self._step = tf.function(self._full_width, autograph=False)

    def __call__(self, images: Any, labels: Any, step: int) -> Metrics:
        return self._step(images, labels)

    def _full_width(self, images: Any, labels: Any) -> Metrics:
        with tf.GradientTape() as tape:
            logits, statistics = self.graph.run_with_statistics(images, training=True)
            loss = self._loss(images, labels, logits)
            total = tf.add_n([loss, *self.graph.model.losses])
        gradients = tape.gradient(
            total, self.variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        self.optimizer.apply(gradients, self.variables)
        update_moving_statistics(statistics)
        return {"train/loss": loss, "train/top1": top1(labels, logits)}

    def _loss(self, images: Any, labels: Any, logits: Any) -> Any:
        loss = cross_entropy(soft_labels(labels, logits.shape[-1], self._smoothing), logits)
        if self._teacher is None:
            return loss
        t = self._temperature
        soft = tf.nn.softmax(tf.cast(self._teacher(images), tf.float32) / t)
        distilled = t * t * cross_entropy(tf.stop_gradient(soft), logits / t)
        return (1.0 - self._distill_weight) * loss + self._distill_weight * distilled


class SandwichStep:
    """One optimizer step of a supernet by the sandwich rule with in-place distillation.

    The largest arm learns from the labels; the others learn from its softmax (or from the labels, without
    distillation). Each arm normalises with its own batch statistics. Gradients are summed over the arms.

    Args:
        graph: of the supernet; its model's weights are trained.
        levels: widths that each group may take.
        optimizer: built on the model's trainable variables here.
        seed: of the random widths.
        arms: arms of a step, at least 2.
        distill: in-place distillation.
        smoothing: label smoothing for arms that learn from labels.
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
    ) -> None:
        self.graph = graph
        self.levels = levels
        self.optimizer = optimizer
        self.arms = arm_names(arms)
        self.variables = list(graph.model.trainable_variables)
        optimizer.build(self.variables)
        self._seed = seed
        self._distill = distill
        self._smoothing = smoothing
        self._largest = tf.function(self._largest_arm, autograph=False)
        self._smaller = tf.function(self._smaller_arm, autograph=False)
        self._apply = tf.function(lambda gradients: optimizer.apply(gradients, self.variables), autograph=False)

    def __call__(self, images: Any, labels: Any, step: int) -> Metrics:
        widths = draw_arms(self.levels, len(self.arms), self._seed, step)
        gradients, targets, loss, accuracy = self._largest(images, labels)
        metrics = {"largest/loss": loss, "largest/top1": accuracy}
        for name, arm in zip(self.arms[1:], widths[1:], strict=True):
            gradients, loss, accuracy = self._smaller(
                images, labels, targets, tf.constant(arm), gradients
            )
            metrics |= {f"{name}/loss": loss, f"{name}/top1": accuracy}
        self._apply(gradients)
        return metrics

    @property
    def traces(self) -> int:
        """How often the smaller arms' function was traced: once, whatever the widths."""
        return self._smaller.experimental_get_tracing_count()

    def _largest_arm(self, images: Any, labels: Any) -> tuple[Any, Any, Any, Any]:
        with tf.GradientTape() as tape:
            logits, _ = self.graph.run_with_statistics(images, training=True)
            targets = soft_labels(labels, logits.shape[-1], self._smoothing)
            loss = cross_entropy(targets, logits)
            total = tf.add_n([loss, *self.graph.model.losses])
        gradients = self._gradients(tape, total)
        if self._distill:
            targets = tf.nn.softmax(tf.cast(logits, tf.float32))
        return gradients, targets, loss, top1(labels, logits)

    def _smaller_arm(
        self, images: Any, labels: Any, targets: Any, widths: Any, so_far: Sequence[Any]
    ) -> tuple[Any, Any, Any]:
        with tf.GradientTape() as tape:
            logits, _ = self.graph.run_with_statistics(images, widths, training=True)
            loss = cross_entropy(targets, logits)
        gradients = [a + b for a, b in zip(so_far, self._gradients(tape, loss), strict=True)]
        return gradients, loss, top1(labels, logits)

    def _gradients(self, tape: tf.GradientTape, loss: Any) -> list[Any]:
        return tape.gradient(loss, self.variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def floor(graph: ChannelGraph, arms: np.ndarray) -> float:
    """The least that a sandwich step can cost, in full-width steps: the sum of the arms' FLOPs over the full's."""
    return float(np.sum(graph.cost(arms).flops) / graph.cost().flops)
