"""The report's section on trust: does the supernet rank networks as retraining does?"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

from autoslim.metrics import TOP1, Metric
from autoslim.reporting import units
from autoslim.reporting.markdown_table import table
from autoslim.reporting.statistics import RankCorrelation, rank_correlation
from autoslim.resources import RESOURCES

FEWEST = 4  # networks: below, a rank correlation says nothing


class Judged(NamedTuple):
    """A network with the supernet's weights on held-out images, and retrained on test images."""

    name: str  # its label, or that of its folder
    kind: str  # a key of `kinds.KINDS`
    share: float  # of the full network's resource
    loss: float  # on the held-out images with the supernet's weights
    metric: float  # on test images, after retraining


def correlation(networks: Sequence[Judged], measure: Metric = TOP1) -> RankCorrelation | None:
    """Between the held-out score, minus the loss, and the metric; None: it is not defined."""
    return None if len(networks) < FEWEST else _correlation(tuple(networks), measure)


@functools.lru_cache(maxsize=8)
def _correlation(networks: tuple[Judged, ...], measure: Metric) -> RankCorrelation | None:
    """The bootstrap is drawn once for the text and the figure."""
    return rank_correlation(
        [-network.loss for network in networks], [measure.gain(n.metric, 0.0) for n in networks]
    )


def in_judged_order(networks: Sequence[Judged]) -> list[Judged]:
    """The supernet's favourite first."""
    return sorted(networks, key=lambda network: (network.loss, network.name))


def trust(networks: Sequence[Judged], resource: str, images: int, measure: Metric = TOP1) -> str:
    """The section; "": nothing was retrained.

    Args:
        networks: all that were retrained by one recipe.
        resource: what `share` is of.
        images: how many held-out images the supernet was judged on.
        measure: what the networks' metric is.
    """
    if not networks:
        return ""
    title, count = "## How far the supernet can be trusted", len(networks)
    if count < FEWEST:
        were = "networks were" if count > 1 else "network was"
        return (
            f"{title}\n\n{count} {were} retrained by this recipe: at least {FEWEST} are "
            "needed for a rank correlation."
        )
    ordered = in_judged_order(networks)
    rows = [[n.name, units.percent(n.share, 1), f"{n.loss:.4f}", measure.number(n.metric)] for n in ordered]
    head = ["network", f"{RESOURCES[resource].label} / full", "held-out loss", f"{measure.head} retrained"]
    return f"{title}\n\n{_verdict(ordered, images, measure)}\n\n{table(head, rows)}"


def _verdict(networks: Sequence[Judged], images: int, measure: Metric) -> str:
    found = correlation(networks, measure)
    measured = (
        f"the supernet's loss on {images:,} held-out images and {measure.label} on test images after "
        f"retraining, for all n = {len(networks)} networks that were retrained by this recipe"
    )
    if found is None:
        return (
            f"No rank correlation between {measured}: one of the two is the same for all of them, so there "
            "is no order to compare."
        )
    return (
        f"Rank correlation between {measured}: Kendall's tau {found.kendall:.2f} (95 % interval "
        f"{_range(found.kendall_interval)}), Spearman's rho {found.spearman:.2f} "
        f"({_range(found.spearman_interval)}). 1: the lower the loss, the better the retrained "
        "network, without exception; 0: the one tells nothing about the other. The intervals are percentile "
        "bootstraps over the networks: they know one supernet and one seed. Networks of different cost are "
        "compared too, which by itself raises the correlation."
    )


def _range(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}"
