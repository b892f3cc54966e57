"""Stage `supernet`: train one network that works at every width."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import keras
import numpy as np

from autoslim.graph import ChannelGraph
from autoslim.graph.sorting import sort_channels
from autoslim.kinds import METHODS
from autoslim.slimming.importance import by_magnitude
from autoslim.slimming.sandwich import arms_cost, draw_arms
from autoslim.stages import baseline, pretrain
from autoslim.stages.baseline import measured
from autoslim.stages.bill import TRAINING, billed, trained_images
from autoslim.stages.experiment import Experiment
from autoslim.stages.preflight import check_reachable
from autoslim.stages.record import Need, Stage
from autoslim.stages.sorted import run_sorted
from autoslim.stages.start import FRESH
from autoslim.stages.store import StageFolder, stage_hash
from autoslim.stages.warn import failed_held_out, warned
from autoslim.tasks import objective_of
from autoslim.training.evaluate import evaluate
from autoslim.training.fit import train_supernet

log = logging.getLogger(__name__)

SAME = 1e-3  # of the largest output, by which a widened network may differ from the network
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
    if experiment.one_training:
        own = {"slim": {"freeze": s.freeze}, "sorted": METHODS[s.method].importance, "baseline": None}
        return {**experiment.common_key, **own, **read}
    widths = {name: getattr(s, name) for name in ("min_width", "divisor", "freeze")}
    widths |= {"levels": s.levels} if s.step is None else {"step": s.step}
    widths |= {"headroom": s.headroom} if s.wider else {}
    own = {
        "holdout": experiment.holdout_key,
        "slim": widths,
        "supernet": experiment.supernet.affecting_result(),
    }
    return {**experiment.common_key, **own, **read}


def _needs(experiment: Experiment) -> Iterator[Need]:
    if experiment.one_training and not experiment.given:
        why = f"slimming={experiment.config.slim.method} of a network without trained weights"
        yield Need(baseline.STAGE, baseline.STAGE.folder(experiment), why, billed=False)
    elif not experiment.one_training and experiment.supernet.init == "baseline":
        yield Need(pretrain.STAGE, pretrain.STAGE.folder(experiment), "supernet.init=baseline")


def _skip(experiment: Experiment) -> str:
    r = experiment.retrain
    if experiment.config.slim.channels and "supernet" not in (r.init, r.teacher):
        return f"not needed with slim.channels and retrain.init={r.init}"
    return ""


def initial_supernet(experiment: Experiment) -> keras.Model:
    """The full network with the weights that `supernet.init` names."""
    init = experiment.supernet.init
    if init == "baseline":
        model = experiment.load_weights(pretrain.STAGE.folder(experiment))
    else:
        model = experiment.build()
        if init == "scratch":
            with experiment.strategy.scope():
                return experiment.widened(keras.models.clone_model(model))
        if experiment.own_weights == FRESH:
            return experiment.widened(model)
    if experiment.supernet.sort:
        graph = experiment.graph_of(model)
        sort_channels(graph, by_magnitude(graph))
    wide = experiment.widened(model, weights=True)
    if wide is not model:
        _compare(experiment, model, wide)
    return wide


def _compare(experiment: Experiment, model: keras.Model, wide: keras.Model) -> None:
    """Say it where the wide network does not compute what the network does."""
    images, *_ = next(iter(experiment.holdout_batches()))
    one, other = (np.concatenate([np.ravel(y) for y in keras.tree.flatten(m(images))]) for m in (model, wide))
    apart = float(np.abs(one - other).max() / max(np.abs(one).max(), 1e-12))
    if apart > SAME:
        log.warning(
            "supernet: widened by slim.headroom, the network answers differently by up to %.2g of the "
            "largest output: it sums channels up by other means than weights, where copies count too. It is "
            "trained from there.",
            apart,
        )


def _may_have_seen(experiment: Experiment) -> bool:
    """Whether the supernet's first weights may have been trained on the held-out images."""
    kept_apart = experiment.data.holdout_fingerprint is not None
    return not kept_apart and experiment.supernet.init != "scratch" and experiment.own_weights != FRESH


def on_held_out_images(experiment: Experiment, graph: ChannelGraph) -> dict[str, float]:
    """Metrics of the largest and the smallest network in mid-training, for the curves."""
    metrics: dict[str, float] = {}
    objective = objective_of(experiment.task, graph)
    for name, widths in (("largest", experiment.levels.largest), ("smallest", experiment.levels.smallest)):
        run = partial(graph.run, widths=widths, batch_statistics=True)
        found = evaluate(run, experiment.holdout_batches(), objective)
        metrics |= measured(found, f"held-out/{name}_")
    return metrics


def run_supernet(experiment: Experiment, folder: StageFolder) -> dict[str, Any]:
    """Train by the sandwich rule on the images that are not held out; resumes from the last checkpoint."""
    if experiment.one_training:
        log.info("supernet: none is trained, the channels of the trained network are sorted instead")
        return run_sorted(experiment, folder)
    config, c = experiment.config, experiment.supernet
    levels = experiment.levels  # before building: the plan's own build clears Keras's names
    model = initial_supernet(experiment)
    graph = experiment.graph_of(model)
    batches = experiment.training_batches(experiment.split[0])
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
        task=experiment.task,
        evaluate=lambda: on_held_out_images(experiment, graph),
    )
    experiment.save_weights(model, folder)
    run = partial(graph.run, widths=levels.largest, batch_statistics=True)
    found = evaluate(run, experiment.holdout_batches(), objective_of(experiment.task, graph))
    images = trained_images(batches, len(history))
    steps = min(COST_STEPS, batches.steps_per_epoch * c.length)
    arms = np.mean([arms_cost(graph, draw_arms(levels, c.arms, config.seed, k)) for k in range(steps)])
    return folder.finish(
        {
            "arms_cost": float(arms),
            f"holdout_{found.measure.name}": found.metric,  # at full width
            **warned(
                failed_held_out(experiment, folder.stage, found.values),
                SEEN if _may_have_seen(experiment) else "",
            ),
            **billed(experiment, TRAINING * graph.cost().flops * images * arms),
            "history": history,
        }
    )


STAGE = Stage(
    "supernet", supernet_key, run_supernet, needs=_needs, skip=_skip, check=check_reachable, holds_out=True
)
