"""The whole configuration of a run."""

from dataclasses import dataclass
from typing import Any

from autoslim.objective import HELP, is_objective
from autoslim.schema.arch import ArchConfig
from autoslim.schema.checks import Options, group, key, need
from autoslim.schema.dataset import DatasetConfig
from autoslim.schema.export import ExportConfig
from autoslim.schema.slimming import SlimConfig
from autoslim.schema.task import TaskConfig
from autoslim.schema.training import (
    BaselineConfig,
    OptimizerConfig,
    RetrainConfig,
    SupernetConfig,
    TrainConfig,
)

STAGES = ("describe", "baseline", "supernet", "search", "retrain", "uniform", "report", "export", "compare")
"""The stages in the order in which they run; the record of each is `STAGE` of `autoslim.stages.<name>`."""
UNASKED = tuple(stage for stage in STAGES if stage not in ("describe", "export", "compare"))
"""The stages that run when none is named."""


def _listed(given: Any) -> list[str]:
    return [str(one) for one in given] if isinstance(given, list | tuple) else [str(given)]


@dataclass
class Config(Options):
    """The whole configuration of a run."""

    seed: int = key(
        0,
        "random seed of everything: weights, order, augmentation, widths, held-out images",
        least=0,
        most=2**31 - 1,
        expected=f"a whole number in [0, {2**31 - 1}]",
    )
    stages: list[str] = key(
        list(UNASKED),
        f"stages to run, of: {', '.join(STAGES)}",
        words=STAGES,
        holds=bool,
        expected=f"some of: {', '.join(STAGES)}",
    )
    output: str = key(
        "outputs", "folder for all that is written", holds=str.strip, unit="the name of a folder"
    )
    objective: Any = key(
        "metric_at_target",
        f"what a run returns to a sweeper such as hydra/sweeper=optuna: {HELP}; at the smallest slim.target; "
        "or a list of such",
        holds=lambda given: bool(_listed(given)) and all(map(is_objective, _listed(given))),
        expected=f"{HELP}, or a list of such",
    )
    lock_wait: float | None = key(
        None,
        "seconds to wait for another process in a stage folder; null: 0 in a single run, no limit in a sweep",
        least=0,
        unit="seconds",
    )
    arch: ArchConfig = group(ArchConfig, "the network")
    dataset: DatasetConfig = group(DatasetConfig, "the images")
    task: TaskConfig = group(TaskConfig, "what is learnt")
    optimizer: OptimizerConfig = group(OptimizerConfig, "the optimizer")
    slim: SlimConfig = group(SlimConfig, "what to keep and how to search")
    train: TrainConfig = group(TrainConfig, "common to all training")
    baseline: BaselineConfig = group(BaselineConfig, "the full network's training")
    supernet: SupernetConfig = group(SupernetConfig, "the supernet's training")
    retrain: RetrainConfig = group(RetrainConfig, "the small network's training")
    export: ExportConfig = group(ExportConfig, "files for deployment (stage export)")

    @property
    def objectives(self) -> list[str]:
        """The names of what a run returns."""
        return _listed(self.objective)

    def __post_init__(self) -> None:
        super().__post_init__()
        alone = "compare alone: it gathers what was done before, in another call"
        need("compare" not in self.stages or len(set(self.stages)) == 1, "stages", self.stages, alone)
        self.stages = [stage for stage in STAGES if stage in self.stages]
