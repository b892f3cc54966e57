"""The greedy search: from full width down, always narrow the group that hurts least (Yu & Huang 2019, 3.2).

Held-out batches are the outer loop and candidates the inner one; every score is kept per image, so candidates
are compared on the same images. Each batch is normalised by its own statistics, as in supernet training.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.scoring import check_labels, scores
from autoslim.slimming.budget import Budget
from autoslim.slimming.levels import Levels
from autoslim.slimming.trajectory import Point, Trajectory

log = logging.getLogger(__name__)

SCORES = ("loss", "top1")

Batch = tuple[Any, Any]  # images [B, H, W, C], labels int [B]


class Scorer:
    """Scores of networks at given widths on held-out images.

    Args:
        graph: of the trained supernet.
        batches: (images [B, H, W, C], labels int [B]) of held-out images, each at least two images.

    Raises:
        AutoslimError: if there are none, one of a single image, or labels out of range.
    """

    def __init__(self, graph: ChannelGraph, batches: Iterable[Batch]) -> None:
        self._graph = graph
        self._batches = [(tf.convert_to_tensor(x), tf.convert_to_tensor(y)) for x, y in batches]
        if not self._batches:
            raise AutoslimError("The search got no held-out images. Raise dataset.holdout.")
        if any(labels.shape[0] < 2 for _, labels in self._batches):
            raise AutoslimError(
                "A held-out batch has one image, whose own statistics mean nothing: expected two images or "
                "more. Give batches of about equal size, or drop the last one."
            )
        for _, labels in self._batches:
            check_labels(labels, graph.model)
        self.images = sum(int(labels.shape[0]) for _, labels in self._batches)
        shape = self._batches[0][0].shape
        self._score = tf.function(
            self._score_batch,
            input_signature=[
                tf.TensorSpec([None, *shape[1:]], self._batches[0][0].dtype),
                tf.TensorSpec([None], self._batches[0][1].dtype),
                tf.TensorSpec([len(graph.groups)], tf.int32),
            ],
            autograph=False,
        )

    def _score_batch(self, images: Any, labels: Any, widths: Any) -> tuple[Any, Any]:
        losses, right = scores(labels, self._graph.run(images, widths, batch_statistics=True))
        return losses, tf.cast(right, tf.float32)

    @property
    def traces(self) -> int:
        """How often the network was traced: once, whatever the widths."""
        return self._score.experimental_get_tracing_count()

    def __call__(self, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Per-image cross-entropy and correctness of candidates [K, G]: float32 [K, images] each."""
        losses, right = [], []
        for images, labels in self._batches:
            found = [self._score(images, labels, tf.constant(w, tf.int32)) for w in candidates]
            losses.append(np.stack([np.asarray(loss) for loss, _ in found]))
            right.append(np.stack([np.asarray(hit) for _, hit in found]))
        return np.concatenate(losses, 1), np.concatenate(right, 1)


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
    score: str = "loss",
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
        score: what candidates are compared by, "loss" (held-out cross-entropy) or "top1".
        start: a trajectory to go on with, from an earlier call with the same arguments.
        on_point: called after every step with the trajectory so far.

    Returns:
        The whole path; `Trajectory.at(target)` is the network for a target.

    Raises:
        AutoslimError: if the network at its smallest widths costs more than a budget, the full network's
            outputs are not finite, `start` is of another search, or an argument is out of range.
    """
    if score not in SCORES:
        raise AutoslimError(f"score={score!r}: expected {' or '.join(SCORES)}.")
    if not targets or not all(0 < target <= 1 for target in targets):
        raise AutoslimError(
            f"targets={tuple(targets)}: expected shares of the full network's {resource}, in (0, 1]."
        )
    budget = Budget(graph, resource, convention, limits, latency)
    budget.refuse_unreachable(levels.smallest, min(targets))
    scorer = Scorer(graph, holdout)
    trajectory = _first(budget, levels, scorer) if start is None else _going_on(start, budget, scorer)
    while not trajectory.reaches(min(targets), budget.limits):
        trajectory = trajectory.then(_slim_one(budget, levels, scorer, trajectory, score))
        if on_point:
            on_point(trajectory)
    return trajectory


def _first(budget: Budget, levels: Levels, scorer: Scorer) -> Trajectory:
    """The trajectory's first point: the full network."""
    losses, right = scorer(levels.largest[None])
    if not np.isfinite(losses).all():
        raise AutoslimError(
            "The full network's loss on the held-out images is NaN or infinite: there is nothing to compare "
            "candidates by. Train the supernet anew, with a lower learning rate."
        )
    graph, full = budget.graph, budget.full
    macs = scorer.images * graph.cost().flops
    point = _point(levels.largest, None, full, 1.0, losses[0], right[0], macs)
    names = tuple(group.name for group in graph.groups)
    return Trajectory(
        names,
        budget.resource,
        full.flops,
        full.params,
        full.memory,
        scorer.images,
        (point,),
        None if full.latency is None else float(full.latency),
    )


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


def _slim_one(budget: Budget, levels: Levels, scorer: Scorer, trajectory: Trajectory, score: str) -> Point:
    """Try every group one level narrower and keep the best candidate."""
    now = np.array(trajectory.points[-1].widths, np.int32)
    groups, candidates = narrower_candidates(levels, now)
    amounts = budget.cost(candidates).of(budget.resource)
    losses, right = scorer(candidates)
    badness = losses.mean(1, dtype=np.float64) if score == "loss" else -right.mean(1, dtype=np.float64)
    # Ties go to the candidate that saves most; then to the first group.
    best = int(np.lexsort((amounts, badness))[0])
    one = budget.cost(candidates[best])
    share = one.of(budget.resource) / trajectory.full(budget.resource)
    macs = int(budget.graph.cost(candidates).flops.sum()) * scorer.images
    return _point(candidates[best], groups[best], one, share, losses[best], right[best], macs)


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
    if not groups:
        raise AutoslimError(
            "Every group is at its smallest level and the budget is still not met. Lower slim.min_width or "
            "slim.divisor, or allow more; a latency table that changed under way asks for a search anew."
        )
    return groups, np.stack(candidates)


def _point(
    widths: np.ndarray, group: int | None, cost: Any, share: float, losses: Any, right: Any, macs: int
) -> Point:
    error = float(losses.std(ddof=1, dtype=np.float64) / np.sqrt(len(losses))) if len(losses) > 1 else 0.0
    return Point(
        widths=tuple(int(w) for w in widths),
        group=group,
        flops=int(cost.flops),
        params=int(cost.params),
        memory=int(cost.memory),
        share=float(share),
        loss=float(losses.mean(dtype=np.float64)),
        loss_error=error,
        top1=float(right.mean(dtype=np.float64)),
        macs=int(macs),
        latency=None if cost.latency is None else float(cost.latency),
    )


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
