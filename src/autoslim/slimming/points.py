"""A network's score on the held-out images, and scored networks as points of a path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.slimming.budget import Budget
from autoslim.slimming.trajectory import Point, Trajectory

Widths = tuple[int, ...]


def widths_key(widths: np.ndarray) -> Widths:
    """Widths int32 [G] as a key."""
    return tuple(int(width) for width in widths)


class Score(NamedTuple):
    """A network on the held-out images, with the supernet's weights."""

    loss: float  # mean over the images
    loss_error: float  # its standard error
    metric: float  # of the task, mean over the images


def score_of(losses: np.ndarray, values: np.ndarray) -> Score:
    """The score of a network by its loss and the task's metric on each image, float32 [images]."""
    with np.errstate(invalid="ignore"):  # a loss that is infinite has no error
        error = np.std(losses, ddof=1, dtype=np.float64) / np.sqrt(len(losses)) if len(losses) > 1 else 0.0
    return Score(float(losses.mean(dtype=np.float64)), float(error), float(values.mean(dtype=np.float64)))


def as_point(
    budget: Budget,
    widths: np.ndarray,
    group: int | None,
    score: Score,
    images: int,
    spent: Mapping[str, int],
) -> Point:
    """A scored network as a point.

    Args:
        budget: what its costs are counted by.
        widths: int32 [G].
        group: the one group that was narrowed to come here; None: several, or the full network.
        score: of the network.
        images: held-out images that it was scored on.
        spent: what finding it took: `macs`, `scored`, `naive_macs`, as `Point` has them.
    """
    cost = budget.cost(widths)
    return Point(
        widths=widths_key(widths),
        group=group,
        cost=cost,
        share=float(budget.share(cost)),
        loss=score.loss,
        loss_error=score.loss_error,
        metric=score.metric,
        images=images,
        **spent,
    )


def path_from(budget: Budget, full: Point, images: int) -> Trajectory:
    """A path that begins with the full network.

    Args:
        budget: what costs are counted by.
        full: the full network.
        images: all held-out images.

    Raises:
        AutoslimError: if its loss is not finite.
    """
    if not np.isfinite(full.loss):
        raise AutoslimError(
            "The full network's loss on the held-out images is NaN or infinite: there is nothing to compare "
            "candidates by. Train the supernet again, with a lower learning rate."
        )
    return Trajectory(
        groups=tuple(group.name for group in budget.graph.groups),
        resource=budget.resource,
        full=budget.full,
        images=images,
        points=(full,),
    )
