"""Residual networks for small images: ResNet (He et al., 2016), wide ResNet (Zagoruyko, Komodakis, 2016)."""

from collections.abc import Sequence

import keras

from autoslim.archs.blocks import batch_norm, conv, image_input, is_count, logits
from autoslim.errors import AutoslimError

STAGES = 3


def resnet(input_shape: Sequence[int], classes: int, depth: int = 20, width: int = 16) -> keras.Model:
    """ResNet of basic blocks: three stages of (depth - 2) / 6 blocks, with 1, 2 and 4 times `width` channels.

    The shortcut is a 1x1 convolution and batch norm where the stage changes, the identity elsewhere.

    Args:
        input_shape: (height, width, channels) of the images.
        classes: number of logits.
        depth: weighted layers on the longest path, 6 n + 2: 8, 14, 20, ..., 56, 110.
        width: channels of the stem and of the first stage.

    Raises:
        AutoslimError: an argument is out of range.
    """
    blocks = _blocks_per_stage(depth, extra_layers=2, kind="ResNet")
    if not is_count(width):
        raise AutoslimError(
            f"width={width} is not a number of channels: expected a whole number of at least 1."
        )
    image = image_input(input_shape)
    x = conv(image, width, 3, name="stem_conv")
    x = keras.layers.ReLU(name="stem_relu")(batch_norm(x, name="stem_bn"))
    for stage in range(1, STAGES + 1):
        for block in range(1, blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            x = _basic_block(x, width * 2 ** (stage - 1), strides, f"stage{stage}_block{block}")
    return keras.Model(image, logits(x, classes), name=f"resnet{depth}")


def wide_resnet(input_shape: Sequence[int], classes: int, depth: int = 40, widen: int = 4) -> keras.Model:
    """Pre-activation ResNet: three stages of (depth - 4) / 6 blocks, with 16, 32, 64 times `widen` channels.

    The stem has 16 channels. The shortcut is a 1x1 convolution of the activated input where the shape
    changes, the identity elsewhere.

    Args:
        input_shape: (height, width, channels) of the images.
        classes: number of logits.
        depth: convolutions of the network, shortcuts included, 6 n + 4: 10, 16, 22, 28, 40.
        widen: factor on the channels of every stage.

    Raises:
        AutoslimError: an argument is out of range.
    """
    blocks = _blocks_per_stage(depth, extra_layers=4, kind="wide ResNet")
    if not is_count(widen):
        raise AutoslimError(
            f"widen={widen} is not a factor for the channels: expected a whole number of at least 1."
        )
    image = image_input(input_shape)
    x = conv(image, 16, 3, name="stem_conv")
    for stage in range(1, STAGES + 1):
        for block in range(1, blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            x = _pre_activation_block(x, 16 * widen * 2 ** (stage - 1), strides, f"stage{stage}_block{block}")
    x = keras.layers.ReLU(name="final_relu")(batch_norm(x, name="final_bn"))
    return keras.Model(image, logits(x, classes), name=f"wresnet{depth}_{widen}")


def _blocks_per_stage(depth: int, extra_layers: int, kind: str) -> int:
    """(depth - extra_layers) / 6, as a block has two convolutions; AutoslimError if no whole number >= 1."""
    per_block = 2 * STAGES
    if is_count(depth) and depth > extra_layers and (depth - extra_layers) % per_block == 0:
        return (depth - extra_layers) // per_block
    shallowest = per_block + extra_layers
    way_out = f"depth={shallowest}"
    if is_count(depth) and depth > shallowest:
        below = depth - (depth - extra_layers) % per_block
        way_out = f"depth={below} or depth={below + per_block}"
    examples = ", ".join(str(per_block * n + extra_layers) for n in range(1, 5))
    raise AutoslimError(
        f"depth={depth} is not a depth of a {kind}: expected {per_block} * n + {extra_layers} for {STAGES} "
        f"stages of n blocks ({examples}, ...). Use {way_out}."
    )


def _basic_block(x: keras.KerasTensor, filters: int, strides: int, name: str) -> keras.KerasTensor:
    shortcut = x
    if strides != 1 or x.shape[-1] != filters:
        shortcut = conv(x, filters, 1, strides, name=f"{name}_shortcut_conv")
        shortcut = batch_norm(shortcut, name=f"{name}_shortcut_bn")
    x = batch_norm(conv(x, filters, 3, strides, name=f"{name}_conv1"), name=f"{name}_bn1")
    x = keras.layers.ReLU(name=f"{name}_relu1")(x)
    x = batch_norm(conv(x, filters, 3, name=f"{name}_conv2"), name=f"{name}_bn2")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=f"{name}_relu2")(x)


def _pre_activation_block(x: keras.KerasTensor, filters: int, strides: int, name: str) -> keras.KerasTensor:
    shortcut = x
    x = keras.layers.ReLU(name=f"{name}_relu1")(batch_norm(x, name=f"{name}_bn1"))
    if strides != 1 or shortcut.shape[-1] != filters:
        shortcut = conv(x, filters, 1, strides, name=f"{name}_shortcut_conv")
    x = conv(x, filters, 3, strides, name=f"{name}_conv1")
    x = keras.layers.ReLU(name=f"{name}_relu2")(batch_norm(x, name=f"{name}_bn2"))
    x = conv(x, filters, 3, name=f"{name}_conv2")
    return keras.layers.Add(name=f"{name}_add")([x, shortcut])
