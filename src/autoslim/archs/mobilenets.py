"""MobileNetV2 (Sandler et al., 2018) for small images: the stem and the second stage keep the resolution."""

from collections.abc import Sequence

import keras

from autoslim.archs.blocks import batch_norm, conv, depthwise_conv, image_input, logits, scaled

# A row for each stage: expansion inside a block, output channels, blocks, strides of the first block.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 1),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM = 32
HEAD = 1280


def mobilenet_v2(input_shape: Sequence[int], classes: int, width: float = 1.0) -> keras.Model:
    """MobileNetV2 whose resolution falls by 8 in all: a 32x32 image ends in a 4x4 map.

    The first block, though its expansion is 1, keeps its 1x1 expansion convolution.

    Args:
        input_shape: (height, width, channels) of the images.
        classes: number of logits.
        width: factor on the channels, rounded to multiples of 8; the head never has fewer than 1280.

    Raises:
        AutoslimError: an argument is out of range.
    """
    image = image_input(input_shape)
    x = _conv_bn_relu(image, scaled(STEM, width), 3, name="stem")
    for stage, (expansion, filters, blocks, first_strides) in enumerate(STAGES, start=1):
        for block in range(1, blocks + 1):
            strides = first_strides if block == 1 else 1
            x = _inverted_residual(
                x, expansion, scaled(filters, width), strides, f"stage{stage}_block{block}"
            )
    x = _conv_bn_relu(x, scaled(HEAD, max(1.0, width)), 1, name="head")
    return keras.Model(image, logits(x, classes), name="mobilenet_v2")


def _conv_bn_relu(x: keras.KerasTensor, filters: int, kernel: int, *, name: str) -> keras.KerasTensor:
    x = batch_norm(conv(x, filters, kernel, name=f"{name}_conv"), name=f"{name}_bn")
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x)


def _inverted_residual(
    x: keras.KerasTensor, expansion: int, filters: int, strides: int, name: str
) -> keras.KerasTensor:
    shortcut = x
    x = _conv_bn_relu(x, expansion * x.shape[-1], 1, name=f"{name}_expand")
    x = depthwise_conv(x, 3, strides, name=f"{name}_depthwise_conv")
    x = keras.layers.ReLU(6.0, name=f"{name}_depthwise_relu")(batch_norm(x, name=f"{name}_depthwise_bn"))
    x = batch_norm(conv(x, filters, 1, name=f"{name}_project_conv"), name=f"{name}_project_bn")
    if strides != 1 or shortcut.shape[-1] != filters:
        return x
    return keras.layers.Add(name=f"{name}_add")([x, shortcut])
