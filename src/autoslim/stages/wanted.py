"""The networks to retrain: one for each target, by whatever method chose its channels."""

from __future__ import annotations

from collections.abc import Sequence
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

    Targets that the search ended without are left out.

    Args:
        experiment: of the run.
        trajectory: of the search; None: it is not done, or not needed.
    """
    s = experiment.config.slim
    if s.channels:
        widths = channels_widths(experiment)
        target = float(experiment.budget.share(experiment.budget.cost(widths)))
        return [Wanted(f"{target:.3g}", target, widths)]
    if trajectory is None:
        return [Wanted(f"{t:g}", t, None) for t in s.targets]
    met = [t for t in s.targets if trajectory.reaches(t, s.limits.given)]
    return [Wanted(f"{t:g}", t, widths_at(experiment, trajectory, t)) for t in met]


def widths_at(experiment: Experiment, trajectory: Trajectory, target: float) -> np.ndarray:
    """The widths that a search found for a target: int32 [G]."""
    return np.array(trajectory.at(target, experiment.config.slim.limits.given).widths, np.int32)


def retrain_folders(
    experiment: Experiment, networks: Sequence[Wanted], method: str | None = None
) -> list[StageFolder | None]:
    """The folder of each network; None where its widths are not known.

    A uniform one that is trained alone is stage `uniform`'s too.

    Args:
        experiment: of the run.
        networks: for all targets.
        method: by which they were found; None: the configured one.
    """
    joint = joint_folder(experiment, networks)
    alone = joint is None and (method or experiment.config.slim.method) == "uniform"
    stage = "uniform" if alone else "retrain"
    return [
        None if one.widths is None else experiment.network_folder(stage, one.widths, joint)
        for one in networks
    ]


def joint_folder(experiment: Experiment, networks: Sequence[Wanted]) -> StageFolder | None:
    """The folder in which the networks are trained as one; None where each is trained alone."""
    widths = list(distinct(networks).values())
    return experiment.joint_folder(widths) if experiment.config.retrain.joint and widths else None


def distinct(networks: Sequence[Wanted]) -> dict[str, np.ndarray]:
    """Label -> widths of the networks whose widths are known, each once, by the first of its targets."""
    found: dict[str, np.ndarray] = {}
    for label, _, widths in networks:
        if widths is not None and not any(np.array_equal(widths, other) for other in found.values()):
            found[label] = widths
    return found
