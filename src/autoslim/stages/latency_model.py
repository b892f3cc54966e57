"""What predicts latency in a run."""

from __future__ import annotations

from pathlib import Path

from autoslim.exporting.latency import NetworkClock
from autoslim.graph import ChannelGraph
from autoslim.reporting.terminal import progress
from autoslim.schema import SlimConfig
from autoslim.slimming.latency import LatencyModel, Meter
from autoslim.slimming.levels import Levels
from autoslim.slimming.own_measure import own_measure


def latency_model(graph: ChannelGraph, levels: Levels, options: SlimConfig, folder: Path) -> LatencyModel:
    """What predicts latency as the options say; it measures when it is first asked.

    Args:
        graph: of the network.
        levels: the widths that each group may take.
        options: section `slim`.
        folder: where measurements are kept.
    """
    meter: Meter = own_measure(options.measure) if options.measure else NetworkClock(options.runtime)
    return LatencyModel(
        graph,
        levels,
        meter,
        folder=folder,
        targets=options.targets if options.resource == "latency" else (),
        limit=options.limits.latency,
        progress=lambda what, count: progress(what, count, unit="network"),
    )
