"""Figures of the evidence suite: top-1 against cost with error bars, and the widths found, seed by seed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from evidence_cells import CELLS
from evidence_table import OURS, UNIFORM, Records, called
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from autoslim.kinds import KINDS
from autoslim.reporting import units
from autoslim.reporting.figures.style import PERCENT, save_figure, side_by_side, sized, styled

SHOWN = (OURS, "autoslim", UNIFORM)  # whose widths are drawn


def write_figures(records: Records, folder: Path) -> list[tuple[str, Path]]:
    """A figure of costs for each cell, and one of widths: (what it shows, its file) of each.

    Args:
        records: figures of networks, see `evidence_table`.
        folder: for the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for cell in CELLS:
        if any(name.split()[0] == cell for name in records):
            for name, draw in (("top1", top1_against_cost), ("widths", widths_over_seeds)):
                path = folder / f"evidence_{cell}_{name}.png"
                found.append((f"{cell}: {name}", save_figure(draw(records, cell), path)))
    return found


def of_kind(records: Records, cell: str, kind: str) -> dict[int, dict]:
    """Seed -> figures of the networks of a kind in a cell, by seed."""
    chosen = {name: figures for name, figures in records.items() if name.split()[::2] == [cell, kind]}
    return dict(sorted((int(name.split()[1]), dict(figures)) for name, figures in chosen.items()))


@styled
def top1_against_cost(records: Records, cell: str) -> Figure:
    """Top-1 against FLOPs and against parameters, the mean over seeds with one standard deviation.

    Each seed is a small dot. The full network is a dashed line: it would stretch the axis.
    """
    figure = sized(None, 9, 4.2)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, cost in zip(panels, ("flops", "params"), strict=True):
        drawn = []
        for kind, look in KINDS.items():
            found = list(of_kind(records, cell, kind).values())
            if not found:
                continue
            x, y = (np.array([one[name] for one in found], float) for name in (cost, "top1"))
            if look.full:
                axes.axhline(y.mean(), color=look.colour, linestyle="--", linewidth=1.2, label=called(kind))
                continue
            drawn.append(_with_error_bars(axes, x, y, kind))
        axes.set_xlim(0, 1.08 * axes.dataLim.x1 if np.isfinite(axes.dataLim.x1) else 1)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(lambda value, _, cost=cost: units.amount(value, cost))
        axes.yaxis.set_major_formatter(PERCENT)
        side_by_side(axes, drawn)
        axes.set_xlabel({"flops": "FLOPs", "params": "parameters"}[cost])
    panels[0].set_ylabel("top-1 on test images")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=max(1, len(labels)))
    figure.suptitle(f"{cell}: {CELLS[cell].about}", x=0.01, ha="left", fontweight="bold")
    return figure


def _with_error_bars(axes: Axes, x: np.ndarray, y: np.ndarray, kind: str) -> list[Artist]:
    look, several = KINDS[kind], len(x) > 1
    dots = axes.plot(x, y, ".", color=look.colour, alpha=0.4, markersize=5)
    bars = axes.errorbar(
        x.mean(),
        y.mean(),
        y.std(ddof=1) if several else None,
        x.std(ddof=1) if several else None,
        color=look.colour,
        marker=look.marker,
        markersize=8,
        markeredgecolor="white",
        linestyle="none",
        capsize=3,
        label=called(kind),
    )
    return [*dots, *bars.get_children()]


@styled
def widths_over_seeds(records: Records, cell: str) -> Figure:
    """Channels kept by each group, a line a seed, as shares of the baseline's, where that is known."""
    groups, baseline = _widths(records, cell, "baseline")
    kinds = [kind for kind in SHOWN if len(baseline) and len(_widths(records, cell, kind)[1])]
    figure = sized(None, 9, 1.4 + 2.4 * max(1, len(kinds)))
    panels = figure.subplots(max(1, len(kinds)), 1, sharex=True, squeeze=False)[:, 0]
    for axes, kind in zip(panels, kinds, strict=False):
        shares = _widths(records, cell, kind)[1] / baseline[0]
        axes.plot(np.arange(len(groups)), shares.T, color=KINDS[kind].colour, alpha=0.5, marker=".")
        axes.plot(np.arange(len(groups)), shares.mean(0), color=KINDS[kind].colour, linewidth=2.5)
        axes.set_ylim(0, max(1.05, 1.05 * shares.max()))
        axes.set_ylabel(called(kind))
        axes.yaxis.set_major_formatter(PERCENT)
    panels[-1].set_xticks(np.arange(len(groups)), groups, rotation=60, ha="right", fontsize=8)
    panels[0].set_title(f"{cell}: channels kept, thin: seeds, thick: their mean")
    return figure


def agreement(records: Records, cell: str, kind: str = OURS) -> float | None:
    """How far seeds agree on the widths: mean Spearman's correlation of all pairs; None: fewer than two.

    It is of the channels less their mean over the seeds of the uniform networks, so that a layer which is
    wide in every network does not count as agreement.
    """
    _, widths = _widths(records, cell, kind)
    _, uniform = _widths(records, cell, UNIFORM)
    if len(widths) < 2 or not uniform.size:
        return None
    shares = widths / uniform.mean(0)
    pairs = [stats.spearmanr(one, other).statistic for one, other in itertools.combinations(shares, 2)]
    return float(np.mean(pairs))


def _widths(records: Records, cell: str, kind: str) -> tuple[Sequence[str], np.ndarray]:
    """Names of the slimmable groups, and channels float64 [seeds, groups]."""
    found = [one["channels"] for one in of_kind(records, cell, kind).values() if one.get("channels")]
    if not found:
        return [], np.zeros((0, 0))
    groups = list(found[0])
    return groups, np.array([[one[name] for name in groups] for one in found], float)
