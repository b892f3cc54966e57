"""Stage `joint`, a part of `retrain`: train the networks of all targets as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import keras

from autoslim.stages import supernet
from autoslim.stages.baseline import finish_network, measured
from autoslim.stages.bill import TRAINING, billed, trained_images
from autoslim.stages.channels import write_widths
from autoslim.stages.experiment import Experiment
from autoslim.stages.network import Network, distinct
from autoslim.stages.record import Need, Piece, Stage
from autoslim.stages.store import StageFolder
from autoslim.stages.wanted import joint_folder, joint_key, recipe_needs
from autoslim.tasks import objective_of
from autoslim.training.distribution import is_multi_worker
from autoslim.training.evaluate import evaluate
from autoslim.training.joint import JointNetwork, train_joint


def run_joint(experiment: Experiment, folder: StageFolder, parts: Sequence[Network]) -> dict[str, Any]:
    """Train the networks as one on all training images; resumes from the last checkpoint.

    Then each of them that is not done is calibrated and evaluated, and written as stage `retrain` writes one.

    Args:
        experiment: of the run.
        folder: of the training.
        parts: the networks, all different, the largest first.
    """
    config = experiment.config
    graph = experiment.graph_of(initial_full_model(experiment))
    model = JointNetwork(graph, [part.known_widths for part in parts])
    batches = experiment.training_batches()
    history = train_joint(
        model,
        batches,
        experiment.retrain,
        config.optimizer,
        config.train,
        names=[part.name for part in parts],
        task=experiment.task,
        folder=folder.path,
        description=f"joint, seed {config.seed}",
        evaluate=lambda: _on_test_images(experiment, model, parts),
    )
    flops = [int(graph.cost(part.known_widths).flops) for part in parts]
    for place, part in enumerate(parts):
        part.trained_in.clock = folder.share_of_time(flops[place] / sum(flops))
        with part.trained_in.locked(experiment.lock_wait):
            if is_multi_worker(experiment.strategy) or not part.trained_in.done:
                _finish_part(experiment, model, place, part, history)
    return folder.finish(
        {
            "networks": {part.name: str(part.trained_in.path) for part in parts},
            **billed(experiment, TRAINING * sum(flops) * trained_images(batches, len(history))),
            "history": history,
        }
    )


def _on_test_images(
    experiment: Experiment, model: JointNetwork, parts: Sequence[Network]
) -> dict[str, float]:
    """Metrics of the networks as they are in mid-training, for the curves."""
    metrics: dict[str, float] = {}
    objective = objective_of(experiment.task, model.graph)
    for place, part in enumerate(parts):
        found = evaluate(partial(model.run, place=place), experiment.test_batches(), objective)
        metrics |= measured(found, f"test/{part.name}_")
    return metrics


def _finish_part(
    experiment: Experiment,
    model: JointNetwork,
    place: int,
    part: Network,
    history: Sequence[dict[str, float]],
) -> None:
    """Write one of the networks as a plain one; its history and its bill are its own part of all."""
    with experiment.strategy.scope():
        small = model.materialize(place)
    write_widths(experiment, part.trained_in, part.known_widths)
    own = [
        {
            "epoch": epoch["epoch"],
            **{
                f"train/{name}": epoch[f"{part.name}/{name}"]
                for name in ("loss", experiment.task.metric.name)
            },
        }
        for epoch in history
    ]
    finish_network(experiment, part.trained_in, small, own)


def initial_full_model(experiment: Experiment) -> keras.Model:
    """The full network with the weights that `retrain.init` names."""
    if experiment.retrain.init == "scratch":
        return experiment.widened(experiment.build())
    return experiment.load_weights(supernet.STAGE.folder(experiment), supernet=True)


def joint_piece(experiment: Experiment, networks: Sequence[Network]) -> Iterator[Piece]:
    """The training of the networks as one, where that is asked for: each is then found done in its folder."""
    folder = joint_folder(experiment, networks)
    if folder is not None:
        detail = "uniform" if networks[0].kind == "uniform" else ""
        yield Piece(STAGE, folder, (distinct(networks),), detail)


def _needs(experiment: Experiment) -> Iterator[Need]:
    yield from recipe_needs(experiment, "retrain")


def _done(experiment: Experiment, folder: StageFolder, parts: Sequence[Network]) -> bool:
    return folder.done and all(part.done for part in parts)


STAGE = Stage("joint", joint_key, run_joint, needs=_needs, done=_done)
