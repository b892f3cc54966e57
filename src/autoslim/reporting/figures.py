"""The figures of a report, as matplotlib Figures of their own: no window, no global state."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, Locator, MaxNLocator, MultipleLocator
from matplotlib.transforms import ScaledTranslation, Transform

from autoslim.reporting import units
from autoslim.reporting.network import NAMES, NetworkResult, in_order
from autoslim.reporting.statistics import interval

if TYPE_CHECKING:
    from autoslim.slimming.trajectory import Trajectory

# Colours that people with any colour vision tell apart (Okabe & Ito), and markers that do without colour.
COLOURS = {"baseline": "#333333", "autoslim": "#0072B2", "uniform": "#D55E00"}
MARKERS = {"baseline": "D", "autoslim": "o", "uniform": "s"}
CURVE = "#9AA5B1"
FULL_WIDTH = "#E3E7EB"
INK = "#24292F"

PANEL_GROUPS = 40  # channel groups side by side before another row of bars begins
DPI = 150

_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#6E7781",
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E6E9EC",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": "#57606A",
    "ytick.color": "#57606A",
    "legend.frameon": False,
    "legend.fontsize": 10,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
}

_PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.4g} %")

F = TypeVar("F", bound=Callable[..., Figure])


def _styled(draw: F) -> F:
    """Draw in our style, whatever the user's matplotlibrc says, and leave the user's settings alone."""

    @functools.wraps(draw)
    def styled(*args: Any, **kwargs: Any) -> Figure:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_STYLE)
            figure = draw(*args, **kwargs)
            FigureCanvasAgg(figure).draw()  # lays everything out while the style holds
            return figure

    return styled  # type: ignore[return-value]


# -- accuracy against cost -----------------------------------------------------------------------------


@_styled
def accuracy_against_cost(
    results: Sequence[NetworkResult],
    trajectory: Trajectory | None = None,
    resource: str = "flops",
    images: int | None = None,
) -> Figure:
    """Top-1 of the trained networks against their cost, the search's supernet behind.

    Args:
        results: AutoSlim, uniform and baseline networks.
        trajectory: of the search; its top-1 is of held-out training images, with the supernet's weights.
        resource: "flops", "params" or "memory": the horizontal axis.
        images: test images, for 95 % intervals; None: no intervals.
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    full = _full(results, trajectory, resource)
    curve = _supernet_curve(axes, results, trajectory, resource)
    kinds = [kind for kind in ("baseline", "uniform", "autoslim") if any(r.network == kind for r in results)]
    for kind in kinds:
        _draw_kind(axes, results, kind, resource, images)
    _label_points(axes, results, resource, images)
    _limit_accuracy(axes, results, curve, images)
    _cost_axis(axes, full, resource)
    axes.set_ylabel("top-1 accuracy on test images")
    axes.yaxis.set_major_formatter(_PERCENT)
    title = f"Accuracy against {units.RESOURCES[resource]}"
    axes.set_title(title if images is None else f"{title}, with 95 % intervals")
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def _full(results: Sequence[NetworkResult], trajectory: Trajectory | None, resource: str) -> float:
    """The full network's cost, or the largest that is known."""
    if trajectory is not None:
        return trajectory.full(resource)
    return max((result.cost(resource) for result in results), default=1)


def _supernet_curve(
    axes: Axes, results: Sequence[NetworkResult], trajectory: Trajectory | None, resource: str
) -> list[float]:
    """Draw the search's path down to the smallest network in `results`; its top-1 values."""
    if trajectory is None:
        return []
    smallest = min((result.cost(resource) for result in results), default=0)
    points = [(getattr(p, resource), p.top1) for p in trajectory.points]
    points = [point for point in points if point[0] >= 0.9 * smallest]
    costs = [cost for cost, _ in points]
    top1 = [value for _, value in points]
    axes.plot(
        costs, top1, color=CURVE, linewidth=2, zorder=2, label="supernet in the search (held-out images)"
    )
    return top1


def _draw_kind(
    axes: Axes, results: Sequence[NetworkResult], kind: str, resource: str, images: int | None
) -> None:
    chosen = sorted((r for r in results if r.network == kind), key=lambda r: r.cost(resource))
    x = [r.cost(resource) for r in chosen]
    y = np.array([r.top1 for r in chosen])
    style: dict[str, Any] = {"color": COLOURS[kind], "marker": MARKERS[kind], "markersize": 8}
    line = "-" if kind != "baseline" else "none"
    style |= {"linestyle": line, "linewidth": 1.6, "markeredgecolor": "white", "zorder": 4}
    axes.plot([], [], label=NAMES[kind], **style)
    if images is None:
        axes.plot(x, y, **style)
        return
    ends = np.array([interval(r.top1, images) for r in chosen]).T
    beside = _beside(axes, kind)
    axes.errorbar(x, y, np.abs(ends - y), capsize=3, elinewidth=1.2, transform=beside, **style)


def _beside(axes: Axes, kind: str) -> Transform:
    """A little to the side, so that intervals at the same cost don't hide each other."""
    figure = axes.get_figure()
    assert figure is not None
    points = {"autoslim": 4, "uniform": -4}.get(kind, 0)
    return axes.transData + ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)


def _label_points(axes: Axes, results: Sequence[NetworkResult], resource: str, images: int | None) -> None:
    """Write each accuracy at its point: the better network's above, the other's below."""
    by_target: dict[float | None, list[NetworkResult]] = {}
    for result in results:
        by_target.setdefault(result.target, []).append(result)
    for same in by_target.values():
        ranked = sorted(same, key=lambda r: (r.top1, r.network == "autoslim"))
        for place, result in enumerate(ranked):
            below = len(ranked) > 1 and place == 0
            text = axes.annotate(
                f"{100 * result.top1:.1f}",
                (result.cost(resource), _end(result, images, below)),
                xytext=(0, -7 if below else 7),
                textcoords="offset points",
                ha="center",
                va="top" if below else "bottom",
                color=COLOURS.get(result.network, INK),
                fontsize=10.5,
                fontweight="bold",
                zorder=6,
            )
            text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _end(result: NetworkResult, images: int | None, lower: bool) -> float:
    """Where a point, or its interval, ends."""
    return result.top1 if images is None else interval(result.top1, images)[0 if lower else 1]


def _limit_accuracy(
    axes: Axes, results: Sequence[NetworkResult], curve: Sequence[float], images: int | None
) -> None:
    """Show all networks, and of the supernet's curve what doesn't press them flat."""
    low = min((_end(r, images, True) for r in results), default=0.0)
    high = max((_end(r, images, False) for r in results), default=1.0)
    span = max(high - low, 0.01)
    if curve:
        high = max(high, min(max(curve), high + span))
        low = min(low, max(min(curve), low - 2 * span))
    room = 0.14 * max(high - low, 0.01)
    axes.set_ylim(max(low - room, 0.0 if low >= 0 else low), high + room)


def _cost_axis(axes: Axes, full: float, resource: str) -> None:
    """Readable units below, the share of the full network above."""
    name = "FLOPs (multiply-accumulates an image)" if resource == "flops" else units.RESOURCES[resource]
    if resource == "memory":
        name = "memory (peak of live activations an image)"
    axes.set_xlim(0, 1.06 * full)
    axes.set_xlabel(name)
    axes.xaxis.set_major_locator(_round_steps(full, resource))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: units.amount(x, resource)))
    top = axes.secondary_xaxis("top", functions=(_times(1 / full), _times(full)))
    top.xaxis.set_major_formatter(_PERCENT)
    top.set_xticks(np.linspace(0.2, 1.0, 5))
    top.tick_params(length=0)
    top.spines["top"].set_visible(False)


def _times(factor: float) -> Callable[[Any], Any]:
    return lambda x: factor * x


def _round_steps(full: float, resource: str) -> Locator:
    """Ticks at round numbers, of KiB or MiB for memory."""
    if resource == "memory":
        return MultipleLocator(2.0 ** math.floor(math.log2(max(full, 4) / 4)))
    return MaxNLocator(7, steps=[1, 2, 2.5, 5, 10])


# -- channels ------------------------------------------------------------------------------------------


@_styled
def channels_before_after(groups: Sequence[tuple[str, int]], results: Sequence[NetworkResult]) -> Figure:
    """Channels of every group: full width behind, each network in front.

    AutoSlim's networks are bars; a uniform network of the same target is a dash across its bar. Many groups
    go into several rows.

    Args:
        groups: (name, channels at full width) in the network's order.
        results: networks, the baseline among them is left out: it is what stands behind.
    """
    rows = max(1, math.ceil(len(groups) / PANEL_GROUPS))
    each = math.ceil(len(groups) / rows)
    names = [_short(name) for name, _ in groups]
    letters = max((len(name) for name in names), default=0)
    figure = Figure(figsize=(10, rows * (2.4 + 0.075 * letters) + 0.8), layout="constrained")
    bars, dashes = _bars_and_dashes(results)
    panels = figure.subplots(rows, 1, squeeze=False)[:, 0]
    for panel, start in zip(panels, itertools.count(0, each), strict=False):
        part = list(groups[start : start + each])
        _draw_panel(panel, part, names[start : start + each], bars, dashes, each)
        _scale_channels(panel, [size for _, size in part])
    handles: list[Artist] = [Patch(color=FULL_WIDTH, label="full width")]
    handles += [Patch(color=colour, label=result.label) for result, colour in bars]
    handles += [
        Line2D([], [], color=COLOURS["uniform"], linewidth=2.2, label=label) for label in _dash_labels(dashes)
    ]
    legend = figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 5))
    legend.set_title("Channels of each group", FontProperties(size=12, weight="bold"))
    legend.set_alignment("left")
    return figure


def _bars_and_dashes(
    results: Sequence[NetworkResult],
) -> tuple[list[tuple[NetworkResult, str]], dict[int, NetworkResult]]:
    """(networks drawn as bars with their colours, bar number -> the uniform network drawn across it)."""
    chosen = [result for result in in_order(list(results)) if result.network != "baseline"]
    slim = [result for result in chosen if result.network != "uniform"]
    place = {result.target: index for index, result in enumerate(slim)}
    dashes = {place[r.target]: r for r in chosen if r.network == "uniform" and r.target in place}
    alone = [r for r in chosen if r.network == "uniform" and r.target not in place]
    coloured = [*zip(slim, _shades("#7FBFE5", "#00406B", COLOURS["autoslim"], len(slim)), strict=True)]
    coloured += zip(alone, _shades("#F0A36B", "#8A3D00", COLOURS["uniform"], len(alone)), strict=True)
    return coloured, dashes


def _shades(light: str, dark: str, single: str, count: int) -> list[str]:
    if count <= 1:
        return [single] * count
    ramp = LinearSegmentedColormap.from_list("ramp", [light, single, dark])
    return [to_hex(ramp(x)) for x in np.linspace(0, 1, count)]


def _dash_labels(dashes: dict[int, NetworkResult]) -> list[str]:
    if not dashes:
        return []
    only = next(iter(dashes.values()))
    return [only.label if len(dashes) == 1 else "uniform, same target"]


def _draw_panel(
    axes: Axes,
    groups: list[tuple[str, int]],
    names: list[str],
    bars: list[tuple[NetworkResult, str]],
    dashes: dict[int, NetworkResult],
    slots: int,
) -> None:
    places = np.arange(len(groups))
    axes.bar(places, [size for _, size in groups], width=0.88, color=FULL_WIDTH, zorder=2)
    width = 0.76 / max(len(bars), 1)
    for number, (result, colour) in enumerate(bars):
        left = places - 0.38 + number * width
        heights = [result.channels.get(name, size) for name, size in groups]
        axes.bar(left, heights, width=0.92 * width, align="edge", color=colour, zorder=3)
        if number in dashes:
            levels = [dashes[number].channels.get(name, size) for name, size in groups]
            segments = [[(x, y), (x + 0.92 * width, y)] for x, y in zip(left, levels, strict=True)]
            axes.add_collection(
                LineCollection(segments, colors=COLOURS["uniform"], linewidths=2.2, zorder=4), autolim=False
            )
    axes.set_xticks(places, names, rotation=90, fontsize=8.5)
    axes.tick_params(axis="x", length=0, colors=INK)
    axes.grid(axis="x", visible=False)
    axes.set_xlim(-0.7, slots - 0.3)
    axes.set_ylabel("channels")


def _scale_channels(axes: Axes, sizes: Sequence[int]) -> None:
    """A linear scale, or one of square roots where wide groups would dwarf narrow ones."""
    widest, narrowest = max(sizes, default=1), min(sizes, default=1)
    if widest > 8 * narrowest:
        axes.set_yscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
        ticks = [widest >> shift for shift in (0, 1, 2, 3, 4, 6) if widest >> shift]
        axes.set_yticks(ticks, [str(tick) for tick in ticks])
        axes.set_ylabel("channels (root scale)")
    axes.set_ylim(0, 1.05 * widest)


def _short(name: str, length: int = 26) -> str:
    """A long name with its middle left out."""
    if len(name) <= length:
        return name
    head = (length - 1) // 2
    return f"{name[:head]}…{name[-(length - 1 - head) :]}"


# -- search --------------------------------------------------------------------------------------------


@_styled
def search_curve(
    trajectory: Trajectory,
    targets: Sequence[float] = (),
    limits: Mapping[str, float] = MappingProxyType({}),
) -> Figure:
    """Held-out top-1 and loss of the supernet along the search, against the share of the resource.

    Args:
        trajectory: of the search.
        targets: shares of the resource to mark; one that the search did not reach is left out.
        limits: {resource: largest amount} that a marked point keeps within too.
    """
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    shares = np.array([point.share for point in trajectory.points])
    loss = np.array([point.loss for point in trajectory.points])
    error = np.array([point.loss_error for point in trajectory.points])
    top1 = [point.top1 for point in trajectory.points]
    upper.plot(shares, top1, color=COLOURS["autoslim"], linewidth=2)
    lower.fill_between(shares, loss - error, loss + error, color=COLOURS["autoslim"], alpha=0.2, linewidth=0)
    lower.plot(shares, loss, color=COLOURS["autoslim"], linewidth=2)
    for target in sorted({t for t in targets if trajectory.reaches(t, limits)}):
        point = trajectory.at(target, limits)
        for axes, value in ((upper, point.top1), (lower, point.loss)):
            axes.axvline(target, color=COLOURS["uniform"], linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
            axes.plot(point.share, value, "o", color=COLOURS["uniform"], markersize=7, zorder=4)
    _mark_targets(upper, [t for t in targets if trajectory.reaches(t, limits)])
    upper.yaxis.set_major_formatter(_PERCENT)
    upper.set_ylabel("held-out top-1")
    lower.set_ylabel("held-out loss\n(band: 1 standard error)")
    lower.set_xlabel(f"{units.RESOURCES[trajectory.resource]}, share of the full network")
    lower.xaxis.set_major_formatter(_PERCENT)
    lower.set_xlim(max(0.0, shares.min() - 0.04), 1.02)
    upper.margins(y=0.12)
    lower.margins(y=0.12)
    upper.set_title(
        f"The search, from the full network (right) down: {trajectory.images:,} held-out images",
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
            color=COLOURS["uniform"],
        )


# -- out -----------------------------------------------------------------------------------------------


def save_png(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure by renaming, so that nobody ever reads half of it; the same figure, the same bytes."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(part, format="png", dpi=DPI, metadata={"Software": None})
    os.replace(part, path)
    return path


def to_image(figure: Figure) -> np.ndarray:
    """A figure as pixels, for TensorBoard: uint8 [1, H, W, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[np.newaxis, :, :, :3].copy()
