"""A trained network as the report and the final table show it."""

from __future__ import annotations

from autoslim.metrics import kept_values
from autoslim.reporting.network import NetworkResult
from autoslim.reporting.statistics import guessing, near_chance, standard_error
from autoslim.stages.experiment import Experiment
from autoslim.stages.network import Network
from autoslim.stages.store import CHANNELS, MODEL, reached


def shown(experiment: Experiment, network: Network) -> NetworkResult:
    """What is shown of a network whose stage is finished."""
    folder, result, widths = network.trained_in, network.result, network.widths
    labels, metric = experiment.data.test_labels, reached(result)
    paths = {"model": folder.path / MODEL, "channels": folder.path / CHANNELS}
    return NetworkResult(
        network.kind,
        network.target,
        channels=experiment.plan.channels(widths),
        folder=str(folder.path),
        files={name: str(path) for name, path in paths.items() if path.exists()},
        latency=experiment.budget.cost(widths).latency,
        near_chance=near_chance(metric, len(labels), guessing(labels, experiment.classes)),
        metric=metric,
        measure=experiment.task.metric,
        error=standard_error(kept_values(result)),
        **{name: result[name] for name in ("loss", "flops", "params", "memory")},
    )
