"""AutoSlim's greedy search (Yu & Huang 2019, 3.2): from full width down, narrow the group that hurts least.

Every score is kept per image, so candidates are compared on the same images. Each batch is normalised by its
own statistics, as in supernet training.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.slimming.choosing import Candidates, chosen_among
from autoslim.slimming.exchange import exchanges
from autoslim.slimming.giving_back import given_back
from autoslim.slimming.points import as_point, path_from, score_of
from autoslim.slimming.problem import Problem
from autoslim.slimming.trajectory import Trajectory

log = logging.getLogger(__name__)


def greedy(
    problem: Problem,
    start: Trajectory | None = None,
    on_point: Callable[[Trajectory], None] | None = None,
) -> Trajectory:
    """Slim until the smallest target is met; one pass serves every larger target on the way.

    A step is one group a level narrower, among those that save something of a violated budget. Then, for
    each target, what is left of its budget is given back (`slimming.giving_back`), and exchanges are tried.

    Args:
        problem: with the greedy search's options.
        start: a trajectory to go on with, of the same problem.
        on_point: called after every step with the trajectory so far.

    Raises:
        AutoslimError: as `autoslim.search`.
    """
    problem.refuse_unreachable()
    trajectory = _first(problem) if start is None else _going_on(start, problem)
    for phase in (narrowings, given_back, exchanges):
        for longer in phase(problem, trajectory):
            trajectory = longer
            if on_point:
                on_point(trajectory)
    return trajectory


def narrowings(problem: Problem, trajectory: Trajectory) -> Iterator[Trajectory]:
    """The path after each step down, until it reaches the smallest target."""
    targets, limits = problem.options.targets, problem.budget.limits
    while not trajectory.reaches(min(targets), limits):
        target = next(target for target in targets if not trajectory.reaches(target, limits))
        now = np.array(trajectory.points[-1].widths, np.int32)
        groups, candidates = problem.levels.one_narrower(now)
        if not groups:
            _ended_early(trajectory, targets, limits)
            break
        saved = problem.budget.saved(now, candidates, target)
        # Where nothing saves, as where latency does not fall with one group, all candidates are tried.
        chosen = np.flatnonzero(saved > 0) if saved.any() else np.arange(len(groups))
        steps = Candidates(tuple(groups[i] for i in chosen), candidates[chosen], saved[chosen])
        trajectory = _slim_one(problem, trajectory, steps)
        yield trajectory


def _first(problem: Problem) -> Trajectory:
    """The trajectory's first point: the full network."""
    scorer, full = problem.scorer, problem.levels.largest
    macs, scored = scorer.macs, scorer.scored
    losses, values = scorer(full[None])
    spent = {"macs": scorer.macs - macs, "scored": scorer.scored - scored}
    spent["naive_macs"] = spent["macs"]
    first = as_point(problem.budget, full, None, score_of(losses[0], values[0]), scorer.images, spent)
    return path_from(problem.budget, first, scorer.images)


def _going_on(start: Trajectory, problem: Problem) -> Trajectory:
    """`start`, if it is of this network, these costs and as many images."""
    budget, images = problem.budget, problem.images
    groups = tuple(group.name for group in budget.graph.groups)
    there = (start.groups, start.resource, start.full.counted, start.images)
    if there != (groups, budget.resource, budget.full.counted, images):
        raise AutoslimError(
            f"start= is of another search: it limits {start.resource} of a network of {len(start.groups)} "
            f"channel groups ({start.full}) on {start.images} images; this one limits {budget.resource} with "
            f"{len(groups)} groups ({budget.full}) on {images} images. Search without start=."
        )
    return start


def _slim_one(problem: Problem, trajectory: Trajectory, candidates: Candidates) -> Trajectory:
    """The path with one more point: the best of the candidates."""
    scorer = problem.scorer
    step, now = len(trajectory.points), np.array(trajectory.points[-1].widths, np.int32)
    before = scorer.macs, scorer.scored
    choice = chosen_among(problem, now, candidates, trajectory.queue, step)
    point = choice.point(problem, candidates, before, len(candidates.widths))
    return trajectory.then(point, choice.queue)


def _ended_early(trajectory: Trajectory, targets: Sequence[float], limits: Mapping[str, float]) -> None:
    """Say which targets are not met although every group is at its smallest width; refuse if none is."""
    missed = [target for target in sorted(targets) if not trajectory.reaches(target, limits)]
    message = (
        f"The search ended at {trajectory.points[-1].share:.3f} of the full network's {trajectory.resource}, "
        f"with every group at its smallest level: {', '.join(f'{t:g}' for t in missed)} is not reached"
        f"{' within ' + ', '.join(limits) if limits else ''}. Lower slim.min_width or slim.divisor, or allow "
        "more."
    )
    if len(missed) == len(targets):
        raise AutoslimError(message)
    log.warning(message)
