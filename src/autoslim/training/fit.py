"""Train one network, or a supernet, from plain objects: what the stages and a notebook call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from autoslim.datasets import BatchSource
from autoslim.graph import ChannelGraph
from autoslim.slimming.levels import Levels
from autoslim.training.gradients import USUAL, Computing
from autoslim.training.loop import Evaluate, train
from autoslim.training.optimizers import make_optimizer, make_schedule
from autoslim.training.progress import History
from autoslim.training.running import USUALLY, Running
from autoslim.training.steps import PlainStep, SandwichStep

DEFAULT_RATE = 0.1
DEFAULT_DECAY = 5e-3


def fit(
    model: keras.Model,
    batches: BatchSource,
    epochs: int,
    *,
    optimizer: keras.optimizers.Optimizer | None = None,
    smoothing: float = 0.0,
    teacher: Callable[[Any], Any] | None = None,
    distill_weight: float = 0.5,
    temperature: float = 1.0,
    folder: Path | str | None = None,
    running: Running = USUALLY,
    evaluate: Evaluate | None = None,
    description: str = "training",
    computing: Computing = USUAL,
) -> History:
    """Train a network that returns logits.

    Args:
        model: functional Keras model; its weights are trained.
        batches: training images.
        epochs: passes over them.
        optimizer: None: SGD with Nesterov momentum, weight decay and a cosine schedule from 0.1.
        smoothing: label smoothing, in [0, 1).
        teacher: images -> logits that the network also learns from; None: labels only.
        distill_weight: share of the loss that comes from the teacher, in [0, 1].
        temperature: softening of the teacher's outputs, above 0.
        folder: for checkpoints and TensorBoard files; a later call with it goes on where this one stopped.
        running, evaluate, description: as in `train`.
        computing: precision and the like; several devices are those that the model was made for.

    Returns:
        Mean metrics of every epoch.
    """
    step = PlainStep(
        ChannelGraph(model),
        optimizer or default_optimizer(model, epochs * batches.steps_per_epoch, computing.precision),
        smoothing=smoothing,
        teacher=teacher,
        distill_weight=distill_weight,
        temperature=temperature,
        computing=computing,
    )
    return train(
        step,
        batches,
        epochs,
        folder=folder,
        running=running,
        evaluate=evaluate,
        description=description,
    )


def train_supernet(
    graph: ChannelGraph,
    levels: Levels,
    batches: BatchSource,
    epochs: int,
    *,
    optimizer: keras.optimizers.Optimizer | None = None,
    arms: int = 4,
    distill: bool = True,
    smoothing: float = 0.0,
    seed: int = 0,
    folder: Path | str | None = None,
    running: Running = USUALLY,
    evaluate: Evaluate | None = None,
    description: str = "supernet",
    computing: Computing = USUAL,
) -> History:
    """Train a network to work at every width: sandwich rule and in-place distillation.

    Args:
        graph: of a network that returns logits; its model's weights are trained.
        levels: widths that each channel group may take.
        batches: training images, without those held out for the search.
        epochs: passes over them.
        optimizer: None: SGD with Nesterov momentum, weight decay and a cosine schedule from 0.1.
        arms: widths per step: the largest, the smallest and `arms - 2` random ones.
        distill: whether smaller arms learn from the largest arm's softmax, or else from the labels.
        smoothing: label smoothing, in [0, 1).
        seed: of the random widths.
        folder, running, evaluate, description, computing: as in `fit`.

    Returns:
        Mean metrics of every epoch, each arm's.
    """
    step = SandwichStep(
        graph,
        levels,
        optimizer or default_optimizer(graph.model, epochs * batches.steps_per_epoch, computing.precision),
        seed=seed,
        arms=arms,
        distill=distill,
        smoothing=smoothing,
        computing=computing,
    )
    return train(
        step,
        batches,
        epochs,
        folder=folder,
        running=running,
        evaluate=evaluate,
        description=description,
    )


def default_optimizer(
    model: keras.Model, steps: int, precision: str = "float32"
) -> keras.optimizers.Optimizer:
    """SGD with Nesterov momentum 0.9, weight decay and a cosine schedule from 0.1 over `steps` steps."""
    schedule = make_schedule("cosine", DEFAULT_RATE, steps)
    return make_optimizer(model, schedule, weight_decay=DEFAULT_DECAY, precision=precision)
