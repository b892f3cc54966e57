"""A part of stage `search`: candidates for each target are trained for a while, and the best is taken."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.slimming.calibrate import calibrate
from autoslim.slimming.finalists import candidates
from autoslim.slimming.points import as_point, score_of
from autoslim.slimming.rivals.uniform import uniform_widths
from autoslim.slimming.scorer import Scorer
from autoslim.slimming.trajectory import Final, Point, Trajectory
from autoslim.stages.bill import TRAINING, trained_images
from autoslim.stages.experiment import Experiment
from autoslim.stages.store import TRAJECTORY, StageFolder, write_atomically
from autoslim.training.fit import fit

log = logging.getLogger(__name__)

SCORE = "score.json"  # of a candidate that is trained
EPOCHS = 0.2  # of a candidate, as a share of those of retraining


def with_finals(experiment: Experiment, folder: StageFolder, trajectory: Trajectory) -> Trajectory:
    """The trajectory with a final for every target that it reaches and that has none.

    Each candidate is trained from the supernet's weights, by the retraining's recipe over a share of its
    epochs, on the images that are not held out, and judged on the held-out ones. Test images play no part. A
    candidate goes on from its last checkpoint, and is not trained again once it has its score.
    """
    s, limits = experiment.config.slim, experiment.budget.limits
    for target in s.targets if s.finalists > 1 else ():
        if trajectory.reaches(target, limits) and trajectory.final(target) is None:
            final = _final(
                experiment, folder.path / f"finalists_{target:g}", target, trajectory.at(target, limits)
            )
            trajectory = dataclasses.replace(trajectory, finals=(*trajectory.finals, final))
            write_atomically(folder.path / TRAJECTORY, json.dumps(trajectory.to_dict()))
    return trajectory


def _final(experiment: Experiment, folder: Path, target: float, own: Point) -> Final:
    """Train the candidates for one target and choose; `own`: the network that the method found."""
    budget, levels, s = experiment.budget, experiment.levels, experiment.config.slim
    found = np.array(own.widths, np.int32)
    try:
        even = uniform_widths(budget, levels, target)
    except AutoslimError:  # no uniform network meets the budget
        even = found
    every = candidates(budget, levels, found, even, target, s.finalists)
    if len(every) < 2:
        return Final(target, (dataclasses.replace(own, macs=0),), 0)
    points = tuple(_trained(experiment, folder / str(i), widths) for i, widths in enumerate(every))
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
    return Final(target, points, chosen)


def _trained(experiment: Experiment, folder: Path, widths: np.ndarray) -> Point:
    """One candidate, trained for a share of the epochs and scored on the held-out images."""
    path = folder / SCORE
    if path.exists():
        return Point.from_dict(json.loads(path.read_text()))
    point = _train(experiment, folder, widths)
    write_atomically(path, json.dumps(point.to_dict()))
    return point


def _train(experiment: Experiment, folder: Path, widths: np.ndarray) -> Point:
    from autoslim.stages.retrain import initial_model, teacher_of  # which comes after the search

    config, r = experiment.config, experiment.retrain
    model = initial_model(experiment, widths)
    batches = experiment.training_batches(experiment.split[0])
    epochs = max(1, math.ceil(EPOCHS * r.length))
    folder.mkdir(parents=True, exist_ok=True)
    history = fit(
        model,
        batches,
        dataclasses.replace(r, epochs=epochs, warmup_epochs=min(r.warmup_epochs or 0.0, 0.1 * epochs)),
        config.optimizer,
        config.train,
        teacher=teacher_of(experiment),
        task=experiment.task,
        folder=folder,
        description=f"candidate {folder.name}",
    )
    graph = ChannelGraph(model)
    calibrate(graph, experiment.calibration_batches())
    scorer = Scorer(graph, experiment.holdout_batches(), task=experiment.task)
    score = score_of(*(values[0] for values in scorer(graph.full[None])))
    macs = TRAINING * graph.cost().flops * trained_images(batches, len(history)) + scorer.macs
    spent: dict[str, Any] = {"macs": int(macs), "scored": scorer.images}
    return as_point(experiment.budget, widths, None, score, scorer.images, spent)
