"""Stage `describe`: groups, layers and exact costs of a network; reads no data and trains nothing."""

from __future__ import annotations

from autoslim.errors import AutoslimError
from autoslim.reporting.tables import describe
from autoslim.reporting.terminal import heading, show
from autoslim.slimming.levels import Levels
from autoslim.stages.experiment import Experiment


def run_describe(experiment: Experiment) -> None:
    """Print the network's channel groups, layer table and costs; also of a network that cannot be slimmed."""
    config = experiment.config
    heading("describe", f"{config.arch.name} for {config.dataset.name}")
    levels: Levels | None = None
    try:
        levels = experiment.levels
    except AutoslimError as error:
        show(str(error))
    show(*describe(experiment.plan, convention=config.slim.convention, levels=levels))
