"""Stage `uniform`: train networks of the same budgets with every group at one ratio, by the same recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from autoslim.slimming.rivals.uniform import uniform_widths
from autoslim.stages.experiment import Experiment
from autoslim.stages.recipe import check_recipe, network_key, recipe_needs
from autoslim.stages.record import Need, Piece, Run, Stage
from autoslim.stages.retrain import network_pieces, run_retrain
from autoslim.stages.store import NETWORK_FIELDS
from autoslim.stages.wanted import uniform


def _pieces(stage: Stage, run: Run) -> Iterator[Piece]:
    yield from network_pieces(stage, run, uniform(run.experiment))


def _needs(experiment: Experiment) -> Iterator[Need]:
    yield from recipe_needs(experiment, "uniform")


def _check(experiment: Experiment, stages: Sequence[str]) -> None:
    check_recipe(experiment)
    s = experiment.config.slim
    if s.channels is None:
        uniform_widths(experiment.budget, experiment.levels, min(s.targets))  # refuses what no network meets


STAGE = Stage(
    "uniform", network_key, run_retrain, needs=_needs, check=_check, pieces=_pieces, fields=NETWORK_FIELDS
)
