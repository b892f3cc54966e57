"""Final evaluation: top-1 and cross-entropy of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.errors import AutoslimError
from autoslim.scoring import check_labels, scores, traced_for_any_batch


@dataclass(frozen=True)
class Evaluation:
    """What a network reaches on some images."""

    top1: float  # share of images whose answer is correct
    loss: float  # mean cross-entropy
    correct: np.ndarray  # bool [N], image by image: whether the answer is its label


def evaluate(model: keras.Model | Callable[[Any], Any], batches: Iterable[tuple[Any, Any]]) -> Evaluation:
    """Evaluate a model that returns logits.

    Args:
        model: images float32 [B, H, W, C] -> logits [B, classes]; moving statistics are used.
        batches: (images, labels int [B]); the last may be smaller.

    Raises:
        AutoslimError: if there are no images, or labels are not class indices.
    """
    call = (lambda x: model(x, training=False)) if isinstance(model, keras.Model) else model

    def score(images, labels):
        return scores(labels, call(images))

    traced = None
    losses, answers = [], []
    for images, labels in batches:
        images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
        if isinstance(model, keras.Model):
            check_labels(labels, model)
        traced = traced or traced_for_any_batch(score, images, labels)
        loss, correct = traced(images, labels)
        losses.append(np.asarray(loss))
        answers.append(np.asarray(correct))
    if not answers:
        raise AutoslimError("There are no images to evaluate on.")
    every = np.concatenate(answers)
    return Evaluation(float(every.mean()), float(np.concatenate(losses).mean(dtype=np.float64)), every)
