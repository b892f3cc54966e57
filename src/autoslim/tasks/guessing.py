"""What the best constant answer reaches: a network that is not better has learnt nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.scoring import unweighted
from autoslim.tasks.base import Task
from autoslim.tasks.outputs import Outputs

MOST = 1000  # images on which it is measured


def main_labels(plan: Outputs, labels: Any) -> np.ndarray:
    """The labels of the main output."""
    own = unweighted(labels)[0]
    if isinstance(own, Mapping):
        return np.asarray(own[plan.main or list(own if isinstance(plan.tasks, Task) else plan.tasks)[-1]])
    return np.asarray(own[-1] if isinstance(own, list | tuple) else own)


def guessed(plan: Outputs, labels: Any) -> float | None:
    """The metric of the best constant answer to these labels; None: not known for the task.

    Args:
        plan: the tasks of a network.
        labels: of all images.
    """
    task, own = plan.first, main_labels(plan, labels)
    if task.name not in _ANSWERS or not len(own):
        return None
    own = own[:: max(1, len(own) // MOST)]
    answer = _ANSWERS[task.name](own, task.ignore)
    outputs = tf.constant(np.broadcast_to(answer, (len(own), *answer.shape)).astype(np.float32))
    values = task.score(task.labels(tf.constant(own), outputs.shape), outputs)
    return float(tf.reduce_mean(values))


def _median(labels: np.ndarray, ignore: int | None) -> np.ndarray:
    return np.median(labels.reshape(len(labels), -1) if labels.ndim == 1 else labels, axis=0)


def _usual_labels(labels: np.ndarray, ignore: int | None) -> np.ndarray:
    return np.where(labels.mean(0) > 0.5, 1.0, -1.0)


def _usual_class(labels: np.ndarray, ignore: int | None) -> np.ndarray:
    counted = labels[labels != ignore] if ignore is not None else labels
    counts = np.bincount(counted.reshape(-1).astype(np.int64), minlength=2)
    return np.broadcast_to(np.eye(len(counts))[counts.argmax()], (*labels.shape[1:], len(counts)))


_ANSWERS: dict[str, Callable[[np.ndarray, int | None], np.ndarray]] = {
    "classification": _usual_class,
    "regression": _median,
    "multilabel": _usual_labels,
    "segmentation": _usual_class,
}
"""Task -> (labels, ignored label) -> the constant outputs of an image."""
