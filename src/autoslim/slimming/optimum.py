"""The best network within a budget, where its loss is taken to be a sum over the groups."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from autoslim.slimming.budget import Budget
from autoslim.slimming.levels import Levels
from autoslim.slimming.rivals.uniform import uniform_widths
from autoslim.slimming.solver import Limit, PairwiseCost, solve, tabulate, tabulate_rows

log = logging.getLogger(__name__)

TIE = 1e-6  # of the largest total drop: by it channels that cost nothing are kept where the budget allows
GAP = 1e-4  # of a solution's proven bound, above which the log says that it may not be the best

Drops = Sequence[np.ndarray]  # [G], float64 [levels of g]: what a width costs in loss; 0 at full width


class Optimum:
    """Finds the widths of least total drop under a target and all limits, exactly (`slimming.solver`).

    Args:
        budget: what networks may cost; its costs are tabulated once.
        levels: the widths that each group may take.
        trust: weight in [0, 1] of a pull towards the uniform network, for drops that are not quite believed:
            the value of a network is (1 - trust) times its drop as a share of the uniform network's, plus
            trust times the mean squared distance of its groups from the uniform widths, as shares of what
            each group can move.
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
        believed = self._pulled(drops, target) if self._trust else drops
        value = PairwiseCost(0.0, tuple(_wide_rather(believed, self._levels)), {})
        found = solve(self._levels, value, self._limits(target))
        if found.gap > GAP:
            log.warning("%s: the network for %g is within %.2g of the best", self._name, target, found.gap)
        return found.widths

    def _limits(self, target: float) -> list[Limit]:
        """The target and all limits, for the solver."""
        bounds = self._budget.bounds(target)
        for name in bounds:
            if name not in self._costs:
                if name == "memory":
                    self._costs[name] = tabulate_rows(self._budget.graph.live_memory, self._levels, name)
                else:
                    self._costs[name] = [tabulate(partial(self._amount, name), self._levels, name)]
        return [Limit(name, self._costs[name], amount) for name, amount in bounds.items()]

    def _amount(self, name: str, widths: np.ndarray) -> Any:
        return self._budget.cost(widths).of(name)

    def _pulled(self, drops: Drops, target: float) -> list[np.ndarray]:
        """The drops with the pull towards the uniform network of the target."""
        even = uniform_widths(self._budget, self._levels, target)
        widths = [np.array(choices, float) for choices in self._levels.widths]
        nearest = [int(np.argmin(np.abs(w - u))) for w, u in zip(widths, even, strict=True)]
        scale = sum(float(d[i]) for d, i in zip(drops, nearest, strict=True))
        free = sum(len(choices) > 1 for choices in widths)
        pulled = []
        for drop, choices, width in zip(drops, widths, even, strict=True):
            distance = ((choices - width) / max(1.0, choices[-1] - choices[0])) ** 2 / free
            believed = np.asarray(drop) / scale if scale > 0 else np.asarray(drop)
            pulled.append((1.0 - self._trust) * believed + self._trust * distance)
        return pulled


def _wide_rather(drops: Drops, levels: Levels) -> list[np.ndarray]:
    """The drops, with a trifle for being narrow: of widths that cost the same loss the largest is taken."""
    trifle = TIE * (sum(float(np.max(drop)) for drop in drops) or 1.0) / len(drops)
    return [
        drop + trifle * (1.0 - np.array(widths) / widths[-1])
        for drop, widths in zip(drops, levels.widths, strict=True)
    ]
