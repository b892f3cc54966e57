"""Search methods replayed on the table: by scores that are right, that err, or that favour layers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from channel_bench_table import Judge, TableScores

from autoslim.errors import AutoslimError
from autoslim.slimming.search import search

TARGETS = (0.7, 0.5, 0.3, 0.2)
PREDICTOR, OWN, GREEDY, PLAIN = "predictor", "predictor, trust 0", "greedy by cost", "greedy by drop"

# name -> arguments of `autoslim.search`
METHODS: dict[str, dict[str, Any]] = {
    PREDICTOR: {"method": "predictor"},  # with slim.trust as it is unless given
    OWN: {"method": "predictor", "trust": 0.0},
    "predictor, trust 0.3": {"method": "predictor", "trust": 0.3},
    GREEDY: {"method": "greedy", "search": "exact", "lazy": False},
    PLAIN: {"method": "greedy", "search": "exact", "lazy": False, "per_cost": False},
    "greedy by cost, exchanges": {"method": "greedy", "search": "exact", "lazy": False, "exchange": 3},
    "sensitivity": {"method": "sensitivity"},
    "random": {"method": "random"},
    "evolution": {"method": "evolution"},
}
SLOW = ("random", "evolution")  # a tenth of the draws


class Condition(NamedTuple):
    """How the evaluator errs."""

    kind: str
    size: float = 0.0  # points, one standard deviation

    @classmethod
    def named(cls, name: str) -> Condition:
        """From "perfect", "error:0.3" or "bias:0.2"."""
        kind, _, size = name.partition(":")
        try:
            found = cls(kind, float(size or 0))
        except ValueError:
            found = cls("")
        if found.kind not in ERRORS or (found.size > 0) != (found.kind != "perfect"):
            raise AutoslimError(f"{name!r} is unknown: expected perfect, error:POINTS or bias:POINTS.")
        return found


def _frozen(places: np.ndarray, size: float, generator: np.random.Generator) -> np.ndarray:
    return generator.normal(0.0, size, len(places))


def _biased(places: np.ndarray, size: float, generator: np.random.Generator) -> np.ndarray:
    last = places.max()
    return (last - places) / last @ generator.normal(0.0, size, places.shape[1])


# kind -> (places [N, groups], size, generator) -> errors of the judged top-1, points [N]
ERRORS = {
    "perfect": lambda places, size, generator: np.zeros(len(places)),
    "error": _frozen,  # of each network its own, the same whenever it is asked for
    "bias": _biased,  # of each group its own, in proportion to how far it is narrowed; whole at the narrowest
}


def found(judge: Judge, scores: Any, resource: str, arguments: dict[str, Any], seed: int) -> np.ndarray:
    """Places in the table of the networks that a method finds for each of TARGETS."""
    table = judge.table
    path = search(
        table.graph, table.levels, scores, target=list(TARGETS), resource=resource, seed=seed, **arguments
    )
    return table.rows(np.array([path.at(target).widths for target in TARGETS], np.int32))


def replay(judge: Judge, resource: str, condition: Condition, method: str, draws: int) -> dict[str, Any]:
    """Gains over uniform, and how far behind the optimum: points, [draws, targets] each.

    A draw is of the evaluator's errors and of the method's own random numbers.
    """
    if method in SLOW:
        draws = max(1, draws // 10)
    if condition.kind == "perfect":
        draws = min(draws, 3)
    best = judge.truth[[judge.best(resource, target) for target in TARGETS]]
    gains, behind = [], []
    for seed in range(draws):
        errors = ERRORS[condition.kind](
            judge.table.places, condition.size, np.random.default_rng([seed, round(1000 * condition.size)])
        )
        scores = TableScores(judge.table, judge.truth + errors)
        rows = found(judge, scores, resource, METHODS[method], seed)
        gains.append(np.round(judge.gain(resource, rows), 4).tolist())
        behind.append(np.round(best - judge.truth[rows], 4).tolist())
    return {"gains": gains, "behind": behind}


def possible(judge: Judge, resource: str) -> dict[str, Any]:
    """The best networks' gains over the uniform network of their own cost, and of the budget's: points."""
    rows = np.array([judge.best(resource, target) for target in TARGETS])
    at_budget = judge.truth[rows] - judge.uniform(resource, np.array(TARGETS))
    return {
        "gains": np.round(judge.gain(resource, rows), 4).tolist(),
        "at_budget": np.round(at_budget, 4).tolist(),
    }
