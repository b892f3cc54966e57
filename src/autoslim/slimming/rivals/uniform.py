"""Uniform slimming: every group at the same ratio of its channels."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.slimming.budget import Budget
from autoslim.slimming.problem import Problem, Step, each_target


def uniform_steps(problem: Problem) -> Iterator[Step]:
    """The widest uniform network within each target.

    Raises:
        AutoslimError: if even one channel per group costs more.
    """
    return each_target(problem, lambda target, _: uniform_widths(problem.budget, target))


def uniform_widths(budget: Budget, target: float) -> np.ndarray:
    """The widest network with every group at the same ratio that keeps within a budget: int32 [G].

    Raises:
        AutoslimError: if even one channel per group costs more.
    """
    ratios = np.linspace(0.0, 1.0, 2001)
    every = np.stack([budget.graph.uniform(ratio) for ratio in ratios])
    _, first = np.unique(every, axis=0, return_index=True)
    widths = every[np.sort(first)]  # ascending in every group
    if budget.limits_latency:  # times need not fall with the widths: from the widest down
        descending = range(len(widths), 0, -1)
        wider = next((i for i in descending if budget.within(widths[i - 1], target)), 0)
    else:
        wider = bisect_left(range(len(widths)), True, key=lambda i: not budget.within(widths[i], target))
    if wider == 0:
        raise AutoslimError(
            f"Cannot reach {budget.resource} <= {target:g} uniformly: with one channel in every group the "
            f"network still costs {budget.share(budget.cost(widths[0])):.3f} of the full one's "
            f"{budget.resource}, or is above another limit. Raise slim.target or slim.limits."
        )
    return widths[wider - 1]
