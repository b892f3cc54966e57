"""Tasks: what a network learns, and how good its answers are."""

from autoslim.metrics import Metric
from autoslim.scoring import Weighted
from autoslim.tasks.base import Task
from autoslim.tasks.kinds import TASKS, segmentation
from autoslim.tasks.objective import Objective
from autoslim.tasks.outputs import AnyTask, Outputs, objective_of

__all__ = [
    "AnyTask",
    "Metric",
    "Objective",
    "Outputs",
    "TASKS",
    "Task",
    "Weighted",
    "objective_of",
    "segmentation",
]
