"""Stage `describe`: groups, layers and exact costs of a network; reads no data and trains nothing."""

from __future__ import annotations

from pathlib import Path

from autoslim.errors import AutoslimError
from autoslim.graph.cost import layer_costs_csv
from autoslim.reporting.tables import describe
from autoslim.reporting.terminal import heading, show, where
from autoslim.slimming.levels import Levels
from autoslim.stages.experiment import Experiment
from autoslim.stages.record import Look
from autoslim.stages.store import write_atomically


def run_describe(experiment: Experiment, folder: Path | None = None) -> None:
    """Print the network's channel groups, layer table and costs; also of a network that cannot be slimmed.

    Args:
        experiment: of the run; with `slim.channels` its network is described next to the full one.
        folder: where `layers.csv` is written; None: nowhere.
    """
    config = experiment.config
    heading("describe", f"{config.arch.name} for {config.dataset.name}")
    graph = experiment.plan  # a network that can't be built is refused once
    levels: Levels | None = None
    try:
        levels = experiment.levels
    except AutoslimError as error:
        show(str(error))
    convention = config.slim.convention
    widths = None
    if config.slim.channels is not None:
        widths = experiment.named_widths
    show(*describe(graph, widths, convention=convention, levels=levels))
    if folder is not None:
        path = folder / "layers.csv"
        write_atomically(path, layer_costs_csv(graph.layer_costs(widths, convention)))
        where({"layers": path})


STAGE = Look("describe", run_describe)
