"""Networks drawn at random under a budget, scored until the arithmetic that was granted is spent."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.slimming.budget import Budget
from autoslim.slimming.levels import Levels
from autoslim.slimming.points import widths_key
from autoslim.slimming.problem import Problem

PATIENCE = 100  # draws in a row without a new network, before a search takes it that there are no others


class Pool:
    """The networks that a method has scored for one target, and what it may still spend.

    Args:
        problem: levels, budget, scores and the count of arithmetic.
        target: share of the full network's resource to keep.
        left: number of targets that share evenly what is left of them, this one included.
    """

    def __init__(self, problem: Problem, target: float, left: int) -> None:
        granted = problem.options.passes * problem.whole
        self.networks: list[np.ndarray] = []
        self._problem, self._target = problem, target
        self._begun = problem.spent
        self._end = problem.spent + (granted - problem.spent) / left
        self._keys: set[tuple[int, ...]] = set()
        self._idle = 0

    @property
    def share_spent(self) -> float:
        """Of what may be spent on this target, in [0, 1]."""
        return (self._problem.spent - self._begun) / (self._end - self._begun)

    def add(self, network: np.ndarray | None) -> bool:
        """Score a draw, int32 [G]; None: a draw that could not be fitted to the budget.

        Returns:
            False when the search is over: this network costs more than is left, or nothing new comes.
        """
        if network is None or widths_key(network) in self._keys:
            self._idle += 1
            return self._idle < PATIENCE
        self._idle = 0
        if self._problem.spent + self._problem.price(network) > self._end:
            return False
        self._problem.scores(network[None])
        self._keys.add(widths_key(network))
        self.networks.append(network)
        return True

    def ranked(self) -> list[np.ndarray]:
        """The networks, the best first.

        Raises:
            AutoslimError: if there are none.
        """
        if not self.networks:
            raise AutoslimError(
                f"None of {PATIENCE} random networks could be brought within {self._problem.budget.resource} "
                f"<= {self._target:g} and the limits. Raise slim.target or slim.limits."
            )
        return self._problem.ranked(self.networks)


def generators(seed: int, target: float) -> Iterator[np.random.Generator]:
    """A generator of random numbers for each draw: a function of (seed, target, number of the draw)."""
    number = 0
    while True:
        yield np.random.default_rng([seed, round(1e6 * target), number])
        number += 1


def fitted(
    budget: Budget, levels: Levels, widths: np.ndarray, target: float, generator: np.random.Generator
) -> np.ndarray | None:
    """Widths brought just under a budget.

    Groups picked at random are narrowed, a level at a time, until the network is within the budget; then
    groups picked at random among those that may be are widened, a level at a time, until none may be.

    Args:
        budget: of the network.
        levels: the widths that each group may take.
        widths: int32 [G], at levels.
        target: share of the full network's resource to keep.
        generator: of the picks.

    Returns:
        Widths int32 [G], which no single level more keeps within the budget; None if even the smallest
        widths are not within it.
    """
    network = _narrowed(budget, levels, widths, target, generator)
    while network is not None:
        _, wider = levels.one_wider(network)
        fits = np.flatnonzero(np.atleast_1d(budget.within(wider, target))) if len(wider) else ()
        if not len(fits):
            break
        network = wider[generator.choice(fits)]
    return network


def _narrowed(
    budget: Budget, levels: Levels, widths: np.ndarray, target: float, generator: np.random.Generator
) -> np.ndarray | None:
    """The first network within the budget on a random way from `widths` to the smallest."""
    places = [found.index(width) for found, width in zip(levels.widths, widths, strict=True)]
    order = generator.permutation(np.repeat(np.arange(len(places)), places))
    way = [np.array(widths, np.int32)]
    for group in order:
        places[group] -= 1
        following = way[-1].copy()
        following[group] = levels.widths[group][places[group]]
        way.append(following)
    within = np.flatnonzero(budget.within(np.stack(way), target))
    return way[within[0]] if len(within) else None
