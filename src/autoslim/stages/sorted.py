"""In place of a supernet: a trained network whose channels are sorted by importance."""

from __future__ import annotations

import keras

from autoslim.graph.sorting import sort_channels
from autoslim.scoring import images_in
from autoslim.slimming.importance import CRITERIA
from autoslim.stages.builder import Builder
from autoslim.stages.images import Images
from autoslim.stages.macs import TRAINING
from autoslim.stages.store import StageFolder
from autoslim.stages.weights import load_weights
from autoslim.tasks import Outputs


def sorted_network(
    builder: Builder, baseline: StageFolder | None, criterion: str, images: Images, task: Outputs
) -> tuple[keras.Model, int]:
    """The full network with trained weights, its channels sorted by what a method judges them by.

    Args:
        builder: of the network.
        baseline: the folder with its weights; None: its own are trained.
        criterion: a key of `importance.CRITERIA`.
        images: training images are looked at, not augmented.
        task: what the network learns.

    Returns:
        It, and multiply-accumulates that the sorting took.
    """
    model = builder.network()
    graph = builder.graph(model if baseline is None else load_weights(model, baseline))
    batches = list(images.plain())
    sort_channels(graph, CRITERIA[criterion](graph, batches, task))
    count = sum(images_in(inputs) for inputs, _ in batches) if criterion == "taylor" else 0
    return graph.model, TRAINING * int(graph.cost().flops) * count
