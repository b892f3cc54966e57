"""The cells of the comparison with Torch-Pruning: networks, images, budgets, and how networks are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import evidence_cells
import keras

LONGER = "-longer"  # in a name: fine-tuned for twice the epochs, as many as bn-scale takes in all
METHODS = ("greedy", "predictor", "taylor", "magnitude", f"taylor{LONGER}", f"magnitude{LONGER}")
"""Values of `slimming` that the own cells run; a run of magnitude gives the uniform network too."""

PRUNERS = ("magnitude", "bn-scale", "taylor")
SCOPES = ("global", "local")  # one ranking over all groups (global_pruning=True), or each group at one ratio
TORCH = tuple(f"tp-{pruner}-{scope}" for pruner in PRUNERS for scope in SCOPES)
"""Torch-Pruning's networks, by the names under which their figures stand."""


@dataclass(frozen=True)
class Cell:
    """A network on images, and the shares of one resource that are to be kept.

    Attributes:
        about: in words, without the budget.
        images: which data set it needs, a key of `evidence_cells.SOURCES`.
        targets: shares of the resource, descending.
        resource: flops or params.
        evidence: whether it is a cell of the evidence suite, whose baseline and figures are used.
        settings: keys of the configuration that are the cell's own.
    """

    about: str
    images: str
    targets: tuple[float, ...]
    resource: str = "flops"
    evidence: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


# Of the cells that are not the evidence suite's. Rates are autoslim's own: 0.1 for fresh weights, 0.05 for
# trained ones. The last epoch counts, never the best one on test images.
COMMON: dict[str, Any] = {
    "dataset.train_images": 8000,
    "train.batch_size": 64,
    "baseline.epochs": 12,
    "supernet.epochs": 5,
    "retrain.epochs": 6,
    "retrain.init": "baseline",  # the network's own weights, as Torch-Pruning has them, not its supernet's
    "retrain.teacher": "none",
    "slim.levels": 12,
    "slim.min_width": 0.0833333,
    "slim.divisor": 1,
    "slim.images": 1000,
}


def _own(function: str, about: str) -> Cell:
    settings = {"arch": "custom", "arch._target_": f"torch_pruning_cells.{function}", "arch.name": function}
    return Cell(about, "cifar10", (0.5, 0.25), settings=settings)


def _of_evidence(name: str, about: str) -> Cell:
    found = evidence_cells.CELLS[name]
    resource = found.settings.get("slim.resource", "flops")
    return Cell(about, found.images, (found.settings["slim.target"],), resource, evidence=True)


CELLS = {
    "vgg": _own("vgg", "six convolutions with batch norm and a hidden dense layer, CIFAR-10"),
    "mobile": _own("mobile", "depthwise and pointwise convolutions, CIFAR-10"),
    "a": _of_evidence("a", "resnet20, Tiny-50"),
    "c": _of_evidence("c", "MobileNetV2 of width 0.35, CIFAR-10"),
}


def vgg(shape: Sequence[int] = (32, 32, 3), classes: int = 10) -> keras.Model:
    """A plain network of 4.9 million multiply-accumulates at 32x32; logits [B, classes].

    Args:
        shape: height, width, channels of an image; height and width at least 16.
        classes: number of logits.
    """
    layers = keras.layers
    x = image = keras.Input(tuple(shape), name="image")
    for number, (width, pool) in enumerate(
        ((16, True), (32, True), (32, False), (64, True), (64, False), (96, True)), 1
    ):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(_norm(f"bn{number}")(x))
        x = layers.MaxPooling2D(name=f"pool{number}")(x) if pool else x
    x = layers.Dense(64, activation="relu", name="hidden")(layers.Flatten(name="flatten")(x))
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="vgg")


def mobile(shape: Sequence[int] = (32, 32, 3), classes: int = 10) -> keras.Model:
    """A MobileNet-like network of 3.3 million multiply-accumulates at 32x32; logits [B, classes].

    Args:
        shape: height, width, channels of an image.
        classes: number of logits.
    """
    layers = keras.layers
    x = image = keras.Input(tuple(shape), name="image")
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem_conv")(x)
    x = layers.ReLU(6.0, name="stem_relu")(_norm("stem_bn")(x))
    for number, (width, strides) in enumerate(((32, 2), (64, 1), (128, 2), (128, 1), (192, 2)), 1):
        name = f"block{number}"
        x = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False, name=f"{name}_depthwise_conv")(
            x
        )
        x = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(_norm(f"{name}_depthwise_bn")(x))
        x = layers.Conv2D(width, 1, use_bias=False, name=f"{name}_conv")(x)
        x = layers.ReLU(6.0, name=f"{name}_relu")(_norm(f"{name}_bn")(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="mobile")


def _norm(name: str) -> keras.layers.Layer:
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)
