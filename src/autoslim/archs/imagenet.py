"""The paper's four networks for images of 224x224, each a function of its list of channels.

A list gives every convolution's outputs in the order of the network, as the authors of AutoSlim published
theirs; a width multiplier makes the list of the network's own paper, times the multiplier. Directly built
from a list or slimmed to it, a network is the same.
"""

from collections.abc import Sequence

import keras

from autoslim.archs.blocks import (
    batch_norm,
    conv,
    conv_bn_relu,
    depthwise_bn_relu,
    given_channels,
    image_input,
    inverted_residual,
    logits,
    scaled,
)
from autoslim.errors import AutoslimError

MOBILENET_V1 = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
MOBILENET_V1_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)

# A row for each stage: expansion, output channels, blocks, strides of the first block, kernel.
MOBILENET_V2_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 32, 3, 2, 3),
    (6, 64, 4, 2, 3),
    (6, 96, 3, 1, 3),
    (6, 160, 3, 2, 3),
    (6, 320, 1, 1, 3),
)
MNASNET_STAGES = (
    (1, 16, 1, 1, 3),
    (3, 24, 3, 2, 3),
    (3, 40, 3, 2, 5),
    (6, 80, 3, 2, 5),
    (6, 96, 2, 1, 3),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
STEM, HEAD = 32, 1280

RESNET50_STAGES = ((64, 256, 3), (128, 512, 4), (256, 1024, 6), (512, 2048, 3))  # middle, outputs, blocks


def mobilenet_v1(
    input_shape: Sequence[int], classes: int, width: float = 1.0, channels: Sequence[int] | None = None
) -> keras.Model:
    """MobileNet (Howard et al. 2017): 13 depthwise separable blocks.

    Args:
        input_shape: (height, width, channels) of the images.
        classes: number of logits.
        width: factor on the channels, rounded to multiples of 8.
        channels: [stem, 13 pointwise outputs] in place of `width`.

    Raises:
        AutoslimError: an argument is out of range.
    """
    channels = given_channels(channels, 14) or [scaled(c, width) for c in MOBILENET_V1]
    image = image_input(input_shape)
    x = conv_bn_relu(image, channels[0], 3, 2, name="stem")
    for number, (filters, strides) in enumerate(zip(channels[1:], MOBILENET_V1_STRIDES, strict=True), 1):
        name = f"block{number}"
        x = depthwise_bn_relu(x, 3, strides, name=name)
        x = conv_bn_relu(x, filters, 1, name=f"{name}_pointwise")
    return keras.Model(image, logits(x, classes), name="mobilenet_v1")


def mobilenet_v2_imagenet(
    input_shape: Sequence[int], classes: int, width: float = 1.0, channels: Sequence[int] | None = None
) -> keras.Model:
    """MobileNetV2 (Sandler et al. 2018): 17 inverted residuals.

    Args:
        input_shape: (height, width, channels) of the images.
        classes: number of logits.
        width: factor on the channels, rounded to multiples of 8; the head never has fewer than 1280.
        channels: [stem, outputs of block 1, then (expanded, outputs) of 16 blocks, head] in place of `width`.

    Raises:
        AutoslimError: an argument is out of range.
    """
    return _inverted_network("mobilenet_v2", MOBILENET_V2_STAGES, input_shape, classes, width, channels)


def mnasnet(
    input_shape: Sequence[int], classes: int, width: float = 1.0, channels: Sequence[int] | None = None
) -> keras.Model:
    """MNasNet (Tan et al. 2019) without squeeze-and-excitation: 17 inverted residuals, kernels of 3 and 5.

    Arguments and errors as of `mobilenet_v2_imagenet`.
    """
    return _inverted_network("mnasnet", MNASNET_STAGES, input_shape, classes, width, channels)


def resnet50(
    input_shape: Sequence[int], classes: int, width: float = 1.0, channels: Sequence[int] | None = None
) -> keras.Model:
    """ResNet-50 of bottleneck blocks (He et al. 2016), the stride on the 3x3 convolution.

    Args:
        input_shape: (height, width, channels) of the images.
        classes: number of logits.
        width: factor on the channels, rounded to multiples of 8.
        channels: [stem, then for each of four stages its shortcut's outputs and (middle, middle, outputs) of
            3, 4, 6 and 3 blocks] in place of `width`; all outputs of a stage are equal.

    Raises:
        AutoslimError: an argument is out of range.
    """
    size = 1 + sum(1 + 3 * blocks for _, _, blocks in RESNET50_STAGES)
    remaining = iter(given_channels(channels, size) or _resnet50_channels(width))
    image = image_input(input_shape)
    x = conv_bn_relu(image, next(remaining), 7, 2, name="stem", cap=None)
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    for stage, (_, _, blocks) in enumerate(RESNET50_STAGES, 1):
        shortcut_filters = next(remaining)
        for block in range(1, blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            filters = [next(remaining) for _ in range(3)]
            if filters[2] != shortcut_filters:
                raise AutoslimError(
                    f"channels: stage {stage} of resnet50 joins {shortcut_filters} and {filters[2]} channels "
                    "by addition; expected one number of outputs in a stage."
                )
            x = _bottleneck(x, filters, strides, block == 1, f"stage{stage}_block{block}")
    return keras.Model(image, logits(x, classes), name="resnet50")


def _inverted_channels(stages: Sequence[tuple[int, ...]], width: float) -> list[int]:
    channels = [scaled(STEM, width)]
    entering = channels[0]
    for expansion, filters, blocks, _, _ in stages:
        for _ in range(blocks):
            if expansion != 1:
                channels.append(expansion * entering)
            entering = scaled(filters, width)
            channels.append(entering)
    return [*channels, scaled(HEAD, max(1.0, width))]


def _resnet50_channels(width: float) -> list[int]:
    channels = [scaled(64, width)]
    for middle, outputs, blocks in RESNET50_STAGES:
        block = [scaled(middle, width), scaled(middle, width), scaled(outputs, width)]
        channels += [scaled(outputs, width), *block * blocks]
    return channels


def _inverted_network(
    name: str,
    stages: Sequence[tuple[int, ...]],
    input_shape: Sequence[int],
    classes: int,
    width: float,
    channels: Sequence[int] | None,
) -> keras.Model:
    """A network of inverted residuals; a block of expansion 1 has no expansion convolution."""
    size = 2 + sum(blocks * (1 if expansion == 1 else 2) for expansion, _, blocks, _, _ in stages)
    remaining = iter(given_channels(channels, size) or _inverted_channels(stages, width))
    image = image_input(input_shape)
    x = conv_bn_relu(image, next(remaining), 3, 2, name="stem")
    for stage, (expansion, _, blocks, first_strides, kernel) in enumerate(stages, 1):
        for block in range(1, blocks + 1):
            at = f"stage{stage}_block{block}"
            strides = first_strides if block == 1 else 1
            expanded = None if expansion == 1 else next(remaining)
            filters, residual = next(remaining), block > 1  # within a stage in and out are equal
            if residual:
                _check_sum(x, filters, f"{at}_add")
            x = inverted_residual(x, expanded, filters, kernel, strides, residual=residual, name=at)
    x = conv_bn_relu(x, next(remaining), 1, name="head")
    return keras.Model(image, logits(x, classes), name=name)


def _check_sum(x: keras.KerasTensor, filters: int, name: str) -> None:
    """Refuse a list of channels by which a block's inputs and outputs differ although they are added."""
    if x.shape[-1] != filters:
        raise AutoslimError(
            f"channels: {name} joins {x.shape[-1]} and {filters} channels; expected one number of "
            "outputs for the blocks of a stage."
        )


def _bottleneck(
    x: keras.KerasTensor, filters: Sequence[int], strides: int, projects: bool, name: str
) -> keras.KerasTensor:
    shortcut = x
    x = conv_bn_relu(x, filters[0], 1, name=f"{name}_1", cap=None)
    x = conv_bn_relu(x, filters[1], 3, strides, name=f"{name}_2", cap=None)
    x = batch_norm(conv(x, filters[2], 1, name=f"{name}_3_conv"), name=f"{name}_3_bn")
    if projects:
        shortcut = conv(shortcut, filters[2], 1, strides, name=f"{name}_shortcut_conv")
        shortcut = batch_norm(shortcut, name=f"{name}_shortcut_bn")
    return keras.layers.ReLU(name=f"{name}_relu")(keras.layers.Add(name=f"{name}_add")([x, shortcut]))
