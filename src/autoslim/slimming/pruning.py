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

BACKWARD = 2  # passes forward that a pass backward costs


def magnitude_steps(problem: Problem) -> Iterator[Step]:
    """For each target the network that keeps most of what the weights hold.

    A group that keeps the share s of its squared norm multiplies what passes through by about s, so the
    network of the largest product of shares is found: the drop of a group is -log(s).
    """

    def drops() -> list[np.ndarray]:
        kept = [_kept(found, problem.levels, g) for g, found in enumerate(by_magnitude(problem.budget.graph))]
        return [-np.log(np.maximum(share, np.finfo(float).tiny)) for share in kept]

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
    """Importance of what each level leaves away: [G], float64 [levels], 0 at full width."""
    return [float(found.sum()) - _sums(found, levels, g) for g, found in enumerate(importances)]


def _kept(importance: np.ndarray, levels: Levels, group: int) -> np.ndarray:
    """Share of a group's importance that each of its levels keeps: float64 [levels], 1 at full width."""
    total = float(importance.sum())
    return _sums(importance, levels, group) / total if total > 0 else np.ones(len(levels.widths[group]))


def _sums(importance: np.ndarray, levels: Levels, group: int) -> np.ndarray:
    """Importance of the first channels that each level keeps."""
    widths = levels.widths[group]
    units = np.array(widths) * len(importance) // widths[-1]
    return np.concatenate([[0.0], np.cumsum(importance)])[units]
