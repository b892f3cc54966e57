"""In place of a supernet: a trained network whose channels are sorted by importance."""

from __future__ import annotations

from typing import Any

import keras

from autoslim.graph.sorting import sort_channels
from autoslim.kinds import METHODS
from autoslim.scoring import images_in
from autoslim.slimming.importance import CRITERIA
from autoslim.stages import baseline
from autoslim.stages.bill import TRAINING, billed
from autoslim.stages.experiment import Experiment
from autoslim.stages.store import StageFolder


def run_sorted(experiment: Experiment, folder: StageFolder) -> dict[str, Any]:
    """Sort the channels of the given network, or of the baseline, by what the method judges them by."""
    criterion = METHODS[experiment.config.slim.method].importance
    assert criterion is not None
    graph = experiment.graph_of(trained_network(experiment))
    batches = list(experiment.calibration_batches())
    sort_channels(graph, CRITERIA[criterion](graph, batches, experiment.task))
    experiment.save_weights(graph.model, folder)
    images = sum(images_in(images) for images, _ in batches) if criterion == "taylor" else 0
    return folder.finish({**billed(experiment, TRAINING * graph.cost().flops * images), "history": []})


def trained_network(experiment: Experiment) -> keras.Model:
    """The full network with trained weights: its own, or else the baseline's."""
    if experiment.given:
        return experiment.build()
    return experiment.load_weights(baseline.STAGE.folder(experiment))
