"""Stage `baseline`: train the full network, to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from autoslim.stages.experiment import Experiment
from autoslim.stages.network import full_network
from autoslim.stages.record import Piece, Run, Stage
from autoslim.stages.store import NETWORK_FIELDS, StageFolder
from autoslim.training.fit import fit


def baseline_key(experiment: Experiment) -> dict[str, Any]:
    """What the baseline's weights depend on."""
    own = {name: value for name, value in experiment.baseline.affecting_result().items() if name != "train"}
    return {**experiment.common_key, "baseline": own}


def run_baseline(experiment: Experiment, folder: StageFolder) -> dict[str, Any]:
    """Train the full network on all training images; resumes from the last checkpoint in the folder."""
    config, judge = experiment.config, experiment.judge
    model = experiment.builder.network()
    history = fit(
        model,
        experiment.images.training(),
        experiment.baseline,
        config.optimizer,
        config.train,
        folder=folder.path,
        task=experiment.task,
        evaluate=lambda: judge.curves(model),
        description=f"{folder.stage}, seed {config.seed}",
    )
    return judge.finish(folder, model, history, experiment.baseline)


def full_network_pieces(stage: Stage, run: Run) -> Iterator[Piece]:
    """The work of a stage that brings the full network."""
    network = full_network(stage.folder(run.experiment), run.experiment.own_widths)
    yield Piece(stage, network.trained_in, network=network)


def _skip(experiment: Experiment) -> str:
    given = "not trained, the given network takes its place (baseline.train=true trains it)"
    return "" if experiment.baseline.train else given


STAGE = Stage(
    "baseline", baseline_key, run_baseline, skip=_skip, pieces=full_network_pieces, fields=NETWORK_FIELDS
)
