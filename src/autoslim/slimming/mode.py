"""The modes of the greedy search: what a step scores, on how many images, and how it decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.slimming.selection import everything, halving, race, ranked, refreshed
from autoslim.slimming.trial import Judging, Trial

SEARCHES = ("naive", "exact", "halving", "race")
SCORES = ("loss", "top1")


@dataclass(frozen=True)
class SearchMode:
    """How a step of the search decides among its candidates; `search` tells what each field means.

    naive: every candidate runs whole on all batches.
    exact: the same scores and choice, each candidate from the last cut before the first layer it changes.
    halving, race: as exact, on as few batches as `selection.halving` or `selection.race` asks for.

    Raises:
        AutoslimError: for a value out of range.
    """

    mode: str = "halving"
    score: str = "loss"
    per_cost: bool = True
    lazy: bool = True
    refresh: int = 8
    shortlist: float | None = None
    first: float = 1 / 16
    tolerance: float = 0.01
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name, value, there in (("mode", self.mode, SEARCHES), ("score", self.score, SCORES)):
            if value not in there:
                raise AutoslimError(f"{name}={value!r}: expected {', '.join(there[:-1])} or {there[-1]}.")
        for name, good, expected in (
            ("refresh", self.refresh >= 1, "a number of steps, at least 1"),
            ("shortlist", self.shortlist is None or 0 < self.shortlist <= 1, "a share in (0, 1], or None"),
            ("first", 0 < self.first <= 1, "a share in (0, 1]"),
            ("tolerance", self.tolerance >= 0, "a difference of scores, 0 or more"),
            ("confidence", 0 < self.confidence < 1, "a probability in (0, 1)"),
        ):
            if not good:
                raise AutoslimError(f"{name}={getattr(self, name)}: expected {expected}.")

    @property
    def judging(self) -> Judging:
        """What scores count for."""
        return Judging(self.score, self.per_cost, self.mode != "naive")

    def decide(
        self,
        trial: Trial,
        amounts: np.ndarray,
        known: np.ndarray,
        effects: Callable[[Sequence[int]], np.ndarray],
        step: int,
        batches: int,
    ) -> int:
        """The best candidate of a step.

        Args:
            trial: of the candidates.
            amounts: cost of each [K].
            known: last known drop of each [K], NaN: none; all are refreshed unless `lazy`.
            effects: (batches) -> first-order effect of each [K], asked for where there is a shortlist.
            step: number of the step, from 1: where in the batches a step begins is a function of it.
            batches: number of held-out batches.
        """
        share = max(1, round(self.first * batches))
        order = [((step - 1) * share + i) % batches for i in range(batches)]
        first = share if self.mode in ("halving", "race") else batches
        contenders = np.arange(len(amounts))
        if self.shortlist is not None and self.shortlist < 1:
            listed = ranked(effects(order[:share]) / trial.saved, amounts)
            contenders = np.sort(listed[: math.ceil(self.shortlist * len(amounts))])
        if self.lazy:
            among = contenders
            fresh = refreshed(
                lambda chosen: trial.drops(among[chosen], order[:first]), known[among], amounts[among]
            )
            contenders = among[fresh]
        if self.mode == "halving":
            best = halving(trial.badness, contenders, order, amounts, first)
        elif self.mode == "race":
            least = (1.0 if self.score == "top1" else 0.0) / trial.saved
            best = race(
                trial.badness,
                contenders,
                order,
                amounts,
                first,
                tolerance=self.tolerance / trial.saved,
                confidence=self.confidence,
                least=least,
            )
        else:
            best = everything(trial.badness, contenders, order, amounts)
        return best
