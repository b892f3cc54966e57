"""Stage `baseline`: train the full network, to compare with."""

from __future__ import annotations

from typing import Any

import keras

from autoslim.graph import ChannelGraph
from autoslim.slimming.calibrate import calibrate
from autoslim.stages.bill import TRAINING, billed, trained_images
from autoslim.stages.experiment import Experiment
from autoslim.stages.store import MODEL, StageFolder
from autoslim.training.distribution import is_chief
from autoslim.training.evaluate import evaluate
from autoslim.training.fit import fit


def run_baseline(experiment: Experiment, folder: StageFolder) -> dict[str, Any]:
    """Train the full network on all training images; resumes from the last checkpoint in the folder."""
    config = experiment.config
    model = experiment.build()
    batches = experiment.training_batches()
    history = fit(
        model,
        batches,
        config.baseline,
        config.optimizer,
        config.train,
        folder=folder.path,
        evaluate=lambda: on_test_images(experiment, model),
        description="baseline",
    )
    return finish_network(experiment, folder, model, history)


def on_test_images(experiment: Experiment, model: keras.Model) -> dict[str, float]:
    """Metrics of a network as it is in mid-training, for the curves."""
    found = evaluate(model, experiment.test_batches())
    return {"test/loss": found.loss, "test/top1": found.top1}


def finish_network(
    experiment: Experiment, folder: StageFolder, model: keras.Model, history: list, teacher_macs: int = 0
) -> dict[str, Any]:
    """Calibrate, save and evaluate a trained network, and write the stage's result.

    Args:
        experiment: of the run.
        folder: of the stage.
        model: trained.
        history: a dict of mean metrics for each epoch that was trained.
        teacher_macs: multiply-accumulates of a teacher's pass for one image.
    """
    batches = experiment.training_batches()
    graph, classes = ChannelGraph(model), experiment.data.class_names
    calibrate(graph, experiment.calibration_batches())
    if is_chief(experiment.strategy):
        model.save(folder.path / MODEL)
    experiment.save_weights(model, folder)
    final = evaluate(model, experiment.test_batches())
    convention = experiment.config.slim.convention
    cost = graph.cost(None, convention)
    macs = (TRAINING * graph.cost().flops + teacher_macs) * trained_images(batches, len(history))
    return folder.finish(
        {
            "top1": final.top1,
            "loss": final.loss,
            "test_images": len(final.right),
            "right": "".join("1" if hit else "0" for hit in final.right),
            "flops": cost.flops,
            "params": cost.params,
            "memory": cost.memory,
            **billed(experiment, macs),
            "normalization": experiment.normalization(),
            **({"classes": list(classes)} if classes else {}),
            "history": history,
        }
    )
