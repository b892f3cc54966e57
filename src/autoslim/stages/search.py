"""Stage `search`: the greedy search; one pass serves every budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from autoslim.errors import AutoslimError
from autoslim.reporting.terminal import progress
from autoslim.slimming.search import search
from autoslim.slimming.trajectory import Trajectory
from autoslim.stages.bill import billed
from autoslim.stages.channels import write_channels
from autoslim.stages.experiment import Experiment
from autoslim.stages.store import StageFolder, write_atomically

TRAJECTORY = "trajectory.json"


def run_search(experiment: Experiment, folder: StageFolder) -> dict[str, Any]:
    """Search until the smallest target is met; goes on from the last step that the folder holds."""
    s = experiment.config.slim
    levels = experiment.levels  # before building: the plan's own build starts the session anew
    start = load_trajectory(experiment, folder)
    supernet = experiment.supernet_folder()
    experiment.need(supernet, "The search")
    graph = experiment.graph_of(experiment.load_weights(supernet))
    share = start.points[-1].share if start else 1.0
    with _keeping(folder, share, min(s.targets)) as keep:
        trajectory = search(
            graph,
            levels,
            experiment.holdout_batches(),
            targets=s.targets,
            resource=s.resource,
            convention=s.convention,
            limits=s.limits.given,
            latency=experiment.latency,
            **s.search_settings,
            start=start,
            on_point=keep,
        )
    return _finish(experiment, folder, trajectory)


@contextmanager
def _keeping(folder: StageFolder, share: float, target: float) -> Iterator[Callable[[Trajectory], None]]:
    """A function that keeps every step of a search from `share` down to `target`, and shows it."""
    writer = tf.summary.create_file_writer(str(folder.path))
    total = round(1000 * (1 - target))
    done = min(total, round(1000 * (1 - share)))

    def keep(trajectory: Trajectory) -> None:
        nonlocal done
        write_atomically(folder.path / TRAJECTORY, json.dumps(trajectory.to_dict()))
        _log_point(writer, trajectory)
        point = trajectory.points[-1]
        now = min(total, round(1000 * (1 - point.share)))
        advance(max(0, now - done), share=point.share, top1=point.top1)
        done = max(done, now)

    try:
        with progress("search", total, done, "per mille") as advance:
            yield keep
    finally:
        writer.close()


def _finish(experiment: Experiment, folder: StageFolder, trajectory: Trajectory) -> dict[str, Any]:
    """Write the path, a channels file for each target, and the stage's result."""
    write_atomically(folder.path / TRAJECTORY, json.dumps(trajectory.to_dict()))
    write_atomically(folder.path / "trajectory.csv", trajectory.to_csv())
    s = experiment.config.slim
    channels = {
        f"{target:g}": write_channels(experiment, folder, target, trajectory.at(target, s.limits.given))
        for target in s.targets
        if trajectory.reaches(target, s.limits.given)
    }
    return folder.finish(
        {
            "reached": trajectory.points[-1].share,
            "steps": len(trajectory.points) - 1,
            "holdout_images": trajectory.images,
            "passes": trajectory.passes,
            "share_of_naive": trajectory.share_of_naive,
            **billed(experiment, sum(point.macs for point in trajectory.points)),
            "channels": channels,
        }
    )


def _log_point(writer: Any, trajectory: Trajectory) -> None:
    """The search in TensorBoard while it runs: scores and widths over its steps."""
    point, step = trajectory.points[-1], len(trajectory.points) - 1
    with writer.as_default(step=step):
        for name in ("loss", "top1", "share", "flops", "params"):
            tf.summary.scalar(f"search/{name}", float(getattr(point, name)))
    writer.flush()


def load_trajectory(experiment: Experiment, folder: StageFolder) -> Trajectory | None:
    """The trajectory so far, or None.

    Raises:
        AutoslimError: if its file is damaged, or of another network.
    """
    path = folder.path / TRAJECTORY
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
            f"{path} is damaged or of another network ({error}). Remove the folder {folder.path} to search "
            "anew."
        ) from error
    return trajectory
