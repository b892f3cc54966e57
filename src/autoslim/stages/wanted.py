"""The networks to retrain: one for each target, by whatever method chose its channels, and uniform ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.kinds import KINDS, kind_of
from autoslim.slimming.giving_back import budget_use, half_unused
from autoslim.slimming.rivals.uniform import uniform_widths
from autoslim.slimming.trajectory import Trajectory
from autoslim.stages import baseline, supernet
from autoslim.stages.channels import channels_widths
from autoslim.stages.experiment import Experiment
from autoslim.stages.network import Network, distinct
from autoslim.stages.origin import origin
from autoslim.stages.record import Need
from autoslim.stages.store import StageFolder, stage_hash


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


def unused(experiment: Experiment, networks: Sequence[Network]) -> list[str]:
    """A sentence for each network for a target that leaves much of its budget unused."""
    s, found = experiment.config.slim, []
    for network in networks:
        if network.target is None or network.widths is None or s.channels:
            continue
        method = KINDS[network.kind].method
        reason = [f"{method.name} leaves it"] if method and not method.path else []
        uses = budget_use(experiment.budget, experiment.levels, network.widths, network.target, *reason)
        if text := half_unused(uses):
            found.append(f"{network.label}: {text}")
    return found


def channels_share(experiment: Experiment) -> float:
    """The share of the full network's resource that the network of `slim.channels` has."""
    return float(experiment.budget.share(experiment.budget.cost(channels_widths(experiment))))


def _rounded(share: float) -> float:
    """A share as it stands in labels: three digits."""
    return float(f"{share:.3g}")


def widths_at(experiment: Experiment, trajectory: Trajectory, target: float) -> np.ndarray:
    """The widths that a search found for a target: int32 [G]."""
    return np.array(trajectory.at(target, experiment.budget.limits).widths, np.int32)


def network_key(
    experiment: Experiment, widths: np.ndarray, joint: StageFolder | None = None
) -> dict[str, Any]:
    """What the network at `widths` int32 [G] depends on, retrained alone or as a part of a joint training."""
    key = {**recipe_key(experiment, joint is not None), "channels": experiment.plan.channels(widths)}
    if joint is not None:
        key["joint"] = stage_hash(joint.key)
    return key


def joint_key(experiment: Experiment, widths: Sequence[np.ndarray]) -> dict[str, Any]:
    """What the joint training of the networks at these widths depends on."""
    return {**recipe_key(experiment, True), "channels": [experiment.plan.channels(one) for one in widths]}


def recipe_key(experiment: Experiment, joint: bool) -> dict[str, Any]:
    """What a retraining depends on, other than the channels."""
    r = experiment.retrain
    own = r.affecting_result()
    if not joint:
        del own["joint"], own["distill"]
    read = {need.stage.name: stage_hash(need.folder.key) for need in recipe_needs(experiment, "")}
    return {**experiment.common_key, "retrain": own, "supernet": None, "baseline": None, **read}


def recipe_needs(experiment: Experiment, stage: str) -> Iterator[Need]:
    """What the retraining of networks, in a stage of this name, reads of other stages."""
    r = experiment.retrain
    if "supernet" in (r.init, r.teacher):
        key = "init" if r.init == "supernet" else "teacher"
        instead = "retrain.init=scratch" if key == "init" else "retrain.teacher=none"
        why = f"{stage} with retrain.{key}=supernet ({instead} does without)"
        yield Need(supernet.STAGE, supernet.STAGE.folder(experiment), why)
    if r.teacher == "baseline":
        why = f"{stage} with retrain.teacher=baseline"
        yield Need(baseline.STAGE, baseline.STAGE.folder(experiment), why, billed=False)


def network_folder(
    experiment: Experiment, stage: str, widths: np.ndarray, joint: StageFolder | None = None
) -> StageFolder:
    """The folder in which the network at `widths` is retrained.

    Args:
        experiment: of the run.
        stage: "retrain" or "uniform".
        widths: int32 [G].
        joint: the folder of the joint training that this network is a part of.
    """
    return StageFolder(experiment.root, stage, network_key(experiment, widths, joint))


def joint_folder(experiment: Experiment, networks: Sequence[Network]) -> StageFolder | None:
    """The folder in which the networks are trained as one; None where each is trained alone."""
    widths = [network.known_widths for network in distinct(networks)]
    if not (experiment.retrain.joint and widths):
        return None
    return StageFolder(experiment.root, "joint", joint_key(experiment, widths))


def _with_folders(experiment: Experiment, networks: Sequence[Network]) -> list[Network]:
    """The networks with the folder of each, all trained by one recipe: jointly or each alone."""
    joint = joint_folder(experiment, networks)
    found = []
    for network in networks:
        stage = "uniform" if network.kind == "uniform" else "retrain"
        folder = network_folder(experiment, stage, network.known_widths, joint)
        found.append(network._replace(folder=folder))
    return found
