"""What a task is: a record of pure functions of labels and outputs, image by image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from autoslim.metrics import Metric


def _same(labels: Any, shape: Any) -> Any:
    return labels


def _as_targets(labels: Any, outputs: Any, smoothing: float) -> Any:
    return labels


def mean_of_image(values: Any) -> Any:
    """Values [B, ...] as one for each image: their mean, float32 [B]."""
    values = tf.cast(values, tf.float32)
    rank = values.shape.rank
    return values if rank == 1 else tf.reduce_mean(values, list(range(1, rank)))


@dataclass(frozen=True)
class Task:
    """What a network learns and how good its answers are.

    All functions are of tensors with the images first, and can be traced. What they call outputs are logits
    where `logits` says so, whether the network ends in them or in a softmax or sigmoid.

    >>> Task("depth", Metric("rmse", "RMSE", "RMSE", higher=False), loss=..., score=...).name
    'depth'

    Attributes:
        name: for people.
        metric: how good an answer is.
        loss: (labels, outputs) -> loss of each image [B], or of its places [B, ...], whose mean is taken.
        score: (labels, outputs) -> the metric of each image [B].
        labels: (labels as they come, shape of the outputs) -> as `loss` and `score` take them.
            Raises AutoslimError for labels that do not fit.
        targets: (labels, outputs, label_smoothing) -> what `loss` takes for labels in training.
        soften: (outputs, temperature) -> what another network learns from them (distillation).
        imitate: (what `soften` gave, outputs, temperature) -> loss of each image; None: `loss`.
        logits: whether outputs are logits of classes that exclude each other ("softmax") or not ("sigmoid");
            "": they are values, taken as the network returns them.
        bounded: whether whole-number labels must lie in 0 to outputs - 1.
        ignore: a label that is none; it is not refused, and left out of loss and metric.
        smooths: whether label_smoothing has a meaning.
        several: the task in its place where logits of exclusive classes end in a sigmoid each.
    """

    name: str
    metric: Metric
    loss: Callable[[Any, Any], Any]
    score: Callable[[Any, Any], Any]
    labels: Callable[[Any, Any], Any] = _same
    targets: Callable[[Any, Any, float], Any] = _as_targets
    soften: Callable[[Any, float], Any] = lambda outputs, temperature: tf.cast(outputs, tf.float32)
    imitate: Callable[[Any, Any, float], Any] | None = None
    logits: str = ""
    bounded: bool = False
    ignore: int | None = None
    smooths: bool = False
    several: Task | None = None

    def with_loss(self, loss: Callable[[Any, Any], Any]) -> Task:
        """The same task with another loss of each image."""
        return dataclasses.replace(self, loss=loss)
