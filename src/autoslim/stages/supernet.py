"""Stage `supernet`: train one network that works at every width."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import keras
import numpy as np

from autoslim.graph import ChannelGraph
from autoslim.schema import SupernetConfig
from autoslim.slimming.importance import put_important_first
from autoslim.slimming.levels import Levels
from autoslim.slimming.sandwich import arms_cost, draw_arms
from autoslim.stages import baseline, pretrain
from autoslim.stages.builder import Builder
from autoslim.stages.chance import Chance
from autoslim.stages.experiment import Experiment
from autoslim.stages.images import Images
from autoslim.stages.judge import measured
from autoslim.stages.macs import TRAINING, billed, trained_images
from autoslim.stages.preflight import check_reachable
from autoslim.stages.record import Need, Stage
from autoslim.stages.sorted import sorted_network
from autoslim.stages.start import FRESH
from autoslim.stages.store import StageFolder, stage_hash
from autoslim.stages.warn import failed_held_out, warned
from autoslim.stages.weights import load_weights, save_weights
from autoslim.tasks import Objective, objective_of
from autoslim.training.evaluate import Evaluation, evaluate
from autoslim.training.fit import train_supernet

log = logging.getLogger(__name__)

COST_STEPS = 200  # steps over which the arms' mean cost is taken for the bill


SEEN = (
    "it starts from weights that were trained before, perhaps on the held-out images too, on which it "
    "then looks better than it is. This cannot be known from the weights. Images that they have not seen "
    "can be given with dataset.holdout_path=FOLDER."
)


def supernet_key(experiment: Experiment) -> dict[str, Any]:
    """What the supernet's weights, or what stands in its place, depend on."""
    s, read = experiment.config.slim, {}
    for need in _needs(experiment):
        read[need.stage.name] = stage_hash(need.folder.key)
    if experiment.importance is not None:
        own = {"slim": {"freeze": s.freeze}, "sorted": experiment.importance, "baseline": None}
        return {**experiment.common_key, **own, **read}
    widths = {name: getattr(s, name) for name in ("min_width", "divisor", "freeze")}
    widths |= {"levels": s.levels} if s.step is None else {"step": s.step}
    widths |= {"headroom": s.headroom} if s.wider else {}
    own = {
        "holdout": experiment.images.holdout_key,
        "slim": widths,
        "supernet": experiment.supernet.affecting_result(),
    }
    return {**experiment.common_key, **own, **read}


def _needs(experiment: Experiment) -> Iterator[Need]:
    if experiment.importance is not None:
        if not experiment.given:
            why = f"slimming={experiment.config.slim.method} of a network without trained weights"
            yield Need(baseline.STAGE, baseline.STAGE.folder(experiment), why)
    elif experiment.supernet.init == "baseline":
        yield Need(pretrain.STAGE, pretrain.STAGE.folder(experiment), "supernet.init=baseline")


def _skip(experiment: Experiment) -> str:
    r = experiment.retrain
    if experiment.config.slim.channels and "supernet" not in (r.init, r.teacher):
        return f"not needed with slim.channels and retrain.init={r.init}"
    return ""


def run_supernet(experiment: Experiment, folder: StageFolder) -> dict[str, Any]:
    """Train by the sandwich rule on the images that are not held out; resumes from the last checkpoint."""
    config, builder = experiment.config, experiment.builder
    images, task = experiment.images, experiment.task
    read = {need.stage.name: need.folder for need in _needs(experiment)}
    # 1. The network to begin with; of some methods its channels are sorted, and nothing is trained.
    if experiment.importance is not None:
        log.info("supernet: none is trained, the channels of the trained network are sorted instead")
        model, macs = sorted_network(builder, read.get("baseline"), experiment.importance, images, task)
        save_weights(model, folder)
        return folder.finish({**billed(macs, experiment.unit), "history": []})
    levels = experiment.levels  # before building: the plan's own build clears Keras's names
    c, weights = experiment.supernet, experiment.own_weights
    model = initial_supernet(c, builder, weights, read.get("pretrain"))
    graph = builder.graph(model)
    objective = objective_of(task, graph)
    # 2. Train.
    batches = images.training(images.split[0])
    history = train_supernet(
        graph,
        levels,
        batches,
        c,
        config.optimizer,
        config.train,
        seed=config.seed,
        folder=folder.path,
        description=f"supernet, seed {config.seed}",
        task=task,
        evaluate=lambda: on_held_out_images(graph, levels, images, objective),
    )
    save_weights(model, folder)
    # 3. Write the result.
    found = _at(levels.largest, graph, images, objective)
    chance = Chance.of(images.heldout_labels(), task, experiment.classes)
    arms = _mean_arms(graph, levels, c, config.seed, batches.steps_per_epoch)
    macs = TRAINING * graph.cost().flops * trained_images(batches, len(history)) * arms
    warnings = warned(failed_held_out(chance, found.values, c), _seen(c.init, weights, images))
    reached = {f"holdout_{found.measure.name}": found.metric}  # at full width
    result = {"arms_cost": arms, **reached, **warnings, **billed(macs, experiment.unit)}
    return folder.finish({**result, "history": history})


def initial_supernet(
    options: SupernetConfig,
    builder: Builder,
    own_weights: str,
    pretrained: StageFolder | None = None,
) -> keras.Model:
    """The full network with the weights that `supernet.init` names.

    Args:
        options: section `supernet`, nothing of it null.
        builder: of the network.
        own_weights: what the weights are that the network comes with, see `stages.start`.
        pretrained: folder of stage `pretrain`, where the supernet begins with its weights.
    """
    model = builder.network()
    if options.init == "baseline":
        assert pretrained is not None
        load_weights(model, pretrained)
    elif options.init == "scratch":
        with builder.strategy.scope():
            return builder.widened(keras.models.clone_model(model))
    elif own_weights == FRESH:
        return builder.widened(model)
    if options.sort:
        put_important_first(builder.graph(model))
    return builder.widened(model, weights=True)


def on_held_out_images(
    graph: ChannelGraph, levels: Levels, images: Images, objective: Objective
) -> dict[str, float]:
    """Metrics of the largest and the smallest network in mid-training, for the curves."""
    metrics: dict[str, float] = {}
    for name, widths in (("largest", levels.largest), ("smallest", levels.smallest)):
        metrics |= measured(_at(widths, graph, images, objective), f"held-out/{name}_")
    return metrics


def _at(widths: np.ndarray, graph: ChannelGraph, images: Images, objective: Objective) -> Evaluation:
    """The supernet at `widths` int32 [G], on the held-out images."""
    return evaluate(partial(graph.run, widths=widths, batch_statistics=True), images.heldout(), objective)


def _mean_arms(
    graph: ChannelGraph, levels: Levels, options: SupernetConfig, seed: int, steps_per_epoch: int
) -> float:
    """What the arms of a step cost on average, in passes of the full network."""
    steps = min(COST_STEPS, steps_per_epoch * options.length)
    drawn = (draw_arms(levels, options.arms, seed, step) for step in range(steps))
    return float(np.mean([arms_cost(graph, arms) for arms in drawn]))


def _seen(init: str, own_weights: str, images: Images) -> str:
    """What is said where the first weights may have been trained on the held-out images; else ""."""
    kept_apart = images.data.holdout_fingerprint is not None
    return "" if kept_apart or init == "scratch" or own_weights == FRESH else SEEN


STAGE = Stage(
    "supernet", supernet_key, run_supernet, needs=_needs, skip=_skip, check=check_reachable, holds_out=True
)
