"""Train one network, or a supernet, from plain objects: what the stages and a notebook call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from autoslim.datasets.batches import BatchSource
from autoslim.datasets.given import BATCH_SIZE, batch_source
from autoslim.graph import ChannelGraph
from autoslim.reporting.terminal import progress
from autoslim.schema.checks import Options, gather
from autoslim.schema.starts import length_of
from autoslim.schema.training import FitOptions, LoopOptions, OptimizerConfig, SandwichOptions
from autoslim.slimming.levels import Levels
from autoslim.tasks import AnyTask
from autoslim.tasks.configured import given_task
from autoslim.training.loop import Evaluate, train
from autoslim.training.optimizers import refuse_two_optimizers, stage_optimizer
from autoslim.training.progress import History
from autoslim.training.steps import plain_step, sandwich_step

Batches = Any  # see `fit`


def fit(
    model: keras.Model,
    batches: Batches,
    *options: Options,
    optimizer: keras.optimizers.Optimizer | None = None,
    teacher: Callable[[Any], Any] | None = None,
    folder: Path | str | None = None,
    evaluate: Evaluate | None = None,
    description: str = "training",
    task: AnyTask | Mapping[str, Any] | None = None,
    loss: Any = None,
    loss_weights: Mapping[str, float] | None = None,
    batch_size: int = BATCH_SIZE,
    **keys: Any,
) -> History:
    """Train a network.

    Several devices are used if the model was made in the scope of a strategy.

    Args:
        model: functional or Sequential Keras model, built or not; its weights are trained.
        batches: training images: (images, labels) or (images, labels, weights) as arrays, a tf.data.Dataset
            or a list of such batches, or what `data.training()` returns. Images, and labels, may be dicts or
            lists, for several inputs and outputs.
        options: objects of `FitOptions`, `OptimizerConfig` and `LoopOptions` (`autoslim.schema.training`), or
            of classes that share keys with them; what is not given has its default.
        optimizer: None: the one that the options describe.
        teacher: images -> outputs that the network also learns from; None: labels only.
        folder: for checkpoints and TensorBoard files; a later call with it goes on where this one stopped.
        evaluate, description: as in `train`.
        task: what is learnt: "classification", "multilabel", "regression", "segmentation" or a `Task`; for
            several outputs a dict of them, or `Outputs`. None: what the loss is for, else classification.
        loss: in place of the task's own: a Keras loss, its name, or a function of labels and outputs that
            returns the loss of each image; for several outputs a dict of them.
        loss_weights: {output: number}, times its loss.
        batch_size: of arrays.
        keys: any key of the option classes, such as epochs=2, label_smoothing=0.1, learning_rate=0.05.

    Returns:
        Mean metrics of every epoch.

    Raises:
        AutoslimError: for a key that does not exist or is out of range, and as `train`.
    """
    stage, how, loop = gather("fit", [FitOptions, OptimizerConfig, LoopOptions], options, keys)
    refuse_two_optimizers(optimizer, keys)
    source = batch_source(batches, batch_size)
    task = given_task(task, loss, loss_weights)
    _build(model, source)
    if optimizer is None:
        optimizer = stage_optimizer(model, stage, how, source.steps_per_epoch, loop.precision)
    return train(
        plain_step(ChannelGraph(model), optimizer, stage, loop, teacher=teacher, task=task),
        source,
        length_of(stage),
        folder=folder,
        evaluate=evaluate,
        progress=progress,
        description=description,
    )


def _build(model: keras.Model, source: BatchSource) -> None:
    """Build a Sequential model that has no input shape yet for the images that come."""
    if isinstance(model, keras.Sequential) and not model.built:
        spec = source.dataset(1).element_spec[0]
        model.build((None, *spec.shape[1:]))


def train_supernet(
    graph: ChannelGraph,
    levels: Levels,
    batches: Batches,
    *options: Options,
    optimizer: keras.optimizers.Optimizer | None = None,
    seed: int = 0,
    folder: Path | str | None = None,
    evaluate: Evaluate | None = None,
    description: str = "supernet",
    task: AnyTask | Mapping[str, Any] | None = None,
    loss: Any = None,
    loss_weights: Mapping[str, float] | None = None,
    batch_size: int = BATCH_SIZE,
    **keys: Any,
) -> History:
    """Train a network to work at every width: sandwich rule and in-place distillation.

    Args:
        graph: of a network; its model's weights are trained.
        levels: widths that each channel group may take.
        batches: training images as in `fit`, without those held out for the search.
        options: `SandwichOptions`, `OptimizerConfig`, `LoopOptions`, as in `fit`.
        optimizer: as in `fit`.
        seed: of the random widths.
        folder, evaluate, description: as in `train`.
        task, loss, loss_weights, batch_size: as in `fit`.
        keys: of the options.

    Returns:
        Mean metrics of every epoch, each arm's.

    Raises:
        AutoslimError: as `fit`.
    """
    kinds = [SandwichOptions, OptimizerConfig, LoopOptions]
    stage, how, loop = gather("train_supernet", kinds, options, keys)
    refuse_two_optimizers(optimizer, keys)
    source = batch_source(batches, batch_size)
    task = given_task(task, loss, loss_weights)
    if optimizer is None:
        optimizer = stage_optimizer(graph.model, stage, how, source.steps_per_epoch, loop.precision)
    epochs = length_of(stage)
    steps = epochs * source.steps_per_epoch
    return train(
        sandwich_step(graph, levels, optimizer, stage, loop, seed=seed, steps=steps, task=task),
        source,
        epochs,
        folder=folder,
        evaluate=evaluate,
        progress=progress,
        description=description,
    )
