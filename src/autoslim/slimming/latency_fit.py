"""Fit of measured times to features: no coefficient below 0, so that what is fitted never falls with a width.

The relative error is what counts. Columns are divided by their mean, and a ridge on their coefficients keeps
the fit stable where features are many and measurements few; its strength is chosen by cross-validation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

STRENGTHS = tuple(10.0 ** np.arange(-5.0, 1.0, 0.5))  # of the ridge, from weak to strong
OWN = 3.0  # a coefficient of one kind of layer is held back this much more than a shared one
FOLDS = 10
FLOOR = 0.003  # least share of each shared feature, so that every narrower width saves something


@dataclass(frozen=True)
class Fit:
    """Coefficients of features, and how far predictions of networks that the fit had not seen were off."""

    coefficients: np.ndarray  # float64 [F], at least 0
    strength: float  # of the ridge
    unseen: np.ndarray  # float64 [N], predicted / measured - 1 of each network, fitted to the others
    rank_correlation: float  # of the same predictions and what was measured

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Predicted times of features float64 [..., F]: float64 [...]."""
        return features @ self.coefficients

    @property
    def error(self) -> float:
        """Median size of the error on networks that the fit had not seen, as a share."""
        return float(np.median(np.abs(self.unseen)))


def fit(features: np.ndarray, times: np.ndarray, own: np.ndarray, weights: np.ndarray | None = None) -> Fit:
    """The coefficients that predict best, judged by cross-validation.

    Args:
        features: float64 [N, F], at least 0.
        times: float64 [N], above 0.
        own: bool [F], whether a feature is of one kind of layer.
        weights: float64 [N], how much the relative error of each counts; None: alike.
    """
    weights = np.ones(len(times)) if weights is None else weights
    used = features.max(0) > 0
    scale = np.where(used, features.mean(0), 1.0) / times.mean()
    penalty = np.where(own, OWN, 1.0) * used
    penalty[0] = 0.0  # the constant
    columns = np.where(used, features / scale, 0.0)
    floor = np.where(own | ~used, 0.0, FLOOR)
    floor[0] = 0.0
    folds = np.arange(len(times)) % min(FOLDS, len(times))
    best: tuple[float, float, np.ndarray] | None = None
    for strength in STRENGTHS:
        unseen = np.empty(len(times))
        for fold in np.unique(folds):
            kept = folds != fold
            found = _solve(columns[kept], times[kept], weights[kept], strength * penalty, floor)
            unseen[~kept] = columns[~kept] @ found / times[~kept] - 1
        wrong = float(np.sqrt(np.average(unseen**2, weights=weights)))
        if best is None or wrong < 0.99 * best[0] or (wrong < best[0] * 1.01 and strength > best[1]):
            best = (min(wrong, best[0]) if best else wrong, strength, unseen)
    assert best is not None
    _, strength, unseen = best
    coefficients = _solve(columns, times, weights, strength * penalty, floor) / scale
    return Fit(coefficients, strength, unseen, rank_correlation(times * (1 + unseen), times))


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's coefficient of two series of numbers, without regard to ties.

    >>> round(rank_correlation(np.array([1.0, 2.0, 5.0]), np.array([0.1, 0.2, 9.0])), 6)
    1.0
    """
    ranks = [np.argsort(np.argsort(values)) - (len(values) - 1) / 2 for values in (one, other)]
    return float(ranks[0] @ ranks[1] / (ranks[0] @ ranks[0])) if len(one) > 1 else 1.0


def _solve(
    columns: np.ndarray, times: np.ndarray, weights: np.ndarray, penalty: np.ndarray, floor: np.ndarray
) -> np.ndarray:
    """Coefficients of least weighted squared relative error, plus the ridge, from `floor` up: float64 [F]."""
    root = np.sqrt(weights)
    rows = columns / times[:, None] * root[:, None]
    ridge = np.diag(np.sqrt(penalty * len(times)))
    left = np.concatenate([rows, ridge])
    right = np.concatenate([root - rows @ floor, np.zeros(len(penalty))])
    return floor + nnls(left, right, maxiter=50 * left.shape[1])[0]
