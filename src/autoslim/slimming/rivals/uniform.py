"""Uniform slimming: every group at the same ratio of its channels, as nearly as the divisor allows."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.slimming.budget import Budget
from autoslim.slimming.levels import Levels
from autoslim.slimming.problem import Problem, Step, each_target


def uniform_steps(problem: Problem) -> Iterator[Step]:
    """The widest uniform network within each target.

    Raises:
        AutoslimError: if the narrowest costs more.
    """
    return each_target(problem, lambda target, _: uniform_widths(problem.budget, problem.levels, target))


def uniform_widths(budget: Budget, levels: Levels, target: float) -> np.ndarray:
    """The widest network within a budget with every group at nearly the same ratio: int32 [G].

    It is the last one within the budget on `uniform_path`, on which one group after another goes up by one
    multiple of the divisor; and then each group that is next on the path goes up by one more where that still
    fits, so that a large step does not leave unused what smaller ones would take.

    Raises:
        AutoslimError: if even the smallest multiple in every group costs more.
    """
    path = uniform_path(budget, levels)
    fitting = bisect_left(range(len(path)), True, key=lambda i: not budget.within(path[i], target))
    if fitting == 0:
        raise AutoslimError(
            f"Cannot reach {budget.resource} <= {target:g} uniformly: with the smallest multiple of "
            f"slim.divisor={levels.divisor} in every group the network still costs "
            f"{budget.share(budget.cost(path[0])):.3f} of the full one's {budget.resource}, or is above "
            "another limit. Raise slim.target or slim.limits, or lower slim.divisor."
        )
    return _filled(path[fitting - 1], path[fitting:], budget, target)


def _filled(widths: np.ndarray, following: np.ndarray, budget: Budget, target: float) -> np.ndarray:
    """Widths with the next step of each group, in the order of the path that follows, where it fits."""
    before, seen = widths, set()
    for after in following:
        group = int(np.flatnonzero(after != before)[0])
        wider = widths.copy()
        wider[group] = after[group]
        if group not in seen and budget.within(wider, target):
            widths = wider
        seen.add(group)
        before = after
    return widths


def uniform_path(budget: Budget, levels: Levels) -> np.ndarray:
    """Networks from the narrowest to the whole one, each with one group one multiple wider: int32 [N, G].

    The whole one is the network that targets are shares of (`Budget.reference`). Widths are multiples of the
    divisor and of the group's own unit, or whole, as those that a search may choose. A group goes from one
    multiple to the next when the ratio passes the middle between them, so that each is always at the multiple
    nearest to the ratio; of groups that pass at the same ratio the first goes first. Only when every group
    has its smallest level does one go beyond it.
    """
    steps, narrowest = [], []
    for group in budget.graph.groups:
        grid, least = math.lcm(levels.divisor, group.unit), levels.widths[group.index][0]
        whole = int(budget.reference[group.index])
        multiples = [whole] if group.frozen else [*range(grid, whole, grid), whole]
        narrowest.append(multiples[0])
        for below, above in zip(multiples, multiples[1:], strict=False):
            steps.append((above > least, (below + above) / 2 / whole, group.index, above))
    path = np.repeat(np.array(narrowest, np.int32)[None], len(steps) + 1, axis=0)
    for place, (_, _, group_index, above) in enumerate(sorted(steps), 1):
        path[place:, group_index] = above
    return path
