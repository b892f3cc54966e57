"""Run the stages that were asked for, in order, reusing what is done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.config import Config
from autoslim.errors import AutoslimError
from autoslim.reporting.network import NetworkResult
from autoslim.reporting.terminal import heading, results_table, show, where
from autoslim.slimming.search import check_reachable, uniform_widths
from autoslim.stages.baseline import run_baseline
from autoslim.stages.describe import run_describe
from autoslim.stages.experiment import Experiment
from autoslim.stages.report import run_report
from autoslim.stages.retrain import run_retrain
from autoslim.stages.search import load_trajectory, read_channels, run_search
from autoslim.stages.store import StageFolder
from autoslim.stages.supernet import run_supernet
from autoslim.slimming.trajectory import Trajectory

log = logging.getLogger(__name__)


def _files(folder: StageFolder) -> dict[str, str]:
    """What a trained network's folder holds for its user: name -> path."""
    paths = {"model": folder.path / "model.keras", "channels": folder.path / "channels.yaml"}
    return {name: str(path) for name, path in paths.items() if path.exists()}


@dataclass
class Outcome:
    """What a run leaves behind."""

    rows: list[dict[str, Any]] = field(default_factory=list)  # one per trained network
    folders: dict[str, str] = field(default_factory=dict)  # stage name -> folder


def run_stages(config: Config, run_dir: Path | None = None, sweep: bool = False) -> Outcome:
    """Run `config.stages` in order.

    Args:
        config: validated.
        run_dir: where this call's logs lie, for the report.
        sweep: whether this is one job of several, which wait for one another's stages.

    Raises:
        AutoslimError: with the way out.
    """
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    experiment = Experiment(config, sweep)
    outcome = Outcome()
    if "describe" in config.stages:
        run_describe(experiment)
    if config.stages == ["describe"]:
        return outcome
    check_targets(experiment)
    run = _Run(experiment, outcome)
    for stage in config.stages:
        {
            "describe": lambda: None,
            "baseline": run.baseline,
            "supernet": run.supernet,
            "search": run.search,
            "retrain": run.retrain,
            "uniform": run.uniform,
            "report": run.report,
        }[stage]()
    run.finish()
    return outcome


def check_targets(experiment: Experiment) -> None:
    """Refuse what can't be reached before anything is trained."""
    s, stages = experiment.config.slim, experiment.config.stages
    if s.channels is not None:
        experiment.plan.widths_from(read_channels(s.channels))
    elif {"supernet", "search", "retrain"} & set(stages):
        check_reachable(experiment.plan, experiment.levels, min(s.targets), s.resource, s.convention)


class _Run:
    """One run through the stages."""

    def __init__(self, experiment: Experiment, outcome: Outcome) -> None:
        self.experiment = experiment
        self.config = experiment.config
        self.outcome = outcome
        self.results: list[NetworkResult] = []
        self.finished: dict[str, dict[str, Any]] = {}  # stage or network label -> result.json
        self.trajectory: Trajectory | None = None

    def _stage(
        self, folder: StageFolder, detail: str, work: Callable[[StageFolder], dict[str, Any]]
    ) -> dict[str, Any]:
        """Run one stage under its lock, or reuse what it left."""
        label = f"{folder.stage} {detail}".strip()
        with folder.locked(self.experiment.lock_wait):
            if folder.done:
                heading(label, f"done before, reused: {folder.path}")
                result = folder.result()
            else:
                heading(label, str(folder.path))
                start = time.monotonic()
                result = work(folder)
                log.info("%s took %.0f s", label, time.monotonic() - start)
        self.outcome.folders[label] = str(folder.path)
        self.finished[label] = result
        return result

    def baseline(self) -> None:
        folder = self.experiment.baseline_folder()
        result = self._stage(folder, "", lambda f: run_baseline(self.experiment, f))
        self._note("baseline", None, self.experiment.plan.full, folder, result)

    def supernet(self) -> None:
        if self.config.slim.channels and self.config.retrain.init != "supernet":
            log.info("supernet: not needed with slim.channels and retrain.init=scratch")
            return
        self._stage(
            self.experiment.supernet_folder(), "", lambda f: run_supernet(self.experiment, f)
        )

    def search(self) -> None:
        if self.config.slim.channels:
            log.info("search: not needed, slim.channels=%s names the network", self.config.slim.channels)
            return
        folder = self.experiment.search_folder()
        if folder.done and not self._reached(folder):
            log.info("search: goes on to %g from where it stopped", min(self.config.slim.targets))
            with folder.locked(self.experiment.lock_wait):
                heading("search", str(folder.path))
                run_search(self.experiment, folder)
        result = self._stage(folder, "", lambda f: run_search(self.experiment, f))
        self.trajectory = load_trajectory(folder)
        log.info(
            "search: %.1f full-network passes over %d held-out images",
            result["passes"],
            result["holdout_images"],
        )

    def _reached(self, folder: StageFolder) -> bool:
        trajectory = load_trajectory(folder)
        return trajectory is not None and trajectory.reaches(min(self.config.slim.targets))

    def targets(self) -> list[tuple[float, np.ndarray]]:
        """The networks to retrain: (share of the resource asked for, widths int32 [G])."""
        e, s = self.experiment, self.config.slim
        if s.channels:
            widths = e.plan.widths_from(read_channels(s.channels))
            cost, full = e.plan.cost(widths, s.convention), e.plan.cost(None, s.convention)
            return [(cost.of(s.resource) / full.of(s.resource), widths)]
        folder = e.search_folder()
        e.need(folder, "retrain (or give slim.channels=FILE)")
        self.trajectory = load_trajectory(folder)
        if self.trajectory is None:
            raise AutoslimError(f"{folder.path} has lost its trajectory. Remove the folder to search anew.")
        if not self._reached(folder):
            raise AutoslimError(
                f"The search in {folder.path} reached {self.trajectory.points[-1].share:.3f} of the full "
                f"{s.resource}, not {min(s.targets):g}. Add search to stages: it goes on from there."
            )
        return [(t, np.array(self.trajectory.at(t).widths, np.int32)) for t in s.targets]

    def retrain(self) -> None:
        for target, widths in self.targets():
            self._network("retrain", "autoslim", target, widths)

    def uniform(self) -> None:
        s, plan = self.config.slim, self.experiment.plan
        targets = [target for target, _ in self.targets()] if s.channels else s.targets
        for target in targets:
            self._network("uniform", "uniform", target, uniform_widths(plan, target, s.resource, s.convention))

    def _network(self, stage: str, name: str, target: float, widths: np.ndarray) -> None:
        folder = self.experiment.network_folder(stage, widths)
        label = f"{target:.3g}"
        result = self._stage(
            folder, label, lambda f: run_retrain(self.experiment, f, widths, f"{stage} {label}")
        )
        self._note(name, float(label), widths, folder, result)

    def _note(
        self, name: str, target: float | None, widths: np.ndarray, folder: StageFolder, result: dict
    ) -> None:
        self.results.append(
            NetworkResult(
                network=name,
                target=target,
                top1=result["top1"],
                loss=result["loss"],
                flops=result["flops"],
                params=result["params"],
                memory=result["memory"],
                channels=self.experiment.plan.channels(widths),
                folder=str(folder.path),
                files=_files(folder),
            )
        )

    def report(self) -> None:
        if not self.results:
            raise AutoslimError(
                "stages=[report] alone has nothing to report: name the stages whose results it should read too "
                "(they are reused where they are done), as in the default stages."
            )
        folder = run_report(self.experiment, self.results, self.finished, self.trajectory)
        heading("report", str(folder / "report.md"))
        self.outcome.folders["report"] = str(folder)

    def finish(self) -> None:
        """The final table, and where everything lies."""
        full = self.experiment.plan.cost(None, self.config.slim.convention)
        self.outcome.rows = [result.row(full) for result in self.results]
        if self.results:
            heading("results")
            show(results_table(self.results, full, self.config.slim.resource))
        where(self.outcome.folders)
        print(f"curves: tensorboard --logdir {self.config.output}")
