"""The cells of the evidence suite: network, images, budget. Declared before any was measured.

Cells a to f compare AutoSlim with uniform slimming; g and h, which came later, ask what else is to be known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras

METHODS = ("predictor", "greedy", "sensitivity", "random", "taylor")
"""Values of `slimming`. The first is the one that the suite judges; its run also gives the baseline and the
uniform networks. It was preferred to the paper's greedy search, before any cell was measured, for what the
two find on the public table of trained networks (docs/channel_bench.md)."""

CHIEF = METHODS[:2]


@dataclass(frozen=True)
class Cell:
    """A network on images under a budget.

    Attributes:
        about: in words.
        images: which data set it needs, a key of `SOURCES`.
        settings: keys of the configuration that are the cell's own.
        methods: values of `slimming` that are compared.
        judged: whether it counts where AutoSlim is compared with uniform slimming over all cells.
    """

    about: str
    images: str
    settings: dict[str, Any] = field(default_factory=dict)
    methods: tuple[str, ...] = CHIEF
    judged: bool = True


SOURCES: dict[str, dict[str, Any]] = {
    "tiny50": {
        "dataset": "image_folder",
        "dataset.name": "tiny50",
        "dataset.shape": "[32,32,3]",
        "dataset.normalization": "dataset",
        "dataset.crop": "none",
        "dataset.eval_crop": 1.0,
        "dataset.pad": 4,
        "dataset.train_images": 10_000,
    },
    "cifar10": {"dataset": "cifar10", "dataset.train_images": 10_000},
}
"""Name -> how the images are read: 50 classes of Tiny ImageNet at 32x32, and CIFAR-10."""

# The same for all cells and methods. The last epoch counts, never the best one on test images.
COMMON: dict[str, Any] = {
    "train.batch_size": 64,
    "baseline.epochs": 16,
    "supernet.epochs": 10,
    "retrain.epochs": 16,
    "slim.levels": 12,
    "slim.min_width": 0.0833333,
    "slim.divisor": 1,
    "slim.images": 1000,
    "optimizer.learning_rate": 0.1,
    "retrain.init": "baseline",
}

# Faster than float32 where layers are wide, on processors with instructions for it (AVX-512 BF16, AMX); on
# others gradients of convolutions take twenty times as long. Narrow layers are slower in it everywhere.
BFLOAT16 = {"train.precision": "mixed_bfloat16"}

_VGG = {"arch": "custom", "arch._target_": "evidence_cells.vgg", "arch.name": "vgg", **BFLOAT16}

CELLS = {
    "a": Cell(
        "resnet20, Tiny-50, 0.25 of the FLOPs",
        "tiny50",
        {"arch": "resnet20", "slim.target": 0.25},
        METHODS,
    ),
    "b": Cell(
        "resnet20, Tiny-50, 0.25 of the parameters",
        "tiny50",
        {"arch": "resnet20", "slim.target": 0.25, "slim.resource": "params"},
    ),
    "c": Cell(
        "MobileNetV2 of width 0.35, CIFAR-10, 0.25 of the parameters",
        "cifar10",
        {
            "arch": "mobilenet_v2",
            "arch.width": 0.35,
            "slim.target": 0.25,
            "slim.resource": "params",
        },
    ),
    "d": Cell(
        "resnet20 of width 12, Tiny-50, its own FLOPs and parameters, headroom 1.5",
        "tiny50",
        {
            "arch": "resnet20",
            "arch.width": 12,
            "slim.headroom": 1.5,
            "slim.target": 1.0,
            "slim.limits.params": "base",
        },
    ),
    "e": Cell(
        "VGG-like network, CIFAR-10, 0.1 of the FLOPs",
        "cifar10",
        {**_VGG, "slim.target": 0.1},
        METHODS,
    ),
    "f": Cell(
        "wresnet10_2, CIFAR-10, 0.5 of the measured latency",
        "cifar10",
        {
            "arch": "wresnet16_1",
            "arch.depth": 10,
            "arch.widen": 2,
            "slim.target": 0.5,
            "slim.resource": "latency",
        },
    ),
    "g": Cell(
        "the network of e, CIFAR-10, 0.5 of the FLOPs: is the accuracy kept?",
        "cifar10",
        {**_VGG, "slim.target": 0.5},
        METHODS[:1],
        judged=False,
    ),
    "h": Cell(
        "a, with all of AutoSlim for 0.75 of a baseline training: what is lost?",
        "tiny50",
        {
            "arch": "resnet20",
            "slim.target": 0.25,
            "supernet.epochs": 4,
            "slim.passes": 75,
            "retrain.init": "supernet",  # a baseline alone would be more than that
        },
        METHODS[:1],
        judged=False,
    ),
}
"""Name -> cell. All methods where they cost little beside the supernet, else the first two, or the first."""

JUDGED = tuple(name for name, cell in CELLS.items() if cell.judged)


def vgg(shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10) -> keras.Model:
    """A plain network: convolution, batch norm and ReLU, with a tail of 512 channels; logits [B, classes].

    Args:
        shape: height, width, channels of an image; height and width at least 16.
        classes: number of logits.
    """
    layers = keras.layers
    x = image = keras.Input(shape)
    for width, pool in ((32, True), (64, True), (128, False), (256, True), (512, True), (512, False)):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.MaxPooling2D()(x) if pool else x
    return keras.Model(image, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)), name="vgg")
