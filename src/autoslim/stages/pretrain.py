"""Stage `pretrain`, which the supernet asks for: the full network to begin it with."""

from __future__ import annotations

from typing import Any

from autoslim.stages.baseline import baseline_key
from autoslim.stages.experiment import Experiment
from autoslim.stages.judge import measured
from autoslim.stages.macs import TRAINING, billed, trained_images
from autoslim.stages.record import Stage
from autoslim.stages.store import StageFolder
from autoslim.stages.weights import save_weights
from autoslim.training.evaluate import evaluate
from autoslim.training.fit import fit


def pretrain_key(experiment: Experiment) -> dict[str, Any]:
    """What the supernet's first weights depend on."""
    return {**baseline_key(experiment), "holdout": experiment.images.holdout_key}


def run_pretrain(experiment: Experiment, folder: StageFolder) -> dict[str, Any]:
    """Train the full network, by the baseline's recipe, on the images that are not held out.

    A supernet that began with the baseline's own weights would be judged on images that it has learned.
    """
    config, images, task = experiment.config, experiment.images, experiment.task
    batches = images.training(images.split[0])
    model = experiment.builder.network()
    history = fit(
        model,
        batches,
        experiment.baseline,
        config.optimizer,
        config.train,
        folder=folder.path,
        task=task,
        evaluate=lambda: measured(evaluate(model, images.heldout(), task), "held-out/"),
        description=f"{folder.stage}, seed {config.seed}",
    )
    save_weights(model, folder)
    once = experiment.plan.cost(experiment.own_widths).flops
    macs = TRAINING * once * trained_images(batches, len(history))
    return folder.finish({**billed(macs, experiment.unit), "history": history})


STAGE = Stage("pretrain", pretrain_key, run_pretrain, implied=True)
