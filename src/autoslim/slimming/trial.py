"""One step's candidates and their scores, image by image, as far as they were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoslim.metrics import TOP1, Metric
from autoslim.slimming.problem import ScoreSource

BASE = -1  # the network that the candidates come from, among them
WORST = 1e9  # stands for a score that is not finite


@dataclass(frozen=True)
class Criterion:
    """What a network's scores count for."""

    score: str = "loss"  # "loss", or the task's "metric"
    per_cost: bool = False  # the drop against the current network, divided by the share of resource saved
    cuts: bool = True  # run the current network once, and candidates from the last cut before they differ
    metric: Metric = TOP1  # what `score="metric"` compares

    def badness(self, losses: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Per-image badness float64 of per-image loss and metric."""
        if self.score == "metric":
            return self.metric.badness(values)
        return np.nan_to_num(losses.astype(np.float64), nan=WORST, posinf=WORST, neginf=WORST)


class Trial:
    """Candidates that differ from a base network, scored when they are asked for, each image once.

    Args:
        scorer: of networks on held-out images.
        base: widths int32 [G] of the current network.
        widths: of the candidates, int32 [K, G].
        saved: share of the full network's resource that each saves, [K].
        criterion: what scores count for.
        drops: whether drops against the base are asked for, so that it is scored wherever a candidate is.
    """

    def __init__(
        self,
        scorer: ScoreSource,
        base: np.ndarray,
        widths: np.ndarray,
        saved: np.ndarray,
        criterion: Criterion,
        drops: bool = False,
    ) -> None:
        self._scorer, self._base, self._judging = scorer, base, criterion
        self._all = np.concatenate([widths, base[None]])
        self._against_base = drops or criterion.per_cost
        # Floor the saving at 1 % of the largest, to avoid dividing by about 0. Where no candidate saves
        # anything, as on a plateau of memory, the plain drop decides.
        most = float(saved.max())
        weighed = criterion.per_cost and most > 0
        self.saved: np.ndarray = np.maximum(saved, most / 100) if weighed else np.ones(len(saved))
        self._scores: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def see(self, chosen: Sequence[int] | np.ndarray, batches: Sequence[int]) -> None:
        """Score candidates on batches, where they were not before."""
        missing: dict[tuple[int, ...], list[int]] = {}  # candidates -> batches on which just they are missing
        for batch in batches:
            rows = [int(k) for k in chosen if (int(k), batch) not in self._scores]
            if rows and self._against_base and (BASE, batch) not in self._scores:
                rows.insert(0, BASE)
            if rows:
                missing.setdefault(tuple(rows), []).append(batch)
        base = self._base if self._judging.cuts else None
        for same, on in missing.items():
            losses, values = self._scorer.score(on, self._all[list(same)], base)
            ends = np.cumsum([self._scorer.sizes[batch] for batch in on])[:-1]
            for row, candidate in enumerate(same):
                parts = zip(np.split(losses[row], ends), np.split(values[row], ends), strict=True)
                self._scores.update({(candidate, b): part for b, part in zip(on, parts, strict=True)})

    def badness(self, chosen: Sequence[int] | np.ndarray, batches: Sequence[int]) -> np.ndarray:
        """What is compared, float64 [len(chosen), images of the batches]: a `selection.Source`."""
        if self._judging.per_cost:
            return self.differences(chosen, batches) / self.saved[chosen, None]
        self.see(chosen, batches)
        return np.stack([self._badness(int(k), batches) for k in chosen])

    def differences(self, chosen: Sequence[int] | np.ndarray, batches: Sequence[int]) -> np.ndarray:
        """Badness less the base's on the same images, float64 [len(chosen), images of the batches]."""
        self.see(chosen, batches)
        values = np.stack([self._badness(int(k), batches) for k in chosen])
        return values - self._badness(BASE, batches)

    def drops(self, chosen: Sequence[int] | np.ndarray, batches: Sequence[int] | None = None) -> np.ndarray:
        """Mean drop against the base [len(chosen)], per cost if so judged.

        Args:
            chosen: indices of candidates.
            batches: to score on; None: for each candidate all that it has been scored on.
        """
        if batches is not None:
            self.see(chosen, batches)
        found = []
        for k in chosen:
            on = self.seen(int(k)) if batches is None else batches
            found.append((self._badness(int(k), on) - self._badness(BASE, on)).mean() / self.saved[k])
        return np.array(found)

    def seen(self, candidate: int) -> list[int]:
        """Batches that a candidate was scored on, ascending."""
        return sorted(batch for k, batch in self._scores if k == candidate)

    def lead(self, best: int) -> float | None:
        """How far a candidate is ahead of the others, in standard errors of the difference; None: not known.

        The differences are paired, over the images that both were scored on. Of all other candidates the one
        counts that differs from it least clearly.
        """
        leads = []
        for other in sorted({k for k, _ in self._scores} - {best, BASE}):
            both = sorted(set(self.seen(best)) & set(self.seen(other)))
            if not both:
                continue
            worse = np.diff(self.badness([best, other], both), axis=0)[0]
            error = np.std(worse, ddof=1) / np.sqrt(len(worse)) if len(worse) > 1 else 0.0
            if error > 0:
                leads.append(float(worse.mean() / error))
        return min(leads) if leads else None

    def scores(self, candidate: int) -> tuple[np.ndarray, np.ndarray]:
        """Per-image loss and metric of a candidate, float32 [images], where it was scored."""
        parts = [self._scores[candidate, batch] for batch in self.seen(candidate)]
        return np.concatenate([loss for loss, _ in parts]), np.concatenate([value for _, value in parts])

    def _badness(self, candidate: int, batches: Sequence[int]) -> np.ndarray:
        parts = [self._judging.badness(*self._scores[candidate, batch]) for batch in batches]
        return np.concatenate(parts)
