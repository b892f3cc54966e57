"""One call for every rival method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.slimming.budget import Budget, check_targets
from autoslim.slimming.levels import Levels
from autoslim.slimming.mode import SCORES
from autoslim.slimming.points import Score, Widths
from autoslim.slimming.rivals.evolution import evolution_steps
from autoslim.slimming.rivals.problem import Problem, Step, follow
from autoslim.slimming.rivals.sampling import random_steps
from autoslim.slimming.rivals.sensitivity import sensitivity_steps
from autoslim.slimming.rivals.uniform import uniform_steps
from autoslim.slimming.scorer import Batch, Scorer
from autoslim.slimming.trajectory import Trajectory

STEPS: dict[str, Callable[..., Iterator[Step]]] = {
    "uniform": uniform_steps,
    "random": random_steps,
    "evolution": evolution_steps,
    "sensitivity": sensitivity_steps,
}


def find(
    method: str,
    graph: ChannelGraph,
    levels: Levels,
    holdout: Iterable[Batch],
    *,
    targets: Sequence[float] = (0.5,),
    resource: str = "flops",
    convention: str = "macs",
    limits: Mapping[str, float] | None = None,
    latency: Callable[[Any], Any] | None = None,
    score: str = "loss",
    strategy: Any = None,
    known: Mapping[Widths, Score] | None = None,
    on_scored: Callable[[Widths, Score], None] | None = None,
    on_point: Callable[[Trajectory], None] | None = None,
    **own: Any,
) -> Trajectory:
    """Choose channels by a rival of the greedy search, from the same supernet by the same scores.

    Args:
        method: "uniform", "random", "evolution" or "sensitivity".
        graph: of the trained supernet.
        levels: widths that each group may take.
        holdout: batches of held-out training images, each normalised by its own statistics.
        targets: shares of the full network's resource to keep, in (0, 1].
        resource: "flops", "params", "memory" or "latency".
        convention: how FLOPs and parameters are counted, as in `ChannelGraph.cost`.
        limits: {resource: largest amount} beside the targets; a budget is met when all are.
        latency: widths int [..., G] -> milliseconds, such as a `LatencyTable` (`slimming.latency`).
        score: what networks are compared by, "loss" (held-out cross-entropy) or "top1".
        strategy: of tf.distribute, over whose replicas held-out batches are spread; None: the one that the
            network was made for.
        known: scores that an earlier call with the same arguments found: it then goes on from there, to the
            same result.
        on_scored: called with widths and score of every network scored anew, to keep for `known`.
        on_point: called after every step with the trajectory so far.
        own: of "random" and "evolution": seed (0) and passes (100, full-network passes over the held-out
            images to spend in all).

    Returns:
        The full network, then networks of falling cost; `Trajectory.at(target)` is the network for a target.

    Raises:
        AutoslimError: for a budget out of reach, or an argument out of range.
    """
    if score not in SCORES:
        raise AutoslimError(f"score={score!r}: expected {' or '.join(SCORES)}.")
    check_targets(targets, resource)
    budget = Budget(graph, resource, convention, limits, latency)
    if method != "uniform":  # which is not bound to the levels
        budget.refuse_unreachable(levels.smallest, min(targets))
    problem = Problem(budget, levels, Scorer(graph, holdout, strategy), score, known, on_scored)
    return follow(problem, STEPS[method](problem, targets, **own), on_point)
