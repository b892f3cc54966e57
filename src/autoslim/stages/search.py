"""Stage `search`: choose the channels for every target, by the method that `slim.method` names."""

from __future__ import annotations

import json
import logging
import math
from collections import UserDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.errors import AutoslimError
from autoslim.reporting.terminal import progress
from autoslim.slimming.giving_back import budget_use
from autoslim.slimming.methods import METHODS
from autoslim.slimming.points import Score, Widths
from autoslim.slimming.scorer import Scorer
from autoslim.slimming.search import search
from autoslim.slimming.trajectory import Trajectory
from autoslim.stages.bill import billed
from autoslim.stages.channels import write_channels
from autoslim.stages.experiment import Experiment
from autoslim.stages.latency import Over, over_budget
from autoslim.stages.scored import ScoreFile
from autoslim.stages.store import TRAJECTORY, StageFolder, write_atomically, writes
from autoslim.stages.warn import warned

log = logging.getLogger(__name__)

CORRECTIONS = 3  # of the prediction of latency by measuring what was found; the search then goes on
SCORED = "scored.jsonl"  # the networks that a method has scored, one a line


def run_search(experiment: Experiment, folder: StageFolder) -> dict[str, Any]:
    """Search until the smallest target is met; goes on from what the folder holds."""
    s = experiment.config.slim
    levels = experiment.levels  # before building: the plan's own build clears Keras's names
    start = load_trajectory(experiment, folder.path)
    supernet = experiment.supernet_folder()
    experiment.need(supernet, "The search")
    graph = experiment.graph_of(experiment.load_weights(supernet, supernet=True))
    with _Keeper(folder, start, min(s.targets), experiment.task.metric.name).running() as keep:
        for _ in range(CORRECTIONS + 1):
            trajectory = search(
                graph,
                levels,
                Scorer(
                    graph,
                    experiment.holdout_batches(),
                    execution=experiment.config.train.execution,
                    task=experiment.task,
                ),
                s,
                seed=experiment.config.seed,
                latency=experiment.latency,
                start=start,
                known=keep,
                on_point=keep.point,
                reference=experiment.own_widths,
            )
            over = over_budget(experiment, trajectory)
            if not over:
                break
            start = experiment.budget.recounted(trajectory)
    return _finish(experiment, folder, trajectory, over)


class _Keeper(UserDict[Widths, Score]):
    """Keeps and shows every step of a search, and every network that it scores (`search` puts it in)."""

    def __init__(self, folder: StageFolder, start: Trajectory | None, target: float, measure: str) -> None:
        super().__init__()
        self._measure = measure  # name of the metric
        self._file = ScoreFile(folder.path / SCORED)
        self.data = self._file.known
        self._folder = folder
        self._total = round(1000 * (1 - target))
        self._done = self._way(start.points[-1].share) if start else 0

    def _way(self, share: float) -> int:
        """How far it is from the full network to the smallest target: ‰ of the resource."""
        return min(self._total, round(1000 * (1 - share)))

    @contextmanager
    def running(self) -> Iterator[_Keeper]:
        """Within the block a bar is shown, and TensorBoard's file is open."""
        folder = str(self._folder.path)
        self._writer = tf.summary.create_file_writer(folder) if writes() else tf.summary.create_noop_writer()
        try:
            with progress("search", self._total, self._done, "‰") as self._advance:
                yield self
        finally:
            self._writer.close()

    def point(self, trajectory: Trajectory) -> None:
        """One more network on the path."""
        write_atomically(self._folder.path / TRAJECTORY, json.dumps(trajectory.to_dict()))
        _log_point(self._writer, trajectory, self._measure)
        point = trajectory.points[-1]
        now = self._way(point.share)
        self._advance(max(0, now - self._done), share=point.share, **{self._measure: point.metric})
        self._done = max(self._done, now)

    def __setitem__(self, widths: Widths, score: Score) -> None:
        """One more network was scored."""
        self._file.add(widths, score)
        self._advance(0, networks=len(self.data), loss=score.loss)


def _finish(
    experiment: Experiment, folder: StageFolder, trajectory: Trajectory, over: list[Over]
) -> dict[str, Any]:
    """Write the path, a channels file for each target, and the stage's result."""
    write_atomically(folder.path / TRAJECTORY, json.dumps(trajectory.to_dict()))
    write_atomically(folder.path / "trajectory.csv", trajectory.to_csv())
    s = experiment.config.slim
    channels = {
        f"{target:g}": write_channels(
            experiment, folder, target, trajectory.at(target, experiment.budget.limits)
        )
        for target in s.targets
        if trajectory.reaches(target, experiment.budget.limits)
    }
    return folder.finish(
        {
            "reached": trajectory.points[-1].share,
            "steps": len(trajectory.points) - 1,
            "holdout_images": trajectory.images,
            "passes": trajectory.passes,
            "share_of_naive": None if math.isnan(trajectory.share_of_naive) else trajectory.share_of_naive,
            **billed(experiment, trajectory.macs),
            "channels": channels,
            "budgets": _budgets(experiment, trajectory),
            **warned(*(one.warning for one in over)),
        }
    )


def _budgets(experiment: Experiment, trajectory: Trajectory) -> dict[str, list[str]]:
    """Target -> what its network uses of each budget; said in the log too."""
    found, limits = {}, experiment.budget.limits
    method = experiment.config.slim.method
    reason = [] if METHODS[method].path else [f"{method} leaves it"]
    for target in experiment.config.slim.targets:
        if trajectory.reaches(target, limits):
            widths = np.array(trajectory.at(target, limits).widths, np.int32)
            found[f"{target:g}"] = budget_use(experiment.budget, experiment.levels, widths, target, *reason)
            for line in found[f"{target:g}"]:
                log.info("search %g: %s", target, line)
    return found


def _log_point(writer: Any, trajectory: Trajectory, measure: str) -> None:
    """The search in TensorBoard while it runs: scores and widths over its steps."""
    point, step = trajectory.points[-1], len(trajectory.points) - 1
    with writer.as_default(step=step):
        tf.summary.scalar(f"search/{measure}", float(point.metric))
        for name in ("loss", "share", "flops", "params"):
            tf.summary.scalar(f"search/{name}", float(getattr(point, name)))
    writer.flush()


def load_trajectory(experiment: Experiment, folder: Path) -> Trajectory | None:
    """The trajectory so far in a search's folder, or None.

    Raises:
        AutoslimError: if its file is damaged, or of another network.
    """
    path = folder / TRAJECTORY
    if not path.exists():
        return None
    groups = tuple(group.name for group in experiment.plan.groups)
    try:
        trajectory = Trajectory.from_dict(json.loads(path.read_text()))
        if trajectory.groups != groups or not trajectory.points:
            raise ValueError(f"of {len(trajectory.groups)} groups, the network has {len(groups)} or others")
        for point in trajectory.points:
            experiment.plan.check(point.widths)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AutoslimError(
            f"{path} is damaged or of another network ({error}). Remove the folder {folder} to search again."
        ) from error
    return trajectory
