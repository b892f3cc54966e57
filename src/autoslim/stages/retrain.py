"""Stage `retrain`: train the networks that the search found, or the one that `slim.channels` names."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from autoslim.stages import search
from autoslim.stages.channels import write_channels
from autoslim.stages.experiment import Experiment
from autoslim.stages.joint import joint_piece
from autoslim.stages.network import Network
from autoslim.stages.origin import origin
from autoslim.stages.preflight import check_reachable
from autoslim.stages.recipe import check_recipe, network_key, recipe_needs, recipe_of
from autoslim.stages.record import Need, Piece, Run, Stage
from autoslim.stages.store import NETWORK_FIELDS, StageFolder, stage_hash
from autoslim.stages.supernet import supernet_key
from autoslim.stages.wanted import unused, wanted
from autoslim.training.fit import fit

log = logging.getLogger(__name__)


def run_retrain(experiment: Experiment, folder: StageFolder, network: Network) -> dict[str, Any]:
    """Train a small network, whose widths are known, on all training images; resumes from a checkpoint."""
    config, builder, judge = experiment.config, experiment.builder, experiment.judge
    recipe, widths = recipe_of(experiment), network.known_widths
    model = recipe.small_model(builder, widths)
    write_channels(folder, experiment.plan.channels(widths))
    history = fit(
        model,
        experiment.images.training(),
        experiment.retrain,
        config.optimizer,
        config.train,
        teacher=recipe.teacher(builder),
        task=experiment.task,
        folder=folder.path,
        evaluate=lambda: judge.curves(model),
        description=f"{folder.stage} {network.label}, seed {config.seed}".replace(
            "uniform uniform", "uniform"
        ),
    )
    # Multiply-accumulates of the teacher's pass for one image.
    taught = experiment.retrain.teacher
    teacher = experiment.plan.full if taught == "supernet" else experiment.own_widths
    macs = 0 if taught == "none" else int(experiment.plan.cost(teacher).flops)
    return judge.finish(folder, model, history, experiment.retrain, macs)


def network_pieces(stage: Stage, run: Run, networks: Sequence[Network]) -> Iterator[Piece]:
    """The training of networks by one recipe: as one where that is asked for, else each alone."""
    experiment, trained = run.experiment, {(one.kind, one.target) for one in run.trained}
    new = [network for network in networks if (network.kind, network.target) not in trained]
    if experiment.config.slim.channels is None:
        for text in unused(new, experiment.budget, experiment.levels):
            log.warning("%s", text)
    yield from joint_piece(networks, recipe_of(experiment))
    for network in networks:
        yield Piece(stage, network.trained_in, (network,), network.name, network)


def _pieces(stage: Stage, run: Run) -> Iterator[Piece]:
    s, experiment = run.experiment.config.slim, run.experiment
    networks = wanted(experiment, search.search_result(experiment) if s.channels is None else None)
    lacking = set(s.targets) - {one.target for one in networks}
    if lacking and s.channels is None:
        log.warning(
            "retrain: no network for slim.target=%s, which the search did not reach",
            ",".join(f"{target:g}" for target in sorted(lacking, reverse=True)),
        )
    yield from network_pieces(stage, run, networks)


def _needs(experiment: Experiment) -> Iterator[Need]:
    folder, why = search.STAGE.folder(experiment), "retrain"
    if experiment.config.slim.channels is None:
        yield Need(search.STAGE, folder, why, check=lambda: search.search_result(experiment))
    elif found := origin(experiment.root, stage_hash(supernet_key(experiment)), experiment.named_widths):
        yield Need(search.STAGE, found.folder, why, read=False)
    yield from recipe_needs(experiment, "retrain")


def _check(experiment: Experiment, stages: Sequence[str]) -> None:
    check_recipe(experiment)
    check_reachable(experiment, stages)


STAGE = Stage(
    "retrain", network_key, run_retrain, needs=_needs, check=_check, pieces=_pieces, fields=NETWORK_FIELDS
)
