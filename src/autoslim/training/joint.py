"""Several networks trained as one: slices of the same weights, with batch norms of each network's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from autoslim.datasets.given import batch_source
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.graph.materialize import own_batch_norms
from autoslim.graph.replicas import strategy_of
from autoslim.graph.run import Replaced
from autoslim.reporting.terminal import progress
from autoslim.schema.checks import Options, gather
from autoslim.schema.starts import length_of
from autoslim.schema.training import JointOptions, LoopOptions, OptimizerConfig
from autoslim.tasks import AnyTask, objective_of
from autoslim.tasks.configured import given_task
from autoslim.training.lessons import Lesson
from autoslim.training.loop import Evaluate, train
from autoslim.training.optimizers import refuse_two_optimizers, stage_optimizer
from autoslim.training.progress import History
from autoslim.training.steps import Arm, ArmsStep


class JointNetwork:
    """One set of weights for several widths, with switchable batch norms (Yu et al. 2018, section 3.3).

    Each width has its own scale, shift and moving statistics at every batch norm that a rule covers, taken at
    first from the full network's; all else is the active part of the full network's weights.

    Args:
        graph: of the full network, whose weights are shared.
        widths: int32 [N, G], of the networks, the largest first.
    """

    def __init__(self, graph: ChannelGraph, widths: Sequence[np.ndarray]) -> None:
        self.graph = graph
        self.widths = [graph.check(one) for one in widths]
        with strategy_of(graph.model).scope():
            self._norms = [own_batch_norms(graph, one, f"_{i}") for i, one in enumerate(self.widths)]
        norms = {id(weight) for layer, _ in self._norms[0] for weight in layer.variables}
        own = [copy for pairs in self._norms for _, copy in pairs]
        model = graph.model
        self.variables = [v for v in model.variables if id(v) not in norms]
        self.variables += [v for layer in own for v in layer.variables]
        self.trainable_variables = [v for v in model.trainable_variables if id(v) not in norms]
        self.trainable_variables += [v for layer in own for v in layer.trainable_variables]

    @property
    def name(self) -> str:
        """The full network's."""
        return self.graph.model.name

    @property
    def layers(self) -> list[keras.Layer]:
        """The full network's."""
        return self.graph.model.layers

    def replaced(self, place: int) -> Replaced:
        """What network number `place` has in place of the full network's batch norms."""
        return {
            id(full): own
            for layer, copy in self._norms[place]
            for full, own in zip(layer.variables, copy.variables, strict=True)
        }

    def arms(self, names: Sequence[str] | None = None) -> list[Arm]:
        """The networks as arms of a step.

        Args:
            names: of the networks, for curves; None: network1, network2, ...

        Raises:
            AutoslimError: for another number of names than of networks.
        """
        names = names or [f"network{i}" for i in range(1, len(self.widths) + 1)]
        if len(names) != len(self.widths):
            raise AutoslimError(f"{len(names)} names were given for {len(self.widths)} networks.")
        return [
            Arm(name, widths, self.replaced(place), {id(layer): copy for layer, copy in self._norms[place]})
            for place, (name, widths) in enumerate(zip(names, self.widths, strict=True))
        ]

    def run(self, images: Any, place: int, **options: Any) -> Any:
        """Outputs of network number `place`; options as of `ChannelGraph.run`."""
        return self.graph.run(images, self.widths[place], replaced=self.replaced(place), **options)

    def materialize(self, place: int) -> keras.Model:
        """Network number `place` as a plain Keras model."""
        return self.graph.materialize(self.widths[place], replaced=self.replaced(place))


def train_joint(
    model: JointNetwork,
    batches: Any,
    *options: Options,
    optimizer: keras.optimizers.Optimizer | None = None,
    names: Sequence[str] | None = None,
    folder: Path | str | None = None,
    evaluate: Evaluate | None = None,
    description: str = "joint",
    task: AnyTask | Mapping[str, Any] | None = None,
    **keys: Any,
) -> History:
    """Train several networks as one.

    Args:
        model: of the networks; its weights are trained.
        batches: training images, as in `fit`.
        options: `JointOptions`, `OptimizerConfig`, `LoopOptions`, as in `fit`.
        optimizer: as in `fit`.
        names: of the networks, for curves; None: network1, network2, ...
        folder, evaluate, description: as in `train`.
        task: what is learnt, see `tasks.objective_of`.
        keys: of the options.

    Returns:
        Mean metrics of every epoch, each network's.
    """
    kinds = [JointOptions, OptimizerConfig, LoopOptions]
    stage, how, loop = gather("train_joint", kinds, options, keys)
    refuse_two_optimizers(optimizer, keys)
    batches, task = batch_source(batches), given_task(task)
    if optimizer is None:
        optimizer = stage_optimizer(model, stage, how, batches.steps_per_epoch, loop.precision)
    step = joint_step(model, optimizer, stage, loop, names=names, task=task)
    return train(
        step,
        batches,
        length_of(stage),
        folder=folder,
        evaluate=evaluate,
        progress=progress,
        description=description,
    )


def joint_step(
    model: JointNetwork,
    optimizer: keras.optimizers.Optimizer,
    *options: Options,
    names: Sequence[str] | None = None,
    task: AnyTask = "classification",
    **keys: Any,
) -> ArmsStep:
    """The step of all networks of a `JointNetwork`.

    The largest learns from the labels, the others from its outputs (or from the labels). Each normalises with
    its own batch statistics and moves its own moving ones.

    Args:
        model: whose weights are trained.
        optimizer: built on its trainable variables here.
        options: `JointOptions`, `LoopOptions`; their keys may also be given as keywords.
        names: of the networks, for curves; None: network1, network2, ...
        task: what is learnt, see `tasks.objective_of`.
        keys: of the options.

    Raises:
        AutoslimError: for another number of names than of networks.
    """
    stage, loop = gather("joint_step", [JointOptions, LoopOptions], options, keys)
    lesson = Lesson(objective_of(task, model.graph), stage.label_smoothing, stage.distill)
    return ArmsStep(model.graph, optimizer, model.arms(names), lesson, loop, model=model)
