"""Narrow the deepest groups first, each to its smallest level, until the target is met."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from autoslim.slimming.problem import Problem, Step, each_target


def deepest_steps(problem: Problem) -> Iterator[Step]:
    """For each target the network whose last groups are at their smallest level."""
    problem.refuse_unreachable()

    def find(target: float, left: int) -> np.ndarray:
        widths = problem.levels.largest.copy()
        for group in reversed(range(len(widths))):
            if problem.budget.within(widths, target):
                break
            widths[group] = problem.levels.smallest[group]
        return widths

    return each_target(problem, find)
