"""Final evaluation: top-1 and cross-entropy of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Evaluation:
    """What a network reaches on some images."""

    top1: float  # share of images that are right
    loss: float  # mean cross-entropy
    right: np.ndarray  # bool [N], image by image


def evaluate(model: keras.Model | Callable[[Any], Any], batches: Iterable[tuple[Any, Any]]) -> Evaluation:
    """Evaluate a model that returns logits.

    Args:
        model: images float32 [B, H, W, C] -> logits [B, classes]; moving statistics are used.
        batches: (images, labels int [B]).
    """
    call = (lambda x: model(x, training=False)) if isinstance(model, keras.Model) else model

    @tf.function(reduce_retracing=True, autograph=False)
    def score(images, labels):
        logits = tf.cast(call(images), tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return losses, tf.equal(tf.argmax(logits, -1, labels.dtype), labels)

    losses, right = [], []
    for images, labels in batches:
        loss, hit = score(images, labels)
        losses.append(np.asarray(loss))
        right.append(np.asarray(hit))
    hits = np.concatenate(right)
    return Evaluation(
        float(hits.mean()), float(np.concatenate(losses).mean(dtype=np.float64)), hits
    )
