"""Latency in a run: whether a search's networks keep to it, and the report's comparison."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.reporting.latency import LatencyRow
from autoslim.reporting.network import NetworkResult, in_order
from autoslim.schema import SlimConfig
from autoslim.slimming.budget import Budget
from autoslim.slimming.latency import LatencyModel
from autoslim.slimming.latency_table import conditions
from autoslim.slimming.rivals.uniform import uniform_widths
from autoslim.slimming.trajectory import Trajectory

log = logging.getLogger(__name__)

OVER = 0.02  # how far measured may be above the target, as a share of it, without a warning


class Over(NamedTuple):
    """A network that a search found for a target, and that was measured above it."""

    target: float
    share: float  # of the full network's latency, measured
    allowed: float  # largest share, by the target and slim.limits.latency

    @property
    def warning(self) -> str:
        """What is said of it; "" where it is above by little."""
        if self.share <= self.allowed * (1 + OVER):
            return ""
        return (
            f"the network for slim.target={self.target:g} was measured at {self.share:.3f} of the full one's "
            f"latency, above the {self.allowed:.3f} that is allowed, also after the search was corrected by "
            "what was measured. Ask for less: a lower slim.target or slim.limits.latency."
        )


def over_budget(
    trajectory: Trajectory, options: SlimConfig, budget: Budget, latency: LatencyModel | None
) -> list[Over]:
    """Measure what a search found, and fit the prediction to these networks too.

    Args:
        trajectory: of the search.
        options: section `slim`.
        budget: what networks may cost.
        latency: what predicts it; None: it is not limited.

    Returns:
        Those above what is allowed; none where latency is not limited.
    """
    found: list[Over] = []
    for target in options.targets if latency is not None else ():
        assert latency is not None
        allowed = min(
            target if options.resource == "latency" else math.inf,
            (options.limits.latency or math.inf) / latency.full,
        )
        if allowed >= 1 or not trajectory.reaches(target, budget.limits):
            continue
        widths = np.array(trajectory.at(target, budget.limits).widths, np.int32)
        (share,) = latency.learn([widths], allowed)
        log.info("search: the network for %g has %.3f of the full one's measured latency", target, share)
        if share > allowed:
            found.append(Over(target, share, allowed))
    return found


def measured_together(
    results: list[NetworkResult], targets: Sequence[float], budget: Budget, latency: LatencyModel | None
) -> tuple[list[LatencyRow], dict[str, Any]]:
    """The networks of a report, the full one and uniform ones, measured in the same rounds.

    Args:
        results: of the networks.
        targets: of the uniform ones.
        budget: what networks may cost.
        latency: what predicts it; None: it is not limited.

    Returns:
        A row for each, and how the prediction came about; nothing where latency is not limited.
    """
    if latency is None:
        return [], {}
    graph = latency.graph
    networks = {"full": graph.full}
    for result in in_order(results):
        if result.kind != "baseline":
            networks[result.label] = graph.widths_from(result.channels)
    for target in targets:
        try:
            networks.setdefault(f"uniform {target:g}", uniform_widths(budget, latency.levels, target))
        except AutoslimError:  # no uniform network meets it
            continue
    widths = list(networks.values())
    measured = latency.compare(widths[1:])
    rows = [
        LatencyRow(label, float(latency(one)), *found)
        for label, one, found in zip(networks, widths, measured, strict=True)
    ]
    return rows, {**latency.summary, "where": conditions(latency.identity)}
