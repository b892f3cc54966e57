"""AutoSlim's greedy search (Yu & Huang 2019, 3.2): from full width down, narrow the group that hurts least.

Every score is kept per image, so candidates are compared on the same images. Each batch is normalised by its
own statistics, as in supernet training.
"""

from __future__ import annotations

import functools
import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.slimming.budget import Budget, check_targets
from autoslim.slimming.exchange import exchanges
from autoslim.slimming.first_order import FirstOrder
from autoslim.slimming.levels import Levels
from autoslim.slimming.mode import SearchMode
from autoslim.slimming.points import as_point, path_from, score_of
from autoslim.slimming.scorer import Batch, Scorer
from autoslim.slimming.trajectory import Trajectory
from autoslim.slimming.trial import Judging, Trial

log = logging.getLogger(__name__)


def search(
    graph: ChannelGraph,
    levels: Levels,
    holdout: Iterable[Batch],
    *,
    targets: Sequence[float] = (0.5,),
    resource: str = "flops",
    convention: str = "macs",
    limits: Mapping[str, float] | None = None,
    latency: Callable[[Any], Any] | None = None,
    mode: str = "halving",
    score: str = "loss",
    per_cost: bool = True,
    lazy: bool = True,
    refresh: int = 8,
    shortlist: float | None = None,
    first: float = 1 / 16,
    tolerance: float = 0.01,
    confidence: float = 0.95,
    exchange: int = 0,
    strategy: tf.distribute.Strategy | None = None,
    start: Trajectory | None = None,
    on_point: Callable[[Trajectory], None] | None = None,
) -> Trajectory:
    """Slim greedily until the smallest target is met; one pass serves every larger target on the way.

    Args:
        graph: of the trained supernet.
        levels: widths that each group may take.
        holdout: batches of held-out training images, each normalised by its own statistics.
        targets: shares of the full network's resource to keep, in (0, 1].
        resource: "flops", "params", "memory" or "latency".
        convention: how FLOPs and parameters are counted, as in `ChannelGraph.cost`.
        limits: {resource: largest amount} beside the targets; a budget is met when all are.
        latency: widths int [..., G] -> milliseconds, such as a `LatencyTable` (`slimming.latency`).
        mode: how a step decides among its candidates: "naive", "exact", "halving" or "race"; see
            `SearchMode`.
        score: what candidates are compared by, "loss" (held-out cross-entropy) or "top1".
        per_cost: compare the drop against the current network for each share of the resource saved.
        lazy: refresh only the candidates of the least last known drop, until one stays the least.
        refresh: with `lazy`, refresh all candidates every so many steps.
        shortlist: share of the candidates that go on, by first-order effect, in (0, 1]; None: all.
        first: share of the held-out batches that every candidate sees in "halving" and "race".
        tolerance: largest regret of a step of "race", in units of the score.
        confidence: that of a step of "race", and of an exchange, in (0, 1).
        exchange: after the greedy pass at most so many exchanges for each target: one group a level wider
            and another a level narrower; see `slimming.exchange`.
        strategy: of tf.distribute, each of whose replicas takes whole batches; None: the one that the
            network was made for.
        start: a trajectory to go on with, from an earlier call with the same arguments.
        on_point: called after every step with the trajectory so far.

    Returns:
        The whole path; `Trajectory.at(target)` is the network for a target.

    Raises:
        AutoslimError: if the network at its smallest widths costs more than a budget, the full network's
            outputs are not finite, `start` is of another search, or an argument is out of range.
    """
    how = SearchMode(mode, score, per_cost, lazy, refresh, shortlist, first, tolerance, confidence)
    check_targets(targets, resource)
    budget = Budget(graph, resource, convention, limits, latency)
    budget.refuse_unreachable(levels.smallest, min(targets))
    scorer = Scorer(graph, holdout, strategy)
    first_order = FirstOrder(graph, scorer)
    trajectory = _first(budget, levels, scorer) if start is None else _going_on(start, budget, scorer)
    while not trajectory.reaches(min(targets), budget.limits):
        groups, candidates = narrower_candidates(levels, np.array(trajectory.points[-1].widths, np.int32))
        if not groups:
            _ended_early(trajectory, targets, budget.limits)
            break
        trajectory = _slim_one(budget, scorer, first_order, how, trajectory, groups, candidates)
        if on_point:
            on_point(trajectory)
    for exchanged in exchanges(
        trajectory,
        targets,
        exchange,
        budget=budget,
        levels=levels,
        scorer=scorer,
        judging=Judging(score, cuts=how.judging.cuts),
        confidence=confidence,
    ):
        trajectory = exchanged
        if on_point:
            on_point(trajectory)
    return trajectory


def _first(budget: Budget, levels: Levels, scorer: Scorer) -> Trajectory:
    """The trajectory's first point: the full network."""
    losses, right = scorer(levels.largest[None])
    spent = {"macs": scorer.macs, "naive_macs": scorer.macs, "scored": scorer.scored}
    score = score_of(losses[0], right[0])
    first = as_point(budget, levels.largest, None, score, scorer.images, spent)
    return path_from(budget, first, scorer.images)


def _going_on(start: Trajectory, budget: Budget, scorer: Scorer) -> Trajectory:
    """`start`, if it is of this network, these costs and as many images."""
    graph, full = budget.graph, budget.full
    there = (start.resource, start.full_flops, start.full_params, start.full_memory, start.images)
    here = (budget.resource, full.flops, full.params, full.memory, scorer.images)
    if start.groups != tuple(group.name for group in graph.groups) or there != here:
        raise AutoslimError(
            f"start= is of another search: it limits {there[0]} of a network of {len(start.groups)} channel "
            f"groups, {there[1]:,} FLOPs and {there[2]:,} parameters on {there[4]} images; this one limits "
            f"{here[0]} with {len(graph.groups)} groups, {here[1]:,} FLOPs and {here[2]:,} parameters on "
            f"{here[4]} images. Search without start=."
        )
    return start


def _slim_one(
    budget: Budget,
    scorer: Scorer,
    first_order: FirstOrder,
    how: SearchMode,
    trajectory: Trajectory,
    groups: Sequence[int],
    candidates: np.ndarray,
) -> Trajectory:
    """The path with one more point: the best of the candidates [K, G], each narrower in its of `groups`."""
    step, now = len(trajectory.points), np.array(trajectory.points[-1].widths, np.int32)
    macs, scored = scorer.macs, scorer.scored
    amounts = np.asarray(budget.cost(candidates).of(budget.resource), float)
    saved = (budget.cost(now).of(budget.resource) - amounts) / trajectory.full(budget.resource)
    trial = Trial(scorer, now, candidates, saved, how.judging, drops=how.lazy)
    known = _known(trajectory, groups, how, step)
    effects = functools.partial(first_order, now, candidates)
    best = how.decide(trial, amounts, known, effects, step, len(scorer.sizes))
    losses, right = trial.scores(best)
    spent = {
        "macs": scorer.macs - macs,
        "naive_macs": int(budget.graph.cost(candidates).flops.sum()) * scorer.images,
        "scored": scorer.scored - scored,
    }
    score = score_of(losses, right)
    point = as_point(budget, candidates[best], groups[best], score, len(losses), spent)
    queue = _queue(trajectory, groups, trial) if how.lazy else ()
    return trajectory.then(point, queue)


def _known(trajectory: Trajectory, groups: Sequence[int], how: SearchMode, step: int) -> np.ndarray:
    """Last known drop of each candidate, NaN where it is to be refreshed: [K]."""
    if not how.lazy or not trajectory.queue or (step - 1) % how.refresh == 0:
        return np.full(len(groups), np.nan)
    drops = [trajectory.queue[group] for group in groups]
    return np.array([np.nan if drop is None else drop for drop in drops])


def _queue(trajectory: Trajectory, groups: Sequence[int], trial: Trial) -> tuple[float | None, ...]:
    """Last known drop of every group after a step: those that were scored are known anew."""
    queue = list(trajectory.queue or [None] * len(trajectory.groups))
    for candidate, group in enumerate(groups):
        if trial.seen(candidate):
            queue[group] = float(trial.drops([candidate])[0])
    return tuple(queue)


def narrower_candidates(levels: Levels, widths: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Every group one level narrower, where it has one: (groups [K], widths int32 [K, G])."""
    groups, candidates = [], []
    for group, width in enumerate(widths):
        level = levels.narrower(group, int(width))
        if level is not None:
            candidate = widths.copy()
            candidate[group] = level
            groups.append(group)
            candidates.append(candidate)
    return groups, np.reshape(np.array(candidates, np.int32), (len(groups), len(widths)))


def _ended_early(trajectory: Trajectory, targets: Sequence[float], limits: Mapping[str, float]) -> None:
    """Tell which targets are not met although every group is at its smallest width; refuse if none is."""
    missed = [target for target in sorted(targets) if not trajectory.reaches(target, limits)]
    told = (
        f"The search ended at {trajectory.points[-1].share:.3f} of the full network's {trajectory.resource}, "
        f"with every group at its smallest level: {', '.join(f'{t:g}' for t in missed)} is not reached"
        f"{' within ' + ', '.join(limits) if limits else ''}. Lower slim.min_width or slim.divisor, or allow "
        "more; a latency table that changed under way asks for a search anew."
    )
    if len(missed) == len(targets):
        raise AutoslimError(told)
    log.warning(told)


def uniform_widths(budget: Budget, target: float) -> np.ndarray:
    """The widest network with every group at the same ratio that keeps within a budget: int32 [G].

    Raises:
        AutoslimError: if even one channel per group costs more.
    """
    ratios = np.linspace(0.0, 1.0, 2001)
    every = np.stack([budget.graph.uniform(ratio) for ratio in ratios])
    _, first = np.unique(every, axis=0, return_index=True)
    widths = every[np.sort(first)]  # ascending in every group
    if budget.limits_latency:  # times need not fall with the widths: from the widest down
        descending = range(len(widths), 0, -1)
        wider = next((i for i in descending if budget.within(widths[i - 1], target)), 0)
    else:
        wider = bisect_left(range(len(widths)), True, key=lambda i: not budget.within(widths[i], target))
    if wider == 0:
        raise AutoslimError(
            f"Cannot reach {budget.resource} <= {target:g} uniformly: with one channel in every group the "
            f"network still costs {budget.share(budget.cost(widths[0])):.3f} of the full one's "
            f"{budget.resource}, or is above another limit. Raise slim.target or slim.limits."
        )
    return widths[wider - 1]
