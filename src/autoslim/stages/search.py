"""Stage `search`: the greedy search; one pass serves every budget."""

from __future__ import annotations

import json
from typing import Any

import tensorflow as tf
import yaml

from autoslim.errors import AutoslimError
from autoslim.reporting.terminal import progress
from autoslim.slimming.search import check_reachable, search
from autoslim.slimming.trajectory import Point, Trajectory
from autoslim.stages.experiment import Experiment
from autoslim.stages.store import StageFolder, write_atomically

TRAJECTORY = "trajectory.json"


def run_search(experiment: Experiment, folder: StageFolder) -> dict[str, Any]:
    """Search until the smallest target is met; goes on from the last step that the folder holds."""
    s = experiment.config.slim
    levels = experiment.levels
    check_reachable(experiment.plan, levels, min(s.targets), s.resource, s.convention)
    supernet = experiment.supernet_folder()
    experiment.need(supernet, "The search")
    graph = experiment.graph_of(experiment.load_weights(supernet))
    start = load_trajectory(folder)
    writer = tf.summary.create_file_writer(str(folder.path))

    def keep(trajectory: Trajectory) -> None:
        write_atomically(folder.path / TRAJECTORY, json.dumps(trajectory.to_dict()))
        _log_point(writer, trajectory)
        share = trajectory.points[-1].share
        advance(max(0, round(1000 * (shown[0] - share))), share=share, top1=trajectory.points[-1].top1)
        shown[0] = min(shown[0], share)

    shown = [start.points[-1].share if start else 1.0]
    with progress("search", round(1000 * (1 - min(s.targets))), round(1000 * (1 - shown[0])), "per mille") as advance:
        trajectory = search(
            graph,
            levels,
            experiment.holdout_batches(),
            targets=s.targets,
            resource=s.resource,
            convention=s.convention,
            score=s.score,
            start=start,
            on_point=keep,
        )
    writer.close()
    write_atomically(folder.path / TRAJECTORY, json.dumps(trajectory.to_dict()))
    write_atomically(folder.path / "trajectory.csv", trajectory.to_csv())
    channels = {f"{target:g}": write_channels(experiment, folder, target, trajectory.at(target)) for target in s.targets}
    last = trajectory.points[-1]
    return folder.finish(
        {
            "reached": last.share,
            "steps": len(trajectory.points) - 1,
            "holdout_images": trajectory.images,
            "passes": trajectory.passes,
            "macs": sum(point.macs for point in trajectory.points),
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


def load_trajectory(folder: StageFolder) -> Trajectory | None:
    """The trajectory so far, or None.

    Raises:
        AutoslimError: if its file is damaged.
    """
    path = folder.path / TRAJECTORY
    if not path.exists():
        return None
    try:
        return Trajectory.from_dict(json.loads(path.read_text()))
    except (ValueError, TypeError, KeyError) as error:
        raise AutoslimError(f"{path} is damaged ({error}). Remove the folder {folder.path} to search anew.") from error


def write_channels(experiment: Experiment, folder: StageFolder, target: float, point: Point) -> str:
    """Write `channels_<target>.yaml`, {group name: width}, and return its path."""
    c = experiment.config
    path = folder.path / f"channels_{target:g}.yaml"
    channels = experiment.plan.channels(list(point.widths))
    head = (
        f"# {c.arch.name} on {c.dataset.name}: {c.slim.resource} at most {target:g} of the full network's, "
        f"{point.flops:,} FLOPs, {point.params:,} parameters\n"
    )
    write_atomically(path, head + yaml.safe_dump(channels, sort_keys=False))
    return str(path)


def read_channels(path: str) -> dict[str, Any]:
    """Read a channels file: {group name: width}.

    Raises:
        AutoslimError: if it is missing, or not a mapping.
    """
    try:
        with open(path) as file:
            channels = yaml.safe_load(file)
    except OSError as error:
        raise AutoslimError(f"slim.channels={path} can't be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise AutoslimError(f"slim.channels={path} is not valid YAML: {error}.") from error
    if not isinstance(channels, dict):
        raise AutoslimError(f"slim.channels={path} holds {type(channels).__name__}; expected lines 'group: width'.")
    return channels
