"""What the way down left of a budget is given back, one level of a group at a time, where it helps most."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from autoslim.slimming.budget import Budget
from autoslim.slimming.choosing import Candidates, chosen_among
from autoslim.slimming.levels import Levels
from autoslim.slimming.problem import Problem
from autoslim.slimming.selection import doubt
from autoslim.slimming.trajectory import Point, Trajectory, Widening

CHANCE = 0.05  # of refusing a widening that does not hurt
MUCH = 0.75  # of a budget, below which it is said that it was not used
FULL = "every group has its full width"

# (problem, current widths, candidates, widenings so far) -> the widenings with one more, or done
Widen = Callable[[Problem, np.ndarray, Candidates, Widening], Widening]


def given_back(problem: Problem, trajectory: Trajectory, widen: Widen | None = None) -> Iterator[Trajectory]:
    """Widen the network of each target that the path reaches until nothing more fits in all of its budgets.

    Args:
        problem: that is searched.
        trajectory: its path, and what was given back so far.
        widen: chooses a group; None: the one that helps most on held-out images, for what it takes of what is
            left of the budgets if so judged. A widening that hurts beyond doubt is not made.

    Yields:
        The path after each widening, and after the last try for a target.
    """
    budget, levels = problem.budget, problem.levels
    for target in problem.options.targets:
        while trajectory.reaches(target, budget.limits) and not (so_far := trajectory.widening(target)).done:
            start = so_far.points[-1] if so_far.points else trajectory.first_within(target, budget.limits)
            now = np.array(start.widths, np.int32)
            groups, wider = levels.one_wider(now)
            fits = np.flatnonzero(budget.within(wider, target)) if groups else np.zeros(0, int)
            if len(fits):
                taken = budget.spent(now, wider[fits], target)
                candidates = Candidates(tuple(groups[i] for i in fits), wider[fits], taken)
                so_far = (widen or _by_score)(problem, now, candidates, so_far)
            else:
                so_far = dataclasses.replace(so_far, done=True)
            trajectory = trajectory.widened(so_far)
            yield trajectory


def _by_score(problem: Problem, now: np.ndarray, candidates: Candidates, so_far: Widening) -> Widening:
    scorer = problem.scorer
    before = scorer.macs, scorer.scored
    choice = chosen_among(problem, now, candidates, so_far.queue, len(so_far.points) + 1, drops=True)
    worse = choice.trial.differences([choice.best], choice.trial.seen(choice.best))
    if worse.mean() > doubt(worse, CHANCE, np.zeros(1))[0]:
        return dataclasses.replace(so_far, done=True, macs=so_far.macs + scorer.macs - before[0])
    point = choice.point(problem, candidates, before, len(candidates.widths))
    return with_point(so_far, point, choice.queue)


def with_point(so_far: Widening, point: Point, queue: tuple[float | None, ...] = ()) -> Widening:
    """One more widening; `point.group` is the group that was widened."""
    point = dataclasses.replace(point, group=None, widened=point.group)
    return dataclasses.replace(so_far, points=(*so_far.points, point), queue=queue)


class Use(NamedTuple):
    """What a network uses of one budget."""

    resource: str
    used: float  # share of the full network's
    bound: float  # share that it may use
    left: bool  # whether more than one level's worth is unused
    reason: str  # why what is unused is

    @property
    def line(self) -> str:
        """In words, such as "flops: 0.497 of the full network's, at most 0.5"."""
        said = f"{self.resource}: {self.used:.3f} of the full network's, at most {self.bound:.3f}"
        if self.left:
            return f"{said}; the rest stays unused: {self.reason}"
        return f"{said}; {FULL}" if self.reason == FULL else said


def budget_use(
    budget: Budget,
    levels: Levels,
    widths: np.ndarray,
    target: float,
    otherwise: str = "wider levels hurt on the held-out images",
) -> list[Use]:
    """What a network uses of each of its budgets, and why something is left unused.

    Args:
        budget: of the network.
        levels: the widths that each group may take.
        widths: int32 [G] of the network.
        target: share of the full network's resource to keep.
        otherwise: the reason where wider levels fit.
    """
    groups, wider = levels.one_wider(widths)
    every = budget.amounts(wider, target)
    found = []
    for place, (name, bound, amounts) in enumerate(budget.amounts(widths, target)):
        full, used = float(budget.full.of(name)), float(amounts.max())
        added = every[place][2].max(-1) - used
        worth = added[added > 0].min(initial=np.inf)
        left, reason = False, FULL if not groups else f"every wider level goes over {name}"
        if bound - used > worth:
            fit = added <= bound - used
            over = [n for n, b, a in every if (a.max(-1) > b)[fit].any()]
            alone = not budget.within(wider[fit], target).any()
            left = bound < full
            reason = f"every wider level goes over {' or '.join(over)}" if alone else otherwise
        elif groups and not np.isfinite(worth):  # no wider level costs any of it
            reason = otherwise
        found.append(Use(name, used / full, min(bound / full, 1.0), left, reason))
    return found


def much_unused(uses: Sequence[Use]) -> str:
    """A sentence on a network that leaves much of every budget unused; "" of one that does not."""
    fullest = max(uses, key=lambda use: use.used / use.bound)
    part = fullest.used / fullest.bound
    if part >= MUCH:
        return ""
    return (
        f"it has {fullest.used:.3f} of the full network's {fullest.resource}, {100 * part:.0f} % of the "
        f"{fullest.bound:.3f} that it may have: {fullest.reason}."
    )
