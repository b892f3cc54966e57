"""Stage `search`: choose the channels for every target, by the method that `slim.method` names."""

from __future__ import annotations

import json
import logging
import math
from collections import UserDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import yaml

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.kinds import METHODS
from autoslim.reporting.terminal import progress
from autoslim.schema import SlimConfig
from autoslim.slimming.budget import Budget
from autoslim.slimming.giving_back import budget_use
from autoslim.slimming.levels import Levels
from autoslim.slimming.points import Score, Widths
from autoslim.slimming.rivals.uniform import uniform_widths
from autoslim.slimming.scorer import Scorer
from autoslim.slimming.search import search
from autoslim.slimming.trajectory import Trajectory
from autoslim.stages import supernet
from autoslim.stages.experiment import Experiment
from autoslim.stages.finalists import EPOCHS, run_candidate, with_finals
from autoslim.stages.latency import over_budget
from autoslim.stages.macs import billed
from autoslim.stages.preflight import check_reachable
from autoslim.stages.recipe import recipe_needs, recipe_of
from autoslim.stages.record import Need, Stage
from autoslim.stages.scored import SCORED, ScoreFile, scored_beside
from autoslim.stages.store import TRAJECTORY, StageFolder, stage_hash, write_atomically, writes
from autoslim.stages.warn import warned
from autoslim.stages.weights import load_weights

log = logging.getLogger(__name__)

CORRECTIONS = 3  # of the prediction of latency by measuring what was found; the search then goes on


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
        recipe = stage_hash(recipe_of(experiment, experiment.candidates).key(joint=False))
        key["finalists"] = {"count": s.finalists, "epochs": EPOCHS, "recipe": recipe}
    if experiment.latency is not None:
        key["measured"] = experiment.latency.identity
    return key


def run_search(experiment: Experiment, folder: StageFolder) -> dict[str, Any]:
    """Search until the smallest target is met; goes on from what the folder holds."""
    config, s, budget = experiment.config, experiment.config.slim, experiment.budget
    # 1. What an earlier call found.
    levels = experiment.levels  # before building: the plan's own build clears Keras's names
    start = load_trajectory(folder.path, experiment.plan)
    if folder.done:
        log.info("search: goes on to %g from where it stopped", min(s.targets))
    # 2. Search, again where the networks found are slower than was predicted.
    base = load_weights(experiment.builder.supernet(), supernet.STAGE.folder(experiment))
    graph, images, execution = experiment.builder.graph(base), experiment.images, config.train.execution
    run = f"{folder.stage} {s.method}, seed {config.seed}"
    with _Keeper(folder, _Way(s, budget, start), experiment.task.metric.name, run).running() as keep:
        for _ in range(CORRECTIONS + 1):
            trajectory = search(
                graph,
                levels,
                Scorer(graph, images.heldout(), execution=execution, task=experiment.task),
                s,
                seed=config.seed,
                budget=budget,
                start=start,
                known=keep,
                on_point=keep.point,
            )
            over = over_budget(trajectory, s, budget, experiment.latency)
            if not over:
                break
            start = budget.recounted(trajectory)
    # 3. Train a few candidates for each target.
    train = partial(run_candidate, experiment)
    trajectory = with_finals(trajectory, folder.path, s, budget, levels, train)
    # 4. Write the path, the channels for each target, and the result.
    title = f"{config.arch.name} on {config.dataset.name}"
    channels = _write(trajectory, folder.path, title, s.targets, budget)
    spent, budgets = billed(trajectory.macs, experiment.unit), _budgets(trajectory, s, budget, levels)
    warnings = warned(*(one.warning for one in over))
    found = {**_summary(trajectory), **spent, "channels": channels, "budgets": budgets, **warnings}
    return folder.finish(found)


class _Way:
    """How far a search has come, for its bar.

    A method that follows a path: ‰ of the resource, from the full network to the smallest target. One that
    may spend `passes`: ‰ of them. Another: networks scored, of a number that nobody knows before.
    """

    def __init__(self, options: SlimConfig, budget: Budget, start: Trajectory | None) -> None:
        method = METHODS[options.method]
        self._path, self._passes = method.path, options.passes if "passes" in method.options else None
        self._budget = budget
        self._spent = 0.0  # passes of the full network
        self.unit, self.done = "‰", 0
        self.total: int | None = round(1000 * (1 - min(options.targets)))
        if self._passes is not None:
            self.total = 1000
        elif not self._path:
            self.unit, self.total = "network", None
        if start and self._path:
            self.at(start.points[-1].share)

    def at(self, share: float) -> int:
        """A network of this share of the resource is on the path; units since the last call."""
        return self._to(round(1000 * (1 - share))) if self._path else 0

    def scored(self, widths: Widths) -> int:
        """A network was scored; units since the last call."""
        if self._path:
            return 0
        if self._passes is None:
            return self._to(self.done + 1)
        graph = self._budget.graph
        self._spent += graph.cost(np.array(widths))["flops"] / graph.cost()["flops"]
        return self._to(round(1000 * self._spent / self._passes))

    def _to(self, place: int) -> int:
        before = self.done
        self.done = max(before, place if self.total is None else min(place, self.total))
        return self.done - before


class _Keeper(UserDict[Widths, Score]):
    """Keeps and shows every step of a search, and every network that it scores (`search` puts it in)."""

    def __init__(self, folder: StageFolder, way: _Way, measure: str, run: str) -> None:
        super().__init__()
        self._measure = measure  # name of the metric
        self._run = run  # name of TensorBoard's run
        self._file = ScoreFile(folder.path / SCORED)
        beside = scored_beside(folder)
        self.data = beside | self._file.known
        self._folder = folder
        self._way = way
        for widths in self._file.known:
            way.scored(widths)
        if beside:
            log.info(
                "search: %d networks were scored before, by other searches in this supernet", len(beside)
            )

    @contextmanager
    def running(self) -> Iterator[_Keeper]:
        """Within the block a bar is shown, and TensorBoard's file is open."""
        folder = str(self._folder.path / self._run)
        self._writer = tf.summary.create_file_writer(folder) if writes() else tf.summary.create_noop_writer()
        try:
            with progress("search", self._way.total, self._way.done, self._way.unit) as self._advance:
                yield self
        finally:
            self._writer.close()

    def point(self, trajectory: Trajectory) -> None:
        """One more network on the path."""
        write_atomically(self._folder.path / TRAJECTORY, json.dumps(trajectory.to_dict()))
        _log_point(self._writer, trajectory, self._measure)
        point = trajectory.points[-1]
        self._advance(self._way.at(point.share), share=point.share, **{self._measure: point.metric})

    def __setitem__(self, widths: Widths, score: Score) -> None:
        """One more network was scored."""
        self.data[widths] = score
        self._file.add(widths, score)
        self._advance(self._way.scored(widths), networks=len(self._file.known), loss=score.loss)


def _write(
    trajectory: Trajectory, folder: Path, title: str, targets: Sequence[float], budget: Budget
) -> dict[str, str]:
    """Write the path of a search, and `channels_<target>.yaml`, {group name: width}, for each target met.

    Returns:
        Target -> path of its file.
    """
    write_atomically(folder / TRAJECTORY, json.dumps(trajectory.to_dict()))
    write_atomically(folder / "trajectory.csv", trajectory.to_csv())
    paths = {}
    for target in targets:
        if trajectory.reaches(target, budget.limits):
            point = trajectory.at(target, budget.limits)
            head = f"# {title}: {budget.resource} at most {target:g} of the full network's\n# {point.cost}\n"
            path = folder / f"channels_{target:g}.yaml"
            channels = yaml.safe_dump(budget.graph.channels(list(point.widths)), sort_keys=False)
            write_atomically(path, head + channels)
            paths[f"{target:g}"] = str(path)
    return paths


def _summary(trajectory: Trajectory) -> dict[str, Any]:
    """How far a search went, and what it looked at."""
    naive = trajectory.share_of_naive
    return {
        "reached": trajectory.points[-1].share,
        "steps": len(trajectory.points) - 1,
        "holdout_images": trajectory.images,
        "passes": trajectory.passes,
        "share_of_naive": None if math.isnan(naive) else naive,
    }


def _budgets(
    trajectory: Trajectory, options: SlimConfig, budget: Budget, levels: Levels
) -> dict[str, list[str]]:
    """Target -> what its network uses of each budget; said in the log too."""
    found = {}
    reason = [] if METHODS[options.method].path else [f"{options.method} leaves it"]
    for target in options.targets:
        if trajectory.reaches(target, budget.limits):
            widths = np.array(trajectory.at(target, budget.limits).widths, np.int32)
            uses = budget_use(budget, levels, widths, target, *reason)
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


def load_trajectory(folder: Path, graph: ChannelGraph) -> Trajectory | None:
    """The trajectory so far in a search's folder, or None.

    Args:
        folder: of the search.
        graph: of the network that is to be searched.

    Raises:
        AutoslimError: if its file is damaged, or of another network.
    """
    path = folder / TRAJECTORY
    if not path.exists():
        return None
    groups = tuple(group.name for group in graph.groups)
    try:
        trajectory = Trajectory.from_dict(json.loads(path.read_text()))
        if trajectory.groups != groups or not trajectory.points:
            raise ValueError(f"of {len(trajectory.groups)} groups, the network has {len(groups)} or others")
        for point in trajectory.points:
            graph.check(point.widths)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AutoslimError(
            f"{path} is damaged or of another network ({error}). Remove the folder {folder} to search again."
        ) from error
    return trajectory


def trajectory_if_done(experiment: Experiment) -> Trajectory | None:
    """The finished search's trajectory if it serves every target, else None."""
    s, budget, folder = experiment.config.slim, experiment.budget, STAGE.folder(experiment)
    trajectory = load_trajectory(folder.path, experiment.plan) if folder.done else None
    if trajectory is None or not trajectory.reaches(min(s.targets), budget.limits):
        return None
    return None if _missing_moves(trajectory, s, budget) else trajectory


def search_result(experiment: Experiment) -> Trajectory:
    """The finished search's trajectory.

    One that ended at the smallest widths may serve some of the targets only.

    Raises:
        AutoslimError: if there is none, or it did not go as far as the targets.
    """
    s, budget, folder = experiment.config.slim, experiment.budget, STAGE.folder(experiment)
    Need(STAGE, folder, "retrain (or give slim.channels=FILE)").met()
    trajectory = load_trajectory(folder.path, experiment.plan)
    if trajectory is None:
        raise AutoslimError(f"{folder.path} has lost its trajectory. Remove the folder to search again.")
    met = [target for target in s.targets if trajectory.reaches(target, budget.limits)]
    ended = trajectory.points[-1].widths == tuple(experiment.levels.smallest)
    if len(met) < len(s.targets) and not (met and ended):
        raise AutoslimError(
            f"The search in {folder.path} reached {trajectory.points[-1].share:.3f} of the full "
            f"{s.resource}, not {min(s.targets):g}. Add search to stages: it goes on from there."
        )
    if missing := _missing_moves(trajectory, s, budget):
        raise AutoslimError(
            f"The search in {folder.path} has not given back the budget's rest, tried slim.exchange="
            f"{s.exchange}, or trained slim.finalists={s.finalists}, for slim.target={','.join(missing)}. "
            "Add search to stages: it goes on from there."
        )
    return trajectory


def _missing_moves(trajectory: Trajectory, options: SlimConfig, budget: Budget) -> list[str]:
    """Targets for which giving back, exchanges or a final are still to be done."""
    moves = options.exchange if options.method == "greedy" else 0
    gives = METHODS[options.method].path
    met = [target for target in options.targets if trajectory.reaches(target, budget.limits)]
    return [
        f"{target:g}"
        for target in met
        if not trajectory.exchanged(target, moves)
        or (gives and not trajectory.widening(target).done)
        or (options.finalists > 1 and trajectory.final(target) is None)
    ]


def _skip(experiment: Experiment) -> str:
    channels = experiment.config.slim.channels
    return f"not needed, slim.channels={channels} names the network" if channels else ""


def _needs(experiment: Experiment) -> Iterator[Need]:
    yield Need(supernet.STAGE, supernet.STAGE.folder(experiment), "The search")
    if experiment.config.slim.finalists > 1:
        options = experiment.candidates
        yield from recipe_needs(experiment, "The search's finalists", options)


def _check(experiment: Experiment, stages: Sequence[str]) -> None:
    s = experiment.config.slim
    if s.method == "uniform" and s.channels is None:
        uniform_widths(experiment.budget, experiment.levels, min(s.targets))  # refuses what no network meets
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
