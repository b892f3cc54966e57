"""How sure an accuracy is, and whether two networks differ."""

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
        top1: share of images that are right.
        images: on how many.
        confidence: how often such an interval holds the true accuracy.
    """
    found = stats.binomtest(round(top1 * images), images).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


class Paired(NamedTuple):
    """Two networks on the same images."""

    only_first: int  # images that only the first has right
    only_second: int  # images that only the second has right
    p: float  # two-sided: how often chance alone makes so large a difference


def mcnemar(first: Any, second: Any) -> Paired:
    """The exact test of McNemar (1947): of the images on which two networks differ, is each right on half?

    >>> mcnemar([1, 1, 1, 1, 1, 0, 1], [0, 0, 0, 0, 0, 1, 1])
    Paired(only_first=5, only_second=1, p=0.21875)

    Args:
        first: bool [N], whether the first network is right on each image.
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
