"""The best network within a budget, where its loss is taken to be a sum over the groups."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from autoslim.resources import RESOURCES
from autoslim.slimming.budget import Budget
from autoslim.slimming.levels import Levels
from autoslim.slimming.solver import Limit, PairwiseCost, solve, tabulate, tabulate_rows

log = logging.getLogger(__name__)

TIE = 1e-6  # share of the largest total drop that breaks ties: among equal losses the wider network wins
TIGHTER = 1e-5  # share of the budgets that is left where the solver's tolerance would exceed them
GAP = 1e-4  # largest gap to the proven bound that is accepted without a warning

Drops = Sequence[np.ndarray]  # [G], float64 [levels of g]: what a width costs in loss; 0 at full width


class Optimum:
    """Finds the widths of least total drop under a target and all limits, exactly (`slimming.solver`).

    Args:
        budget: what networks may cost; its costs are tabulated once.
        levels: the widths that each group may take.
        trust: in [0, 1]; 0: each group's own drops count, 1: their mean over the groups, see `shrunk`.
        name: of what finds the drops, for the log.
    """

    def __init__(self, budget: Budget, levels: Levels, trust: float = 0.0, name: str = "solver") -> None:
        self._budget, self._levels, self._trust, self._name = budget, levels, trust, name
        self._costs: dict[str, list[PairwiseCost]] = {}

    def __call__(self, drops: Drops, target: float) -> np.ndarray:
        """The widths int32 [G] for a target, a share of the full network's resource.

        Raises:
            AutoslimError: if no network is within the budget.
        """
        value = PairwiseCost(0.0, tuple(_prefer_wide(self._believed(drops), self._levels)), {})
        limits = self._limits(target)
        found = solve(self._levels, value, limits)
        if not self._budget.within(found.widths, target):  # by the solver's tolerance
            tighter = [replace(limit, amount=limit.amount * (1 - TIGHTER)) for limit in limits]
            found = solve(self._levels, value, tighter)
        if found.gap > GAP:
            log.warning("%s: the network for %g is within %.2g of the best", self._name, target, found.gap)
        return found.widths

    def _believed(self, drops: Drops) -> Drops:
        return shrunk(drops, self._levels, self._trust) if self._trust else drops

    def _limits(self, target: float) -> list[Limit]:
        """The target and all limits, for the solver."""
        bounds = self._budget.bounds(target)
        for name in bounds:
            if name not in self._costs:
                if RESOURCES[name].peak:
                    self._costs[name] = tabulate_rows(partial(self._rows, name), self._levels, name)
                else:
                    self._costs[name] = [tabulate(self._budget.summed(name)[0], self._levels, name)]
        return [
            Limit(name, self._costs[name], self._budget.summed(name)[1](amount))
            for name, amount in bounds.items()
        ]

    def _rows(self, name: str, widths: np.ndarray) -> np.ndarray:
        return self._budget.graph.amounts(name, widths, self._budget.convention)


def shrunk(drops: Drops, levels: Levels, trust: float) -> list[np.ndarray]:
    """Drops pulled towards what they are in the mean over the groups, at the same share of the channels.

    A supernet, or a Taylor expansion, judges some groups too well and others too badly at every width, which
    no number of scored networks averages away; and the best network under such scores is the one that takes
    most advantage of their errors. If a group's error is as large as the differences between groups, half of
    each should be believed (shrinkage, James & Stein 1961).

    Args:
        drops: at the levels.
        levels: the widths that each group may take.
        trust: in [0, 1]; 0 returns the drops themselves, 1 the mean over the groups for all of them.
    """
    shares = [np.array(widths, float) / widths[-1] for widths in levels.widths]
    free = [g for g, widths in enumerate(levels.widths) if len(widths) > 1]
    pulled = [np.asarray(drop, float) for drop in drops]
    for group in free:
        common = np.mean([np.interp(shares[group], shares[other], drops[other]) for other in free], axis=0)
        pulled[group] = (1.0 - trust) * pulled[group] + trust * common
    return pulled


def _prefer_wide(drops: Drops, levels: Levels) -> list[np.ndarray]:
    """The drops, with a trifle for being narrow: of widths that cost the same loss the largest is taken."""
    trifle = TIE * (sum(float(np.max(drop)) for drop in drops) or 1.0) / len(drops)
    return [
        drop + trifle * (1.0 - np.array(widths) / widths[-1])
        for drop, widths in zip(drops, levels.widths, strict=True)
    ]
