"""What came out, a sentence for each slim network: the first lines of a report, the last of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autoslim.kinds import KINDS
from autoslim.reporting import units
from autoslim.reporting.network import NetworkResult, in_order, reference

if TYPE_CHECKING:
    from autoslim.graph.cost import Cost

_CALLED = {"given": "the given network", "baseline": "the baseline"}


def headlines(
    results: Sequence[NetworkResult], full: Cost, images: int, resource: str = "flops", kind: str = "autoslim"
) -> list[str]:
    """A sentence for each network of a kind, the largest first; of the full networks where there is none.

    Args:
        results: the trained networks of a run.
        full: what the full network costs.
        images: test images.
        resource: what the targets limit; it is named where it is not among FLOPs and parameters.
        kind: of the networks that the run is about, a key of `kinds.KINDS`.
    """
    ordered = in_order(list(results))
    slim = [r for r in ordered if not KINDS[r.kind].full]
    slim = [r for r in slim if r.kind in (kind, "channels")] or slim
    if not slim:
        return [f"{r.label}: {r.measure.label} {_reached(r)} on {images:,} test images." for r in ordered]
    return [_sentence(r, reference(ordered), full, images, resource) for r in slim]


def _sentence(
    result: NetworkResult, other: NetworkResult | None, full: Cost, images: int, resource: str
) -> str:
    resources = dict.fromkeys(("flops", "params", resource))
    saved = ", ".join(f"{units.RESOURCES[name]} {_less(result.share(name, full))}" for name in resources)
    text = f"{result.label}: {saved}, {result.measure.label} {_reached(result)} on {images:,} test images"
    if other is None:
        return f"{text}."
    measure, ahead = result.measure, result.metric - other.metric
    words = ("above", "below") if measure.higher else ("worse than", "better than")
    word = words[ahead < 0]
    told = "as much as" if float(measure.difference(ahead)) == 0 else f"{measure.size(ahead)} {word}"
    chance = ", near chance" if other.near_chance else ""
    return f"{text}, {told} {_CALLED[other.kind]} ({other.reached}{chance})."


def _reached(result: NetworkResult) -> str:
    return result.reached + (" (near chance)" if result.near_chance else "")


def _less(share: float) -> str:
    """By how much a cost differs from the full network's.

    >>> _less(0.496), _less(1.0)
    ('-50 %', '+0 %')
    """
    return f"{100 * (share - 1):+.0f} %"
