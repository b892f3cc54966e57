"""Run the stages that were asked for, in order, reusing what is done."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf

from autoslim.datasets.verify import lost_images_told
from autoslim.kinds import kind_of
from autoslim.reporting.exports import export_table
from autoslim.reporting.headline import headlines
from autoslim.reporting.network import NetworkResult
from autoslim.reporting.terminal import heading, last_lines, results_table, show, where
from autoslim.schema import Config
from autoslim.slimming.trajectory import Trajectory
from autoslim.stages.baseline import run_baseline, run_pretrain
from autoslim.stages.bill import bill
from autoslim.stages.describe import run_describe
from autoslim.stages.experiment import Experiment
from autoslim.stages.export import check_export, done_networks, export_folder, is_exported, run_export
from autoslim.stages.given import run_given
from autoslim.stages.joint import run_joint
from autoslim.stages.network import Network, distinct
from autoslim.stages.preflight import check_before, reached, search_result
from autoslim.stages.report import run_report
from autoslim.stages.retrain import run_retrain
from autoslim.stages.search import run_search
from autoslim.stages.store import NETWORK_FIELDS, StageFolder, writing
from autoslim.stages.supernet import run_supernet
from autoslim.stages.trained import shown
from autoslim.stages.wanted import baseline, given, joint_folder, uniform, wanted
from autoslim.stages.warn import told, warnings_of
from autoslim.training.distribution import is_chief, is_multi_worker, peers_watched, wait_for_all

log = logging.getLogger(__name__)


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
    with writing(chief), peers_watched(experiment.strategy), lost_images_told(config.dataset.name):
        return _run_stages(experiment, run_dir)


def _run_stages(experiment: Experiment, run_dir: Path | None) -> Outcome:
    config = experiment.config
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    run = _Run(experiment)
    if "describe" in config.stages:
        run_describe(experiment, run_dir)
    stages = [stage for stage in config.stages if stage != "describe"]
    if stages:
        check_before(experiment, stages)
        if "export" in stages:
            check_export(experiment, stages)
        if set(stages) - {"search", "export"}:
            run.given()
        for stage in stages:
            _STAGES[stage](run)
        run.finish()
        wait_for_all(experiment.strategy)  # one that leaves while the first one reports would be a dead one
    return run.outcome


class _Run:
    """One run through the stages; each method is a stage."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.config = experiment.config
        self.outcome = Outcome()
        self.trained: list[Network] = []
        self.finished: dict[str, dict[str, Any]] = {}  # stage and target, as "retrain 0.5" -> result.json
        self.trajectory: Trajectory | None = None

    def given(self) -> None:
        """Evaluate the weights that the network comes with, where they are trained."""
        if self.experiment.given:
            self._full(given(self.experiment), run_given)

    def baseline(self) -> None:
        """Train the full network, unless the given one takes its place."""
        if not self.experiment.baseline.train:
            log.info(
                "baseline: not trained, the given network takes its place (baseline.train=true trains it)"
            )
            return
        self._full(baseline(self.experiment), run_baseline)

    def _full(self, network: Network, work: Callable[[Experiment, StageFolder], dict[str, Any]]) -> None:
        folder = network.trained_in
        self._stage(folder, "", lambda: work(self.experiment, folder), NETWORK_FIELDS)
        self.trained.append(network)

    def supernet(self) -> None:
        """Train one network for all widths, unless no stage needs it."""
        retrain = self.experiment.retrain
        if self.config.slim.channels and "supernet" not in (retrain.init, retrain.teacher):
            log.info("supernet: not needed with slim.channels and retrain.init=%s", retrain.init)
            return
        folder = self.experiment.supernet_folder()
        if self.experiment.one_training:
            log.info("supernet: none is trained, the channels of the trained network are sorted instead")
        elif self.experiment.supernet.init == "baseline" and not folder.done:
            first = self.experiment.pretrain_folder()
            self._stage(first, "", lambda: run_pretrain(self.experiment, first))
        self._stage(folder, "", lambda: run_supernet(self.experiment, folder))

    def search(self) -> None:
        """Search the channels; a finished search that did not go as far as the targets goes on."""
        experiment = self.experiment
        if self.config.slim.channels:
            log.info("search: not needed, slim.channels=%s names the network", self.config.slim.channels)
            return
        folder = experiment.search_folder()
        if folder.done and not reached(experiment):
            log.info("search: goes on to %g from where it stopped", min(self.config.slim.targets))
        self._stage(
            folder,
            "",
            lambda: run_search(experiment, folder),
            ("passes", "holdout_images"),
            done=lambda: reached(experiment) is not None,
        )
        found = self.trajectory = search_result(experiment)
        naive = found.share_of_naive
        log.info(
            "search: %.1f full-network passes over %d held-out images%s",
            found.passes,
            found.images,
            "" if math.isnan(naive) else f", its path {naive:.3f} of what naive search would spend",
        )

    def retrain(self) -> None:
        """Train the networks that the search found, or the one that `slim.channels` names."""
        self._train(self._wanted())

    def uniform(self) -> None:
        """Train networks of the same budgets with every group at the same ratio, by the same recipe."""
        self._train(uniform(self.experiment))

    def report(self) -> None:
        """Compare the networks of this run."""
        if not is_chief(self.experiment.strategy):
            return
        folder = run_report(self.experiment, self.trained, self.finished, self.trajectory)
        heading("report", str(folder / "report.md"))
        self.outcome.folders["report"] = str(folder)

    def export(self) -> None:
        """Write the networks of this configuration that are done as files for deployment."""
        networks = done_networks(self.experiment)  # by all workers: a network is built by all of them or none
        if not is_chief(self.experiment.strategy):
            return
        folder = export_folder(self.experiment, networks)
        result = self._stage(
            folder,
            "",
            lambda: run_export(self.experiment, folder, networks),
            ("rows",),
            done=lambda: is_exported(folder),
            alone=True,
        )
        show(export_table(result["rows"]))

    def finish(self) -> None:
        """The final table, and where everything lies."""
        full = self.experiment.budget.full
        results = [shown(self.experiment, network) for network in self.trained]
        self.outcome.rows = [result.row(full) for result in results]
        if results:
            heading("results")
            show(results_table(results, full, self.config.slim.resource))
            show(*bill(self.experiment, self.finished).lines())
        where(self.outcome.folders)
        print(f"curves: tensorboard --logdir {self.config.output}")
        last_lines(told(self.finished), self._headlines(results) if results else [])

    def _headlines(self, results: list[NetworkResult]) -> list[str]:
        images, s = self.trained[0].result["test_images"], self.config.slim
        return headlines(results, self.experiment.budget.full, images, s.resource, kind_of(s.method))

    def _stage(
        self,
        folder: StageFolder,
        detail: str,
        work: Callable[[], dict[str, Any]],
        fields: tuple[str, ...] = (),
        done: Callable[[], bool] | None = None,
        alone: bool = False,
    ) -> dict[str, Any]:
        """Reuse what a stage left, or run it under its folder's lock.

        Args:
            folder: of the stage.
            detail: of its name, such as the target.
            work: runs it and returns its result.
            fields: what its result must hold.
            done: whether what it left is enough; None: whether it finished.
            alone: whether the first of several workers runs it, and the others do not.
        """
        label = f"{folder.stage} {detail}".strip()
        enough = done or (lambda: folder.done)
        together = is_multi_worker(self.experiment.strategy) and not alone
        if not (self._all_see(enough) if together else enough()):
            with folder.locked(self.experiment.lock_wait):
                if together or not enough():  # another process may have run it
                    heading(label, str(folder.path))
                    start = time.monotonic()
                    with folder.timed():
                        result = work()
                    log.info("%s took %.0f s", label, time.monotonic() - start)
                    if together:
                        wait_for_all(self.experiment.strategy)  # all that the next stage reads is written
                    return self._keep(label, folder, result)
        heading(label, f"done before, reused: {folder.path}")
        return self._keep(label, folder, folder.result(fields))

    def _all_see(self, enough: Callable[[], bool]) -> bool:
        """Whether a stage is done, asked when no worker is writing, so that all get the same answer."""
        wait_for_all(self.experiment.strategy)
        answer = enough()
        wait_for_all(self.experiment.strategy)
        return answer

    def _keep(self, label: str, folder: StageFolder, result: dict[str, Any]) -> dict[str, Any]:
        self.outcome.folders[label] = str(folder.path)
        self.finished[label] = result
        for text in warnings_of(result):
            log.warning("%s: %s", label, text)
        return result

    def _wanted(self) -> list[Network]:
        """The networks to retrain.

        Raises:
            AutoslimError: if they come of a search and it is not done.
        """
        if self.config.slim.channels is None:
            self.trajectory = search_result(self.experiment)
        networks = wanted(self.experiment, self.trajectory)
        lacking = set(self.config.slim.targets) - {one.target for one in networks}
        if lacking and self.config.slim.channels is None:
            log.warning(
                "retrain: no network for slim.target=%s, which the search did not reach",
                ",".join(f"{target:g}" for target in sorted(lacking, reverse=True)),
            )
        return networks

    def _train(self, networks: list[Network]) -> None:
        """Train networks by one recipe, each unless this run has done so under the same name."""
        self._together(networks)
        for network in networks:
            if not any((n.kind, n.target) == (network.kind, network.target) for n in self.trained):
                self._network(network)

    def _together(self, networks: list[Network]) -> None:
        """Train the networks as one, where that is asked for: each is then found done in its folder."""
        folder = joint_folder(self.experiment, networks)
        if folder is None:
            return
        parts = distinct(networks)
        self._stage(
            folder,
            "uniform" if networks[0].kind == "uniform" else "",
            lambda: run_joint(self.experiment, folder, parts),
            done=lambda: folder.done and all(part.done for part in parts),
        )

    def _network(self, network: Network) -> None:
        """Train a network alone, or find it done."""
        work = partial(run_retrain, self.experiment, network)
        self._stage(network.trained_in, network.name, work, NETWORK_FIELDS)
        self.trained.append(network)


_STAGES: dict[str, Callable[[_Run], None]] = {
    "baseline": _Run.baseline,
    "supernet": _Run.supernet,
    "search": _Run.search,
    "retrain": _Run.retrain,
    "uniform": _Run.uniform,
    "report": _Run.report,
    "export": _Run.export,
}
