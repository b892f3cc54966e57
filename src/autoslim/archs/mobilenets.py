"""MobileNetV2 (Sandler et al., 2018) for small images: the stem and the second stage keep the resolution."""

from collections.abc import Sequence

import keras

from autoslim.archs.blocks import conv_bn_relu, image_input, inverted_residual, logits, scaled

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
    x = conv_bn_relu(image, scaled(STEM, width), 3, name="stem")
    for stage, (expansion, filters, blocks, first_strides) in enumerate(STAGES, start=1):
        for block in range(1, blocks + 1):
            strides = first_strides if block == 1 else 1
            outputs, name = scaled(filters, width), f"stage{stage}_block{block}"
            residual = strides == 1 and x.shape[-1] == outputs
            expanded = expansion * x.shape[-1]
            x = inverted_residual(x, expanded, outputs, 3, strides, residual=residual, name=name)
    x = conv_bn_relu(x, scaled(HEAD, max(1.0, width)), 1, name="head")
    return keras.Model(image, logits(x, classes), name="mobilenet_v2")
