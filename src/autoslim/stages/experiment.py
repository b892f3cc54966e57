"""What the stages of one run share: each object made when it is first asked for."""

from __future__ import annotations

import dataclasses
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from autoslim.datasets import Dataset
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.kinds import METHODS
from autoslim.schema import BaselineConfig, Config, RetrainConfig, SupernetConfig
from autoslim.schema.starts import filled, first_weights
from autoslim.slimming.budget import Budget
from autoslim.slimming.latency import LatencyModel
from autoslim.slimming.levels import Levels
from autoslim.stages.builder import Builder
from autoslim.stages.chance import Chance
from autoslim.stages.channels import channels_widths
from autoslim.stages.images import Images, open_dataset
from autoslim.stages.judge import Judge
from autoslim.stages.keys import common_key
from autoslim.stages.latency_model import latency_model
from autoslim.stages.macs import TRAINING, trained_images
from autoslim.stages.start import FRESH, TRAINED, weights_of
from autoslim.tasks import Outputs
from autoslim.tasks.configured import task_of
from autoslim.training.distribution import Strategy, cluster_workers, is_multi_worker, make_strategy


class Experiment:
    """One configuration, and the objects that its stages work on.

    It is taken by the functions that a stage's record names; they hand on the objects that others need.
    """

    def __init__(self, config: Config, in_sweep: bool = False) -> None:
        self.config = config
        name = re.sub(r"[^\w.-]+", "-", config.dataset.name)
        self.root = Path(config.output) / f"{config.arch.name}-{name}"
        self.in_sweep = in_sweep
        self.lock_wait = config.lock_wait if config.lock_wait is not None else (None if in_sweep else 0.0)

    @cached_property
    def strategy(self) -> Strategy:
        """The devices to train on; asked for before anything else touches TensorFlow."""
        name = self.config.train.strategy
        if self.in_sweep and (name == "multi_worker" or (name == "auto" and len(cluster_workers()) > 1)):
            raise AutoslimError(
                "--multirun can't be used with several workers: a process joins the cluster only once. Start "
                "one run after another, or choose train.strategy=single."
            )
        return make_strategy(name)

    # -- task and images -----------------------------------------------------------------------------

    @cached_property
    def task(self) -> Outputs:
        """What the network learns."""
        return task_of(self.config.task)

    @cached_property
    def data(self) -> Dataset:
        """All images and labels."""
        return open_dataset(self.config.dataset, Path(self.config.output) / "datasets", self.config.task)

    @cached_property
    def images(self) -> Images:
        """The images in the batches that the stages take."""
        c = self.config
        return Images(self.data, c.dataset, c.train, c.slim, c.seed)

    @property
    def classes(self) -> Any:
        """Number of classes; of another task's labels, see `Dataset.classes`."""
        return self.config.dataset.classes or self.data.classes

    # -- how the stages train ------------------------------------------------------------------------

    @cached_property
    def baseline(self) -> BaselineConfig:
        """Section `baseline`, nothing of it null."""
        section = self.config.baseline
        section = dataclasses.replace(
            section, train=not self.given if section.train is None else section.train
        )
        return filled(section, self._own_start, self.config.optimizer)

    @cached_property
    def supernet(self) -> SupernetConfig:
        """Section `supernet`, nothing of it null."""
        return filled(self.config.supernet, self._supernet_start, self.config.optimizer)

    @cached_property
    def retrain(self) -> RetrainConfig:
        """Section `retrain`, nothing of it null."""
        trained, prunes = self.given or bool(self.baseline.train), self.importance is not None
        return self._retrain_from(first_weights(self.config.retrain, trained, prunes))

    @property
    def candidates(self) -> RetrainConfig:
        """The same for candidates of a final: never from the baseline, which knows the held-out images."""
        return self._retrain_from("supernet") if self.retrain.init == "baseline" else self.retrain

    def _retrain_from(self, init: str) -> RetrainConfig:
        """Section `retrain` by the recipe of what starts from these weights."""
        section = self.config.retrain
        teacher = section.teacher or ("given" if self.given and not section.joint else "none")
        starts = {"scratch": "fresh", "baseline": self._own_start, "supernet": self._supernet_start}
        section = dataclasses.replace(section, teacher=teacher, init=init)
        return filled(section, starts[init], self.config.optimizer)

    @property
    def importance(self) -> str | None:
        """By what channels of a trained network are sorted, in place of a supernet; None: one is trained."""
        return METHODS[self.config.slim.method].importance

    @property
    def _own_start(self) -> str:
        """The recipe of the baseline, and of what starts from its weights."""
        return "fresh" if self.own_weights == FRESH else "trained"

    @property
    def _supernet_start(self) -> str:
        """The recipe of the supernet, and of what starts from its weights."""
        return "fresh" if self.fresh_supernet else "trained"

    @property
    def fresh_supernet(self) -> bool:
        """Whether the supernet begins with fresh weights."""
        init = self.config.supernet.init
        fresh = init == "scratch" or (init == "weights" and self.own_weights == FRESH)
        return fresh and self.importance is None

    # -- network -------------------------------------------------------------------------------------

    @cached_property
    def builder(self) -> Builder:
        """What builds the full network and the supernet."""
        c = self.config
        shape = c.dataset.shape or self.data.shape
        return Builder(c.arch, c.slim, shape, self.classes, self.task.classifies, c.seed, self.strategy)

    @cached_property
    def own_weights(self) -> str:
        """What the weights are that the network comes with: FRESH, PARTLY or TRAINED of `stages.start`."""
        return weights_of(self.config.arch, self.classes, lambda seed: self.builder.network(seed))

    @property
    def given(self) -> bool:
        """Whether the network's own weights are trained for these images: they are the reference."""
        return self.own_weights == TRAINED

    @cached_property
    def _own_graph(self) -> ChannelGraph:
        """The graph of the network itself."""
        return self.builder.graph(self.builder.network())

    @cached_property
    def plan(self) -> ChannelGraph:
        """A graph of the supernet for names and costs; its weights are never trained."""
        if not self.config.slim.wider:
            return self._own_graph
        return self.builder.graph(self.builder.widened(self._own_graph.model))

    @cached_property
    def own_widths(self) -> np.ndarray:
        """Widths of the network itself among those of the plan: int32 [G]."""
        return self._own_graph.full

    @cached_property
    def levels(self) -> Levels:
        """The widths that each group may take."""
        s = self.config.slim
        return Levels.spaced(self.plan, s.levels, s.min_width, s.divisor, s.step, self.own_widths)

    @cached_property
    def named_widths(self) -> np.ndarray:
        """The widths that the file `slim.channels`, which must be given, names: int32 [G]."""
        assert self.config.slim.channels is not None
        return channels_widths(self.config.slim.channels, self.plan)

    # -- costs ---------------------------------------------------------------------------------------

    @cached_property
    def latency(self) -> LatencyModel | None:
        """What predicts latency from measured networks, where latency is limited."""
        s = self.config.slim
        if "latency" not in (s.resource, *s.limits.given):
            return None
        if s.wider:
            raise AutoslimError(
                "Latency can't be limited with slim.headroom: it is measured as a share of the supernet's. "
                "Limit flops, params or memory, or give slim.headroom=1."
            )
        if is_multi_worker(self.strategy):
            raise AutoslimError(
                "Latency can't be limited in a run of several workers: each would measure its own. Let them "
                "train (stages=[supernet]), then search alone: train.strategy=single, the rest as it is."
            )
        return latency_model(self.plan, self.levels, s, Path(self.config.output) / "latency")

    @cached_property
    def budget(self) -> Budget:
        """What the networks may cost."""
        s = self.config.slim
        limits, uncounted = s.limits.given, s.allow_uncounted
        return Budget(self.plan, s.resource, s.convention, limits, self.latency, uncounted, self.own_widths)

    @cached_property
    def unit(self) -> int:
        """Multiply-accumulates of one baseline training by this configuration, whether it is run or not."""
        images = trained_images(self.images.training(), self.baseline.epochs)
        return TRAINING * int(self.plan.cost(self.own_widths).flops) * images

    # -- results -------------------------------------------------------------------------------------

    @cached_property
    def common_key(self) -> dict[str, Any]:
        """What every stage that trains depends on."""
        return common_key(self.config, self.data, lambda: self.plan.model)

    @cached_property
    def chance(self) -> Chance:
        """What guessing reaches on the test images."""
        return Chance.of(self.data.test_labels, self.task, self.classes)

    @cached_property
    def judge(self) -> Judge:
        """What evaluates and writes trained networks."""
        shape, convention = self.builder.image_shape, self.config.slim.convention
        return Judge(self.images, self.task, self.chance, shape, convention, self.unit)

    @property
    def classifies_images(self) -> bool:
        """Whether the network takes one image and answers with a value for each class."""
        answers = self.plan.model.output_shape
        return self.task.classifies and isinstance(self.data.shape, tuple) and answers == (None, self.classes)
