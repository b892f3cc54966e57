"""Training steps: one network at fixed widths, or a supernet arm by arm.

Each step is a callable (images [B, H, W, C], labels int [B], step number) -> {name: scalar tensor}. The arms
of a sandwich step are calls of one traced function, one after another, so that memory stays near one arm's;
their gradients are summed on the way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.graph.run import Statistics
from autoslim.scoring import class_indices, hits
from autoslim.slimming.levels import Levels
from autoslim.slimming.sandwich import arm_names, draw_arms

log = logging.getLogger(__name__)

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
    return tf.reduce_mean(tf.cast(hits(labels, logits), tf.float32))


def weight_losses(variables: Sequence[Any]) -> list[Any]:
    """What the weights' regularizers add to the loss: scalar tensors."""
    return [v.regularizer(v) for v in variables if v.regularizer is not None]


def update_moving_statistics(statistics: Statistics) -> None:
    """Move every batch norm's moving mean and variance towards the batch's own, by the layer's momentum."""
    for layer, _, mean, variance in statistics:
        for moving, batch in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(moving * layer.momentum + batch * (1.0 - layer.momentum))


def prepare(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> list[Any]:
    """The model's trainable variables, with the optimizer built on them.

    Raises:
        AutoslimError: if there are none, or the optimizer belongs to other variables.
    """
    variables = list(model.trainable_variables)
    if not variables:
        raise AutoslimError(
            f"Model {model.name!r} has no trainable weights: nothing can be trained. Set trainable = True on "
            "the model or on some of its layers."
        )
    optimizer.build(variables)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if [id(v) for v in getattr(inner, "_trainable_variables", variables)] != [id(v) for v in variables]:
        raise AutoslimError(
            f"The optimizer was built for other weights than those of model {model.name!r}. Give each "
            "training an optimizer of its own."
        )
    ignored = [layer.name for layer in model.layers if getattr(layer, "activity_regularizer", None)]
    if ignored:
        log.warning("Activity regularizers play no part in this training: %s.", ", ".join(ignored))
    return variables


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
        self.variables = prepare(graph.model, optimizer)
        self._smoothing = smoothing
        self._teacher = teacher
        self._distill_weight = distill_weight
        self._temperature = temperature
        self._step = tf.function(self._full_width, autograph=False)

    def __call__(self, images: Any, labels: Any, step: int) -> Metrics:
        return self._step(images, labels)

    def _full_width(self, images: Any, labels: Any) -> Metrics:
        labels = class_indices(labels)
        soft = None if self._teacher is None else self._soft_targets(images)
        with tf.GradientTape() as tape:
            logits, statistics = self.graph.run_with_statistics(images, training=True)
            loss = self._loss(labels, logits, soft)
            total = self.optimizer.scale_loss(tf.add_n([loss, *weight_losses(self.variables)]))
        gradients = tape.gradient(total, self.variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self.optimizer.apply(gradients, self.variables)
        update_moving_statistics(statistics)
        return {"train/loss": loss, "train/top1": top1(labels, logits)}

    def _soft_targets(self, images: Any) -> Any:
        """The teacher's probabilities float32 [B, classes], outside the tape."""
        assert self._teacher is not None
        return tf.nn.softmax(tf.cast(self._teacher(images), tf.float32) / self._temperature)

    def _loss(self, labels: Any, logits: Any, soft: Any | None) -> Any:
        loss = cross_entropy(soft_labels(labels, logits.shape[-1], self._smoothing), logits)
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
        self.variables = prepare(graph.model, optimizer)
        self._seed = seed
        self._distill = distill
        self._smoothing = smoothing
        self._largest = tf.function(self._largest_arm, autograph=False)
        self._smaller = tf.function(self._smaller_arm, autograph=False)
        self._apply = tf.function(self._apply_sums, autograph=False)
        # Summed in place: a sum that each arm returned anew would cost its memory twice.
        self._sums = [tf.Variable(tf.zeros(v.shape, v.dtype), trainable=False) for v in self.variables]

    def __call__(self, images: Any, labels: Any, step: int) -> Metrics:
        widths = draw_arms(self.levels, len(self.arms), self._seed, step)
        targets, loss, accuracy = self._largest(images, labels)
        metrics = {"largest/loss": loss, "largest/top1": accuracy}
        for name, arm in zip(self.arms[1:], widths[1:], strict=True):
            loss, accuracy = self._smaller(images, labels, targets, tf.constant(arm))
            metrics |= {f"{name}/loss": loss, f"{name}/top1": accuracy}
        self._apply()
        return metrics

    @property
    def traces(self) -> int:
        """How often the smaller arms' function was traced: once, whatever the widths."""
        return self._smaller.experimental_get_tracing_count()

    def _largest_arm(self, images: Any, labels: Any) -> tuple[Any, Any, Any]:
        labels = class_indices(labels)
        with tf.GradientTape() as tape:
            logits, _ = self.graph.run_with_statistics(images, training=True)
            targets = soft_labels(labels, logits.shape[-1], self._smoothing)
            loss = cross_entropy(targets, logits)
            total = self.optimizer.scale_loss(tf.add_n([loss, *weight_losses(self.variables)]))
        for total_gradient, gradient in zip(self._sums, self._gradients(tape, total), strict=True):
            total_gradient.assign(gradient)
        if self._distill:
            targets = tf.nn.softmax(tf.cast(logits, tf.float32))
        return targets, loss, top1(labels, logits)

    def _smaller_arm(self, images: Any, labels: Any, targets: Any, widths: Any) -> tuple[Any, Any]:
        labels = class_indices(labels)
        with tf.GradientTape() as tape:
            logits, _ = self.graph.run_with_statistics(images, widths, training=True)
            loss = cross_entropy(targets, logits)
            total = self.optimizer.scale_loss(loss)
        for total_gradient, gradient in zip(self._sums, self._gradients(tape, total), strict=True):
            total_gradient.assign_add(gradient)
        return loss, top1(labels, logits)

    def _apply_sums(self) -> None:
        self.optimizer.apply([total.read_value() for total in self._sums], self.variables)

    def _gradients(self, tape: tf.GradientTape, loss: Any) -> list[Any]:
        return tape.gradient(loss, self.variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def floor(graph: ChannelGraph, arms: np.ndarray) -> float:
    """The least that a sandwich step can cost, in full-width steps: the arms' FLOPs over the full one's."""
    return float(np.sum(graph.cost(arms).flops) / graph.cost().flops)
