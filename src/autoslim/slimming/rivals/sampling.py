"""Random search: of networks drawn under the budget, the one that scores best on the held-out images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from autoslim.slimming.rivals.pool import Pool, check_passes, fitted, generators
from autoslim.slimming.rivals.problem import Problem, Step, each_target


def random_steps(
    problem: Problem, targets: Sequence[float], *, seed: int = 0, passes: float = 100
) -> Iterator[Step]:
    """For each target the best of as many random networks as the passes pay for.

    Every group is drawn at one of its levels, evenly, and the draw is brought just under the budget
    (`pool.fitted`).

    Args:
        problem: levels, budget and scores.
        targets: shares of the full network's resource to keep.
        seed: of the draws; draw n for a target is a function of (seed, target, n).
        passes: full-network passes over the held-out images to spend in all, the full network's own among
            them; the targets share them evenly.

    Raises:
        AutoslimError: for less than one pass for each target and one more.
    """
    check_passes(passes, targets)

    def find(target: float, left: int) -> np.ndarray:
        pool = Pool(problem, target, passes, left)
        for generator in generators(seed, target):
            draw = problem.levels.random(generator)
            if not pool.add(fitted(problem.budget, problem.levels, draw, target, generator)):
                break
        return pool.ranked()[0]

    return each_target(problem, targets, find)
