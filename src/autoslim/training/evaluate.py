"""Final evaluation: loss and metric of a network, image by image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.datasets.given import BATCH_SIZE, batches_of
from autoslim.errors import AutoslimError
from autoslim.metrics import TOP1, Metric
from autoslim.scoring import as_tensors, traced_for_any_batch
from autoslim.tabular import Tabular
from autoslim.tasks import AnyTask, Weighted, objective_of
from autoslim.tasks.configured import given_task


@dataclass(frozen=True, repr=False)
class Evaluation(Tabular):
    """What a network reaches on some images."""

    metric: float  # mean over the images
    loss: float  # mean over the images
    values: np.ndarray  # float32 [N], the metric image by image
    measure: Metric  # what the metric is

    def rows(self) -> list[dict[str, Any]]:
        """One dict: the metric under its name, the loss, the number of images."""
        return [{self.measure.name: self.metric, "loss": self.loss, "images": len(self.values)}]

    @property
    def top1(self) -> float:
        """Of classification: the share of images whose answer is correct."""
        self._classes("top1")
        return self.metric

    @property
    def correct(self) -> np.ndarray:
        """Of classification: bool [N], image by image: whether the answer is its label."""
        self._classes("correct")
        return self.values.astype(bool)

    def _classes(self, name: str) -> None:
        if self.measure != TOP1:
            raise AttributeError(f"There is no {name}: the metric is {self.measure.label}. Read .metric.")


def evaluate(
    model: keras.Model | Callable[[Any], Any],
    batches: Any,
    task: AnyTask | Mapping[str, Any] | None = None,
    *,
    loss: Any = None,
    loss_weights: Mapping[str, float] | None = None,
    batch_size: int = BATCH_SIZE,
) -> Evaluation:
    """Evaluate a model.

    Args:
        model: images -> outputs; a Keras model uses its moving statistics. What a Keras model ends in is
            recognised; of a function the task says it (logits).
        batches: (images, labels), or (images, labels, weights of the losses); the last may be smaller. Or the
            same of all images as arrays, in a tuple.
        task, loss, loss_weights, batch_size: as in `fit`.

    Raises:
        AutoslimError: if there are no images, or labels that don't fit.
    """
    call = (lambda x: model(x, training=False)) if isinstance(model, keras.Model) else model
    objective = objective_of(given_task(task, loss, loss_weights), model)

    def score(images, labels):
        return objective.scores(labels, call(images))

    traced = None
    losses, answers = [], []
    for batch in batches_of(batches, batch_size):
        images, labels = as_tensors(batch[0]), as_tensors(batch[1])
        objective.check(labels)
        if len(batch) == 3:
            labels = Weighted(labels, tf.convert_to_tensor(batch[2]))
        traced = traced or traced_for_any_batch(score, images, labels)
        loss, values = traced(images, labels)
        losses.append(np.asarray(loss))
        answers.append(np.asarray(values))
    if not answers:
        raise AutoslimError("There are no images to evaluate on.")
    every = np.concatenate(answers)
    loss = float(np.concatenate(losses).mean(dtype=np.float64))
    return Evaluation(float(every.mean(dtype=np.float64)), loss, every, objective.metric)
