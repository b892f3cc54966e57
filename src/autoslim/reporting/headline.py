"""What came out, a sentence for each slim network: the first lines of a report, the last of a run."""

from __future__ import annotations

from collections.abc import Sequence

from autoslim.kinds import KINDS
from autoslim.metrics import Metric
from autoslim.reporting.network import NetworkResult, in_order, reference
from autoslim.resources import RESOURCES, SUMMARY, Cost

_CALLED = {"given": "the given network", "baseline": "the baseline"}


def headlines(
    results: Sequence[NetworkResult], full: Cost, images: int, resource: str = "flops", kind: str = "autoslim"
) -> list[str]:
    """A sentence for each network of a kind, the largest first; of the full networks where there is none.

    Args:
        results: the trained networks of a run.
        full: what the full network costs.
        images: test images.
        resource: what the targets limit; it is named after those of `resources.SUMMARY`.
        kind: of the networks that the run is about, a key of `kinds.KINDS`.
    """
    ordered = in_order(list(results))
    slim = [r for r in ordered if not KINDS[r.kind].full]
    slim = [r for r in slim if r.kind in (kind, "channels")] or slim
    if not slim:
        return [f"{r.label}: {r.measure.label} {_reached(r)} on {images:,} test images." for r in ordered]
    return [_sentence(r, ordered, full, images, resource) for r in slim]


def _sentence(
    result: NetworkResult, networks: Sequence[NetworkResult], full: Cost, images: int, resource: str
) -> str:
    resources = dict.fromkeys((*SUMMARY, resource))
    saved = ", ".join(f"{RESOURCES[name].label} {_less(result.share(name, full))}" for name in resources)
    text, other, measure = (
        f"{result.label}: {saved}, {result.measure.label}",
        reference(networks),
        result.measure,
    )
    if other is None:
        return f"{text} {_reached(result)} on {images:,} test images."
    against = f"{_reached(result)} against {_reached(other)} of {_CALLED[other.kind]}, {images:,} test images"
    uniform = _uniform(result, networks, other, resource)
    return f"{text} {_difference(measure, result, other)} ({against}){uniform}."


def _uniform(
    result: NetworkResult, networks: Sequence[NetworkResult], other: NetworkResult, resource: str
) -> str:
    """What a uniform network of the same target loses, where the run trained one."""
    same = [r for r in networks if r.kind == "uniform" and r.target == result.target]
    if result.kind == "uniform" or not same:
        return ""
    lost = _difference(result.measure, same[0], other)
    return f"; uniform within the same {RESOURCES[resource].label}: {lost}"


def _difference(measure: Metric, result: NetworkResult, other: NetworkResult) -> str:
    """ "-0.20 points"."""
    return f"{measure.difference(result.metric - other.metric)}{' points' if measure.percent else ''}"


def _reached(result: NetworkResult) -> str:
    return result.reached + (" (near chance)" if result.near_chance else "")


def _less(share: float) -> str:
    """By how much a cost differs from the full network's.

    >>> _less(0.496), _less(1.0)
    ('-50 %', '+0 %')
    """
    return f"{100 * (share - 1):+.0f} %"
