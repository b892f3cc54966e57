"""Stage `outline`: the channel groups of a network, a line each; reads no data and trains nothing."""

from __future__ import annotations

from pathlib import Path

from autoslim.reporting.terminal import show
from autoslim.stages.experiment import Experiment
from autoslim.stages.record import Look


def run_outline(experiment: Experiment, folder: Path | None = None) -> None:
    """Print the name and the number of channels of each group that can be slimmed.

    Args:
        experiment: of the run.
        folder: of the call; nothing is written.
    """
    for group in experiment.plan.slimmable:
        show(f"{group.name}: {group.size} channels")


STAGE = Look("outline", run_outline)
