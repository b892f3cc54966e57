"""Stages `retrain` and `uniform`: train the network at given widths, by the same recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from autoslim.graph import ChannelGraph
from autoslim.stages.baseline import finish_network, on_test_images
from autoslim.stages.channels import write_widths
from autoslim.stages.experiment import Experiment
from autoslim.stages.network import Network
from autoslim.training.fit import fit


def run_retrain(experiment: Experiment, network: Network) -> dict[str, Any]:
    """Train a small network on all training images; resumes from the last checkpoint.

    Args:
        experiment: of the run.
        network: whose widths are known.
    """
    config, r = experiment.config, experiment.retrain
    folder, widths = network.trained_in, network.known_widths
    model = initial_model(experiment, widths)
    write_widths(experiment, folder, widths)
    batches = experiment.training_batches()
    history = fit(
        model,
        batches,
        r,
        config.optimizer,
        config.train,
        teacher=teacher_of(experiment),
        task=experiment.task,
        folder=folder.path,
        evaluate=lambda: on_test_images(experiment, model),
        description=f"{folder.stage} {network.name}",
    )
    return finish_network(experiment, folder, model, history, _teacher_macs(experiment))


def _teacher_macs(experiment: Experiment) -> int:
    """Multiply-accumulates of the teacher's pass for one image."""
    which = experiment.retrain.teacher
    widths = experiment.plan.full if which == "supernet" else experiment.own_widths
    return 0 if which == "none" else int(experiment.plan.cost(widths).flops)


def initial_model(experiment: Experiment, widths: np.ndarray) -> keras.Model:
    """The small network with the supernet's weights, or with fresh ones."""
    graph = experiment.graph_of(initial_full_model(experiment))
    with experiment.strategy.scope():
        return graph.materialize(widths, weights=experiment.retrain.init == "supernet")


def initial_full_model(experiment: Experiment) -> keras.Model:
    """The full network with the weights that `retrain.init` names."""
    if experiment.retrain.init == "scratch":
        return experiment.widened(experiment.build())
    folder = experiment.supernet_folder()
    experiment.need(folder, "retrain.init=supernet (retrain.init=scratch does without)")
    return experiment.load_weights(folder, supernet=True)


def teacher_of(experiment: Experiment) -> Callable[[Any], Any] | None:
    """Images -> logits of the teacher that retraining asks for."""
    which = experiment.retrain.teacher
    if which == "none":
        return None
    if which == "given":
        graph = ChannelGraph(experiment.build())
    else:
        folder = experiment.baseline_folder() if which == "baseline" else experiment.supernet_folder()
        experiment.need(folder, f"retrain.teacher={which}")
        graph = ChannelGraph(experiment.load_weights(folder, supernet=which == "supernet"))
    return lambda images: graph.run(images, batch_statistics=which == "supernet")
