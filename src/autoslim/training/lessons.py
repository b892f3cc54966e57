"""What the networks of a training step learn from: labels, a teacher, or the largest of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from autoslim.graph import ChannelGraph
from autoslim.tasks import AnyTask, Objective, objective_of


@dataclass(frozen=True)
class Teacher:
    """A network whose outputs another one learns from (Hinton et al. 2015)."""

    outputs: Callable[[Any], Any]  # images -> its outputs
    objective: Objective  # how they are read
    weight: float  # share of the loss that comes from it
    temperature: float  # divides teacher's and student's logits in that share


@dataclass(frozen=True)
class Lesson:
    """What the arms of a step learn: the first one from labels, the others as it says."""

    objective: Objective
    label_smoothing: float
    distill: bool = False  # the others learn from the first one's outputs; else from labels
    ramp: int = 0  # steps over which the others turn from labels to the first one's outputs
    teacher: Teacher | None = None  # of the first one

    def of_first(self, soft: Any | None, labels: Any, outputs: Any) -> Any:
        """Loss of the first arm, summed over the images.

        Args:
            soft: what the teacher gives to learn from; None: there is none.
            labels: of the images.
            outputs: of the arm.
        """
        loss = tf.reduce_sum(self.objective.learnt(labels, outputs, self.label_smoothing))
        teacher = self.teacher
        if teacher is None or soft is None:
            return loss
        distilled = tf.reduce_sum(self.objective.imitated(soft, labels, outputs, teacher.temperature))
        return (1.0 - teacher.weight) * loss + teacher.weight * distilled

    def of_others(self, taught: tuple[Any, Any | None], labels: Any, outputs: Any) -> Any:
        """Loss of each image for an arm but the first, float32 [B].

        Args:
            taught: (targets, share): the first arm's softened outputs, or label targets without `distill`;
                and the outputs' share of the loss, None: all of it.
            labels: of the images.
            outputs: of the arm.
        """
        targets, share = taught
        if not self.distill:
            return self.objective.losses(targets, labels, outputs)
        imitated = self.objective.imitated(targets, labels, outputs)
        if share is None:
            return imitated
        return share * imitated + (1.0 - share) * self.objective.learnt(labels, outputs, self.label_smoothing)


def taught_by(teacher: Any, task: AnyTask, objective: Objective) -> Objective:
    """How a teacher's outputs are read: by its own ends if it is a network, else as the student's."""
    network = isinstance(teacher, keras.Model | ChannelGraph) and not isinstance(task, Objective)
    return objective_of(task, teacher) if network else objective
