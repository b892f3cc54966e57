"""One step of the greedy search, down or up: the best of some candidates, each with one group changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoslim.slimming.points import as_point, score_of
from autoslim.slimming.problem import Problem
from autoslim.slimming.selection import everything, halving, refreshed
from autoslim.slimming.trajectory import Point
from autoslim.slimming.trial import Criterion, Trial

Queue = tuple[float | None, ...]  # for each group the last known drop of the score by changing it; None: none


@dataclass(frozen=True)
class Candidates:
    """Networks that differ from the current one in one group each."""

    groups: tuple[int, ...]  # [K]
    widths: np.ndarray  # int32 [K, G]
    saved: np.ndarray  # float64 [K], what each saves of the violated budgets, or takes of what is left


@dataclass(frozen=True)
class Choice:
    """The best of the candidates."""

    best: int
    trial: Trial
    queue: Queue  # after the step

    def point(self, problem: Problem, candidates: Candidates, before: tuple[int, int], count: int) -> Point:
        """The chosen network as a point of the path.

        Args:
            problem: that is searched.
            candidates: among which it was chosen.
            before: arithmetic spent, and images scored, before the step.
            count: number of candidates that a naive search would score, the first ones.
        """
        losses, values = self.trial.scores(self.best)
        scorer, budget = problem.scorer, problem.budget
        spent = {
            "macs": scorer.macs - before[0],
            "naive_macs": int(budget.graph.cost(candidates.widths[:count]).flops.sum()) * scorer.images,
            "scored": scorer.scored - before[1],
        }
        group, score = candidates.groups[self.best], score_of(losses, values)
        point = as_point(budget, candidates.widths[self.best], group, score, len(losses), spent)
        return dataclasses.replace(point, lead=self.trial.lead(self.best))


def chosen_among(
    problem: Problem, now: np.ndarray, candidates: Candidates, queue: Queue, step: int, drops: bool = False
) -> Choice:
    """The best candidate of a step, as `SearchOptions` says.

    Args:
        problem: that is searched.
        now: widths int32 [G] of the current network.
        candidates: at least one.
        queue: from the step before. It holds drops of the score itself: what they are worth for the budgets
            that are violated now is worked out in every step.
        step: number of the step, from 1: where in the batches a step begins is a function of it.
        drops: whether drops are asked for afterwards.
    """
    options, batches = problem.options, len(problem.scorer.sizes)
    criterion = Criterion(options.score, options.per_cost, options.search != "naive", problem.metric)
    trial = Trial(
        problem.scorer, now, candidates.widths, candidates.saved, criterion, drops=drops or options.lazy
    )
    share = max(1, round(options.first * batches))
    order = [((step - 1) * share + i) % batches for i in range(batches)]
    first = share if options.search == "halving" else batches
    contenders, ties = np.arange(len(candidates.groups)), -candidates.saved
    if options.lazy:
        fresh = (step - 1) % options.refresh == 0
        known = _known(candidates, () if fresh else queue) / trial.saved
        contenders = refreshed(lambda chosen: trial.drops(chosen, order[:first]), known, ties)
    if options.search == "halving":
        best = halving(trial.badness, contenders, order, ties, first)
    else:
        best = everything(trial.badness, contenders, order, ties)
    groups = len(now)
    return Choice(best, trial, _after(queue or (None,) * groups, candidates, trial) if options.lazy else ())


def _known(candidates: Candidates, queue: Sequence[float | None]) -> np.ndarray:
    """Last known drop of each candidate, NaN where it is to be scored again: [K]."""
    drops = [queue[group] if queue else None for group in candidates.groups]
    return np.array([np.nan if drop is None else drop for drop in drops])


def _after(queue: Sequence[float | None], candidates: Candidates, trial: Trial) -> Queue:
    """The queue after a step: the groups that were scored have new drops."""
    after = list(queue)
    for candidate, group in enumerate(candidates.groups):
        if seen := trial.seen(candidate):
            after[group] = float(trial.differences([candidate], seen).mean())
    return tuple(after)
