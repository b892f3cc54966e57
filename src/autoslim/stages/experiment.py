"""What the stages of one run share: the configuration, the images, the network and its budget."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim import archs, datasets
from autoslim.archs.memory import refuse_beyond_memory, refuse_too_wide
from autoslim.datasets import TrainingBatches
from autoslim.errors import AutoslimError, first_line
from autoslim.graph import ChannelGraph
from autoslim.graph.widening import widen, wider_widths
from autoslim.kinds import METHODS
from autoslim.schema import BaselineConfig, Config, RetrainConfig, SupernetConfig
from autoslim.schema.starts import filled
from autoslim.slimming.budget import Budget
from autoslim.slimming.latency import LatencyModel
from autoslim.slimming.levels import Levels
from autoslim.stages.images import augmentation, dataset_key, open_dataset
from autoslim.stages.latency_model import latency_model
from autoslim.stages.start import FRESH, OURS, TRAINED, weights_of
from autoslim.stages.store import StageFolder, make_room, stage_hash
from autoslim.tasks import TASKS, Outputs
from autoslim.tasks.configured import task_of
from autoslim.training.distribution import (
    Strategy,
    cluster_workers,
    is_chief,
    is_multi_worker,
    make_strategy,
)

log = logging.getLogger(__name__)

WEIGHTS = "full.weights.h5"


class Experiment:
    """One configuration, with images and network loaded when they are first asked for."""

    def __init__(self, config: Config, in_sweep: bool = False) -> None:
        self.config = config
        name = re.sub(r"[^\w.-]+", "-", config.dataset.name)
        self.root = Path(config.output) / f"{config.arch.name}-{name}"
        self.in_sweep = in_sweep
        self.lock_wait = config.lock_wait if config.lock_wait is not None else (None if in_sweep else 0.0)
        self._said: set[str] = set()

    def say_once(self, warning: str) -> None:
        """Warn of something that is met more than once in a run; not where the text is empty."""
        if warning and warning not in self._said:
            self._said.add(warning)
            log.warning("%s", warning)

    # -- devices -------------------------------------------------------------------------------------

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

    # -- task ----------------------------------------------------------------------------------------

    @cached_property
    def task(self) -> Outputs:
        """What the network learns."""
        return task_of(self.config.task)

    @property
    def plain(self) -> bool:
        """Whether the network answers with one class for each image: accuracies are compared with chance."""
        return self.task.tasks == TASKS["classification"]

    @property
    def classifies_images(self) -> bool:
        """Whether the network takes one image and answers with a value for each class."""
        shape = self.plan.model.output_shape
        return self.plain and isinstance(self.data.shape, tuple) and shape == (None, self.classes)

    # -- images --------------------------------------------------------------------------------------

    @cached_property
    def data(self) -> datasets.Dataset:
        """All images and labels."""
        return open_dataset(self.config.dataset, Path(self.config.output) / "datasets", self.config.task)

    @cached_property
    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """(Training images to train the supernet on, held-out images for the search); see `Dataset.split`."""
        return self.data.split(self.config.dataset.holdout, self.config.seed)

    def training_batches(self, index: np.ndarray | None = None) -> TrainingBatches:
        """Batches of the training images at `index`; None: of all."""
        c = self.config
        return self.data.training(c.train.batch_size, index=index, seed=c.seed, **augmentation(c.dataset))

    def test_batches(self) -> tf.data.Dataset:
        """The test images; for final evaluation only."""
        return self.data.test(self.config.train.eval_batch_size)

    def holdout_batches(self) -> tf.data.Dataset:
        """The held-out images that the search scores on."""
        return self.data.heldout(self.holdout_index(), self.config.slim.batch_size, self.config.seed)

    def calibration_batches(self) -> tf.data.Dataset:
        """Training images that batch-norm statistics are calibrated over, not augmented."""
        t = self.config.train
        return self.data.clean(t.batch_size, t.calibration_batches, self.config.seed)

    def holdout_index(self) -> np.ndarray:
        """Indices of the held-out images that the search scores on, the classes in their shares."""
        return self.data.holdout_order(self.split[1], self.config.seed)[: self.config.slim.images]

    def normalization(self) -> dict[str, list[float]]:
        """Per-channel constants: a network's input is (pixels / 255 - mean) / std."""
        as_lists = lambda values: tf.nest.map_structure(lambda one: one.tolist(), values)  # noqa: E731
        return {"mean": as_lists(self.data.mean), "std": as_lists(self.data.std)}

    # -- how the stages train ------------------------------------------------------------------------

    @cached_property
    def baseline(self) -> BaselineConfig:
        """Section `baseline`, nothing of it null."""
        section = self.config.baseline
        section = dataclasses.replace(
            section, train=not self.given if section.train is None else section.train
        )
        return filled(section, "fresh" if self.own_weights == FRESH else "trained", self.config.optimizer)

    @cached_property
    def supernet(self) -> SupernetConfig:
        """Section `supernet`, nothing of it null."""
        return filled(self.config.supernet, self._supernet_start, self.config.optimizer)

    @cached_property
    def retrain(self) -> RetrainConfig:
        """Section `retrain`, nothing of it null."""
        section = self.config.retrain
        teacher = section.teacher or ("given" if self.given and not section.joint else "none")
        start = "fresh" if section.init == "scratch" else self._supernet_start
        return filled(dataclasses.replace(section, teacher=teacher), start, self.config.optimizer)

    @property
    def one_training(self) -> bool:
        """Whether networks are parts of a trained network whose channels are sorted, not of a supernet."""
        return METHODS[self.config.slim.method].importance is not None

    @property
    def _supernet_start(self) -> str:
        """The recipe of the supernet, and of what starts from its weights."""
        if self.one_training:
            return "trained"
        init = self.config.supernet.init
        fresh = init == "scratch" or (init == "weights" and self.own_weights == FRESH)
        return "fresh" if fresh else "trained"

    # -- network -------------------------------------------------------------------------------------

    def build(self, seed: int | None = None) -> keras.Model:
        """The full network with its own weights, the same whatever was built before in this process.

        Args:
            seed: of weights that are drawn; None: the configured one.
        """
        c = self.config
        shape, args = c.dataset.shape or self.data.shape, c.arch.arguments()
        refuse_too_wide(c.arch._target_, shape, self.classes, self.plain, args)
        keras.utils.clear_session()
        keras.utils.set_random_seed(c.seed if seed is None else seed)
        with self.strategy.scope():
            return archs.build(c.arch._target_, shape, self.classes, self.plain, **args)

    @property
    def classes(self) -> Any:
        """Number of classes; of another task's labels, see `Dataset.classes`."""
        return self.config.dataset.classes or self.data.classes

    @cached_property
    def own_weights(self) -> str:
        """What the weights are that the network comes with: FRESH, PARTLY or TRAINED of `stages.start`."""
        return weights_of(self.config.arch, self.classes, self.build)

    @property
    def given(self) -> bool:
        """Whether the network's own weights are trained for these images: they are the reference."""
        return self.own_weights == TRAINED

    def graph_of(self, model: keras.Model) -> ChannelGraph:
        """The channel graph with the user's frozen layers; costs are those for images of the data's size."""
        return ChannelGraph(model, tuple(self.config.slim.freeze), self.image_shape)

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Height, width and channels of the images; None where the data has inputs of other kinds."""
        shape = self.config.dataset.shape or (self.data.shape if self.data else None)
        return tuple(shape) if isinstance(shape, (list, tuple)) else None

    def widened(self, model: keras.Model, weights: bool = False) -> keras.Model:
        """The network with the room that `slim.headroom` gives it; the model itself where that is none.

        Args:
            model: the full network.
            weights: go on from its weights, so that it computes the same; else fresh ones.
        """
        s = self.config.slim
        if not s.wider:
            return model
        if self.one_training:
            raise AutoslimError(
                f"slimming={s.method} trains no supernet, so there is none to be wider: choose another "
                "method with slim.headroom, such as greedy or predictor."
            )
        graph = self.graph_of(model)
        widths = wider_widths(graph, s.headroom, s.divisor)
        least = min((widths[g.index] / g.size for g in graph.slimmable), default=1.0)
        refuse_beyond_memory(model.count_params() * least**2, f"slim.headroom={s.headroom}")
        with self.strategy.scope():
            return widen(graph, widths, weights=weights, seed=self.config.seed)

    @cached_property
    def _own_graph(self) -> ChannelGraph:
        """The graph of the network itself."""
        return self.graph_of(self.build())

    @cached_property
    def plan(self) -> ChannelGraph:
        """A graph of the supernet for names and costs; its weights are never trained."""
        if not self.config.slim.wider:
            return self._own_graph
        return self.graph_of(self.widened(self._own_graph.model))

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
        return Budget(
            self.plan,
            s.resource,
            s.convention,
            s.limits.given,
            self.latency,
            s.allow_uncounted,
            self.own_widths,
        )

    # -- what results depend on ----------------------------------------------------------------------

    @cached_property
    def common_key(self) -> dict[str, Any]:
        """What every stage that trains depends on."""
        c = self.config
        arch = dataclasses.asdict(c.arch)
        files = [arch[key] for key in ("path", "weights") if arch.get(key) and Path(arch[key]).is_file()]
        if files:  # a model or weights of the user's: another file at the same path is another network
            arch["files"] = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files]
        if not c.arch._target_.startswith(OURS):
            arch["network"] = stage_hash(_structure(self.plan.model))  # a user's function may change
        return {
            "arch": arch,
            "dataset": dataset_key(c.dataset, self.data),
            "task": c.task.affecting_result(),
            "optimizer": {k: v for k, v in c.optimizer.affecting_result().items() if k != "learning_rate"},
            "train": c.train.affecting_result(),
            "seed": c.seed,
        }

    @property
    def holdout_key(self) -> Any:
        """Which images are held out."""
        return self.data.holdout_fingerprint or self.config.dataset.holdout

    # -- weights -------------------------------------------------------------------------------------

    def save_weights(self, model: keras.Model, folder: StageFolder) -> None:
        """Write the network's weights, once it is sure that there is room: HDF5 crashes on a full disk."""
        if not is_chief(self.strategy):
            return
        values = sum(math.prod(v.shape) for v in model.variables)
        make_room(folder.path, 2**16 + 8 * values + 4096 * len(model.variables))
        model.save_weights(folder.path / WEIGHTS)

    def load_weights(self, folder: StageFolder, supernet: bool = False) -> keras.Model:
        """The full network with the weights that a finished stage saved.

        Args:
            folder: of the stage.
            supernet: whether they are of the supernet, which may be wider than the network.

        Raises:
            AutoslimError: for a damaged file, or weights of another network.
        """
        model = self.widened(self.build()) if supernet else self.build()
        path = folder.path / WEIGHTS
        try:
            model.load_weights(path)
        except (OSError, ValueError, KeyError) as error:
            raise AutoslimError(
                f"The weights in {path} are damaged or of another network "
                f"({first_line(error, 120)}). Remove the folder {folder.path} to run stage "
                f"{folder.stage} again."
            ) from error
        return model


def _structure(model: keras.Model) -> dict[str, Any]:
    """All that makes the network what it is, weights aside."""
    weights = [[v.path, list(v.shape), v.dtype] for v in model.variables]
    try:
        return {"config": json.loads(model.to_json()), "weights": weights}
    except Exception:  # a layer of the user's own that cannot tell its configuration
        return {"layers": [[type(layer).__name__, layer.name] for layer in model.layers], "weights": weights}
