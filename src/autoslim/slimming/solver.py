"""The best widths under joint limits, exactly: a mixed-integer linear programme, solved by SciPy's HiGHS.

FLOPs, parameters and latency models are sums over single groups and pairs of neighbouring groups (a layer
reads one group and writes another), the peak of memory is a maximum of such sums. With a binary variable for
each level of each group, and one variable for each combination of levels of a pair, all of them are linear.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from autoslim.errors import AutoslimError
from autoslim.slimming.levels import Levels

CHECKED = 64  # random networks on which a tabulated cost is compared with the cost itself
TOLERANCE = 1e-9  # of a cost's largest value: what counts as no interaction, or as equal

Pair = tuple[int, int]


@dataclass(frozen=True)
class PairwiseCost:
    """A cost at the levels: constant + sum of single[g][i] + sum of pairs[g, h][i, j].

    i and j are the places of the groups' widths among their levels.
    """

    constant: float
    single: tuple[np.ndarray, ...]  # [G], float64 [levels of g]
    pairs: Mapping[Pair, np.ndarray]  # (g, h), g < h -> float64 [levels of g, levels of h]

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """The cost of networks given by the places of their widths, int [..., G]: float64 [...]."""
        total = np.full(places.shape[:-1], self.constant)
        for group, table in enumerate(self.single):
            total = total + table[places[..., group]]
        for (g, h), pair in self.pairs.items():
            total = total + pair[places[..., g], places[..., h]]
        return total


def tabulate(cost: Callable[[np.ndarray], Any], levels: Levels, name: str = "cost") -> PairwiseCost:
    """A cost of widths as a sum over groups and pairs of groups.

    Args:
        cost: widths int32 [K, G] -> amounts [K].
        levels: the widths that each group may take.
        name: of the cost, for messages.

    Raises:
        AutoslimError: if three groups or more interact in it.
    """
    groups = range(len(levels.widths))
    base = [0] * len(levels.widths)  # places: every group at its smallest level
    whole = _amounts(cost, levels, [base, [len(w) - 1 for w in levels.widths]])
    constant, tiny = float(whole[0]), TOLERANCE * float(np.abs(whole).max())
    single = tuple(
        _amounts(cost, levels, [_at(base, {g: i}) for i in range(len(levels.widths[g]))]) - constant
        for g in groups
    )
    free = [g for g in groups if len(levels.widths[g]) > 1]
    last = {g: len(levels.widths[g]) - 1 for g in free}
    candidates = list(itertools.combinations(free, 2))
    ends = _amounts(cost, levels, [_at(base, {g: last[g], h: last[h]}) for g, h in candidates])
    pairs: dict[Pair, np.ndarray] = {}
    for (g, h), end in zip(candidates, ends, strict=True):
        if abs(end - constant - single[g][-1] - single[h][-1]) > tiny:
            square = list(itertools.product(range(last[g] + 1), range(last[h] + 1)))
            both = _amounts(cost, levels, [_at(base, {g: i, h: j}) for i, j in square])
            alone = constant + single[g][:, None] + single[h]
            pairs[g, h] = both.reshape(alone.shape) - alone
    found = PairwiseCost(constant, single, pairs)
    _check(found, cost, levels, tiny, name)
    return found


def tabulate_rows(
    costs: Callable[[np.ndarray], Any], levels: Levels, name: str = "cost"
) -> list[PairwiseCost]:
    """Several costs, equal ones once: most are sums over groups, and the others are tabulated in pairs.

    Args:
        costs: widths int32 [K, G] -> amounts [K, N], such as the memory alive at each of N layers.
        levels: the widths that each group may take.
        name: of the costs, for messages.

    Raises:
        AutoslimError: if three groups or more interact in one of them.
    """
    base = [0] * len(levels.widths)
    constant = _rows(costs, levels, [base])[0]
    single = [
        _rows(costs, levels, [_at(base, {g: i}) for i in range(len(widths))]) - constant
        for g, widths in enumerate(levels.widths)
    ]
    places = _drawn(levels)
    amounts = _rows(costs, levels, places.tolist())
    found: dict[bytes, PairwiseCost] = {}
    for row, amount in enumerate(constant):
        tables = tuple(table[:, row] for table in single)
        cost = PairwiseCost(float(amount), tables, {})
        if np.abs(cost(places) - amounts[:, row]).max() > TOLERANCE * np.abs(amounts[:, row]).max():
            cost = tabulate(partial(_column, costs, row), levels, name)
        pairs = [[*pair, *cost.pairs[pair].ravel()] for pair in sorted(cost.pairs)]
        found.setdefault(np.concatenate([[amount], *tables, *pairs]).tobytes(), cost)
    return list(found.values())


def _column(costs: Callable[[np.ndarray], Any], row: int, widths: np.ndarray) -> np.ndarray:
    return np.asarray(costs(widths), np.float64)[:, row]


def _drawn(levels: Levels) -> np.ndarray:
    """Places of the widths of random networks, to check tables with: int [CHECKED, G]."""
    sizes = [len(widths) for widths in levels.widths]
    return np.random.default_rng(0).integers(0, sizes, (CHECKED, len(sizes)))


def _rows(costs: Callable[[np.ndarray], Any], levels: Levels, places: Sequence[Sequence[int]]) -> np.ndarray:
    widths = [[choices[i] for choices, i in zip(levels.widths, row, strict=True)] for row in places]
    return np.asarray(costs(np.array(widths, np.int32)), np.float64)


def _amounts(
    cost: Callable[[np.ndarray], Any], levels: Levels, places: Sequence[Sequence[int]]
) -> np.ndarray:
    """The cost of networks given by the places of their widths: float64 [K]."""
    return _rows(cost, levels, places) if len(places) else np.zeros(0)


def _at(base: Sequence[int], changes: Mapping[int, int]) -> list[int]:
    return [changes.get(group, place) for group, place in enumerate(base)]


def _check(
    found: PairwiseCost, cost: Callable[[np.ndarray], Any], levels: Levels, tiny: float, name: str
) -> None:
    places = _drawn(levels)
    wrong = np.abs(found(places) - _amounts(cost, levels, places.tolist())).max()
    if wrong > 100 * tiny:
        raise AutoslimError(
            f"The {name} of this network is not a sum over pairs of channel groups (it differs by up to "
            f"{wrong:g}), so it can't be solved for exactly. Choose slimming=greedy."
        )


@dataclass(frozen=True)
class Limit:
    """Costs that must each be at most an amount; several for a maximum of sums, such as peak memory."""

    name: str
    costs: Sequence[PairwiseCost]
    amount: float


@dataclass(frozen=True)
class Solution:
    """The widths found, and how sure it is that none are better."""

    widths: np.ndarray  # int32 [G]
    value: float  # sum of what was minimised
    gap: float  # relative distance to the proven bound; 0: proven optimal


def solve(
    levels: Levels,
    value: PairwiseCost,
    limits: Sequence[Limit],
    *,
    seconds: float = 60.0,
) -> Solution:
    """The network of least value within all limits.

    Args:
        levels: the widths that each group may take.
        value: what is minimised, such as a predicted loss.
        limits: what the network may cost.
        seconds: time after which the best network so far is returned, with its gap.

    Raises:
        AutoslimError: if no network is within the limits, or none was found in time.
    """
    programme = _Programme(levels, {*value.pairs, *(p for x in limits for c in x.costs for p in c.pairs)})
    for limit in limits:
        scale = abs(limit.amount) or 1.0
        for cost in limit.costs:
            row = programme.row(cost) / scale
            programme.at_most(row, (limit.amount - cost.constant) / scale)
    found = milp(
        programme.row(value),
        constraints=programme.constraints(),
        integrality=programme.integrality,
        bounds=Bounds(0, 1),
        options={"time_limit": seconds, "mip_rel_gap": 0.0},
    )
    if found.x is None:
        names = ", ".join(f"{limit.name} <= {limit.amount:g}" for limit in limits)
        why = "no network is within" if found.status == 2 else f"no network was found in {seconds:g} s within"
        raise AutoslimError(
            f"Cannot solve for the widths: {why} {names}. Raise slim.target or slim.limits, or lower "
            "slim.min_width or slim.divisor."
        )
    widths = [
        choices[int(np.argmax(found.x[start : start + len(choices)]))]
        for choices, start in zip(levels.widths, programme.starts, strict=True)
    ]
    gap = float(found.mip_gap) if found.mip_gap is not None else 0.0
    return Solution(np.array(widths, np.int32), float(found.fun) + value.constant, gap)


@dataclass
class _Programme:
    """Variables and constraints: x[g, i], group g is at level i, and y[g, h, i, j], both are."""

    levels: Levels
    pairs: set[Pair]
    _rows: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # (columns, values)
    _low: list[float] = field(default_factory=list)
    _high: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        sizes = [len(widths) for widths in self.levels.widths]
        self.starts = [int(start) for start in np.cumsum([0, *sizes[:-1]])]
        self._pair_start: dict[Pair, int] = {}
        count = sum(sizes)
        self.integrality: np.ndarray = np.ones(count)
        for g, h in sorted(self.pairs):
            self._pair_start[g, h] = count
            count += sizes[g] * sizes[h]
        self.count = count
        self.integrality = np.concatenate([self.integrality, np.zeros(count - sum(sizes))])
        for start, size in zip(self.starts, sizes, strict=True):  # every group is at one level
            self._add(np.arange(start, start + size), np.ones(size), 1.0, 1.0)
        for (g, h), start in self._pair_start.items():  # y sums to x over the other group's levels
            square = start + np.arange(sizes[g] * sizes[h]).reshape(sizes[g], sizes[h])
            for lines, group in ((square, g), (square.T, h)):
                for place, line in enumerate(lines):
                    columns = np.append(line, self.starts[group] + place)
                    self._add(columns, np.append(np.ones(len(line)), -1.0), 0.0, 0.0)

    def _add(self, columns: np.ndarray, values: np.ndarray, low: float, high: float) -> None:
        self._rows.append((columns, values))
        self._low.append(low)
        self._high.append(high)

    def row(self, cost: PairwiseCost) -> np.ndarray:
        """Coefficients of a cost without its constant: float64 [variables]."""
        row = np.zeros(self.count)
        for start, table in zip(self.starts, cost.single, strict=True):
            row[start : start + len(table)] = table
        for pair, table in cost.pairs.items():
            start = self._pair_start[pair]
            row[start : start + table.size] = table.ravel()
        return row

    def at_most(self, row: np.ndarray, amount: float) -> None:
        """One more constraint: row @ variables <= amount."""
        columns = np.flatnonzero(row)
        self._add(columns, row[columns], -np.inf, amount)

    def constraints(self) -> LinearConstraint:
        """All of them."""
        lengths = [len(columns) for columns, _ in self._rows]
        places = np.repeat(np.arange(len(lengths)), lengths)
        columns = np.concatenate([columns for columns, _ in self._rows])
        values = np.concatenate([values for _, values in self._rows])
        matrix = coo_array((values, (places, columns)), shape=(len(lengths), self.count))
        return LinearConstraint(matrix.tocsc(), np.array(self._low), np.array(self._high))
