"""The table of Channel-Bench-Macro: what each network reached, what is taken for the truth, scores from it.

The table holds all 4^7 = 16,384 networks of each kind, each trained three times. The mean of three runs still
errs by about 0.1 points, more than what search methods differ by, and the best of thousands of such means is
the luckiest one. So the truth is a least-squares fit to all of them: a sum of terms of single groups
("additive"), or of single groups and pairs of groups ("pairs"); "runs" are the means as they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from channel_bench_networks import NETWORKS, QUARTERS, quarters
from scipy.interpolate import PchipInterpolator

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.slimming.levels import Levels

TRUTHS = ("pairs", "additive", "runs")
RESOURCES = ("flops", "params")


@dataclass(frozen=True, eq=False)
class Table:
    """All networks of one kind."""

    name: str
    graph: ChannelGraph
    levels: Levels
    places: np.ndarray  # int [N, free groups], of each network's widths among the levels
    widths: np.ndarray  # int32 [N, G]
    runs: np.ndarray  # float64 [N, 3], top-1 in percent
    amounts: dict[str, np.ndarray]  # resource -> int64 [N]

    @classmethod
    def read(cls, path: Path, name: str) -> Table:
        """From the file with the table.

        Raises:
            AutoslimError: if the file lacks it, or its costs are not those of our network.
        """
        graph = ChannelGraph(NETWORKS[name]())
        free = [group.index for group in graph.slimmable]
        try:
            with np.load(path) as file:
                places = file[f"{name}_quarters"].astype(int) - 1
                runs = file[f"{name}_top1"].astype(float)
                amounts = {resource: file[f"{name}_{resource}"] for resource in RESOURCES}
        except (OSError, ValueError, KeyError) as error:
            raise AutoslimError(
                f"{path} does not hold the table of {name}: expected a NumPy file with {name}_quarters, "
                f"{name}_top1, {name}_flops and {name}_params ({error})."
            ) from error
        widths = np.tile(graph.full, (len(places), 1))
        widths[:, free] = graph.full[free] * (places + 1) // QUARTERS
        cost = graph.cost(widths)
        for resource, amount in amounts.items():
            if not np.array_equal(cost.of(resource), amount):
                raise AutoslimError(f"{path}: {resource} of {name} are not those of the network built here.")
        return cls(name, graph, quarters(graph), places, widths.astype(np.int32), runs, amounts)

    def rows(self, widths: np.ndarray) -> np.ndarray:
        """Places in the table of networks int32 [K, G]: int [K]."""
        free = [group.index for group in self.graph.slimmable]
        places = np.stack([np.searchsorted(self.levels.widths[group], widths[:, group]) for group in free], 1)
        found = self._index[_numbers(places)]
        if not np.array_equal(self.widths[found], widths):
            raise AutoslimError(f"A network of {self.name} has widths that are not in the table.")
        return found

    @property
    def _index(self) -> np.ndarray:
        index = np.empty(len(self.places), int)
        index[_numbers(self.places)] = np.arange(len(self.places))
        return index

    def shares(self, resource: str) -> np.ndarray:
        """Of the full network's resource: float64 [N]."""
        return self.amounts[resource] / self.amounts[resource].max()


def _numbers(places: np.ndarray) -> np.ndarray:
    return np.ravel_multi_index(tuple(places.T), (QUARTERS,) * places.shape[1])


def smooth(places: np.ndarray, top1: np.ndarray, pairs: bool) -> np.ndarray:
    """Top-1 [N] without the runs' own errors: a fit of terms of groups, perhaps of their pairs."""
    single = [
        [(places[:, group] == place).astype(float) for place in range(QUARTERS - 1)]
        for group in range(places.shape[1])
    ]
    columns = [np.ones(len(places)), *itertools.chain.from_iterable(single)]
    if pairs:
        for one, other in itertools.combinations(single, 2):
            columns += [a * b for a, b in itertools.product(one, other)]
    design = np.stack(columns, 1)
    return design @ np.linalg.solve(design.T @ design, design.T @ top1)


def truth_of(table: Table, name: str) -> np.ndarray:
    """One of TRUTHS: top-1 in percent, float64 [N]."""
    means = table.runs.mean(1)
    return means if name == "runs" else smooth(table.places, means, pairs=name == "pairs")


def left_over(table: Table) -> dict[str, float]:
    """What the fits leave of the means of the runs, and the runs' own error: standard deviations, points."""
    means, (count, groups) = table.runs.mean(1), table.places.shape
    single = groups * (QUARTERS - 1)
    terms = {"additive": 1 + single, "pairs": 1 + single + single * (single - QUARTERS + 1) // 2}
    found = {"runs": float(np.sqrt(table.runs.var(1, ddof=1).mean() / table.runs.shape[1]))}
    for name, unknowns in terms.items():
        squares = np.square(means - truth_of(table, name)).sum()
        found[name] = float(np.sqrt(squares / (count - unknowns)))
    return found


class Judge:
    """True gains of networks over uniform ones.

    Between the table's four uniform networks the truth is interpolated in the ratio of the widths, monotonely
    (PCHIP); a ratio's cost is that of our network at that ratio.

    Args:
        table: whose networks.
        truth: top-1 in percent, float64 [N].
    """

    def __init__(self, table: Table, truth: np.ndarray) -> None:
        self.table, self.truth = table, truth
        uniform = np.stack([table.graph.full * k // QUARTERS for k in range(1, QUARTERS + 1)])
        frozen = [group.index for group in table.graph.groups if group.frozen]
        uniform[:, frozen] = table.graph.full[frozen]
        ratios = np.linspace(1 / QUARTERS, 1, 1 + 64 * (QUARTERS - 1))
        knots = np.arange(1, QUARTERS + 1) / QUARTERS
        self._curve = PchipInterpolator(knots, truth[table.rows(uniform)])(ratios)
        between = np.rint(ratios[:, None] * table.graph.full).astype(np.int32)
        between[:, frozen] = table.graph.full[frozen]
        cost, full = table.graph.cost(between), table.graph.cost()
        self._shares = {r: np.asarray(cost.of(r)) / float(full.of(r)) for r in RESOURCES}

    def uniform(self, resource: str, share: np.ndarray | float) -> np.ndarray:
        """Top-1 of the uniform network that costs this share."""
        return np.interp(share, self._shares[resource], self._curve)

    def gain(self, resource: str, rows: np.ndarray) -> np.ndarray:
        """True top-1 of networks less that of the uniform network of the same cost: points."""
        return self.truth[rows] - self.uniform(resource, self.table.shares(resource)[rows])

    def best(self, resource: str, target: float) -> int:
        """The best network within a budget."""
        return int(np.argmax(np.where(self.table.shares(resource) <= target, self.truth, -np.inf)))


class TableScores:
    """Scores of networks that are looked up in place of images run through: a `ScoreSource`.

    Args:
        table: whose networks.
        judged: top-1 in percent that each network is taken to have, float64 [N].
    """

    def __init__(self, table: Table, judged: np.ndarray) -> None:
        self.sizes, self.images = (2,), 2  # images that agree: what the scores err by is not seen
        self.macs, self.scored = 0, 0
        self._judged, self._amounts = judged, table.amounts["flops"]
        self._rows = {tuple(widths.tolist()): row for row, widths in enumerate(table.widths)}

    def _of(self, candidates: np.ndarray) -> list[int]:
        return [self._rows[tuple(widths.tolist())] for widths in np.asarray(candidates, np.int32)]

    def __call__(
        self, candidates: np.ndarray, base: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points below 100 % in the place of cross-entropy, and top-1 in that of correctness: [K, 2] each."""
        rows = self._of(candidates)
        self.macs += int(self._amounts[rows].sum()) * self.images
        self.scored += len(rows) * self.images
        top1 = np.repeat(self._judged[rows, None], self.images, 1)
        return 100.0 - top1, top1 / 100.0

    def score(
        self, batches: Sequence[int], candidates: np.ndarray, base: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As a call: there is one batch."""
        return self(candidates, base)

    def price(self, candidates: np.ndarray, base: np.ndarray | None = None) -> tuple[np.ndarray, int]:
        """Multiply-accumulates of each candidate on its own."""
        return self._amounts[self._of(candidates)] * self.images, 0
