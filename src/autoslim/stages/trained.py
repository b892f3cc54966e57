"""A trained network as the report and the final table show it."""

from __future__ import annotations

from autoslim.metrics import kept_values
from autoslim.reporting.network import NetworkResult
from autoslim.reporting.statistics import standard_error
from autoslim.resources import Cost
from autoslim.stages.experiment import Experiment
from autoslim.stages.network import Network
from autoslim.stages.store import CHANNELS, MODEL, reached
from autoslim.stages.warn import chance_of, is_near_chance


def shown(experiment: Experiment, network: Network) -> NetworkResult:
    """What is shown of a network whose stage is finished."""
    folder, result, widths = network.trained_in, network.result, network.widths
    metric, values = reached(result), kept_values(result)
    paths = {"model": folder.path / MODEL, "channels": folder.path / CHANNELS}
    return NetworkResult(
        network.kind,
        network.target,
        channels=experiment.plan.channels(widths),
        folder=str(folder.path),
        files={name: str(path) for name, path in paths.items() if path.exists()},
        near_chance=is_near_chance(experiment, values, chance_of(experiment, experiment.data.test_labels)),
        metric=metric,
        measure=experiment.task.metric,
        error=standard_error(values),
        loss=result["loss"],
        cost=Cost({**experiment.budget.cost(widths), **Cost.read(result)}),
    )
