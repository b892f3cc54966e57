"""Stage `pretrain`, which the supernet asks for: the full network to begin it with."""

from __future__ import annotations

from typing import Any

import keras

from autoslim.stages.baseline import baseline_key, measured, trained_full
from autoslim.stages.bill import TRAINING, billed, trained_images
from autoslim.stages.experiment import Experiment
from autoslim.stages.record import Stage
from autoslim.stages.store import StageFolder
from autoslim.training.evaluate import evaluate


def pretrain_key(experiment: Experiment) -> dict[str, Any]:
    """What the supernet's first weights depend on."""
    return {**baseline_key(experiment), "holdout": experiment.holdout_key}


def run_pretrain(experiment: Experiment, folder: StageFolder) -> dict[str, Any]:
    """Train the full network, by the baseline's recipe, on the images that are not held out.

    A supernet that began with the baseline's own weights would be judged on images that it has learned.
    """
    batches = experiment.training_batches(experiment.split[0])
    model, history = trained_full(experiment, folder, batches, on_held_out_images)
    experiment.save_weights(model, folder)
    macs = (
        TRAINING * experiment.plan.cost(experiment.own_widths).flops * trained_images(batches, len(history))
    )
    return folder.finish({**billed(experiment, macs), "history": history})


def on_held_out_images(experiment: Experiment, model: keras.Model) -> dict[str, float]:
    """Metrics of a network in mid-training that must not have seen the held-out images, for the curves."""
    return measured(evaluate(model, experiment.holdout_batches(), experiment.task), "held-out/")


STAGE = Stage("pretrain", pretrain_key, run_pretrain, implied=True)
