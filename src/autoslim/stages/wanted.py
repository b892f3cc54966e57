"""The networks to retrain: one for each target, by whatever method chose its channels, and uniform ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.kinds import KINDS, kind_of
from autoslim.slimming.budget import Budget
from autoslim.slimming.giving_back import budget_use, much_unused
from autoslim.slimming.levels import Levels
from autoslim.slimming.rivals.uniform import uniform_widths
from autoslim.slimming.trajectory import Trajectory
from autoslim.stages import supernet
from autoslim.stages.experiment import Experiment
from autoslim.stages.network import Network
from autoslim.stages.origin import origin
from autoslim.stages.recipe import recipe_of
from autoslim.stages.store import stage_hash


def wanted(experiment: Experiment, trajectory: Trajectory | None) -> list[Network]:
    """The networks of `slim.target`, the largest first, or the one that `slim.channels` names.

    Targets that the search ended without are left out.

    Args:
        experiment: of the run.
        trajectory: of the search; None: it is not done, or not needed.
    """
    s, budget = experiment.config.slim, experiment.budget
    if s.channels:
        widths = experiment.named_widths
        found = origin(experiment.root, stage_hash(supernet.supernet_key(experiment)), widths)
        kind = found.kind if found else "channels"
        networks = [Network(kind, _rounded(share_of(widths, budget)), widths, None)]
    elif trajectory is None:
        return [Network(kind_of(s.method), target, None, None) for target in s.targets]
    else:
        networks = found_networks(trajectory, kind_of(s.method), s.targets, budget)
    return recipe_of(experiment).with_folders(networks)


def found_networks(
    trajectory: Trajectory, kind: str, targets: Sequence[float], budget: Budget
) -> list[Network]:
    """The networks that a search found, for the targets that it reached."""
    met = [target for target in targets if trajectory.reaches(target, budget.limits)]
    return [Network(kind, target, widths_at(trajectory, target, budget), None) for target in met]


def uniform(experiment: Experiment, refuse: bool = True) -> list[Network]:
    """Networks of the same targets with every group at the same ratio, trained as the others are.

    Args:
        experiment: of the run.
        refuse: whether to raise for a target that no ratio meets; else it is left out.

    Raises:
        AutoslimError: for a target that no ratio meets.
    """
    s, budget, networks = experiment.config.slim, experiment.budget, []
    for target in [share_of(experiment.named_widths, budget)] if s.channels else s.targets:
        try:
            widths = uniform_widths(budget, experiment.levels, target)
            networks.append(Network("uniform", _rounded(target) if s.channels else target, widths, None))
        except AutoslimError:
            if refuse:
                raise
    return recipe_of(experiment).with_folders(networks)


def unused(networks: Sequence[Network], budget: Budget, levels: Levels) -> list[str]:
    """A sentence for each network for a target that leaves much of its budget unused.

    Args:
        networks: of a run.
        budget: what they may cost.
        levels: the widths that each group may take.
    """
    found = []
    for network in networks:
        if network.target is None or network.widths is None:
            continue
        method = KINDS[network.kind].method
        reason = [f"{method.name} leaves it"] if method and not method.path else []
        uses = budget_use(budget, levels, network.widths, network.target, *reason)
        if text := much_unused(uses):
            found.append(f"{network.label}: {text}")
    return found


def share_of(widths: np.ndarray, budget: Budget) -> float:
    """The share of the full network's resource that the network at `widths` int32 [G] has."""
    return float(budget.share(budget.cost(widths)))


def _rounded(share: float) -> float:
    """A share as it stands in labels: three digits."""
    return float(f"{share:.3g}")


def widths_at(trajectory: Trajectory, target: float, budget: Budget) -> np.ndarray:
    """The widths that a search found for a target: int32 [G]."""
    return np.array(trajectory.at(target, budget.limits).widths, np.int32)
