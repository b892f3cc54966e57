"""Channels chosen by how important they are in a trained network, with no supernet and no scored networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.slimming.importance import Importances, by_magnitude, by_taylor
from autoslim.slimming.levels import Levels
from autoslim.slimming.optimum import Optimum
from autoslim.slimming.problem import Problem, Step, each_target
from autoslim.slimming.scorer import Scorer

TINY = 1e-6  # least share of an importance
BACKWARD = 2  # passes forward that a pass backward costs


def magnitude_steps(problem: Problem) -> Iterator[Step]:
    """For each target the network that keeps most of what the weights hold: all groups count alike."""

    def drops() -> list[np.ndarray]:
        shares = [found / max(float(found.sum()), TINY) for found in by_magnitude(problem.budget.graph)]
        return lost(shares, problem.levels)

    return _best(problem, drops)


def taylor_steps(problem: Problem) -> Iterator[Step]:
    """For each target the network that loses least by a Taylor expansion of the loss on held-out images."""

    def drops() -> list[np.ndarray]:
        if not isinstance(problem.scorer, Scorer):
            raise AutoslimError("slimming=taylor needs batches of held-out images, not scores of networks.")
        importances = by_taylor(problem.budget.graph, problem.scorer.batches(), problem.scorer.objective)
        macs = (1 + BACKWARD) * problem.whole
        problem.spent += macs
        problem.scorer.macs += macs
        return lost(importances, problem.levels)

    return _best(problem, drops)


def _best(problem: Problem, drops: Callable[[], list[np.ndarray]]) -> Iterator[Step]:
    problem.refuse_unreachable()
    if all(problem.budget.within(problem.levels.largest, target) for target in problem.options.targets):
        return
    found = drops()
    best = Optimum(problem.budget, problem.levels, problem.options.trust, problem.options.method)
    yield from each_target(problem, lambda target, _: best(found, target))


def lost(importances: Importances, levels: Levels) -> list[np.ndarray]:
    """What each level loses: [G], float64 [levels], 0 at full width.

    A group of importance T that keeps the share s of it loses T (1 / s - 1). While little is left away that
    is its importance; then each channel counts for more, the fewer are left. A plain sum would not: it cuts
    layers down to a few channels, between wide ones, as products of widths are what layers cost. The form is
    ours, no paper's.

    Args:
        importances: of the units of each group, float64 [units], in any unit, which the loss is then in.
        levels: the widths that each group may take; the first units are kept.
    """
    found = []
    for importance, widths in zip(importances, levels.widths, strict=True):
        units = np.array(widths) * len(importance) // widths[-1]
        sums = np.concatenate([[0.0], np.cumsum(importance)])
        total = float(sums[-1])
        shares = sums[units] / total if total > 0 else np.ones(len(widths))
        found.append(total * (1.0 / np.maximum(shares, TINY) - 1.0))
    return found
