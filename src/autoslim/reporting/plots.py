"""Figures for notebooks and papers, as Matplotlib axes: `autoslim.plots`.

They are the figures of a report, on figures of pyplot's, which a notebook shows under its cell. Each takes a
figure of one's own, too, and what was drawn may be changed: the axes are what is returned.

>>> axes = plots.accuracy(result)  # doctest: +SKIP
>>> axes.set_title("ours")  # doctest: +SKIP
>>> axes.figure.savefig("ours.pdf")  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from autoslim.metrics import TOP1, Metric
from autoslim.reporting.figures import accuracy_against_cost, channels_before_after, search_curve
from autoslim.reporting.network import in_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from autoslim.reporting.slimmed import Slimmed
    from autoslim.slimming.trajectory import Trajectory

__all__ = ["accuracy", "channels", "search"]


def __dir__() -> list[str]:
    return __all__


def accuracy(result: Slimmed, resource: str = "flops", figure: Figure | None = None) -> Axes:
    """The metric of the networks against their cost, with 95 % intervals, the search's supernet behind.

    Args:
        result: of `autoslim.slim`.
        resource: of the horizontal axis, a name of `resources.RESOURCES`.
        figure: to draw on; None: a new one.
    """
    drawn = accuracy_against_cost(
        result.networks,
        result.trajectory,
        resource,
        result.images,
        shown_on=result.shown_on,
        figure=_figure(figure),
    )
    return drawn.axes[0]


def channels(result: Slimmed, figure: Figure | None = None) -> list[Axes]:
    """Channels of every group, before and after: one axes for each row of bars.

    Args:
        result: of `autoslim.slim`.
        figure: to draw on; None: a new one.
    """
    slimmable = {name for network in result.networks for name in network.channels}
    full = zip(result.trajectory.groups, result.trajectory.points[0].widths, strict=True)
    groups = [(name, size) for name, size in full if name in slimmable]
    return channels_before_after(groups, in_order(result.networks), figure=_figure(figure)).axes


def search(
    trajectory: Trajectory,
    targets: Sequence[float] = (),
    limits: Mapping[str, float] = MappingProxyType({}),
    measure: Metric = TOP1,
    figure: Figure | None = None,
) -> tuple[Axes, Axes]:
    """The held-out metric, and below it the loss, of the supernet along the search.

    Args:
        trajectory: of `autoslim.search`, or of a result.
        targets: shares of the resource to mark.
        limits: {resource: largest amount} that a marked point keeps within too.
        measure: what the points' metric is.
        figure: to draw on; None: a new one.
    """
    upper, lower = search_curve(trajectory, targets, limits, measure, figure=_figure(figure)).axes
    return upper, lower


def _figure(given: Figure | None) -> Figure:
    if given is not None:
        return given
    import matplotlib.pyplot  # here: a report needs none of its state

    return matplotlib.pyplot.figure()
