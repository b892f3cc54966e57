"""How sure an accuracy is, whether two networks differ, and whether two measures rank networks alike."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from autoslim.errors import AutoslimError


def interval(top1: float, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of an accuracy (Wilson 1927): the lower and the upper end, in [0, 1].

    >>> low, high = interval(0.9, 1000)
    >>> f"{low:.4f} {high:.4f}"
    '0.8798 0.9171'

    Args:
        top1: share of images whose answer is correct.
        images: on how many.
        confidence: how often such an interval holds the true accuracy.
    """
    found = stats.binomtest(round(top1 * images), images).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def standard_error(values: Any) -> float:
    """Of the mean of values [N]; 0 for a single one.

    >>> standard_error([0.0, 1.0, 0.0, 1.0])
    0.28867513459481287
    """
    values = np.asarray(values, float)
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def guessing(labels: Any, classes: int) -> float:
    """The best accuracy without looking at images: the share of the largest class, at least 1 / classes.

    >>> guessing([0, 1, 1, 1], 2), guessing([0, 1], 4)
    (0.75, 0.5)

    Args:
        labels: int [N], of the images.
        classes: number of classes.
    """
    counts = np.bincount(np.asarray(labels), minlength=classes)
    return float(max(counts.max() / max(counts.sum(), 1), 1 / classes))


def near_chance(top1: float, images: int, chance: float) -> bool:
    """Whether an accuracy may be near what guessing reaches.

    It is, unless the lower end of Wilson's 95 % interval lies above a level: a fifth of the way from chance
    to 1, but at most three times chance. That is 28 % for 10 classes, 3 % for 100, 60 % for 2.

    >>> near_chance(0.27, 10_000, 0.1), near_chance(0.35, 10_000, 0.1), near_chance(0.35, 50, 0.1)
    (True, False, True)
    >>> near_chance(0.7, 10_000, 0.7), near_chance(0.05, 10_000, 0.01)
    (True, False)

    Args:
        top1: share of images whose answer is correct.
        images: on how many.
        chance: of `guessing`.
    """
    level = min(chance + 0.2 * (1 - chance), 3 * chance)
    return interval(top1, images)[0] <= level


class Paired(NamedTuple):
    """Two networks on the same images."""

    only_first: int  # images that only the first answers correctly, or answers better
    only_second: int  # images that only the second answers correctly, or answers better
    p: float  # two-sided: how often chance alone makes so large a difference


def mcnemar(first: Any, second: Any) -> Paired:
    """The exact test of McNemar (1947): of the images on which two networks differ, is each correct on half?

    >>> mcnemar([1, 1, 1, 1, 1, 0, 1], [0, 0, 0, 0, 0, 1, 1])
    Paired(only_first=5, only_second=1, p=0.21875)

    Args:
        first: bool [N], whether the first network's answer to each image is correct.
        second: bool [N], the second's on the same images.
    """
    a, b = np.asarray(first).astype(bool), np.asarray(second).astype(bool)
    if a.shape != b.shape or a.ndim != 1:
        raise AutoslimError(
            f"Answers of shapes {a.shape} and {b.shape}: expected [N] both, on the same images."
        )
    only_first, only_second = int((a & ~b).sum()), int((~a & b).sum())
    differ = only_first + only_second
    p = float(stats.binomtest(only_first, differ, 0.5).pvalue) if differ else 1.0
    return Paired(only_first, only_second, p)


def paired(first: Any, second: Any, higher: bool = True) -> Paired:
    """The paired t-test of Student (1908): is the mean difference of two networks' metrics zero?

    >>> paired([0.5, 0.75, 1.0], [0.25, 0.5, 0.25]).only_first
    3

    Args:
        first: float [N], the first network's metric on each image.
        second: float [N], the second's on the same images.
        higher: whether more is better.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.ndim != 1:
        raise AutoslimError(
            f"Metrics of shapes {a.shape} and {b.shape}: expected [N] both, on the same images."
        )
    gains = a - b if higher else b - a
    differ = len(gains) > 1 and bool(gains.std() > 0)
    p = float(stats.ttest_1samp(gains, 0.0).pvalue) if differ else float(not gains.any())
    return Paired(int((gains > 0).sum()), int((gains < 0).sum()), p)


class RankCorrelation(NamedTuple):
    """How far two measures put things into the same order: 1 the same, 0 unrelated, -1 the reverse."""

    kendall: float  # tau-b
    kendall_interval: tuple[float, float]  # 95 %
    spearman: float  # rho
    spearman_interval: tuple[float, float]  # 95 %
    pairs: int


def rank_correlation(first: Any, second: Any, resamples: int = 1999) -> RankCorrelation | None:
    """Kendall's tau-b and Spearman's rho with percentile bootstrap intervals over the pairs.

    A resample in which all values of a measure are equal counts as 0: it has no order to agree with.

    >>> found = rank_correlation([1, 2, 3, 4, 5], [1, 2, 3, 5, 4])
    >>> round(found.kendall, 2), round(found.spearman, 2), found.pairs
    (0.8, 0.9, 5)

    Args:
        first: float [N], one measure of N things.
        second: float [N], the other.
        resamples: of the bootstrap.

    Returns:
        None if all values of a measure are equal: there is no order.
    """
    pair = np.asarray(first, float), np.asarray(second, float)
    if pair[0].shape != pair[1].shape or pair[0].ndim != 1 or not pair[0].size:
        raise AutoslimError(f"Measures of shapes {pair[0].shape} and {pair[1].shape}: expected [N] both.")
    if any((values == values[0]).all() for values in pair):
        return None
    kendall, spearman = (_bootstrapped(pair, f, resamples) for f in (stats.kendalltau, stats.spearmanr))
    return RankCorrelation(*kendall, *spearman, len(pair[0]))


def _bootstrapped(
    pair: tuple[np.ndarray, np.ndarray], correlate: Any, resamples: int
) -> tuple[float, tuple[float, float]]:
    """A correlation and its 95 % interval."""

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        return 0.0 if (a == a[0]).all() or (b == b[0]).all() else float(correlate(a, b).statistic)

    found = stats.bootstrap(
        pair,
        statistic,
        paired=True,
        vectorized=False,
        n_resamples=resamples,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return statistic(*pair), (float(found.low), float(found.high))
