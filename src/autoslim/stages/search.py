"""Stage `search`: choose the channels for every target, by the method that `slim.method` names."""

from __future__ import annotations

import json
import logging
import math
from collections import UserDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.errors import AutoslimError
from autoslim.kinds import METHODS
from autoslim.reporting.terminal import progress
from autoslim.slimming.giving_back import budget_use
from autoslim.slimming.points import Score, Widths
from autoslim.slimming.scorer import Scorer
from autoslim.slimming.search import search
from autoslim.slimming.trajectory import Trajectory
from autoslim.stages import supernet
from autoslim.stages.bill import billed
from autoslim.stages.channels import write_channels
from autoslim.stages.experiment import Experiment
from autoslim.stages.finalists import EPOCHS, with_finals
from autoslim.stages.latency import Over, over_budget
from autoslim.stages.preflight import check_reachable, check_uniform
from autoslim.stages.record import Need, Stage
from autoslim.stages.scored import ScoreFile
from autoslim.stages.store import TRAJECTORY, StageFolder, stage_hash, write_atomically, writes
from autoslim.stages.wanted import recipe_key, recipe_needs
from autoslim.stages.warn import warned

log = logging.getLogger(__name__)

CORRECTIONS = 3  # of the prediction of latency by measuring what was found; the search then goes on
SCORED = "scored.jsonl"  # the networks that a method has scored, one a line


def search_key(experiment: Experiment) -> dict[str, Any]:
    """What a method finds depends on; of one that narrows step by step, the same for all targets."""
    s = experiment.config.slim
    method = METHODS[s.method]
    names = ("resource", "convention", "score", "images", "batch_size", "method")
    key: dict[str, Any] = {
        "supernet": stage_hash(supernet.supernet_key(experiment)),
        "slim": {name: getattr(s, name) for name in names}
        | ({"limits": experiment.budget.limits} if experiment.budget.limits else {}),
        "options": {name: getattr(s, name) for name in method.options},
    }
    if not method.path or experiment.budget.steered:
        key["targets"] = list(s.targets)
    if s.finalists > 1:
        recipe = stage_hash(recipe_key(experiment, False))
        key["finalists"] = {"count": s.finalists, "epochs": EPOCHS, "recipe": recipe}
    if experiment.latency is not None:
        key["measured"] = experiment.latency.identity
    return key


def run_search(experiment: Experiment, folder: StageFolder) -> dict[str, Any]:
    """Search until the smallest target is met; goes on from what the folder holds."""
    s = experiment.config.slim
    levels = experiment.levels  # before building: the plan's own build clears Keras's names
    start = load_trajectory(experiment, folder.path)
    if folder.done:
        log.info("search: goes on to %g from where it stopped", min(s.targets))
    graph = experiment.graph_of(experiment.load_weights(supernet.STAGE.folder(experiment), supernet=True))
    run = f"{folder.stage} {s.method}, seed {experiment.config.seed}"
    with _Keeper(folder, start, min(s.targets), experiment.task.metric.name, run).running() as keep:
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
                budget=experiment.budget,
                start=start,
                known=keep,
                on_point=keep.point,
            )
            over = over_budget(experiment, trajectory)
            if not over:
                break
            start = experiment.budget.recounted(trajectory)
    return _finish(experiment, folder, trajectory, over)


class _Keeper(UserDict[Widths, Score]):
    """Keeps and shows every step of a search, and every network that it scores (`search` puts it in)."""

    def __init__(
        self, folder: StageFolder, start: Trajectory | None, target: float, measure: str, run: str
    ) -> None:
        super().__init__()
        self._measure = measure  # name of the metric
        self._run = run  # name of TensorBoard's run
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
        folder = str(self._folder.path / self._run)
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
    trajectory = with_finals(experiment, folder, trajectory)
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
            uses = budget_use(experiment.budget, experiment.levels, widths, target, *reason)
            found[f"{target:g}"] = [use.line for use in uses]
            for line in found[f"{target:g}"]:
                log.info("search %g: %s", target, line)
    return found


def _log_point(writer: Any, trajectory: Trajectory, measure: str) -> None:
    """The search in TensorBoard while it runs: scores and widths over its steps."""
    point, step = trajectory.points[-1], len(trajectory.points) - 1
    with writer.as_default(step=step):
        tf.summary.scalar(f"search/{measure}", float(point.metric))
        for name, value in {"loss": point.loss, "share": point.share, **point.cost}.items():
            tf.summary.scalar(f"search/{name}", float(value))
        for name, width in trajectory.channels(point).items():
            tf.summary.scalar(f"widths/{name}", width)
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


def trajectory_if_done(experiment: Experiment) -> Trajectory | None:
    """The finished search's trajectory if it serves every target, else None."""
    folder = STAGE.folder(experiment)
    trajectory = load_trajectory(experiment, folder.path) if folder.done else None
    s = experiment.config.slim
    if trajectory is None or not trajectory.reaches(min(s.targets), experiment.budget.limits):
        return None
    return None if _missing_moves(experiment, trajectory) else trajectory


def search_result(experiment: Experiment) -> Trajectory:
    """The finished search's trajectory.

    One that ended at the smallest widths may serve some of the targets only.

    Raises:
        AutoslimError: if there is none, or it did not go as far as the targets.
    """
    folder, s = STAGE.folder(experiment), experiment.config.slim
    Need(STAGE, folder, "retrain (or give slim.channels=FILE)").met()
    trajectory = load_trajectory(experiment, folder.path)
    if trajectory is None:
        raise AutoslimError(f"{folder.path} has lost its trajectory. Remove the folder to search again.")
    met = [target for target in s.targets if trajectory.reaches(target, experiment.budget.limits)]
    ended = trajectory.points[-1].widths == tuple(experiment.levels.smallest)
    if len(met) < len(s.targets) and not (met and ended):
        raise AutoslimError(
            f"The search in {folder.path} reached {trajectory.points[-1].share:.3f} of the full "
            f"{s.resource}, not {min(s.targets):g}. Add search to stages: it goes on from there."
        )
    if missing := _missing_moves(experiment, trajectory):
        raise AutoslimError(
            f"The search in {folder.path} has not given back the budget's rest, tried slim.exchange="
            f"{s.exchange}, or trained slim.finalists={s.finalists}, for slim.target={','.join(missing)}. "
            "Add search to stages: it goes on from there."
        )
    return trajectory


def _missing_moves(experiment: Experiment, trajectory: Trajectory) -> list[str]:
    """Targets for which giving back, exchanges or a final are still to be done."""
    s = experiment.config.slim
    moves, gives = s.exchange if s.method == "greedy" else 0, METHODS[s.method].path
    met = [target for target in s.targets if trajectory.reaches(target, experiment.budget.limits)]
    return [
        f"{target:g}"
        for target in met
        if not trajectory.exchanged(target, moves)
        or (gives and not trajectory.widening(target).done)
        or (s.finalists > 1 and trajectory.final(target) is None)
    ]


def _skip(experiment: Experiment) -> str:
    channels = experiment.config.slim.channels
    return f"not needed, slim.channels={channels} names the network" if channels else ""


def _needs(experiment: Experiment) -> Iterator[Need]:
    yield Need(supernet.STAGE, supernet.STAGE.folder(experiment), "The search")
    if experiment.config.slim.finalists > 1:
        yield from recipe_needs(experiment, "The search's finalists")


def _check(experiment: Experiment, stages: Sequence[str]) -> None:
    if experiment.config.slim.method == "uniform":
        check_uniform(experiment, stages)
    check_reachable(experiment, stages)


def _done(experiment: Experiment, folder: StageFolder) -> bool:
    return trajectory_if_done(experiment) is not None


def _show(experiment: Experiment, result: dict[str, Any]) -> None:
    naive = result.get("share_of_naive")
    log.info(
        "search: %.1f full-network passes over %d held-out images%s",
        result["passes"],
        result["holdout_images"],
        "" if naive is None else f", its path {naive:.3f} of what naive search would spend",
    )


STAGE = Stage(
    "search",
    search_key,
    run_search,
    needs=_needs,
    skip=_skip,
    check=_check,
    holds_out=True,
    done=_done,
    fields=("passes", "holdout_images"),
    with_given=False,
    show=_show,
)
