"""What can be known to be wrong before anything is trained."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from autoslim.datasets.labels import count, in_memory, taken
from autoslim.errors import AutoslimError
from autoslim.scoring import unweighted
from autoslim.slimming.methods import METHODS
from autoslim.slimming.rivals.uniform import uniform_widths
from autoslim.slimming.trajectory import Trajectory
from autoslim.stages.channels import channels_widths
from autoslim.stages.experiment import Experiment
from autoslim.stages.search import load_trajectory
from autoslim.stages.store import NETWORK_STAGES
from autoslim.tasks import objective_of

log = logging.getLogger(__name__)

ALONE = (
    "stages=[report] alone has nothing to report: name the stages whose results it should read too (they are "
    "reused where they are done), such as stages=[baseline,supernet,search,retrain,uniform,report]."
)

GIVEN = (
    "retrain.teacher=given needs a network that comes with trained weights: give arch.trained=true if it "
    "does, or choose another teacher: none, baseline or supernet."
)


def check_before(experiment: Experiment, stages: Sequence[str]) -> None:
    """Refuse what cannot work: targets out of reach, a lacking earlier stage, images that cannot be read.

    Args:
        experiment: of the run.
        stages: those to run, in order, without `describe`.

    Raises:
        AutoslimError: with the way out.
    """
    if not set(NETWORK_STAGES) & set(stages) and "report" in stages:
        raise AutoslimError(ALONE)
    _check_targets(experiment, stages)
    _check_earlier_stages(experiment, stages)
    give_pixels(experiment)
    check_labels_fit(experiment)
    if {"supernet", "search"} & set(stages):
        _ = experiment.split


def give_pixels(experiment: Experiment) -> None:
    """Let the data set give out pixels as they are, where the network's inputs take whole numbers."""
    whole = [not tf.as_dtype(dtype).is_floating for dtype in experiment.plan.trace.input_dtypes]
    if whole and all(whole) and experiment.data.normalization != "uint8":
        log.info(
            "%s takes whole numbers: images are given to it as uint8 pixels.", experiment.config.arch.name
        )
        experiment.data.normalization = "uint8"


def check_labels_fit(experiment: Experiment) -> None:
    """Refuse labels that the network's outputs cannot learn by the task.

    Raises:
        AutoslimError: with the shapes.
    """
    objective, data = objective_of(experiment.task, experiment.plan), experiment.data
    for labels in (data.train_labels, data.test_labels):
        own = taken(unweighted(labels)[0], np.arange(min(2, count(labels))))
        objective.check(own)
        objective.fits(in_memory(own))


def _check_targets(experiment: Experiment, stages: Sequence[str]) -> None:
    s = experiment.config.slim
    if s.measure is not None and "latency" not in (s.resource, *s.limits.given):
        log.warning(
            "slim.measure=%s measures nothing: slim.resource=%s, and slim.limits has no latency. Give "
            "slim.resource=latency if it is to be limited.",
            s.measure,
            s.resource,
        )
    if s.channels is not None:
        channels_widths(experiment)
        return
    even = s.method == "uniform"  # which is not bound to the levels
    if {"supernet", "search", "retrain"} & set(stages) and not even:
        experiment.budget.refuse_unreachable(experiment.levels.smallest, min(s.targets))
    if "uniform" in stages or (even and "search" in stages):
        uniform_widths(experiment.budget, experiment.levels, min(s.targets))


def _check_earlier_stages(experiment: Experiment, stages: Sequence[str]) -> None:
    """Refuse a stage whose input is neither done nor asked for; not after hours of another's training."""
    r, searched = experiment.retrain, experiment.config.slim.channels is None
    if "search" in stages and searched and "supernet" not in stages and reached(experiment) is None:
        experiment.need(experiment.supernet_folder(), "The search")
    if "retrain" in stages and searched and "search" not in stages:
        search_result(experiment)
    for stage in ("retrain", "uniform"):
        if stage not in stages:
            continue
        if "supernet" in (r.init, r.teacher) and "supernet" not in stages:
            key = "init" if r.init == "supernet" else "teacher"
            instead = "retrain.init=scratch" if key == "init" else "retrain.teacher=none"
            experiment.need(
                experiment.supernet_folder(), f"{stage} with retrain.{key}=supernet ({instead} does without)"
            )
        if r.teacher == "baseline" and not ("baseline" in stages and experiment.baseline.train):
            experiment.need(experiment.baseline_folder(), f"{stage} with retrain.teacher=baseline")
        if r.teacher == "given" and not experiment.given:
            raise AutoslimError(GIVEN)


def reached(experiment: Experiment) -> Trajectory | None:
    """The finished search's trajectory if it serves every target, else None."""
    folder = experiment.search_folder()
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
    folder, s = experiment.search_folder(), experiment.config.slim
    experiment.need(folder, "retrain (or give slim.channels=FILE)")
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
            f"The search in {folder.path} has not given back the budget's rest, or tried slim.exchange="
            f"{s.exchange}, for slim.target={','.join(missing)}. Add search to stages: it goes on from there."
        )
    return trajectory


def _missing_moves(experiment: Experiment, trajectory: Trajectory) -> list[str]:
    """Targets whose budget is still to be given back, or for which exchanges are still to be tried."""
    s = experiment.config.slim
    moves, gives = s.exchange if s.method == "greedy" else 0, METHODS[s.method].path
    met = [target for target in s.targets if trajectory.reaches(target, experiment.budget.limits)]
    return [
        f"{target:g}"
        for target in met
        if not trajectory.exchanged(target, moves) or (gives and not trajectory.widening(target).done)
    ]
