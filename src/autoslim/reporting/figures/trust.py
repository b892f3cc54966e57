"""The supernet's score against the accuracy after retraining."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from autoslim.kinds import KINDS
from autoslim.reporting.figures.style import PERCENT, styled
from autoslim.reporting.trust import Judged


@styled
def supernet_against_retrained(networks: Sequence[Judged]) -> Figure:
    """A point for each network: held-out cross-entropy with the supernet's weights, accuracy once retrained.

    Args:
        networks: that were retrained from one supernet.
    """
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, kind in KINDS.items():
        chosen = [network for network in networks if network.kind == name]
        if chosen:
            axes.plot(
                [network.loss for network in chosen],
                [network.top1 for network in chosen],
                color=kind.colour,
                marker=kind.marker,
                markersize=8,
                markeredgecolor="white",
                linestyle="none",
                label=kind.label,
            )
    axes.invert_xaxis()
    axes.margins(0.12)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set_xlabel("held-out cross-entropy in the supernet (better to the right)")
    axes.set_ylabel("top-1 on test images, retrained")
    axes.set_title(f"Supernet and retraining, {len(networks)} networks")
    figure.legend(loc="outside lower center", ncols=3)
    return figure
