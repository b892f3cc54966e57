"""What every method is given: the levels, the budget, the options, and scores of networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from autoslim.metrics import TOP1, Metric
from autoslim.schema import SearchOptions
from autoslim.slimming.budget import Budget
from autoslim.slimming.levels import Levels
from autoslim.slimming.points import Score, Widths, as_point, path_from, score_of, widths_key
from autoslim.slimming.trajectory import Point, Trajectory

Step = tuple[np.ndarray, int | None]  # widths int32 [G], and the one group that was narrowed to come here


@runtime_checkable
class ScoreSource(Protocol):
    """What scores networks on held-out images: `slimming.scorer.Scorer`, or anything in its place."""

    sizes: tuple[int, ...]  # images in each batch
    images: int  # in all batches
    macs: int  # multiply-accumulates spent so far
    scored: int  # images scored so far, each as often as a network was scored on it

    def __call__(
        self, candidates: np.ndarray, base: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per-image loss and metric of candidates int32 [K, G]: [K, images] each.

        `base`, int32 [G], runs once; candidates go on from where they first differ from it.
        """

    def score(
        self, batches: Sequence[int], candidates: np.ndarray, base: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As a call, on some batches: [K, images of these batches, in this order] each."""

    def price(self, candidates: np.ndarray, base: np.ndarray | None = None) -> tuple[np.ndarray, int]:
        """Multiply-accumulates of each candidate, int64 [K], and of the base for all of them."""


class Problem:
    """Which widths there are, what they cost, and how good they are.

    Args:
        budget: what networks may cost.
        levels: the widths that each group may take.
        scorer: of networks on held-out images.
        options: of the search.
        seed: of random draws.
        known: scores from an earlier call with the same arguments; they are not computed again, and count as
            spent when they are asked for. The scores of further networks are put into it.
    """

    def __init__(
        self,
        budget: Budget,
        levels: Levels,
        scorer: ScoreSource,
        options: SearchOptions,
        seed: int = 0,
        known: MutableMapping[Widths, Score] | None = None,
    ) -> None:
        self.budget, self.levels, self.scorer = budget, levels, scorer
        self.options, self.seed = options, seed
        self.images = scorer.images
        self.metric: Metric = getattr(scorer, "metric", TOP1)  # what the scorer's second values are
        self.whole = int(scorer.price(levels.largest[None])[0][0])  # multiply-accumulates of the full network
        self.spent = 0  # multiply-accumulates
        self.scored = 0  # networks
        self._known: MutableMapping[Widths, Score] = {} if known is None else known
        self._asked: dict[Widths, Score] = {}

    def refuse_unreachable(self) -> None:
        """Refuse a budget that the network at its smallest levels does not meet."""
        self.budget.refuse_unreachable(self.levels.smallest, min(self.options.targets))

    def price(self, widths: np.ndarray) -> int:
        """Multiply-accumulates of scoring a network int32 [G]; 0: its score was asked for before."""
        return 0 if widths_key(widths) in self._asked else int(self.scorer.price(widths[None])[0][0])

    def scores(self, candidates: np.ndarray, base: np.ndarray | None = None) -> list[Score]:
        """Scores of networks int32 [K, G].

        With `base`, int32 [G], it runs once, and they go on from where they first differ from it: the same
        scores from less arithmetic.
        """
        keys = [widths_key(widths) for widths in candidates]
        new = np.array([key not in self._asked for key in keys])
        if new.any():
            prices, shared = self.scorer.price(candidates[new], base)
            lacking = [i for i in np.flatnonzero(new) if keys[i] not in self._known]
            if lacking:
                self._compute(candidates[lacking], base)
            self._asked.update((keys[i], self._known[keys[i]]) for i in np.flatnonzero(new))
            self.spent += int(np.sum(prices)) + shared
            self.scored += int(new.sum())
        return [self._asked[key] for key in keys]

    def badness(self, score: Score) -> float:
        """What a network is judged by: less is better."""
        badness = score.loss if self.options.score == "loss" else -self.metric.gain(score.metric, 0.0)
        return math.inf if math.isnan(badness) else badness

    def ranked(self, candidates: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Scored networks, the best first; ties go to the one that costs least, then to the first."""
        chosen = list(candidates)
        badness = [self.badness(self._asked[widths_key(widths)]) for widths in chosen]
        amounts = np.atleast_1d(self.budget.share(self.budget.cost(np.stack(chosen))))
        return [chosen[i] for i in np.lexsort((amounts, np.array(badness)))]

    def _compute(self, candidates: np.ndarray, base: np.ndarray | None) -> None:
        losses, values = self.scorer(candidates, base)
        for widths, *answers in zip(candidates, losses, values, strict=True):
            self._known[widths_key(widths)] = score_of(*answers)


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
    first = as_scored(problem, problem.levels.largest, None, (0, 0))
    trajectory = path_from(problem.budget, first, problem.images)
    before = problem.spent, problem.scored
    for widths, group in steps:
        trajectory = trajectory.then(as_scored(problem, widths, group, before))
        before = problem.spent, problem.scored
        if on_point:
            on_point(trajectory)
    return trajectory


def each_target(problem: Problem, find: Callable[[float, int], np.ndarray]) -> Iterator[Step]:
    """The network that `find(target, targets left)` chooses for each target, from the largest down.

    A target that the network before it meets already is served by that one.
    """
    targets = problem.options.targets
    last = problem.levels.largest
    for place, target in enumerate(targets):
        if not problem.budget.within(last, target):
            last = find(target, len(targets) - place)
            yield last, None


def as_scored(problem: Problem, widths: np.ndarray, group: int | None, before: tuple[int, int]) -> Point:
    """A network on the path; `before`: arithmetic spent and networks scored before this step."""
    (score,) = problem.scores(np.asarray(widths, np.int32)[None])
    spent = {
        "macs": problem.spent - before[0],
        "scored": (problem.scored - before[1]) * problem.images,
    }
    return as_point(problem.budget, widths, group, score, problem.images, spent)
