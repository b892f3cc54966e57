"""A trained network as the report and the final table show it."""

from __future__ import annotations

from autoslim.metrics import kept_values
from autoslim.reporting.network import NetworkResult
from autoslim.reporting.statistics import standard_error
from autoslim.resources import Cost
from autoslim.slimming.budget import Budget
from autoslim.stages.chance import Chance
from autoslim.stages.network import Network
from autoslim.stages.store import CHANNELS, MODEL, reached


def shown(network: Network, budget: Budget, chance: Chance) -> NetworkResult:
    """What is shown of a network whose stage is finished.

    Args:
        network: trained.
        budget: by which its cost is counted, as far as its stage has not written it.
        chance: on the test images.
    """
    folder, result, widths = network.trained_in, network.result, network.widths
    metric, values = reached(result), kept_values(result)
    paths = {"model": folder.path / MODEL, "channels": folder.path / CHANNELS}
    return NetworkResult(
        network.kind,
        network.target,
        channels=budget.graph.channels(widths),
        folder=str(folder.path),
        files={name: str(path) for name, path in paths.items() if path.exists()},
        near_chance=chance.is_near(values),
        metric=metric,
        measure=chance.task.metric,
        error=standard_error(values),
        loss=result["loss"],
        cost=Cost({**budget.cost(widths), **Cost.read(result)}),
    )
