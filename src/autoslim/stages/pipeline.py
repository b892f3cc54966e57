"""Run the stages that were asked for, in order, reusing what is done."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf

from autoslim.datasets.verify import lost_images_reported
from autoslim.kinds import kind_of
from autoslim.reporting.headline import headlines
from autoslim.reporting.terminal import heading, last_lines, line, results_table, show, where
from autoslim.schema import Config
from autoslim.stages.bill import bill
from autoslim.stages.experiment import Experiment
from autoslim.stages.given import STAGE as GIVEN
from autoslim.stages.preflight import check_before
from autoslim.stages.record import Look, Stage, record
from autoslim.stages.runner import Runner
from autoslim.stages.store import writing
from autoslim.stages.trained import shown
from autoslim.stages.warn import labelled_warnings
from autoslim.training.distribution import is_chief, peers_watched, wait_for_all


@dataclass
class Outcome:
    """What a run leaves behind."""

    rows: list[dict[str, Any]] = field(default_factory=list)  # one per trained network
    folders: dict[str, str] = field(default_factory=dict)  # stage name -> folder


def run_stages(config: Config, run_dir: Path | None = None, sweep: bool = False) -> Outcome:
    """Run `config.stages` in order.

    Args:
        config: validated.
        run_dir: where this call's logs lie.
        sweep: whether this is one job of several, which wait for one another's stages.

    Raises:
        AutoslimError: with the way out.
    """
    experiment = Experiment(config, sweep)
    chief = is_chief(experiment.strategy)  # several workers are joined before anything else
    with writing(chief), peers_watched(experiment.strategy), lost_images_reported(config.dataset.name):
        return _run_stages(experiment, run_dir)


def _run_stages(experiment: Experiment, run_dir: Path | None) -> Outcome:
    config = experiment.config
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    records = [record(name) for name in config.stages]
    for look in (one for one in records if isinstance(one, Look)):
        look.show(experiment, run_dir)
    stages = [one for one in records if isinstance(one, Stage)]
    if not stages:
        return Outcome()
    check_before(experiment, stages)
    run = Runner(experiment, [stage.name for stage in stages])
    if any(stage.with_given for stage in stages):
        run.stage(GIVEN)
    for stage in stages:
        run.stage(stage)
    outcome = _finish(run)
    wait_for_all(experiment.strategy)  # one that leaves while the first one reports would be a dead one
    return outcome


def _finish(run: Runner) -> Outcome:
    """The final table, and where everything lies."""
    experiment, s, full = run.experiment, run.experiment.config.slim, run.experiment.budget.full
    results = [shown(network, experiment.budget, experiment.chance) for network in run.trained]
    folders = {label: str(path) for label, path in run.folders.items()}
    head: list[str] = []
    if results:
        heading("results")
        show(results_table(results, full, s.resource))
        show(*bill(run).lines())
        images = run.trained[0].result["test_images"]
        head = headlines(results, full, images, s.resource, kind_of(s.method))
    where(folders)
    line(f"curves: tensorboard --logdir {experiment.config.output}")
    last_lines(labelled_warnings(run.finished), head)
    return Outcome([result.row(full) for result in results], folders)
