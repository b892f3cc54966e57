"""The networks to retrain: one for each target, by whatever method chose its channels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from autoslim.slimming.trajectory import Trajectory
from autoslim.stages.channels import channels_widths
from autoslim.stages.experiment import Experiment
from autoslim.stages.store import StageFolder


class Wanted(NamedTuple):
    """A network to retrain."""

    label: str  # the target as it stands in labels and names of files
    target: float  # share of the full network's resource that was asked for
    widths: np.ndarray | None  # int32 [G]; None: the search is not done


def wanted(experiment: Experiment, trajectory: Trajectory | None) -> list[Wanted]:
    """The networks of `slim.target`, the largest first, or the one that `slim.channels` names.

    Args:
        experiment: of the run.
        trajectory: of the search, as far as the smallest target; None: it is not done, or not needed.
    """
    s = experiment.config.slim
    if s.channels:
        widths = channels_widths(experiment)
        target = float(experiment.budget.share(experiment.budget.cost(widths)))
        return [Wanted(f"{target:.3g}", target, widths)]
    return [Wanted(f"{target:g}", target, widths_at(experiment, trajectory, target)) for target in s.targets]


def widths_at(experiment: Experiment, trajectory: Trajectory | None, target: float) -> np.ndarray | None:
    """The widths that a search found for a target: int32 [G]; None without a search."""
    if trajectory is None:
        return None
    return np.array(trajectory.at(target, experiment.config.slim.limits.given).widths, np.int32)


def retrain_folder(experiment: Experiment, widths: np.ndarray) -> StageFolder:
    """The folder of a network that the configured method found; a uniform one is stage `uniform`'s too."""
    stage = "uniform" if experiment.config.slim.method == "uniform" else "retrain"
    return experiment.network_folder(stage, widths)
