"""Sensitivity with a threshold: each group judged alone, all cut where they lose equally little."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.slimming.choosing import Candidates
from autoslim.slimming.giving_back import given_back, with_point
from autoslim.slimming.problem import Problem, Step, as_scored, follow
from autoslim.slimming.trajectory import Trajectory, Widening


def sensitivity(
    problem: Problem,
    start: Trajectory | None = None,
    on_point: Callable[[Trajectory], None] | None = None,
) -> Trajectory:
    """The path of a rising threshold; then, for each target, what is left of its budget is given back.

    A level is given back to the group whose drop, when it alone was narrowed, falls most by it.

    Args:
        problem: that is searched.
        start: not used: it goes on by the scores that are known.
        on_point: called after every step with the trajectory so far.
    """
    trajectory = follow(problem, sensitivity_steps(problem), on_point)
    alone = functools.cache(lambda: {(group, width): drop for drop, group, width in one_at_a_time(problem)})

    def drop(group: int, width: int) -> float:
        return alone().get((group, int(width)), 0.0)

    def widen(problem: Problem, now: np.ndarray, candidates: Candidates, so_far: Widening) -> Widening:
        before = problem.spent, problem.scored
        changes = zip(candidates.groups, candidates.widths, strict=True)
        gains = np.array([drop(g, now[g]) - drop(g, wider[g]) for g, wider in changes])
        if gains.max() < 0:
            return dataclasses.replace(so_far, done=True)
        best = int(np.lexsort((candidates.saved, -gains))[0])
        point = as_scored(problem, candidates.widths[best], candidates.groups[best], before)
        return with_point(so_far, point)

    for longer in given_back(problem, trajectory, widen):
        trajectory = longer
        if on_point:
            on_point(trajectory)
    return trajectory


def sensitivity_steps(problem: Problem) -> Iterator[Step]:
    """The distinct networks along a rising threshold, down to the smallest target.

    Each group is scored alone at each of its levels in the otherwise full network. Under a threshold on the
    drop every group takes its narrowest level whose drop is not above it. The networks that come of all
    thresholds, from the lowest up, are the path: they narrow, and one path serves every target. With limits,
    a level that saves nothing of a violated budget is passed over, and each target begins at the lowest
    threshold again.

    Raises:
        AutoslimError: if the budget is not met at the smallest widths either.
    """
    problem.refuse_unreachable()
    now, budget = problem.levels.largest, problem.budget
    for target in problem.options.targets:
        if budget.within(now, target):
            continue
        for changes in _by_drop(one_at_a_time(problem)):
            helpful = [
                (group, width)
                for group, width in changes
                if width < now[group]
                and budget.saved(now, _narrowed(now, [(group, width)])[None], target).any()
            ]
            if helpful:
                before, now = now, _narrowed(now, helpful)
                changed = np.flatnonzero(before != now)
                yield now, int(changed[0]) if len(changed) == 1 else None
                if budget.within(now, target):
                    break
        else:
            raise AutoslimError(
                "Every group is at its smallest level and the budget is still not met. Lower slim.min_width "
                "or slim.divisor, or allow more."
            )


def _narrowed(widths: np.ndarray, changes: list[tuple[int, int]]) -> np.ndarray:
    """Widths int32 [G] with some groups at a smaller width."""
    narrowed = widths.copy()
    for group, width in changes:
        narrowed[group] = min(narrowed[group], width)
    return narrowed


def one_at_a_time(problem: Problem) -> list[tuple[float, int, int]]:
    """How much worse the full network is with one group narrowed: (drop, group, width), level by level."""
    full = problem.levels.largest
    (whole,) = problem.scores(full[None])
    drops = []
    for group, widths in enumerate(problem.levels.widths):
        if len(widths) > 1:
            candidates = np.repeat(full[None], len(widths) - 1, axis=0)
            candidates[:, group] = widths[:-1]
            for width, score in zip(widths[:-1], problem.scores(candidates, full), strict=True):
                drops.append((problem.badness(score) - problem.badness(whole), group, width))
    return drops


def _by_drop(drops: list[tuple[float, int, int]]) -> list[list[tuple[int, int]]]:
    """(group, width) of equal drops together, from the least drop to the largest."""
    together: dict[float, list[tuple[int, int]]] = {}
    for drop, group, width in sorted(drops):
        together.setdefault(drop, []).append((group, width))
    return list(together.values())
