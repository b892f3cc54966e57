"""Stage `retrain`: train the networks that the search found, or the one that `slim.channels` names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.stages import baseline, search, supernet
from autoslim.stages.baseline import finish_network, on_test_images
from autoslim.stages.channels import write_widths
from autoslim.stages.experiment import Experiment
from autoslim.stages.joint import initial_full_model, joint_piece
from autoslim.stages.network import Network
from autoslim.stages.origin import origin
from autoslim.stages.preflight import check_reachable
from autoslim.stages.record import Need, Piece, Run, Stage
from autoslim.stages.store import NETWORK_FIELDS, StageFolder
from autoslim.stages.wanted import network_key, recipe_needs, unused, wanted
from autoslim.training.fit import fit

log = logging.getLogger(__name__)

GIVEN = (
    "retrain.teacher=given needs a network that comes with trained weights: give arch.trained=true if it "
    "does, or choose another teacher: none, baseline or supernet."
)


def run_retrain(experiment: Experiment, folder: StageFolder, network: Network) -> dict[str, Any]:
    """Train a small network, whose widths are known, on all training images; resumes from a checkpoint."""
    config, r, widths = experiment.config, experiment.retrain, network.known_widths
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
        description=f"{folder.stage} {network.label}, seed {config.seed}".replace(
            "uniform uniform", "uniform"
        ),
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


def teacher_of(experiment: Experiment) -> Callable[[Any], Any] | None:
    """Images -> logits of the teacher that retraining asks for."""
    which = experiment.retrain.teacher
    if which == "none":
        return None
    if which == "given":
        graph = ChannelGraph(experiment.build())
    else:
        stage = baseline.STAGE if which == "baseline" else supernet.STAGE
        graph = ChannelGraph(experiment.load_weights(stage.folder(experiment), supernet=which == "supernet"))
    return lambda images: graph.run(images, batch_statistics=which == "supernet")


def network_pieces(stage: Stage, experiment: Experiment, networks: Sequence[Network]) -> Iterator[Piece]:
    """The training of networks by one recipe: as one where that is asked for, else each alone."""
    for text in unused(experiment, networks):
        experiment.say_once(text)
    yield from joint_piece(experiment, networks)
    for network in networks:
        yield Piece(stage, network.trained_in, (network,), network.name, network)


def check_teacher(experiment: Experiment) -> None:
    """Refuse a given network as teacher that has no trained weights."""
    if experiment.retrain.teacher == "given" and not experiment.given:
        raise AutoslimError(GIVEN)


def _pieces(stage: Stage, run: Run) -> Iterator[Piece]:
    s, experiment = run.experiment.config.slim, run.experiment
    networks = wanted(experiment, search.search_result(experiment) if s.channels is None else None)
    lacking = set(s.targets) - {one.target for one in networks}
    if lacking and s.channels is None:
        log.warning(
            "retrain: no network for slim.target=%s, which the search did not reach",
            ",".join(f"{target:g}" for target in sorted(lacking, reverse=True)),
        )
    yield from network_pieces(stage, experiment, networks)


def _needs(experiment: Experiment) -> Iterator[Need]:
    folder, why = search.STAGE.folder(experiment), "retrain"
    if experiment.config.slim.channels is None:
        yield Need(search.STAGE, folder, why, check=lambda: search.search_result(experiment))
    elif found := origin(experiment):
        yield Need(search.STAGE, found.folder, why, read=False)
    yield from recipe_needs(experiment, "retrain")


def _check(experiment: Experiment, stages: Sequence[str]) -> None:
    check_teacher(experiment)
    check_reachable(experiment, stages)


STAGE = Stage(
    "retrain", network_key, run_retrain, needs=_needs, check=_check, pieces=_pieces, fields=NETWORK_FIELDS
)
