"""What guessing reaches, and whether a network is any better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoslim.reporting.statistics import guessing, near_chance, standard_error
from autoslim.scoring import unweighted
from autoslim.tasks import Outputs
from autoslim.tasks.guessing import guessed


@dataclass(frozen=True)
class Chance:
    """What the best answer that does not look at images reaches on some images."""

    task: Outputs
    metric: float  # the task's; NaN: not known for the task

    @classmethod
    def of(cls, labels: Any, task: Outputs, classes: Any) -> Chance:
        """By the labels of the images; `classes`: their number, or of another task see `Dataset.classes`."""
        if task.classifies:
            return cls(task, guessing(unweighted(labels)[0], classes))
        found = guessed(task, labels)
        return cls(task, math.nan if found is None else found)

    def is_near(self, values: np.ndarray) -> bool:
        """Whether a metric, image by image [N], may be near it.

        See `reporting.statistics.near_chance`; of other metrics than accuracies, whether it may be no better.
        """
        mean = float(np.mean(values))
        if self.task.classifies:
            return near_chance(mean, len(values), self.metric)
        return self.task.metric.gain(mean, self.metric) <= 1.96 * standard_error(values)

    def warning(self, values: np.ndarray, images: str) -> str:
        """A sentence for a metric near it; "" for one that is clearly above it.

        Args:
            values: the metric of each image, [N].
            images: what they are called.
        """
        if not self.is_near(values):
            return ""
        measure, mean = self.task.metric, float(np.mean(values))
        text = f"{measure.label} {measure.text(mean)} on {len(values):,} {images} is near chance"
        if self.task.classifies:
            return f"{text}: guessing reaches {100 * self.metric:.1f} %."
        return f"{text}: the best constant answer reaches {measure.text(self.metric)}."
