"""Random search: of networks drawn under the budget, the one that scores best on the held-out images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from autoslim.slimming.problem import Problem, Step, each_target
from autoslim.slimming.rivals.pool import Pool, fitted, generators


def random_steps(problem: Problem) -> Iterator[Step]:
    """For each target the best of as many random networks as the passes pay for.

    Every group is drawn at one of its levels, evenly, and the draw is brought just under the budget
    (`pool.fitted`). Draw n for a target is a function of (seed, target, n). The targets share `passes`
    evenly, the full network's own pass among them.
    """
    problem.refuse_unreachable()

    def find(target: float, left: int) -> np.ndarray:
        pool = Pool(problem, target, left)
        for generator in generators(problem.seed, target):
            draw = problem.levels.random(generator)
            if not pool.add(fitted(problem.budget, problem.levels, draw, target, generator)):
                break
        return pool.ranked()[0]

    return each_target(problem, find)
