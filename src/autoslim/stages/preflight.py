"""What can be known to be wrong before anything is trained."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from autoslim.datasets import Dataset
from autoslim.datasets.labels import count, in_memory, taken
from autoslim.graph import ChannelGraph
from autoslim.scoring import unweighted
from autoslim.stages.experiment import Experiment
from autoslim.stages.record import Stage
from autoslim.tasks import Objective, objective_of

log = logging.getLogger(__name__)


def check_before(experiment: Experiment, stages: Sequence[Stage]) -> None:
    """Refuse what cannot work: targets out of reach, a lacking earlier stage, images that cannot be read.

    A stage whose input is neither done nor asked for is refused now, not after hours of another's training.

    Args:
        experiment: of the run.
        stages: those to run, in order.

    Raises:
        AutoslimError: with the way out.
    """
    s = experiment.config.slim
    if s.measure is not None and "latency" not in (s.resource, *s.limits.given):
        log.warning(
            "slim.measure=%s measures nothing: slim.resource=%s, and slim.limits has no latency. Give "
            "slim.resource=latency if it is to be limited.",
            s.measure,
            s.resource,
        )
    if s.channels is not None:
        _ = experiment.named_widths
    for stage in stages:
        stage.check(experiment, [stage.name for stage in stages])
    running = [stage.name for stage in stages if not stage.skip(experiment)]
    for stage in stages:
        if stage.name in running and not stage.is_ready(experiment):
            for need in stage.needs(experiment):
                if not need.stage.implied and need.stage.name not in running:
                    need.met()
    data, graph = experiment.data, experiment.plan
    give_pixels(data, graph, experiment.config.arch.name)
    objective = objective_of(experiment.task, graph)
    check_labels_fit(objective, data, tested=any(stage.with_given for stage in stages))
    if any(stage.holds_out for stage in stages):
        _ = experiment.images.split


def give_pixels(data: Dataset, graph: ChannelGraph, name: str) -> None:
    """Let the data set give out pixels as they are, where the inputs of the network `name` take integers."""
    whole = [not tf.as_dtype(dtype).is_floating for dtype in graph.trace.input_dtypes]
    if whole and all(whole) and data.normalization != "uint8":
        log.info("%s takes whole numbers: images are given to it as uint8 pixels.", name)
        data.normalization = "uint8"


def check_labels_fit(objective: Objective, data: Dataset, tested: bool) -> None:
    """Refuse labels that the network's outputs cannot learn by the task.

    Args:
        objective: the task on the network.
        data: whose labels.
        tested: whether test labels are looked at too.

    Raises:
        AutoslimError: with the shapes.
    """
    for labels in (data.train_labels, data.test_labels) if tested else (data.train_labels,):
        own = taken(unweighted(labels)[0], np.arange(min(2, count(labels))))
        objective.check(own)
        objective.fits(in_memory(own))


def check_reachable(experiment: Experiment, stages: Sequence[str]) -> None:
    """Refuse targets below what the smallest network costs."""
    s = experiment.config.slim
    if s.channels is None and s.method != "uniform":  # which is not bound to the levels
        experiment.budget.refuse_unreachable(experiment.levels.smallest, min(s.targets))
