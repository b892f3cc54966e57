"""Stage `baseline`: train the full network, to compare with; and to begin a supernet with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from autoslim.datasets import TrainingBatches
from autoslim.graph import ChannelGraph
from autoslim.slimming.calibrate import calibrate
from autoslim.stages.bill import TRAINING, billed, trained_images
from autoslim.stages.experiment import Experiment
from autoslim.stages.store import MODEL, StageFolder
from autoslim.stages.warn import failed
from autoslim.training.distribution import is_chief
from autoslim.training.evaluate import Evaluation, evaluate
from autoslim.training.fit import fit
from autoslim.training.progress import History


def run_baseline(experiment: Experiment, folder: StageFolder) -> dict[str, Any]:
    """Train the full network on all training images; resumes from the last checkpoint in the folder."""
    model, history = _trained(experiment, folder, experiment.training_batches(), on_test_images)
    return finish_network(experiment, folder, model, history)


def run_pretrain(experiment: Experiment, folder: StageFolder) -> dict[str, Any]:
    """Train the full network, by the baseline's recipe, on the images that are not held out.

    A supernet that began with the baseline's own weights would be judged on images that it has learned.
    """
    batches = experiment.training_batches(experiment.split[0])
    model, history = _trained(experiment, folder, batches, on_held_out_images)
    experiment.save_weights(model, folder)
    macs = (
        TRAINING * experiment.plan.cost(experiment.own_widths).flops * trained_images(batches, len(history))
    )
    return folder.finish({**billed(experiment, macs), "history": history})


def _trained(
    experiment: Experiment,
    folder: StageFolder,
    batches: TrainingBatches,
    evaluated: Callable[[Experiment, keras.Model], dict[str, float]],
) -> tuple[keras.Model, History]:
    """The full network trained on these images by the baseline's recipe, and its history."""
    model = experiment.build()
    history = fit(
        model,
        batches,
        experiment.baseline,
        experiment.config.optimizer,
        experiment.config.train,
        folder=folder.path,
        task=experiment.task,
        evaluate=lambda: evaluated(experiment, model),
        description=folder.stage,
    )
    return model, history


def on_held_out_images(experiment: Experiment, model: keras.Model) -> dict[str, float]:
    """Metrics of a network in mid-training that must not have seen the held-out images, for the curves."""
    return measured(evaluate(model, experiment.holdout_batches(), experiment.task), "held-out/")


def on_test_images(experiment: Experiment, model: keras.Model) -> dict[str, float]:
    """Metrics of a network as it is in mid-training, for the curves."""
    return measured(evaluate(model, experiment.test_batches(), experiment.task), "test/")


def measured(found: Evaluation, prefix: str) -> dict[str, float]:
    """Loss and metric by their names in the curves."""
    return {f"{prefix}loss": found.loss, f"{prefix}{found.measure.name}": found.metric}


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
    graph = ChannelGraph(model)
    calibrate(graph, experiment.calibration_batches())
    macs = (TRAINING * graph.cost().flops + teacher_macs) * trained_images(batches, len(history))
    result = evaluated_network(experiment, folder, model, macs)
    return folder.finish({**result, **failed(experiment, folder.stage, result), "history": history})


def evaluated_network(
    experiment: Experiment, folder: StageFolder, model: keras.Model, macs: float
) -> dict[str, Any]:
    """Save a network and evaluate it on the test images: `store.NETWORK_FIELDS`.

    Args:
        experiment: of the run.
        folder: of the stage.
        model: as it is to be used.
        macs: multiply-accumulates that its training took.
    """
    if is_chief(experiment.strategy):
        model.save(folder.path / MODEL)
    experiment.save_weights(model, folder)
    final = evaluate(model, experiment.test_batches(), experiment.task)
    classes = experiment.data.class_names
    cost = ChannelGraph(model).cost(None, experiment.config.slim.convention)
    return {
        "metric": final.measure.name,
        final.measure.name: final.metric,
        "loss": final.loss,
        "test_images": len(final.values),
        **final.measure.kept(final.values),
        "flops": cost.flops,
        "params": cost.params,
        "memory": cost.memory,
        **billed(experiment, macs),
        "normalization": experiment.normalization(),
        **({"classes": list(classes)} if classes else {}),
    }
