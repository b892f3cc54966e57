"""What the rounds of a measurement say: the median, how far rounds lie apart, and whether that is enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

ERROR = 0.01  # standard error of a median that is small enough, as a share of it
NOISY = 0.02  # beyond this one a measurement is made again
AGREE = 0.03  # how far apart two measurements may lie that agree, as a share
REPEATS = 3  # of a noisy measurement, at most


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


def error(rounds: Sequence[float]) -> float:
    """Standard error of the median, as a share of it.

    For n rounds it is about 1.25 deviations / sqrt(n); the deviation is taken from the quartiles, which
    single slow rounds do not move.
    """
    return float(1.25 * 1.48 * spread(rounds) / np.sqrt(len(rounds)))


def enough(measured: Sequence[Sequence[float]]) -> bool:
    """Whether every median is known to within `ERROR`."""
    return all(error(rounds) <= ERROR for rounds in measured)


class Sample(NamedTuple):
    """What a thing was measured at, along with another that is measured in every session."""

    rounds: tuple[float, ...]
    reference: float  # median of that other one in the same session
    settled: bool  # whether the rounds, or two measurements, agree

    def with_another(self, other: Sample, alone: bool) -> Sample:
        """This measurement and another: the one that is precise, both if they agree, else the better one.

        Args:
            other: of the same thing, made later.
            alone: whether it is the reference itself, so that its own times have to agree.
        """
        if other.settled:
            return other
        ratio = median(other.rounds) / median(self.rounds)
        scale = 1.0 if alone else self.reference / other.reference
        if abs(scale * ratio - 1) <= AGREE:
            rounds = (*self.rounds, *(scale * time for time in other.rounds))
            return Sample(rounds, median(rounds) if alone else self.reference, True)
        return min(self, other, key=lambda one: error(one.rounds))


def settle(
    first: Sequence[Sequence[float]], again: Callable[[list[int]], Sequence[Sequence[float]]]
) -> list[Sample]:
    """Measure again what is noisy, until measurements agree, or `REPEATS` times.

    Args:
        first: rounds of each thing; the first of them is the reference.
        again: places of things, 0 first -> their rounds in another session.
    """
    found = _samples(first)
    for _ in range(REPEATS):
        noisy = [place for place, one in enumerate(found) if not one.settled]
        if not noisy:
            break
        places = [0, *(place for place in noisy if place)]
        for place, one in zip(places, _samples(again(places)), strict=True):
            if not found[place].settled:
                found[place] = found[place].with_another(one, alone=place == 0)
    return found


def _samples(session: Sequence[Sequence[float]]) -> list[Sample]:
    known, reference = error(session[0]) <= NOISY, median(session[0])
    return [Sample(tuple(rounds), reference, known and error(rounds) <= NOISY) for rounds in session]
