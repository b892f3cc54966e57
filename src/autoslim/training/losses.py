"""Losses and correct answers of a batch, as sums over images: it may lie on several replicas, in parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from autoslim.errors import AutoslimError
from autoslim.scoring import class_indices, correct


def probabilities(labels: Any, classes: int, smoothing: float = 0.0) -> Any:
    """Labels as probabilities float32 [B, classes], a share `smoothing` of each spread over all classes.

    Args:
        labels: int [B], or probabilities [B, classes], as mixed images have them.
        classes: of the network.
        smoothing: in [0, 1).

    Raises:
        AutoslimError: for labels of another shape or type.
    """
    labels = tf.convert_to_tensor(labels)
    if labels.dtype.is_floating and labels.shape.rank == 2:
        if labels.shape[-1] not in (None, classes):
            raise AutoslimError(
                f"Labels of shape {tuple(labels.shape)} were given as probabilities; the network has "
                f"{classes} outputs: expected [B, {classes}]."
            )
        given = tf.cast(labels, tf.float32)
    else:
        given = tf.one_hot(class_indices(labels), classes)
    return given * (1.0 - smoothing) + smoothing / classes


def true_classes(labels: Any) -> Any:
    """The class of each image, int32 [B]: the label itself, or the most probable one."""
    labels = tf.convert_to_tensor(labels)
    if labels.dtype.is_floating and labels.shape.rank == 2:
        return tf.argmax(labels, -1, tf.int32)
    return class_indices(labels)


def cross_entropy(targets: Any, logits: Any) -> Any:
    """Cross-entropy of logits [B, classes] against probabilities [B, classes], summed over B, in float32."""
    return tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits(targets, tf.cast(logits, tf.float32)))


def count_correct(labels: Any, logits: Any) -> Any:
    """Images whose largest logit is their class's: float32 scalar."""
    return tf.reduce_sum(tf.cast(correct(true_classes(labels), logits), tf.float32))


def weight_losses(variables: Sequence[Any]) -> list[Any]:
    """What the weights' regularizers add to the loss: scalar tensors."""
    return [v.regularizer(v) for v in variables if v.regularizer is not None]
