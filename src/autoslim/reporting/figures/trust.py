"""The supernet's score against the accuracy after retraining."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from autoslim.kinds import KINDS
from autoslim.metrics import TOP1, Metric
from autoslim.reporting.figures.style import PERCENT, styled
from autoslim.reporting.trust import Judged


@styled
def supernet_against_retrained(networks: Sequence[Judged], measure: Metric = TOP1) -> Figure:
    """A point for each network: held-out loss with the supernet's weights, metric once retrained.

    Args:
        networks: that were retrained from one supernet.
        measure: what their metric is.
    """
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, kind in KINDS.items():
        chosen = [network for network in networks if network.kind == name]
        if chosen:
            axes.plot(
                [network.loss for network in chosen],
                [network.metric for network in chosen],
                color=kind.colour,
                marker=kind.marker,
                markersize=8,
                markeredgecolor="white",
                linestyle="none",
                label=kind.label,
            )
    axes.invert_xaxis()
    axes.margins(0.12)
    if measure.percent:
        axes.yaxis.set_major_formatter(PERCENT)
    if not measure.higher:
        axes.invert_yaxis()
    axes.set_xlabel("held-out loss in the supernet (better to the right)")
    axes.set_ylabel(f"{measure.label} on test images, retrained")
    axes.set_title(f"Supernet and retraining, {len(networks)} networks")
    figure.legend(loc="outside lower center", ncols=3)
    return figure
