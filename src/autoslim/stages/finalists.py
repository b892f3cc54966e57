"""A part of stage `search`: candidates for each target are trained for a while, and the best is taken."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.schema import SlimConfig
from autoslim.slimming.budget import Budget
from autoslim.slimming.calibrate import calibrate
from autoslim.slimming.finalists import candidates
from autoslim.slimming.levels import Levels
from autoslim.slimming.points import as_point, score_of
from autoslim.slimming.rivals.uniform import uniform_widths
from autoslim.slimming.scorer import Scorer
from autoslim.slimming.trajectory import Final, Point, Trajectory
from autoslim.stages.experiment import Experiment
from autoslim.stages.macs import TRAINING, trained_images
from autoslim.stages.recipe import recipe_of
from autoslim.stages.store import TRAJECTORY, write_atomically
from autoslim.training.fit import fit

log = logging.getLogger(__name__)

SCORE = "score.json"  # of a candidate that is trained
EPOCHS = 0.2  # of a candidate, as a share of those of retraining


def with_finals(
    trajectory: Trajectory,
    folder: Path,
    options: SlimConfig,
    budget: Budget,
    levels: Levels,
    train: Callable[[np.ndarray, Path], Point],
) -> Trajectory:
    """The trajectory with a final for every target that it reaches and that has none.

    Each candidate is trained from the supernet's weights (or fresh ones, with `retrain.init=scratch`), by the
    retraining's recipe over a share of its epochs, on the images that are not held out, and judged on the
    held-out ones. Test images play no part. A candidate goes on from its last checkpoint, and is not trained
    again once it has its score.

    Args:
        trajectory: what the method found.
        folder: of the search.
        options: section `slim`: targets, and how many candidates.
        budget: what networks may cost.
        levels: the widths that each group may take.
        train: (widths int32 [G], its folder) -> a candidate, trained and scored.
    """
    for target in options.targets if options.finalists > 1 else ():
        if not trajectory.reaches(target, budget.limits) or trajectory.final(target) is not None:
            continue
        own = trajectory.at(target, budget.limits)
        every = _candidates(own, target, options.finalists, budget, levels)
        final = Final(target, (dataclasses.replace(own, macs=0),), 0)
        if len(every) > 1:
            place = folder / f"finalists_{target:g}"
            final = _chosen(target, [_once(widths, place / str(i), train) for i, widths in enumerate(every)])
        trajectory = dataclasses.replace(trajectory, finals=(*trajectory.finals, final))
        write_atomically(folder / TRAJECTORY, json.dumps(trajectory.to_dict()))
    return trajectory


def _candidates(own: Point, target: float, count: int, budget: Budget, levels: Levels) -> np.ndarray:
    """Widths int32 [K, G] of the candidates for a target; `own`: the network that the method found."""
    found = np.array(own.widths, np.int32)
    try:
        even = uniform_widths(budget, levels, target)
    except AutoslimError:  # no uniform network meets the budget
        even = found
    return candidates(budget, levels, found, even, target, count)


def _chosen(target: float, points: Sequence[Point]) -> Final:
    """The final of these candidates, won by the least held-out loss."""
    chosen = min(range(len(points)), key=lambda i: points[i].loss)
    for place, point in enumerate(points):
        log.info(
            "final %g: candidate %d of %d%s: held-out loss %.4f +- %.4f",
            target,
            place + 1,
            len(points),
            ", taken" if place == chosen else "",
            point.loss,
            point.loss_error,
        )
    return Final(target, tuple(points), chosen)


def _once(widths: np.ndarray, folder: Path, train: Callable[[np.ndarray, Path], Point]) -> Point:
    """One candidate, trained for a share of the epochs and scored on the held-out images."""
    path = folder / SCORE
    if path.exists():
        return Point.from_dict(json.loads(path.read_text()))
    point = train(widths, folder)
    write_atomically(path, json.dumps(point.to_dict()))
    return point


def run_candidate(experiment: Experiment, widths: np.ndarray, folder: Path) -> Point:
    """Train a candidate, whose widths are int32 [G], and score it; resumes from its last checkpoint."""
    config, images, builder = experiment.config, experiment.images, experiment.builder
    r, task = experiment.candidates, experiment.task
    recipe = recipe_of(experiment, r)
    # 1. Train.
    model = recipe.small_model(builder, widths)
    batches = images.training(images.split[0])
    epochs = max(1, math.ceil(EPOCHS * r.length))
    folder.mkdir(parents=True, exist_ok=True)
    history = fit(
        model,
        batches,
        dataclasses.replace(r, epochs=epochs, warmup_epochs=min(r.warmup_epochs or 0.0, 0.1 * epochs)),
        config.optimizer,
        config.train,
        teacher=recipe.teacher(builder),
        task=task,
        folder=folder,
        description=f"candidate {folder.name}",
    )
    # 2. Score.
    graph = ChannelGraph(model)
    calibrate(graph, images.calibration(images.split[0]))
    scorer = Scorer(graph, images.heldout(), task=task)
    score = score_of(*(values[0] for values in scorer(graph.full[None])))
    macs = TRAINING * graph.cost().flops * trained_images(batches, len(history)) + scorer.macs
    spent: dict[str, Any] = {"macs": int(macs), "scored": scorer.images}
    return as_point(experiment.budget, widths, None, score, scorer.images, spent)
