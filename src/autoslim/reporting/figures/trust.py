"""The supernet's score against the accuracy after retraining."""

from __future__ import annotations

import re
from collections.abc import Sequence

from matplotlib.figure import Figure

from autoslim.kinds import KINDS
from autoslim.metrics import TOP1, Metric
from autoslim.reporting.figures.style import PERCENT, styled
from autoslim.reporting.trust import Judged, correlation, in_judged_order


@styled
def supernet_against_retrained(networks: Sequence[Judged], measure: Metric = TOP1) -> Figure:
    """A point for each network, with its target: held-out loss in the supernet, metric once retrained.

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
    for network in networks:
        axes.annotate(
            _target(network.name),
            (network.loss, network.metric),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=9,
            color=KINDS[network.kind].colour,
        )
    axes.invert_xaxis()
    axes.margins(0.12)
    if measure.percent:
        axes.yaxis.set_major_formatter(PERCENT)
    if not measure.higher:
        axes.invert_yaxis()
    axes.set_xlabel("held-out loss in the supernet (better to the right)")
    axes.set_ylabel(f"{measure.label} on test images, retrained")
    found = correlation(in_judged_order(networks), measure)
    tau = "not defined" if found is None else f"{found.kendall:.2f}"
    axes.set_title(f"Kendall's tau over {len(networks)} networks: {tau}")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _target(name: str) -> str:
    """The target in a network's label; "" in a folder's name.

    >>> _target("AutoSlim 0.5"), _target("retrain-1a2b")
    ('0.5', '')
    """
    found = re.search(r" ([\d.]+)$", name)
    return found[1] if found else ""
