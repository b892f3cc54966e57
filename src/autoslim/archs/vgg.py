"""VGG-16 with batch norm for small images, the plain network of the pruning literature."""

from collections.abc import Sequence

import keras

from autoslim.archs.blocks import conv_bn_relu, given_channels, image_input, logits, scaled

# A row for each stage of one resolution: outputs of its convolutions.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg16(
    input_shape: Sequence[int], classes: int, width: float = 1.0, channels: Sequence[int] | None = None
) -> keras.Model:
    """VGG-16 (Simonyan & Zisserman 2015) as pruning papers use it: 13 convolutions with batch norm.

    Global pooling and one dense layer stand in place of the three dense layers (Li et al. 2017, section
    4.1, keep one of 512 more). Between stages the resolution is halved, until a side has 1 pixel.

    Args:
        input_shape: (height, width, channels) of the images.
        classes: number of logits.
        width: factor on the channels, rounded to multiples of 8.
        channels: outputs of the 13 convolutions in place of `width`.

    Raises:
        AutoslimError: an argument is out of range.
    """
    plan = [scaled(filters, width) for stage in STAGES for filters in stage]
    remaining = iter(given_channels(channels, len(plan)) or plan)
    x = image = image_input(input_shape)
    for stage, filters in enumerate(STAGES, 1):
        if stage > 1 and min(x.shape[1:3]) > 1:
            x = keras.layers.MaxPooling2D(name=f"stage{stage}_block1_pool")(x)
        for number in range(1, len(filters) + 1):
            name = f"stage{stage}_block{number}"
            x = conv_bn_relu(x, next(remaining), 3, name=name, cap=None)
    return keras.Model(image, logits(x, classes), name="vgg16")
