"""Latency in a run: what predicts it, whether a search's networks keep to it, and the report's comparison."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.exporting.latency import NetworkClock
from autoslim.reporting.latency import LatencyRow
from autoslim.reporting.network import NetworkResult, in_order
from autoslim.reporting.terminal import progress
from autoslim.slimming.latency import LatencyModel, Meter
from autoslim.slimming.latency_table import told
from autoslim.slimming.own_measure import own_measure
from autoslim.slimming.rivals.uniform import uniform_widths
from autoslim.slimming.trajectory import Trajectory

if TYPE_CHECKING:
    from autoslim.stages.experiment import Experiment

log = logging.getLogger(__name__)

OVER = 0.02  # how far measured may be above the target, as a share of it, before the search goes on


def latency_model(experiment: Experiment) -> LatencyModel:
    """What predicts latency by the run's configuration; it measures when it is first asked."""
    s = experiment.config.slim
    meter: Meter = own_measure(s.measure) if s.measure else NetworkClock(s.runtime)
    return LatencyModel(
        experiment.plan,
        experiment.levels,
        meter,
        folder=Path(experiment.config.output) / "latency",
        targets=s.targets if s.resource == "latency" else (),
        limit=s.limits.latency,
        progress=lambda what, count: progress(what, count, unit="network"),
    )


def goes_on(experiment: Experiment, trajectory: Trajectory) -> Trajectory | None:
    """Measure what a search found; None if it keeps to the targets.

    Else the prediction is fitted to these networks too, and the search's path is returned with the latencies
    that are now predicted, so that the search can go on from there.
    """
    latency, s = experiment.latency, experiment.config.slim
    if latency is None:
        return None
    over = False
    for target in s.targets:
        if not trajectory.reaches(target, s.limits.given):
            continue
        allowed = min(
            target if s.resource == "latency" else math.inf,
            (s.limits.latency or math.inf) / latency.full,
        )
        if allowed >= 1:
            continue
        widths = np.array(trajectory.at(target, s.limits.given).widths, np.int32)
        (share,) = latency.learn([widths], allowed)
        log.info("search: the network for %g has %.3f of the full one's measured latency", target, share)
        over |= share > allowed * (1 + OVER)
    return experiment.budget.recounted(trajectory) if over else None


def compared(experiment: Experiment, results: list[NetworkResult]) -> tuple[list[LatencyRow], dict[str, Any]]:
    """The networks of a report, the full one and uniform ones, measured in the same rounds.

    Returns:
        A row for each, and how the prediction came about; nothing where latency is not limited.
    """
    latency = experiment.latency
    if latency is None:
        return [], {}
    graph = experiment.plan
    networks = {"full": graph.full}
    for result in in_order(results):
        if result.kind != "baseline":
            networks[result.label] = graph.widths_from(result.channels)
    for target in experiment.config.slim.targets:
        try:
            networks.setdefault(
                f"uniform {target:g}", uniform_widths(experiment.budget, experiment.levels, target)
            )
        except AutoslimError:  # no uniform network meets it
            continue
    widths = list(networks.values())
    measured = latency.compare(widths[1:])
    rows = [
        LatencyRow(label, float(latency(one)), found.time, found.spread, found.share)
        for label, one, found in zip(networks, widths, measured, strict=True)
    ]
    return rows, {**latency.summary, "where": told(latency.identity)}
