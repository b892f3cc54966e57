"""The two networks of Channel-Bench-Macro as Keras models, and the widths that they may take there.

Each has seven channel groups of four levels: quarters of the group. In the order of the table's columns they
are the stem (the residual stream of the first two blocks), the hidden channels of these two and of the third
block, the stream from the third block on, and what follows it.
"""

from __future__ import annotations

from collections.abc import Callable

import keras

from autoslim.archs import blocks
from autoslim.graph import ChannelGraph
from autoslim.slimming.levels import Levels

QUARTERS = 4  # levels of a group


def mobilenet_like(side: int = 32, classes: int = 10) -> keras.Model:
    """The MobileNet-like one: 211,281,920 multiply-accumulates for an image of 32x32."""
    image = blocks.image_input((side, side, 3))
    x = blocks.conv_bn_relu(image, 128, 3, 2, name="stem")
    for number, hidden, outputs, strides in (
        (1, 768, 128, 1),
        (2, 768, 128, 1),
        (3, 768, 256, 2),
        (4, 1536, 256, 1),
    ):
        residual = strides == 1
        x = blocks.inverted_residual(x, hidden, outputs, 3, strides, residual=residual, name=f"block{number}")
    x = blocks.conv_bn_relu(x, 1024, 1, name="head")
    return keras.Model(image, blocks.logits(x, classes), name="mobilenet_like")


def resnet_like(side: int = 32, classes: int = 10) -> keras.Model:
    """The ResNet-like one: 1,436,226,560 multiply-accumulates for an image of 32x32."""
    image = blocks.image_input((side, side, 3))
    x = blocks.conv_bn_relu(image, 256, 3, 2, name="stem", cap=None)
    for number, channels, strides in ((1, 256, 1), (2, 256, 1), (3, 512, 2), (4, 512, 1), (5, 512, 1)):
        x = _basic(x, channels, strides, f"block{number}")
    return keras.Model(image, blocks.logits(x, classes), name="resnet_like")


def _basic(x: keras.KerasTensor, channels: int, strides: int, name: str) -> keras.KerasTensor:
    """Two 3x3 convolutions, added to what came in unless they reduce the resolution."""
    shortcut = x
    x = blocks.conv_bn_relu(x, channels, 3, strides, name=f"{name}_first", cap=None)
    x = blocks.batch_norm(blocks.conv(x, channels, 3, name=f"{name}_second_conv"), name=f"{name}_second_bn")
    if strides == 1:
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=f"{name}_relu")(x)


NETWORKS: dict[str, Callable[..., keras.Model]] = {"mobilenet": mobilenet_like, "resnet": resnet_like}


def quarters(graph: ChannelGraph) -> Levels:
    """Every group that may be slimmed at one to four quarters of its channels."""
    widths = [
        (group.size,) if group.frozen else tuple(group.size * k // QUARTERS for k in range(1, QUARTERS + 1))
        for group in graph.groups
    ]
    return Levels(tuple(widths))
