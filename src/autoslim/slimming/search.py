"""The search: choose the channels for every target, by the method that `slim.method` names."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

from autoslim.graph import ChannelGraph
from autoslim.kinds import METHODS
from autoslim.schema import SearchOptions
from autoslim.schema.checks import gather
from autoslim.slimming.budget import Budget
from autoslim.slimming.levels import Levels
from autoslim.slimming.points import Score, Widths
from autoslim.slimming.problem import Problem, ScoreSource, follow
from autoslim.slimming.scorer import Batch, Scorer
from autoslim.slimming.trajectory import Trajectory
from autoslim.tasks import AnyTask


def search(
    graph: ChannelGraph,
    levels: Levels,
    holdout: Iterable[Batch] | ScoreSource,
    options: SearchOptions | None = None,
    *,
    seed: int = 0,
    budget: Budget | None = None,
    start: Trajectory | None = None,
    known: MutableMapping[Widths, Score] | None = None,
    on_point: Callable[[Trajectory], None] | None = None,
    task: AnyTask | Mapping[str, Any] | None = None,
    **keys: Any,
) -> Trajectory:
    """Choose the channels for every target from a trained supernet, by its scores on held-out images.

    >>> search(graph, levels, holdout, target=[0.7, 0.5], limits={"params": 1e6})  # doctest: +SKIP

    Args:
        graph: of the trained supernet.
        levels: widths that each group may take.
        holdout: batches of held-out training images, each normalised by its own statistics; or what scores
            networks on them, such as a `Scorer`, which several searches may share.
        options: as the command line's `slim` (`autoslim.schema.SearchOptions`, where each is described).
        seed: of the draws of "random" and "evolution".
        budget: what networks may cost, in place of what the options say: with a measure of latency, or
            relative to another network than the full one.
        start: "greedy": a trajectory to go on with, from an earlier call with the same arguments.
        known: other methods: scores from an earlier call with the same arguments, with which they go on to
            the same result. The scores of further networks are put into it.
        on_point: called after every step with the trajectory so far.
        task: what answers are judged by, as in `fit`; a `Scorer` has its own.
        keys: single options by name, over `options`.

    Returns:
        The full network, then networks of falling cost; `Trajectory.at(target)` is the network for a target.

    Raises:
        AutoslimError: if the network at its smallest widths costs more than a budget, the full network's
            outputs are not finite, `start` is of another search, or an option is out of range.
    """
    (chosen,) = gather("search", [SearchOptions], [options] if options else [], keys)
    if budget is None:
        limits = chosen.limits.given
        budget = Budget(
            graph, chosen.resource, chosen.convention, limits, allow_uncounted=chosen.allow_uncounted
        )
    scorer = holdout if isinstance(holdout, ScoreSource) else Scorer(graph, holdout, task=task)
    problem = Problem(budget, levels, scorer, chosen, seed, known)
    method = METHODS[chosen.method]
    find = pkgutil.resolve_name(method.find)
    return find(problem, start, on_point) if method.path else follow(problem, find(problem), on_point)
