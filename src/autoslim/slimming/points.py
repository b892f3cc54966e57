"""A scored network as a point of a path."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from autoslim.slimming.budget import Budget
from autoslim.slimming.trajectory import Point


def as_point(
    budget: Budget,
    widths: np.ndarray,
    group: int | None,
    losses: np.ndarray,
    right: np.ndarray,
    spent: Mapping[str, int],
) -> Point:
    """A network and its scores as a point.

    Args:
        budget: what its costs are counted by.
        widths: int32 [G].
        group: the group that was narrowed to come here; None: the full network.
        losses: per-image cross-entropy [images].
        right: per-image correctness [images].
        spent: what finding it took: `macs`, `scored`, `naive_macs`, as `Point` has them.
    """
    cost = budget.cost(widths)
    error = float(losses.std(ddof=1, dtype=np.float64) / np.sqrt(len(losses))) if len(losses) > 1 else 0.0
    return Point(
        widths=tuple(int(w) for w in widths),
        group=group,
        flops=int(cost.flops),
        params=int(cost.params),
        memory=int(cost.memory),
        share=float(budget.share(cost)),
        loss=float(losses.mean(dtype=np.float64)),
        loss_error=error,
        top1=float(right.mean(dtype=np.float64)),
        latency=None if cost.latency is None else float(cost.latency),
        images=len(losses),
        **spent,
    )
