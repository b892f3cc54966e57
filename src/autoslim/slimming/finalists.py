"""The candidates of a final: networks on the way from the one that a method found to the uniform one.

How far a method's scores can be believed is not known before networks are trained. Between the network that
trusts them all the way and the one that does not trust them at all, a few are trained for a while, and the
best of them is taken.
"""

from __future__ import annotations

import numpy as np

from autoslim.slimming.budget import Budget
from autoslim.slimming.levels import Levels


def candidates(
    budget: Budget, levels: Levels, found: np.ndarray, uniform: np.ndarray, target: float, count: int
) -> np.ndarray:
    """Distinct networks for a target, at even distances from the one found to the uniform one.

    Args:
        budget: that all of them meet.
        levels: the widths that each group may take.
        found: widths int32 [G] of the network that a method found, the first candidate.
        uniform: widths int32 [G] of the uniform network, the last one.
        target: share of the resource to keep.
        count: how many, at least 2; fewer where networks between the two fall together.

    Returns:
        Widths int32 [K, G], K <= count.
    """
    between = [
        _brought_within(budget, levels, found + share * (uniform - found), target)
        for share in np.linspace(0, 1, count)[1:-1]
    ]
    every = [np.asarray(found, np.int32), *between, np.asarray(uniform, np.int32)]
    distinct = {tuple(int(w) for w in widths): widths for widths in every if budget.within(widths, target)}
    return np.stack(list(distinct.values()))


def _brought_within(budget: Budget, levels: Levels, wanted: np.ndarray, target: float) -> np.ndarray:
    """The network at levels near `wanted` float [G], brought just under the budget.

    Groups are narrowed a level at a time, the one that is furthest above what was wanted first; then widened,
    the one furthest below first, as long as any may be.
    """
    sizes = levels.largest
    widths = np.array(
        [min(some, key=lambda w: abs(w - want)) for some, want in zip(levels.widths, wanted, strict=True)],
        np.int32,
    )
    while not budget.within(widths, target):
        groups, narrower = levels.one_narrower(widths)
        if not groups:
            break
        above = ((narrower - wanted) / sizes)[np.arange(len(groups)), groups]
        widths = narrower[int(np.argmax(above))]
    while True:
        groups, wider = levels.one_wider(widths)
        fits = np.flatnonzero(np.atleast_1d(budget.within(wider, target))) if groups else np.zeros(0, int)
        if not len(fits):
            return widths
        above = ((wider - wanted) / sizes)[np.arange(len(groups)), groups]
        widths = wider[min(fits, key=lambda i: above[i])]
