"""Accuracy against cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator, MultipleLocator

from autoslim.kinds import KINDS, place_of
from autoslim.metrics import TOP1, Metric
from autoslim.reporting import units
from autoslim.reporting.figures.style import CURVE, PERCENT, sized, styled
from autoslim.reporting.network import NetworkResult, measure_of
from autoslim.resources import RESOURCES

if TYPE_CHECKING:
    from autoslim.slimming.trajectory import Trajectory


_CAP = 3.0  # points: how wide the ends of the first kind's intervals are
_WIDER = 2.0  # points more for each further kind, so that intervals at the same cost can be distinguished


@styled
def accuracy_against_cost(
    results: Sequence[NetworkResult],
    trajectory: Trajectory | None = None,
    resource: str = "flops",
    images: int | None = None,
    *,
    shown_on: str = "test images",
    figure: Figure | None = None,
) -> Figure:
    """The metric of the trained networks against their cost, the search's supernet behind.

    Every point stands at its network's cost; intervals at the same cost have ends of different widths.

    Args:
        results: networks of any kinds.
        trajectory: of the search; its metric is of held-out training images, with the supernet's weights.
        resource: of the horizontal axis, a name of `resources.RESOURCES`.
        images: test images, for 95 % intervals; None: no intervals.
        shown_on: what the metric was measured on.
        figure: to draw on; None: a new one.
    """
    figure = sized(figure, 9, 5)
    axes = figure.add_subplot()
    full = _full(results, trajectory, resource)
    curve = _supernet_curve(axes, results, trajectory, resource)
    present = [kind for kind in KINDS if any(result.kind == kind for result in results)]
    for place, kind in enumerate(present):
        chosen = sorted((r for r in results if r.kind == kind), key=lambda r: r.cost.of(resource))
        _draw_kind(axes, chosen, resource, images, place)
    _label_points(axes, results, resource, images)
    _limit_accuracy(axes, results, curve, images)
    _cost_axis(axes, full, resource)
    measure = measure_of(results)
    axes.set_ylabel(f"{measure.title} on {shown_on}")
    if measure.percent:
        axes.yaxis.set_major_formatter(PERCENT)
    title = f"{_capital(measure)} against {RESOURCES[resource].label}"
    axes.set_title(title if images is None else f"{title}, with 95 % intervals")
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _full(results: Sequence[NetworkResult], trajectory: Trajectory | None, resource: str) -> float:
    """The full network's cost, or the largest that is known."""
    if trajectory is not None:
        return trajectory.full.of(resource)
    return max((result.cost.of(resource) for result in results), default=1)


def _supernet_curve(
    axes: Axes, results: Sequence[NetworkResult], trajectory: Trajectory | None, resource: str
) -> list[float]:
    """Draw the search's path down to the smallest network in `results`; its metric's values."""
    if trajectory is None:
        return []
    smallest = min((result.cost.of(resource) for result in results), default=0)
    points = [(p.cost.of(resource), p.metric) for p in trajectory.points]
    points = [point for point in points if point[0] >= 0.9 * smallest]
    costs = [cost for cost, _ in points]
    values = [value for _, value in points]
    axes.plot(
        costs, values, color=CURVE, linewidth=2, zorder=2, label="supernet in the search (held-out images)"
    )
    return values


def _draw_kind(
    axes: Axes,
    chosen: Sequence[NetworkResult],
    resource: str,
    images: int | None,
    place: int,
) -> None:
    """The networks of one kind, from small to large; `place`: among the kinds that are drawn."""
    kind = KINDS[chosen[0].kind]
    x = [r.cost.of(resource) for r in chosen]
    y = np.array([r.metric for r in chosen])
    style: dict[str, Any] = {"color": kind.colour, "marker": kind.marker, "markersize": 8}
    line = "none" if kind.full else "-"
    style |= {"linestyle": line, "linewidth": 1.6, "markeredgecolor": "white", "zorder": 4 - 0.1 * place}
    axes.plot([], [], label=kind.label, **style)
    if images is None:
        axes.plot(x, y, **style)
        return
    ends = np.array([r.interval(images) for r in chosen]).T
    axes.errorbar(x, y, np.abs(ends - y), capsize=_CAP + _WIDER * place, elinewidth=1.2, **style)


def _label_points(axes: Axes, results: Sequence[NetworkResult], resource: str, images: int | None) -> None:
    """Write accuracies at their points: for each target the highest above and the lowest below."""
    by_target: dict[float | None, list[NetworkResult]] = {}
    for result in results:
        by_target.setdefault(result.target, []).append(result)
    for same in by_target.values():
        ranked = sorted(same, key=lambda r: (r.metric, -place_of(r.kind)))
        for place, result in enumerate(ranked):
            below = len(ranked) > 1 and place == 0
            if not below and result is not ranked[-1]:
                continue
            text = axes.annotate(
                _short(result),
                (result.cost.of(resource), _end(result, images, below)),
                xytext=(0, -7 if below else 7),
                textcoords="offset points",
                ha="center",
                va="top" if below else "bottom",
                color=KINDS[result.kind].colour,
                fontsize=10.5,
                fontweight="bold",
                zorder=6,
            )
            text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _short(result: NetworkResult) -> str:
    """A metric as it stands at a point."""
    return f"{100 * result.metric:.1f}" if result.measure.percent else f"{result.metric:.3g}"


def _capital(measure: Metric) -> str:
    return "Accuracy" if measure == TOP1 else measure.label[0].upper() + measure.label[1:]


def _end(result: NetworkResult, images: int | None, lower: bool) -> float:
    """Where a point, or its interval, ends."""
    return result.metric if images is None else result.interval(images)[0 if lower else 1]


def _limit_accuracy(
    axes: Axes, results: Sequence[NetworkResult], curve: Sequence[float], images: int | None
) -> None:
    """Show all networks, and of the supernet's curve what doesn't press them flat."""
    low = min((_end(r, images, True) for r in results), default=0.0)
    high = max((_end(r, images, False) for r in results), default=1.0)
    least = 0.01 if measure_of(results).percent else max(0.01 * abs(high), 1e-12)
    span = max(high - low, least)
    if curve:
        high = max(high, min(max(curve), high + span))
        low = min(low, max(min(curve), low - 2 * span))
    room = 0.14 * max(high - low, least)
    axes.set_ylim(max(low - room, 0.0 if low >= 0 else low), high + room)


def _cost_axis(axes: Axes, full: float, resource: str) -> None:
    """Readable units below, the share of the full network above."""
    axes.set_xlim(0, 1.06 * full)
    axes.set_xlabel(RESOURCES[resource].axis)
    axes.xaxis.set_major_locator(_round_steps(full, resource))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: units.amount(x, resource)))
    top = axes.secondary_xaxis("top", functions=(_times(1 / full), _times(full)))
    top.xaxis.set_major_formatter(PERCENT)
    top.set_xticks(np.linspace(0.2, 1.0, 5))
    top.tick_params(length=0)
    top.spines["top"].set_visible(False)


def _times(factor: float) -> Callable[[Any], Any]:
    return lambda x: factor * x


def _round_steps(full: float, resource: str) -> Locator:
    """Ticks at round numbers, of KiB or MiB where amounts are shown in these."""
    if RESOURCES[resource].form == "binary":
        return MultipleLocator(2.0 ** math.floor(math.log2(max(full, 4) / 4)))
    return MaxNLocator(7, steps=[1, 2, 2.5, 5, 10])
