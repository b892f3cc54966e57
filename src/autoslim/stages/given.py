"""Stage `given`: evaluate the weights that a network comes with, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.datasets.dataset import CONSTANTS
from autoslim.metrics import kept_values
from autoslim.reporting.statistics import interval, standard_error
from autoslim.stages.baseline import full_network_pieces
from autoslim.stages.experiment import Experiment
from autoslim.stages.images import Images
from autoslim.stages.record import Piece, Run, Stage
from autoslim.stages.store import NETWORK_FIELDS, StageFolder, reached
from autoslim.stages.warn import warned
from autoslim.tasks import Outputs
from autoslim.training.evaluate import Evaluation, evaluate

MOST_IMAGES = 2000  # held-out images on which normalisations are tried


def given_key(experiment: Experiment) -> dict[str, Any]:
    """What the evaluation of the network's own weights depends on."""
    own = {name: experiment.common_key[name] for name in ("arch", "dataset", "task")}
    return {"seed": experiment.config.seed, "holdout": experiment.images.holdout_key, **own}


def run_given(experiment: Experiment, folder: StageFolder) -> dict[str, Any]:
    """Evaluate the network with its own weights, which are left as they are."""
    model = experiment.builder.network()
    result = experiment.judge.evaluated(folder, model, 0)
    tried = normalizations_tried(model, experiment.images, experiment.task)
    chance = experiment.chance.warning(kept_values(result), "test images")
    warning = _warning(chance, reached(result), tried, experiment.config.dataset.normalization)
    means = {name: found.metric for name, found in tried.items()}
    return folder.finish({**result, **warned(warning), "normalizations": means, "history": []})


def normalizations_tried(model: keras.Model, images: Images, task: Outputs) -> dict[str, Evaluation]:
    """A network on held-out images by each normalisation; nothing for networks of several inputs."""
    data, seed = images.data, images.seed
    if not isinstance(data.shape, tuple) or data.normalization == "uint8":
        return {}
    index = data.holdout_order(images.split[1], seed)[:MOST_IMAGES]
    batches = list(data.heldout(index, images.train.eval_batch_size, seed))
    found = {}
    channels = data.shape[-1]
    fitting = {
        name: pair
        for name, pair in CONSTANTS.items()
        if name != "uint8" and np.asarray(pair[0]).size in (1, channels)
    }
    for name, (mean, std) in {"dataset": data.moments, **fitting}.items():
        own = data.mean, data.std
        again = [(_renormalized(x, own, (mean, std)), y) for x, y in batches]
        found[name] = evaluate(model, again, task)
    return found


def as_good_as_the_best(tried: Mapping[str, Evaluation]) -> list[str]:
    """The names whose metric may be the best: whose 95 % interval overlaps the best one's, which is first."""
    ordered = sorted(tried, key=lambda name: -_gain(tried[name]))
    least = _worst(tried[ordered[0]])
    return [name for name in ordered if _best(tried[name]) >= least]


def _gain(found: Evaluation) -> float:
    return found.measure.gain(found.metric, 0.0)


def _worst(found: Evaluation) -> float:
    """The worse end of a metric's 95 % interval, counted so that more is better."""
    if found.measure.binary:
        return interval(found.metric, len(found.values))[0]
    return _gain(found) - 1.96 * standard_error(found.values)


def _best(found: Evaluation) -> float:
    """The better end, likewise."""
    if found.measure.binary:
        return interval(found.metric, len(found.values))[1]
    return _gain(found) + 1.96 * standard_error(found.values)


def _renormalized(images: Any, own: tuple[Any, Any], other: tuple[Any, Any]) -> Any:
    """Images that were normalised by (mean, deviation) `own`, normalised by `other`."""
    pixels = images * tf.constant(own[1], tf.float32) + tf.constant(own[0], tf.float32)
    return (pixels - tf.constant(other[0], tf.float32)) / tf.constant(other[1], tf.float32)


def _warning(chance: str, metric: float, tried: Mapping[str, Evaluation], own: str) -> str:
    """What is wrong with the given weights or their inputs; "" if nothing is.

    Args:
        chance: what is said of a network near chance; "" of another.
        metric: on the test images.
        tried: what `normalizations_tried` found.
        own: the normalisation of the run.
    """
    if not tried:
        return chance
    ranked = as_good_as_the_best(tried)
    best = ranked[0]
    better = own not in ranked
    if not (chance or better):
        return ""
    measure, images = tried[own].measure, len(tried[own].values)
    label = measure.label[0].upper() + measure.label[1:]
    digits = (lambda value: f"{100 * value:.1f} %") if measure.percent else measure.text
    table = ", ".join(f"{name} {digits(found.metric)}" for name, found in tried.items())
    found = f"{measure.label} {measure.text(metric)} on test images with dataset.normalization={own}."
    text = f"{chance or found} "
    text += f"{label} on {images:,} held-out images by normalisation: {table}. "
    if better:
        text += f"The network expects other inputs: give dataset.normalization={best}"
        others = ranked[1:]
        if others:
            text += f" (or {' or '.join(others)}: {images:,} images cannot tell them apart)"
        return f"{text}."
    return text + (
        "No normalisation helps: are these the classes, in this order, that it was trained for? If its "
        "weights are not trained for these images, give arch.trained=false."
    )


def _pieces(stage: Stage, run: Run) -> Iterator[Piece]:
    return full_network_pieces(stage, run) if run.experiment.given else iter(())


STAGE = Stage("given", given_key, run_given, pieces=_pieces, fields=NETWORK_FIELDS)
