"""A trained network as the report and the final table show it."""

from __future__ import annotations

from autoslim.reporting.network import NetworkResult
from autoslim.reporting.statistics import guessing, near_chance
from autoslim.stages.experiment import Experiment
from autoslim.stages.network import Network
from autoslim.stages.store import CHANNELS, MODEL


def shown(experiment: Experiment, network: Network) -> NetworkResult:
    """What is shown of a network whose stage is finished."""
    folder, result, widths = network.trained_in, network.result, network.widths
    labels = experiment.data.test_labels
    paths = {"model": folder.path / MODEL, "channels": folder.path / CHANNELS}
    return NetworkResult(
        network.kind,
        network.target,
        channels=experiment.plan.channels(widths),
        folder=str(folder.path),
        files={name: str(path) for name, path in paths.items() if path.exists()},
        latency=experiment.budget.cost(widths).latency,
        near_chance=near_chance(result["top1"], len(labels), guessing(labels, experiment.classes)),
        **{name: result[name] for name in ("top1", "loss", "flops", "params", "memory")},
    )
