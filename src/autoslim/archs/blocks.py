"""The Keras layers that the architectures share, with one choice of initialiser and batch-norm constants."""

from collections.abc import Sequence

import keras

from autoslim.errors import AutoslimError

# The constants of the CIFAR literature; Keras' own (0.99, 1e-3) need more steps than a short training has.
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5


def image_input(input_shape: Sequence[int]) -> keras.KerasTensor:
    """Input layer "image", [batch, height, width, channels]; AutoslimError for another kind of shape."""
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(is_count(size) for size in shape):
        raise AutoslimError(
            f"input_shape={shape} is not the shape of an image: expected (height, width, channels), three "
            "whole numbers of at least 1. A grey image has 1 channel: (28, 28, 1)."
        )
    return keras.Input(shape, name="image")


def is_count(value: object) -> bool:
    """Whether `value` is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def conv(
    x: keras.KerasTensor, filters: int, kernel: int, strides: int = 1, *, name: str
) -> keras.KerasTensor:
    """Convolution without bias, padding "same", He-normal weights (He et al., 2015)."""
    layer = keras.layers.Conv2D(
        filters, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )
    return layer(x)


def depthwise_conv(x: keras.KerasTensor, kernel: int, strides: int = 1, *, name: str) -> keras.KerasTensor:
    """Depthwise convolution without bias, padding "same", He-normal weights.

    An output reads kernel * kernel inputs. Keras counts that number as the fan-out of a depthwise kernel
    [kernel, kernel, channels, 1], and kernel * kernel * channels as its fan-in.
    """
    he_normal = keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="truncated_normal")
    layer = keras.layers.DepthwiseConv2D(
        kernel, strides, padding="same", use_bias=False, depthwise_initializer=he_normal, name=name
    )
    return layer(x)


def batch_norm(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Batch normalisation over the last axis, with gamma and beta."""
    layer = keras.layers.BatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=name
    )
    return layer(x)


def conv_bn_relu(
    x: keras.KerasTensor, filters: int, kernel: int, strides: int = 1, *, name: str, cap: float | None = 6.0
) -> keras.KerasTensor:
    """Convolution, batch norm, and a ReLU that is capped (None: that is not)."""
    x = batch_norm(conv(x, filters, kernel, strides, name=f"{name}_conv"), name=f"{name}_bn")
    return keras.layers.ReLU(cap, name=f"{name}_relu")(x)


def depthwise_bn_relu(x: keras.KerasTensor, kernel: int, strides: int, *, name: str) -> keras.KerasTensor:
    """Depthwise convolution, batch norm, ReLU capped at 6: layers named `name`_depthwise_..."""
    x = depthwise_conv(x, kernel, strides, name=f"{name}_depthwise_conv")
    return keras.layers.ReLU(6.0, name=f"{name}_depthwise_relu")(batch_norm(x, name=f"{name}_depthwise_bn"))


def inverted_residual(
    x: keras.KerasTensor,
    expanded: int | None,
    filters: int,
    kernel: int,
    strides: int,
    *,
    residual: bool,
    name: str,
) -> keras.KerasTensor:
    """Inverted residual with a linear end (Sandler et al. 2018).

    Args:
        x: [batch, H, W, channels].
        expanded: channels between the two 1x1 convolutions; None: there is no first one.
        filters: channels at the end.
        kernel, strides: of the depthwise convolution.
        residual: whether x is added to the end; it then has as many channels, and strides are 1.
        name: that its layers' names begin with.
    """
    shortcut = x
    if expanded is not None:
        x = conv_bn_relu(x, expanded, 1, name=f"{name}_expand")
    x = depthwise_bn_relu(x, kernel, strides, name=name)
    x = batch_norm(conv(x, filters, 1, name=f"{name}_project_conv"), name=f"{name}_project_bn")
    return keras.layers.Add(name=f"{name}_add")([x, shortcut]) if residual else x


def logits(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Global average pooling, then the dense layer "logits": [batch, H, W, channels] -> [batch, classes]."""
    if not is_count(classes):
        raise AutoslimError(
            f"classes={classes} is not a number of classes: expected a whole number of at least 1."
        )
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.layers.Dense(classes, name="logits")(x)


def given_channels(channels: Sequence[int] | None, size: int) -> list[int] | None:
    """A network's list of channels, or None where none is given; AutoslimError where it does not fit."""
    if channels is None:
        return None
    if len(channels) != size or not all(is_count(c) for c in channels):
        raise AutoslimError(
            f"channels has {len(channels)} entries: expected {size} whole numbers of at least 1, one for "
            "each convolution of the network in its order."
        )
    return list(channels)


def scaled(channels: int, width: float) -> int:
    """The multiple of 8 nearest to channels * width, at least 8; 8 more where over a tenth would be lost."""
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width < float("inf"):
        raise AutoslimError(
            f"width={width} is not a factor for the channels: expected a number above 0, such as 0.5."
        )
    exact = channels * width
    rounded = max(8, int(exact / 8 + 0.5) * 8)
    return rounded if rounded >= 0.9 * exact else rounded + 8
