"""A trained network as the report and the final table show it."""

from __future__ import annotations

from autoslim.reporting.network import NetworkResult
from autoslim.stages.experiment import Experiment
from autoslim.stages.network import Network
from autoslim.stages.store import CHANNELS, MODEL


def shown(experiment: Experiment, network: Network) -> NetworkResult:
    """What is shown of a network whose stage is finished."""
    folder, result, widths = network.trained_in, network.result, network.widths
    paths = {"model": folder.path / MODEL, "channels": folder.path / CHANNELS}
    return NetworkResult(
        network.kind,
        network.target,
        channels=experiment.plan.channels(widths),
        folder=str(folder.path),
        files={name: str(path) for name, path in paths.items() if path.exists()},
        latency=experiment.budget.cost(widths).latency,
        **{name: result[name] for name in ("top1", "loss", "flops", "params", "memory")},
    )
