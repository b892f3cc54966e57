"""How a step of the search decides among its candidates, on as few images as its mode needs.

Everything here is a function of per-image badness: a source gives it for the candidates and batches that are
asked for, so that what is never asked for is never computed. Lower is better. Ties go to the candidate that
changes the cost most (it saves most, or where groups are widened again it uses most of what is left of the
budget), then to the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

AHEAD = 4  # candidates at the head of the queue that are refreshed together: they share the network's prefix

# (candidates, batches) -> badness float64 [len(candidates), images of these batches, in this order]
Source = Callable[[np.ndarray, Sequence[int]], np.ndarray]


def ranked(badness: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Places of candidates from the best down, given badness and what decides ties [K] each, lower first."""
    return np.lexsort((ties, badness))


def everything(source: Source, contenders: np.ndarray, order: Sequence[int], ties: np.ndarray) -> int:
    """The contender of the least mean badness on all batches.

    Args:
        source: of badness.
        contenders: indices of candidates, ascending.
        order: all batches.
        ties: what decides between equal ones [K], lower first.
    """
    return int(contenders[ranked(source(contenders, sorted(order)).mean(1), ties[contenders])[0]])


def halving(
    source: Source, contenders: np.ndarray, order: Sequence[int], ties: np.ndarray, first: int
) -> int:
    """Successive halving: all see `first` batches, the better half goes on to twice as many, and so on.

    It ends when one is left or all batches are seen (Karnin, Koren & Somekh 2013; Jamieson & Talwalkar 2016).

    Args:
        source: of badness.
        contenders: indices of candidates, ascending.
        order: all batches, in the order in which they are seen.
        ties: what decides between equal ones [K], lower first.
        first: number of batches that all contenders see, at least 1.
    """
    seen = first
    while True:
        place = ranked(source(contenders, order[:seen]).mean(1), ties[contenders])
        if seen >= len(order) or len(contenders) <= 2:
            return int(contenders[place[0]])
        contenders = np.sort(contenders[place[: -(-len(contenders) // 2)]])
        seen *= 2


def doubt(differences: np.ndarray, chance: float, least: np.ndarray) -> np.ndarray:
    """How far means of paired differences may be from the truth, to one side: [K].

    Args:
        differences: [K, images].
        chance: that the truth is farther, by Student's t.
        least: the least difference other than zero that one image can make, or 0, [K]: one such is added, so
            that candidates which no image has separated yet are not taken for equal.

    Returns:
        Infinite for a single image, which says nothing of the spread.
    """
    images = differences.shape[1]
    if images < 2:
        return np.full(len(differences), np.inf)
    squares = np.square(differences - differences.mean(1, keepdims=True)).sum(1) + least**2
    return stats.t.isf(chance, images - 1) * np.sqrt(squares / (images - 1) / images)


def refreshed(drops: Callable[[np.ndarray], np.ndarray], known: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """The candidates that a lazy step refreshes: the head of a queue, until it stays at the head.

    A queue by last known drop, as in lazy greedy maximisation (Minoux 1978); drops here may fall as well as
    rise, so this is a heuristic.

    Args:
        drops: (candidates) -> their drops now.
        known: last known drop of every candidate [K]; NaN: none, it is refreshed at once.
        ties: what decides between equal ones [K], lower first.

    Returns:
        Indices of the refreshed candidates, ascending.
    """
    value, fresh = known.copy(), np.isnan(known)
    if fresh.any():
        value[fresh] = drops(np.flatnonzero(fresh))
    while True:
        queue = ranked(value, ties)
        if fresh[queue[0]]:
            return np.flatnonzero(fresh)
        head = np.sort(queue[~fresh[queue]][:AHEAD])
        value[head] = drops(head)
        fresh[head] = True
