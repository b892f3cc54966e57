"""The report's section on trust: does the supernet rank networks as retraining does?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from autoslim.reporting import units
from autoslim.reporting.markdown_table import table
from autoslim.reporting.statistics import RankCorrelation, rank_correlation

FEWEST = 4  # networks: below, a rank correlation says nothing


class Judged(NamedTuple):
    """A network with the supernet's weights on held-out images, and retrained on test images."""

    name: str  # its label, or that of its folder
    kind: str  # a key of `kinds.KINDS`
    share: float  # of the full network's resource
    loss: float  # cross-entropy on the held-out images with the supernet's weights
    top1: float  # share of test images whose answer is correct, after retraining


def correlation(networks: Sequence[Judged]) -> RankCorrelation | None:
    """Between the held-out score, minus the cross-entropy, and the accuracy; None: it is not defined."""
    if len(networks) < FEWEST:
        return None
    return rank_correlation([-network.loss for network in networks], [n.top1 for n in networks])


def trust(networks: Sequence[Judged], resource: str, images: int) -> str:
    """The section; "": nothing was retrained.

    Args:
        networks: all that were retrained from one supernet by one recipe.
        resource: what `share` is of.
        images: how many held-out images the supernet was judged on.
    """
    if not networks:
        return ""
    title, count = "## How far the supernet can be trusted", len(networks)
    if count < FEWEST:
        were = "networks were" if count > 1 else "network was"
        return (
            f"{title}\n\n{count} {were} retrained from this supernet by this recipe: at least {FEWEST} are "
            "needed for a rank correlation."
        )
    ordered = sorted(networks, key=lambda network: (network.loss, network.name))
    rows = [[n.name, units.percent(n.share, 1), f"{n.loss:.4f}", f"{100 * n.top1:.2f}"] for n in ordered]
    head = ["network", f"{units.RESOURCES[resource]} / full", "held-out cross-entropy", "top-1 % retrained"]
    return f"{title}\n\n{_verdict(ordered, images)}\n\n{table(head, rows)}"


def _verdict(networks: Sequence[Judged], images: int) -> str:
    found = correlation(networks)
    measured = (
        f"the supernet's cross-entropy on {images:,} held-out images and the accuracy on test images after "
        f"retraining, for all n = {len(networks)} networks that were retrained from this supernet by this "
        "recipe"
    )
    if found is None:
        return (
            f"No rank correlation between {measured}: one of the two is the same for all of them, so there "
            "is no order to compare."
        )
    return (
        f"Rank correlation between {measured}: Kendall's tau {found.kendall:.2f} (95 % interval "
        f"{_range(found.kendall_interval)}), Spearman's rho {found.spearman:.2f} "
        f"({_range(found.spearman_interval)}). 1: the lower the cross-entropy, the better the retrained "
        "network, without exception; 0: the one tells nothing about the other. The intervals are percentile "
        "bootstraps over the networks: they know one supernet and one seed. Networks of different cost are "
        "compared too, which by itself raises the correlation."
    )


def _range(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}"
