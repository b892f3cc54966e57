"""Exchanges after the greedy pass: one group a level wider, another a level narrower, within the budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from autoslim.slimming.budget import Budget
from autoslim.slimming.points import as_point, score_of
from autoslim.slimming.problem import Problem
from autoslim.slimming.selection import doubt, ranked
from autoslim.slimming.trajectory import Exchange, Point, Trajectory
from autoslim.slimming.trial import Criterion, Trial

CHANCE = 0.05  # of keeping an exchange that is not better
PAIRS = 4  # exchanges of the best sums of effects that are tried as pairs, before one is put to the test


def exchanges(problem: Problem, trajectory: Trajectory) -> Iterator[Trajectory]:
    """Improve the network of each target that the path reaches by at most `exchange` exchanges.

    The held-out images are divided in two. On one half every group is tried a level wider and a level
    narrower, the best sums of two such effects are tried as pairs, and the best pair is put to the test on
    the other half, which had no part in choosing it: it is kept if it is better there by a one-sided paired
    t-test, at half of `CHANCE`. If it is not, the halves change parts once; then the target is done.
    So what is kept is better on either half, and no network is kept for being the luckiest of many.

    Yields:
        The path after each exchange that was kept, and after the last try for a target.
    """
    options, scorer, limits = problem.options, problem.scorer, problem.budget.limits
    for target in options.targets:
        while trajectory.reaches(target, limits) and not trajectory.exchanged(target, options.exchange):
            now, so_far = trajectory.at(target, limits), trajectory.exchange(target)
            macs, scored = scorer.macs, scorer.scored
            move = _Move(problem, np.array(now.widths, np.int32), target)
            better = None
            for side in (len(so_far.points), len(so_far.points) + 1):
                better = better or move.tested(side % 2, CHANCE / 2)
            spent = {"macs": scorer.macs - macs, "scored": scorer.scored - scored}
            trajectory = trajectory.exchanging(_after(so_far, problem.budget, better, spent))
            yield trajectory


def _after(so_far: Exchange, budget: Budget, better: Any, spent: dict[str, int]) -> Exchange:
    if better is None:
        return dataclasses.replace(so_far, done=True, macs=so_far.macs + spent["macs"])
    widths, wider, narrower, (losses, values) = better
    point: Point = as_point(budget, widths, narrower, score_of(losses, values), len(losses), spent)
    point = dataclasses.replace(point, widened=wider)
    return dataclasses.replace(so_far, points=(*so_far.points, point))


class _Move:
    """All exchanges from one network that keep within a budget, scored as far as it is asked for."""

    def __init__(self, problem: Problem, now: np.ndarray, target: float) -> None:
        levels, budget, scorer = problem.levels, problem.budget, problem.scorer
        criterion = Criterion(
            problem.options.score, metric=problem.metric, cuts=problem.options.search != "naive"
        )
        ups = [(g, w) for g, width in enumerate(now) if (w := levels.wider(g, int(width))) is not None]
        downs = [(g, w) for g, width in enumerate(now) if (w := levels.narrower(g, int(width))) is not None]
        singles = [_changed(now, change) for change in (*ups, *downs)]
        # Each pair: places of its two changes among the single ones.
        pairs = [
            (i, len(ups) + j) for i, (a, _) in enumerate(ups) for j, (b, _) in enumerate(downs) if a != b
        ]
        widths = [_changed(now, ups[i], downs[j - len(ups)]) for i, j in pairs]
        fits = budget.within(np.stack(widths), target) if pairs else np.zeros(0, bool)
        self._pairs = [pair for pair, fit in zip(pairs, fits, strict=True) if fit]
        self._widths = [w for w, fit in zip(widths, fits, strict=True) if fit]
        self._groups = [group for group, _ in (*ups, *downs)]
        self._count, self._batches = len(singles), len(scorer.sizes)
        if self._pairs:
            every = np.stack([*singles, *self._widths])
            self._trial = Trial(scorer, now, every, np.ones(len(every)), criterion, drops=True)
        self._least = 1.0 if criterion.score == "metric" and criterion.metric.binary else 0.0

    def tested(self, side: int, chance: float) -> Any:
        """An exchange that half `side` proposes and the other confirms: (widths, groups, scores), or None.

        Args:
            side: 0 or 1.
            chance: of taking an exchange that is not better for one that is.
        """
        if not self._pairs:
            return None
        alone = self._differences(range(self._count), side).mean(1)
        sums = np.array([alone[i] + alone[j] for i, j in self._pairs])
        best = [int(k) for k in ranked(sums, np.zeros(len(sums)))[:PAIRS]]
        together = self._differences([self._count + k for k in best], side).mean(1)
        chosen = int(np.argmin(together))
        if together[chosen] >= 0:
            return None
        k = best[chosen]
        judged = self._differences([self._count + k], 1 - side)
        if judged.mean() + doubt(judged, chance, np.array([self._least]))[0] >= 0:
            return None
        i, j = self._pairs[k]
        scores = self._trial.scores(self._count + k)
        return self._widths[k], self._groups[i], self._groups[j], scores

    def _differences(self, chosen: Sequence[int], side: int) -> np.ndarray:
        """Badness of candidates against the current network's, on the images of one half: [K, images]."""
        # Every other batch; of a single batch, every other image.
        batches = range(side, self._batches, 2) if self._batches > 1 else [0]
        images = slice(None) if self._batches > 1 else slice(side, None, 2)
        return self._trial.differences(np.array(chosen), batches)[:, images]


def _changed(widths: np.ndarray, *changes: tuple[int, int]) -> np.ndarray:
    changed = widths.copy()
    for group, width in changes:
        changed[group] = width
    return changed
