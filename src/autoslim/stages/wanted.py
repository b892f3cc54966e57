"""The networks to train: one for each target, by whatever method chose its channels, and uniform ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.kinds import kind_of
from autoslim.slimming.rivals.uniform import uniform_widths
from autoslim.slimming.trajectory import Trajectory
from autoslim.stages.channels import channels_widths
from autoslim.stages.experiment import Experiment
from autoslim.stages.network import Network, distinct
from autoslim.stages.origin import origin
from autoslim.stages.store import StageFolder


def given(experiment: Experiment) -> Network:
    """The full network with the weights that it came with."""
    return Network("given", None, experiment.own_widths, experiment.given_folder())


def baseline(experiment: Experiment) -> Network:
    """The full network, trained by the baseline's recipe."""
    return Network("baseline", None, experiment.own_widths, experiment.baseline_folder())


def wanted(experiment: Experiment, trajectory: Trajectory | None, method: str | None = None) -> list[Network]:
    """The networks of `slim.target`, the largest first, or the one that `slim.channels` names.

    Targets that the search ended without are left out.

    Args:
        experiment: of the run.
        trajectory: of the search; None: it is not done, or not needed.
        method: by which the channels were found; None: the configured one.
    """
    s = experiment.config.slim
    if s.channels and method is None:
        found = origin(experiment)
        kind = found.kind if found else "channels"
        network = Network(kind, _rounded(channels_share(experiment)), channels_widths(experiment), None)
        return _with_folders(experiment, [network])
    kind = kind_of(method or s.method)
    if trajectory is None:
        return [Network(kind, target, None, None) for target in s.targets]
    met = [target for target in s.targets if trajectory.reaches(target, experiment.budget.limits)]
    networks = [Network(kind, t, widths_at(experiment, trajectory, t), None) for t in met]
    return _with_folders(experiment, networks)


def uniform(experiment: Experiment, refuse: bool = True) -> list[Network]:
    """Networks of the same targets with every group at the same ratio, trained as the others are.

    Args:
        experiment: of the run.
        refuse: whether to raise for a target that no ratio meets; else it is left out.

    Raises:
        AutoslimError: for a target that no ratio meets.
    """
    s, networks = experiment.config.slim, []
    for target in [channels_share(experiment)] if s.channels else s.targets:
        try:
            widths = uniform_widths(experiment.budget, experiment.levels, target)
            networks.append(Network("uniform", _rounded(target) if s.channels else target, widths, None))
        except AutoslimError:
            if refuse:
                raise
    return _with_folders(experiment, networks)


def channels_share(experiment: Experiment) -> float:
    """The share of the full network's resource that the network of `slim.channels` has."""
    return float(experiment.budget.share(experiment.budget.cost(channels_widths(experiment))))


def _rounded(share: float) -> float:
    """A share as it stands in labels: three digits."""
    return float(f"{share:.3g}")


def widths_at(experiment: Experiment, trajectory: Trajectory, target: float) -> np.ndarray:
    """The widths that a search found for a target: int32 [G]."""
    return np.array(trajectory.at(target, experiment.budget.limits).widths, np.int32)


def joint_folder(experiment: Experiment, networks: Sequence[Network]) -> StageFolder | None:
    """The folder in which the networks are trained as one; None where each is trained alone."""
    widths = [network.known_widths for network in distinct(networks)]
    return experiment.joint_folder(widths) if experiment.retrain.joint and widths else None


def _with_folders(experiment: Experiment, networks: Sequence[Network]) -> list[Network]:
    """The networks with the folder of each, all trained by one recipe: jointly or each alone."""
    joint = joint_folder(experiment, networks)
    found = []
    for network in networks:
        stage = "uniform" if network.kind == "uniform" else "retrain"
        folder = experiment.network_folder(stage, network.known_widths, joint)
        found.append(network._replace(folder=folder))
    return found
