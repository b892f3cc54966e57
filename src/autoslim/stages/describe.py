"""Stage `describe`: groups, layers and exact costs of a network; reads no data and trains nothing."""

from __future__ import annotations

from autoslim.reporting.tables import describe
from autoslim.reporting.terminal import heading, show
from autoslim.stages.experiment import Experiment


def run_describe(experiment: Experiment) -> None:
    """Print the network's channel groups, layer table and costs."""
    s = experiment.config.slim
    heading("describe", f"{experiment.config.arch.name} for {experiment.config.dataset.name}")
    show(*describe(experiment.plan, convention=s.convention, levels=experiment.levels.widths))
