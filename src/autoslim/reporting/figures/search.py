"""The search, from the full network down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autoslim.kinds import KINDS
from autoslim.metrics import TOP1, Metric
from autoslim.reporting.figures.style import PERCENT, sized, styled
from autoslim.resources import RESOURCES

if TYPE_CHECKING:
    from autoslim.slimming.trajectory import Trajectory

PATH, MARKS = KINDS["autoslim"].colour, KINDS["uniform"].colour


@styled
def search_curve(
    trajectory: Trajectory,
    targets: Sequence[float] = (),
    limits: Mapping[str, float] = MappingProxyType({}),
    measure: Metric = TOP1,
    *,
    figure: Figure | None = None,
) -> Figure:
    """Held-out metric and loss of the supernet along the search, against the share of the resource.

    Args:
        trajectory: of the search.
        targets: shares of the resource to mark; one that the search did not reach is left out.
        limits: {resource: largest amount} that a marked point keeps within too.
        measure: what the points' metric is.
        figure: to draw on; None: a new one.
    """
    figure = sized(figure, 9, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    shares = np.array([point.share for point in trajectory.points])
    loss = np.array([point.loss for point in trajectory.points])
    error = np.array([point.loss_error for point in trajectory.points])
    metric = [point.metric for point in trajectory.points]
    upper.plot(shares, metric, color=PATH, linewidth=2)
    lower.fill_between(shares, loss - error, loss + error, color=PATH, alpha=0.2, linewidth=0)
    lower.plot(shares, loss, color=PATH, linewidth=2)
    for target in sorted({t for t in targets if trajectory.reaches(t, limits)}):
        point = trajectory.at(target, limits)
        for axes, value in ((upper, point.metric), (lower, point.loss)):
            axes.axvline(target, color=MARKS, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
            axes.plot(point.share, value, "o", color=MARKS, markersize=7, zorder=4)
    _mark_targets(upper, [t for t in targets if trajectory.reaches(t, limits)])
    if measure.percent:
        upper.yaxis.set_major_formatter(PERCENT)
    upper.set_ylabel(f"held-out {measure.label}")
    lower.set_ylabel("held-out loss\n(band: 1 standard error)")
    lower.set_xlabel(f"{RESOURCES[trajectory.resource].label}, share of the full network")
    lower.xaxis.set_major_formatter(PERCENT)
    lower.set_xlim(max(0.0, shares.min() - 0.04), 1.02)
    upper.margins(y=0.12)
    lower.margins(y=0.12)
    upper.set_title(
        f"The search, from the full network (right) down: "
        f"{'' if trajectory.on_all_images else 'at most '}{trajectory.images:,} held-out images",
        pad=24 if targets else 10,
    )
    return figure


def _mark_targets(axes: Axes, targets: Sequence[float]) -> None:
    """Write the targets above the axes; those that stand close together go on one label."""
    clusters: list[list[float]] = []
    for target in sorted(set(targets)):
        if clusters and target - clusters[-1][-1] < 0.06:
            clusters[-1].append(target)
        else:
            clusters.append([target])
    for cluster in clusters:
        axes.annotate(
            ", ".join(f"{target:g}" for target in cluster),
            (sum(cluster) / len(cluster), 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=10,
            fontweight="bold",
            color=MARKS,
        )
