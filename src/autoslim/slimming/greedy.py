"""AutoSlim's greedy search (Yu & Huang 2019, 3.2): from full width down, narrow the group that hurts least.

Every score is kept per image, so candidates are compared on the same images. Each batch is normalised by its
own statistics, as in supernet training.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.slimming.exchange import exchanges
from autoslim.slimming.levels import Levels
from autoslim.slimming.points import as_point, path_from, score_of
from autoslim.slimming.problem import Problem
from autoslim.slimming.selection import everything, halving, refreshed
from autoslim.slimming.trajectory import Trajectory
from autoslim.slimming.trial import Judging, Trial

log = logging.getLogger(__name__)


def greedy(
    problem: Problem,
    start: Trajectory | None = None,
    on_point: Callable[[Trajectory], None] | None = None,
) -> Trajectory:
    """Slim until the smallest target is met; one pass serves every larger target on the way.

    Args:
        problem: with the greedy search's options.
        start: a trajectory to go on with, of the same problem.
        on_point: called after every step with the trajectory so far.

    Raises:
        AutoslimError: as `autoslim.search`.
    """
    problem.refuse_unreachable()
    trajectory = _first(problem) if start is None else _going_on(start, problem)
    for phase in (narrowings, exchanges):
        for longer in phase(problem, trajectory):
            trajectory = longer
            if on_point:
                on_point(trajectory)
    return trajectory


def narrowings(problem: Problem, trajectory: Trajectory) -> Iterator[Trajectory]:
    """The path after each step down, until it reaches the smallest target."""
    targets, limits = problem.options.targets, problem.budget.limits
    while not trajectory.reaches(min(targets), limits):
        now = np.array(trajectory.points[-1].widths, np.int32)
        groups, candidates = narrower_candidates(problem.levels, now)
        if not groups:
            _ended_early(trajectory, targets, limits)
            break
        trajectory = _slim_one(problem, trajectory, groups, candidates)
        yield trajectory


def _first(problem: Problem) -> Trajectory:
    """The trajectory's first point: the full network."""
    scorer, full = problem.scorer, problem.levels.largest
    macs, scored = scorer.macs, scorer.scored
    losses, right = scorer(full[None])
    spent = {"macs": scorer.macs - macs, "scored": scorer.scored - scored}
    spent["naive_macs"] = spent["macs"]
    first = as_point(problem.budget, full, None, score_of(losses[0], right[0]), scorer.images, spent)
    return path_from(problem.budget, first, scorer.images)


def _going_on(start: Trajectory, problem: Problem) -> Trajectory:
    """`start`, if it is of this network, these costs and as many images."""
    budget, images = problem.budget, problem.images
    graph, full = budget.graph, budget.full
    there = (start.resource, start.full_flops, start.full_params, start.full_memory, start.images)
    here = (budget.resource, full.flops, full.params, full.memory, images)
    if start.groups != tuple(group.name for group in graph.groups) or there != here:
        raise AutoslimError(
            f"start= is of another search: it limits {there[0]} of a network of {len(start.groups)} channel "
            f"groups, {there[1]:,} FLOPs and {there[2]:,} parameters on {there[4]} images; this one limits "
            f"{here[0]} with {len(graph.groups)} groups, {here[1]:,} FLOPs and {here[2]:,} parameters on "
            f"{here[4]} images. Search without start=."
        )
    return start


def _slim_one(
    problem: Problem, trajectory: Trajectory, groups: Sequence[int], candidates: np.ndarray
) -> Trajectory:
    """The path with one more point: the best of the candidates [K, G], each narrower in its of `groups`."""
    options, scorer, budget = problem.options, problem.scorer, problem.budget
    step, now = len(trajectory.points), np.array(trajectory.points[-1].widths, np.int32)
    macs, scored = scorer.macs, scorer.scored
    amounts = np.asarray(budget.cost(candidates).of(budget.resource), float)
    saved = (budget.cost(now).of(budget.resource) - amounts) / trajectory.full(budget.resource)
    judging = Judging(options.score, options.per_cost, options.search != "naive")
    trial = Trial(scorer, now, candidates, saved, judging, drops=options.lazy)
    best = decided(problem, trial, amounts, _known(problem, trajectory, groups, step), step)
    losses, right = trial.scores(best)
    spent = {
        "macs": scorer.macs - macs,
        "naive_macs": int(budget.graph.cost(candidates).flops.sum()) * scorer.images,
        "scored": scorer.scored - scored,
    }
    point = as_point(budget, candidates[best], groups[best], score_of(losses, right), len(losses), spent)
    return trajectory.then(point, _queue(trajectory, groups, trial) if options.lazy else ())


def decided(problem: Problem, trial: Trial, amounts: np.ndarray, known: np.ndarray, step: int) -> int:
    """The best candidate of a step, as `GreedyOptions` says.

    Args:
        problem: with the options.
        trial: of the candidates.
        amounts: cost of each [K], which decides between equals.
        known: last known drop of each [K], NaN: none; all are re-scored unless `lazy`.
        step: number of the step, from 1: where in the batches a step begins is a function of it.
    """
    options, batches = problem.options, len(problem.scorer.sizes)
    share = max(1, round(options.first * batches))
    order = [((step - 1) * share + i) % batches for i in range(batches)]
    first = share if options.search == "halving" else batches
    contenders = np.arange(len(amounts))
    if options.lazy:
        contenders = refreshed(lambda chosen: trial.drops(chosen, order[:first]), known, amounts)
    if options.search == "halving":
        return halving(trial.badness, contenders, order, amounts, first)
    return everything(trial.badness, contenders, order, amounts)


def _known(problem: Problem, trajectory: Trajectory, groups: Sequence[int], step: int) -> np.ndarray:
    """Last known drop of each candidate, NaN where it is to be re-scored: [K]."""
    options = problem.options
    if not options.lazy or not trajectory.queue or (step - 1) % options.refresh == 0:
        return np.full(len(groups), np.nan)
    drops = [trajectory.queue[group] for group in groups]
    return np.array([np.nan if drop is None else drop for drop in drops])


def _queue(trajectory: Trajectory, groups: Sequence[int], trial: Trial) -> tuple[float | None, ...]:
    """Last known drop of every group after a step: those that were scored are known again."""
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
