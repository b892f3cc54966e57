"""What the rounds of a measurement say: the median, how far rounds lie apart, and whether that is enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ERROR = 0.01  # standard error of a median that is small enough, as a share of it


def median(rounds: Sequence[float]) -> float:
    """The median of a measurement's rounds."""
    return float(np.median(rounds))


def spread(rounds: Sequence[float]) -> float:
    """Half the distance between the quartiles of the rounds, as a share of their median.

    >>> spread([1.0, 1.0, 1.2, 1.0, 0.9])
    0.0
    >>> spread([0.8, 1.0, 1.2])
    0.1
    """
    low, middle, high = np.quantile(rounds, (0.25, 0.5, 0.75))
    return round(float((high - low) / 2 / middle), 12) if middle else 0.0


def enough(measured: Sequence[Sequence[float]]) -> bool:
    """Whether every median is known to within `ERROR`.

    The standard error of a median of n rounds is about 1.25 deviations / sqrt(n); the deviation is taken
    from the quartiles, which single slow rounds do not move.
    """
    return all(1.25 * 1.48 * spread(rounds) / np.sqrt(len(rounds)) <= ERROR for rounds in measured)
