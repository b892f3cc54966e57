"""Evolutionary search under the budget, after Guo et al. 2020 ("Single Path One-Shot"), 3.3."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from autoslim.slimming.levels import Levels
from autoslim.slimming.problem import Problem, Step, each_target
from autoslim.slimming.rivals.pool import Pool, fitted, generators

PARENTS = 10  # the best networks so far, from which children come
MUTATED = 0.1  # probability that a group is drawn again in a mutation
RANDOM_SHARE = 0.25  # of what may be spent goes to random networks, with which it begins


def evolution_steps(problem: Problem) -> Iterator[Step]:
    """For each target the best network of an evolution.

    It begins with random networks. Then each child comes, with equal chances, of one of the ten best networks
    so far by mutation (each group is drawn again with a probability of 0.1, one group at least) or of two of
    them by crossover (each group's width from the one or the other). Random networks and children alike are
    brought just under the budget (`pool.fitted`).

    Draw n for a target is a function of (seed, target, n) and the scores before it. The targets share
    `passes` evenly, the full network's own pass among them.
    """
    problem.refuse_unreachable()

    def find(target: float, left: int) -> np.ndarray:
        pool = Pool(problem, target, left)
        for generator in generators(problem.seed, target):
            draw = _draw(problem.levels, pool, generator)
            if not pool.add(fitted(problem.budget, problem.levels, draw, target, generator)):
                break
        return pool.ranked()[0]

    return each_target(problem, find)


def _draw(levels: Levels, pool: Pool, generator: np.random.Generator) -> np.ndarray:
    """A random network, or a child of the best so far: int32 [G], not yet within the budget."""
    if len(pool.networks) < 2 or pool.share_spent < RANDOM_SHARE:
        return levels.random(generator)
    parents = pool.ranked()[:PARENTS]
    if generator.random() < 0.5:
        return mutation(levels, parents[generator.integers(len(parents))], generator)
    first, second = generator.choice(len(parents), 2, replace=False)
    return crossover(parents[first], parents[second], generator)


def mutation(levels: Levels, widths: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A copy with some groups drawn again, at least one of those that have a choice: int32 [G]."""
    free = [group for group, choices in enumerate(levels.widths) if len(choices) > 1]
    chosen = generator.random(len(widths)) < MUTATED
    chosen[generator.choice(free)] = True
    return np.where(chosen, levels.random(generator), widths).astype(np.int32)


def crossover(first: np.ndarray, second: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Each group's width from the one or the other: int32 [G]."""
    return np.where(generator.random(len(first)) < 0.5, first, second).astype(np.int32)
