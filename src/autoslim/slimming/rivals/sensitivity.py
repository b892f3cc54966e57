"""Sensitivity with a threshold: each group judged alone, all cut where they lose equally little."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.slimming.problem import Problem, Step


def sensitivity_steps(problem: Problem) -> Iterator[Step]:
    """The distinct networks along a rising threshold, down to the smallest target.

    Each group is scored alone at each of its levels in the otherwise full network. Under a threshold on the
    drop every group takes its narrowest level whose drop is not above it. The networks that come of all
    thresholds, from the lowest up, are the path: they narrow, and one path serves every target.

    Raises:
        AutoslimError: if the budget is not met at the smallest widths either.
    """
    problem.refuse_unreachable()
    smallest, now = min(problem.options.targets), problem.levels.largest
    if problem.budget.within(now, smallest):
        return
    for changes in _by_drop(one_at_a_time(problem)):
        narrowed = now.copy()
        for group, width in changes:
            narrowed[group] = min(narrowed[group], width)
        changed = np.flatnonzero(narrowed != now)
        if len(changed):
            now = narrowed
            yield now, int(changed[0]) if len(changed) == 1 else None
            if problem.budget.within(now, smallest):
                return
    raise AutoslimError(
        "Every group is at its smallest level and the budget is still not met. Lower slim.min_width or "
        "slim.divisor, or allow more; a latency table that changed under way asks for a search anew."
    )


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
