"""Stage `baseline`: train the full network, to compare with; and what all stages that train one share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras

from autoslim.datasets import TrainingBatches
from autoslim.graph import ChannelGraph
from autoslim.slimming.calibrate import calibrate
from autoslim.stages.bill import TRAINING, billed, trained_images
from autoslim.stages.experiment import Experiment
from autoslim.stages.network import Network
from autoslim.stages.record import Piece, Run, Stage
from autoslim.stages.store import MODEL, NETWORK_FIELDS, StageFolder
from autoslim.stages.warn import failed
from autoslim.training.distribution import is_chief
from autoslim.training.evaluate import Evaluation, evaluate
from autoslim.training.fit import fit
from autoslim.training.progress import History


def baseline_key(experiment: Experiment) -> dict[str, Any]:
    """What the baseline's weights depend on."""
    own = {name: value for name, value in experiment.baseline.affecting_result().items() if name != "train"}
    return {**experiment.common_key, "baseline": own}


def run_baseline(experiment: Experiment, folder: StageFolder) -> dict[str, Any]:
    """Train the full network on all training images; resumes from the last checkpoint in the folder."""
    model, history = trained_full(experiment, folder, experiment.training_batches(), on_test_images)
    return finish_network(experiment, folder, model, history)


def trained_full(
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
        description=f"{folder.stage}, seed {experiment.config.seed}",
    )
    return model, history


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
    graph = ChannelGraph(model, image_shape=experiment.image_shape)
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
    cost = ChannelGraph(model, image_shape=experiment.image_shape).cost(
        None, experiment.config.slim.convention
    )
    return {
        "metric": final.measure.name,
        final.measure.name: final.metric,
        "loss": final.loss,
        "test_images": len(final.values),
        **final.measure.kept(final.values),
        **cost.row(),
        **billed(experiment, macs),
        "normalization": experiment.normalization(),
        **({"classes": list(classes)} if classes else {}),
    }


def full_network(stage: Stage, experiment: Experiment) -> Network:
    """The full network that a stage brings, which is named as the kind of this network."""
    return Network(stage.name, None, experiment.own_widths, stage.folder(experiment))


def full_network_pieces(stage: Stage, run: Run) -> Iterator[Piece]:
    """The work of a stage that brings the full network."""
    network = full_network(stage, run.experiment)
    yield Piece(stage, network.trained_in, network=network)


def _skip(experiment: Experiment) -> str:
    given = "not trained, the given network takes its place (baseline.train=true trains it)"
    return "" if experiment.baseline.train else given


STAGE = Stage(
    "baseline", baseline_key, run_baseline, skip=_skip, pieces=full_network_pieces, fields=NETWORK_FIELDS
)
