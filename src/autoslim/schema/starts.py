"""How long and how fast weights are trained unless it is said: by the weights that a stage starts from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from autoslim.schema.training import OptimizerConfig, RetrainConfig, StageConfig

Stage = TypeVar("Stage", bound=StageConfig)

EPOCHS = 30


@dataclass(frozen=True)
class Recipe:
    """What stands for null in the sections of the stages that train."""

    rates: Mapping[str, float]  # optimizer.name -> peak learning rate
    epochs: Mapping[str, int]  # section -> passes over the training images, where they are not `EPOCHS`
    warmup: float  # share of the epochs in which the rate rises


RECIPES = {
    "fresh": Recipe(
        rates={"sgd": 0.1, "adamw": 1e-3},
        epochs={},
        warmup=0.1,
    ),
    "trained": Recipe(
        rates={"sgd": 0.05, "adamw": 5e-4},
        epochs={"supernet": 5, "retrain": 15},
        warmup=0.1,
    ),
}
"""Weights that a stage starts from -> its recipe. The rate of 0.05 for SGD was chosen on a VGG and a
MobileNet-like network trained on CIFAR-10: 0.02 ended about a point lower, and 0.1 destroys what they have
learned. The epochs were not compared with others, nor was AdamW's rate."""


def first_weights(retrain: RetrainConfig, trained: bool, prunes: bool) -> str:
    """Whose weights small networks begin with: "baseline", "supernet" or "scratch".

    Args:
        retrain: the section, whose `init` it is unless that is null.
        trained: whether there will be a full network that is trained alone, or comes so.
        prunes: whether the supernet is nothing but that network, with sorted channels.
    """
    init = retrain.init or ("baseline" if trained else "supernet")
    return "supernet" if prunes and init == "baseline" else init


def length_of(stage: StageConfig) -> int:
    """The epochs of a training; from fresh weights, where they are null."""
    return EPOCHS if stage.epochs is None else stage.epochs


def rate_of(optimizer: OptimizerConfig, start: str = "fresh") -> float:
    """The peak learning rate of an optimizer; that of the recipe, where it is null."""
    rate = optimizer.learning_rate
    name = optimizer.name if optimizer._target_ is None else "adamw"  # most others take such rates
    return RECIPES[start].rates[name] if rate is None else rate


def filled(stage: Stage, start: str, optimizer: OptimizerConfig) -> Stage:
    """A stage's section with a value for every key that is null and that the recipe knows.

    Args:
        stage: the section.
        start: the weights that it starts from, a key of `RECIPES`.
        optimizer: its name, and the rate of stages without one of their own.
    """
    recipe = RECIPES[start]
    epochs = recipe.epochs.get(stage.section, EPOCHS) if stage.epochs is None else stage.epochs
    rate = rate_of(optimizer, start)
    values: dict[str, Any] = {
        "epochs": epochs,
        "warmup_epochs": recipe.warmup * epochs,
        "learning_rate": rate,
    }
    lacking = {name: value for name, value in values.items() if getattr(stage, name) is None}
    return dataclasses.replace(stage, **lacking)
