"""A sweep over seeds: the metric against FLOPs, with error bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from matplotlib.figure import Figure

from autoslim.kinds import KINDS
from autoslim.metrics import Metric
from autoslim.reporting import units
from autoslim.reporting.figures.style import PERCENT, side_by_side, sized, styled


class OverSeeds(Protocol):
    """The same network and settings over several seeds, as `sweep.Group`."""

    @property
    def arch(self) -> str: ...

    @property
    def dataset(self) -> str: ...

    @property
    def network(self) -> str: ...  # its kind

    @property
    def settings(self) -> str: ...

    @property
    def seeds(self) -> tuple[int, ...]: ...

    @property
    def mean(self) -> dict[str, float]: ...

    @property
    def std(self) -> dict[str, float | None]: ...

    @property
    def measure(self) -> Metric: ...


_LINES = ("-", "--", ":", "-.")  # for settings of one method, one after another


@styled
def metric_over_seeds(groups: Sequence[OverSeeds]) -> Figure:
    """Mean metric against mean FLOPs, a panel for each network and data set; bars: one standard deviation.

    Methods under one budget have nearly the same FLOPs: they are drawn a little apart, so that none hides
    another.

    Args:
        groups: of a sweep's summary; those without a metric are left out.
    """
    groups = [group for group in groups if {"metric", "flops"} <= set(group.mean)]
    places = list(dict.fromkeys((group.arch, group.dataset) for group in groups))
    figure = sized(None, 9, 0.8 + 4.0 * max(1, len(places)))
    panels = figure.subplots(max(1, len(places)), 1, squeeze=False)[:, 0]
    labels: dict[str, Any] = {}
    for axes, place in zip(panels, places, strict=False):
        here = [group for group in groups if (group.arch, group.dataset) == place]
        settings = list(dict.fromkeys(group.settings for group in here))
        drawn = []
        for kind, setting in dict.fromkeys((group.network, group.settings) for group in here):
            chosen = [g for g in here if (g.network, g.settings) == (kind, setting)]
            chosen.sort(key=lambda g: g.mean["flops"])
            look, label = KINDS[kind], " ".join(filter(None, (KINDS[kind].label, setting)))
            labels[label] = bars = axes.errorbar(
                [g.mean["flops"] for g in chosen],
                [g.mean["metric"] for g in chosen],
                [g.std["metric"] or 0.0 for g in chosen],
                [g.std["flops"] or 0.0 for g in chosen],
                color=look.colour,
                marker=look.marker,
                markersize=7,
                markeredgecolor="white",
                linestyle="none" if look.full else _LINES[settings.index(setting) % len(_LINES)],
                capsize=3,
            )
            if not look.full:
                drawn.append(bars.get_children())
        axes.set_xlim(left=0)
        side_by_side(axes, drawn)
        axes.xaxis.set_major_formatter(lambda x, _: units.amount(x, "flops"))
        if here[0].measure.percent:
            axes.yaxis.set_major_formatter(PERCENT)
        axes.set_ylabel(f"{here[0].measure.title} on test images")
        counts = sorted({len(group.seeds) for group in here})
        over = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        shown = "one seed" if counts == [1] else f"mean and standard deviation over seeds (n = {over})"
        axes.set_title(f"{place[0]} on {place[1]}: {shown}")
    panels[-1].set_xlabel("FLOPs (multiply-accumulates an image); methods stand a little apart")
    figure.legend(list(labels.values()), list(labels), loc="outside lower center", ncols=4)
    return figure
