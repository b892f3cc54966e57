"""What every method is given: the levels, the budget, and scores of networks, each of them computed once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from autoslim.slimming.budget import Budget
from autoslim.slimming.levels import Levels
from autoslim.slimming.points import Score, Widths, as_point, path_from, score_of, widths_key
from autoslim.slimming.trajectory import Point, Trajectory

Step = tuple[np.ndarray, int | None]  # widths int32 [G], and the one group that was narrowed to come here


class ScoreSource(Protocol):
    """What scores networks: `slimming.scorer.Scorer`, or a function in its place."""

    images: int

    def __call__(
        self, candidates: np.ndarray, base: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per-image cross-entropy and correctness of candidates int32 [K, G]: [K, images] each.

        `base`, int32 [G], runs once; candidates go on from where they first differ from it.
        """

    def price(self, candidates: np.ndarray, base: np.ndarray | None = None) -> tuple[np.ndarray, int]:
        """Multiply-accumulates of each candidate, int64 [K], and of the base for all of them."""


class Problem:
    """Which widths there are, what they cost, and how good they are.

    Args:
        budget: what networks may cost.
        levels: the widths that each group may take.
        scorer: of networks on held-out images.
        score: what networks are compared by, "loss" (held-out cross-entropy) or "top1".
        known: scores from an earlier call with the same arguments; they are not computed again, and count as
            spent when they are asked for.
        on_scored: called with widths and score of every network that was scored anew.
    """

    def __init__(
        self,
        budget: Budget,
        levels: Levels,
        scorer: ScoreSource,
        score: str = "loss",
        known: Mapping[Widths, Score] | None = None,
        on_scored: Callable[[Widths, Score], None] | None = None,
    ) -> None:
        self.budget, self.levels, self.score = budget, levels, score
        self.images = scorer.images
        self.whole = int(scorer.price(levels.largest[None])[0][0])  # multiply-accumulates of the full network
        self.spent = 0  # multiply-accumulates
        self.scored = 0  # networks
        self._scorer, self._known, self._on_scored = scorer, dict(known or {}), on_scored
        self._asked: dict[Widths, Score] = {}

    def price(self, widths: np.ndarray) -> int:
        """Multiply-accumulates of scoring a network int32 [G]; 0: its score was asked for before."""
        return 0 if widths_key(widths) in self._asked else int(self._scorer.price(widths[None])[0][0])

    def scores(self, candidates: np.ndarray, base: np.ndarray | None = None) -> list[Score]:
        """Scores of networks int32 [K, G].

        With `base`, int32 [G], it runs once, and they go on from where they first differ from it: the same
        scores from less arithmetic.
        """
        keys = [widths_key(widths) for widths in candidates]
        new = np.array([key not in self._asked for key in keys])
        if new.any():
            prices, shared = self._scorer.price(candidates[new], base)
            lacking = [i for i in np.flatnonzero(new) if keys[i] not in self._known]
            if lacking:
                self._compute(candidates[lacking], base)
            self._asked.update((keys[i], self._known[keys[i]]) for i in np.flatnonzero(new))
            self.spent += int(np.sum(prices)) + shared
            self.scored += int(new.sum())
        return [self._asked[key] for key in keys]

    def badness(self, score: Score) -> float:
        """What a network is judged by: less is better."""
        badness = score.loss if self.score == "loss" else -score.top1
        return math.inf if math.isnan(badness) else badness

    def ranked(self, candidates: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Scored networks, the best first; ties go to the one that costs least, then to the first."""
        chosen = list(candidates)
        badness = [self.badness(self._asked[widths_key(widths)]) for widths in chosen]
        amounts = np.atleast_1d(self.budget.share(self.budget.cost(np.stack(chosen))))
        return [chosen[i] for i in np.lexsort((amounts, np.array(badness)))]

    def _compute(self, candidates: np.ndarray, base: np.ndarray | None) -> None:
        losses, right = self._scorer(candidates, base)
        for widths, loss, hits in zip(candidates, losses, right, strict=True):
            score = score_of(loss, hits)
            self._known[widths_key(widths)] = score
            if self._on_scored:
                self._on_scored(widths_key(widths), score)


def follow(
    problem: Problem, steps: Iterable[Step], on_point: Callable[[Trajectory], None] | None = None
) -> Trajectory:
    """The trajectory from the full network through a method's networks.

    Args:
        problem: whose networks they are.
        steps: the networks, of falling cost.
        on_point: called after every step with the trajectory so far.

    Raises:
        AutoslimError: if the full network's loss is not finite; and what the method raises.
    """
    first = _point(problem, problem.levels.largest, None, (0, 0))
    trajectory = path_from(problem.budget, first, problem.images)
    before = problem.spent, problem.scored
    for widths, group in steps:
        trajectory = trajectory.then(_point(problem, widths, group, before))
        before = problem.spent, problem.scored
        if on_point:
            on_point(trajectory)
    return trajectory


def each_target(
    problem: Problem, targets: Sequence[float], find: Callable[[float, int], np.ndarray]
) -> Iterator[Step]:
    """The network that `find(target, targets left)` chooses for each target, from the largest down.

    A target that the network before it meets already is served by that one.
    """
    ordered = sorted(set(targets), reverse=True)
    last = problem.levels.largest
    for place, target in enumerate(ordered):
        if not problem.budget.within(last, target):
            last = find(target, len(ordered) - place)
            yield last, None


def _point(problem: Problem, widths: np.ndarray, group: int | None, before: tuple[int, int]) -> Point:
    """A network on the path; `before`: arithmetic spent and networks scored before this step."""
    (score,) = problem.scores(np.asarray(widths, np.int32)[None])
    spent = {
        "macs": problem.spent - before[0],
        "scored": (problem.scored - before[1]) * problem.images,
    }
    return as_point(problem.budget, widths, group, score, problem.images, spent)
