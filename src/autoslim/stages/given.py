"""Stage `given`: evaluate the weights that a network comes with, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.datasets.dataset import CONSTANTS
from autoslim.reporting.statistics import interval
from autoslim.stages.baseline import evaluated_network
from autoslim.stages.experiment import Experiment
from autoslim.stages.store import StageFolder, reached
from autoslim.stages.warn import chance_told, warned
from autoslim.training.evaluate import evaluate

MOST_IMAGES = 2000  # held-out images on which normalisations are tried


def run_given(experiment: Experiment, folder: StageFolder) -> dict[str, Any]:
    """Evaluate the network with its own weights, which are left as they are."""
    model = experiment.build()
    result = evaluated_network(experiment, folder, model, 0)
    tried = normalizations_tried(experiment, model)
    warning = _told(experiment, reached(result), *tried)
    return folder.finish({**result, **warned(warning), "normalizations": tried[0], "history": []})


def normalizations_tried(experiment: Experiment, model: keras.Model) -> tuple[dict[str, float], int]:
    """Top-1 of a network on held-out images by each normalisation, and the number of these images.

    Returns:
        Name -> share of the images whose answer is correct; and the number of images.
    """
    data, seed = experiment.data, experiment.config.seed
    index = data.holdout_order(experiment.split[1], seed)[:MOST_IMAGES]
    batches = list(data.heldout(index, experiment.config.train.eval_batch_size, seed))
    found = {}
    channels = data.shape[-1]
    fitting = {name: pair for name, pair in CONSTANTS.items() if np.asarray(pair[0]).size in (1, channels)}
    for name, (mean, std) in {"dataset": data.moments, **fitting}.items():
        own = data.mean, data.std
        again = [(_renormalized(x, own, (mean, std)), y) for x, y in batches]
        found[name] = evaluate(model, again, experiment.task).metric
    return found, len(index)


def as_good_as_the_best(tried: Mapping[str, float], images: int) -> list[str]:
    """The names whose top-1 may be the highest: whose 95 % interval overlaps the best one's, which is first.

    >>> as_good_as_the_best({"dataset": 0.783, "symmetric": 0.575, "imagenet": 0.808}, 120)
    ['imagenet', 'dataset']

    Args:
        tried: name -> share of the images whose answer is correct.
        images: how many there are.
    """
    ordered = sorted(tried, key=lambda name: -tried[name])
    least = interval(tried[ordered[0]], images)[0]
    return [name for name in ordered if interval(tried[name], images)[1] >= least]


def _renormalized(images: Any, own: tuple[Any, Any], other: tuple[Any, Any]) -> Any:
    """Images that were normalised by (mean, deviation) `own`, normalised by `other`."""
    pixels = images * tf.constant(own[1], tf.float32) + tf.constant(own[0], tf.float32)
    return (pixels - tf.constant(other[0], tf.float32)) / tf.constant(other[1], tf.float32)


def _told(experiment: Experiment, top1: float, tried: dict[str, float], images: int) -> str:
    """What is wrong with the given weights or their inputs; "" if nothing is."""
    own, best = experiment.config.dataset.normalization, max(tried, key=lambda name: tried[name])
    chance = chance_told(top1, experiment.data.test_labels, experiment.classes, "test images")
    better = interval(tried[best], images)[0] > interval(tried[own], images)[1]
    if not (chance or better):
        return ""
    table = ", ".join(f"{name} {100 * value:.1f} %" for name, value in tried.items())
    found = f"top-1 {100 * top1:.2f} % on test images with dataset.normalization={own}."
    text = f"{chance or found} "
    text += f"Top-1 on {images:,} held-out images by normalisation: {table}. "
    if better:
        text += f"The network expects other inputs: give dataset.normalization={best}"
        others = [name for name in as_good_as_the_best(tried, images) if name != best]
        if others:
            text += f" (or {' or '.join(others)}: {images:,} images cannot tell them apart)"
        return f"{text}."
    return text + (
        "No normalisation helps: are these the classes, in this order, that it was trained for? If its "
        "weights are not trained for these images, give arch.trained=false."
    )
