"""Channels before and after."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from autoslim.kinds import KINDS
from autoslim.reporting.figures.style import FULL_WIDTH, INK, sized, styled
from autoslim.reporting.network import NetworkResult, in_order

PANEL_GROUPS = 40  # channel groups side by side before another row of bars begins


@styled
def channels_before_after(
    groups: Sequence[tuple[str, int]], results: Sequence[NetworkResult], *, figure: Figure | None = None
) -> Figure:
    """Channels of every group: full width behind, each network in front.

    Networks that a search found are bars; a uniform network of the same target is a dash across its bar. Many
    groups go into several rows.

    Args:
        groups: (name, channels at full width) in the network's order.
        results: networks; the full one among them is left out: it is what stands behind.
        figure: to draw on; None: a new one.
    """
    rows = max(1, math.ceil(len(groups) / PANEL_GROUPS))
    each = math.ceil(len(groups) / rows)
    names = [_short(name) for name, _ in groups]
    letters = max((len(name) for name in names), default=0)
    figure = sized(figure, 10, rows * (2.4 + 0.075 * letters) + 0.8)
    bars, dashes = _bars_and_dashes(results)
    panels = figure.subplots(rows, 1, squeeze=False)[:, 0]
    for panel, start in zip(panels, itertools.count(0, each), strict=False):
        part = list(groups[start : start + each])
        _draw_panel(panel, part, names[start : start + each], bars, dashes, each)
        _scale_channels(panel, [size for _, size in part])
    handles: list[Artist] = [Patch(color=FULL_WIDTH, label="full width")]
    handles += [Patch(color=colour, label=result.label) for result, colour in bars]
    handles += [
        Line2D([], [], color=KINDS["uniform"].colour, linewidth=2.2, label=label)
        for label in _dash_labels(dashes)
    ]
    legend = figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 5))
    legend.set_title("Channels of each group", FontProperties(size=12, weight="bold"))
    legend.set_alignment("left")
    return figure


def _bars_and_dashes(
    results: Sequence[NetworkResult],
) -> tuple[list[tuple[NetworkResult, str]], dict[int, NetworkResult]]:
    """(networks drawn as bars with their colours, bar number -> the uniform network drawn across it)."""
    chosen = [result for result in in_order(list(results)) if not KINDS[result.kind].full]
    slim = [result for result in chosen if result.kind != "uniform"]
    place = {result.target: index for index, result in enumerate(slim)}
    dashes = {place[r.target]: r for r in chosen if r.kind == "uniform" and r.target in place}
    alone = [r for r in chosen if r.kind == "uniform" and r.target not in place]
    coloured = [*zip(slim, _shades("#7FBFE5", "#00406B", KINDS["autoslim"].colour, len(slim)), strict=True)]
    coloured += zip(alone, _shades("#F0A36B", "#8A3D00", KINDS["uniform"].colour, len(alone)), strict=True)
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
                LineCollection(segments, colors=KINDS["uniform"].colour, linewidths=2.2, zorder=4),
                autolim=False,
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
