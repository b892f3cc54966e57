"""RandAugment (Cubuk et al. 2020, "Practical automated data augmentation with a reduced search space").

A number of 14 operations, drawn for each image, at one common magnitude from 0 to 10; where an operation
has a direction, that is drawn too. At magnitude 10 they are as strong as in AutoAugment: 30 degrees, a shear
of 0.3, a shift by 0.45 of the size, colours from a tenth to nearly twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

MOST = 10.0  # the largest magnitude
ROTATION = 30 / 180 * math.pi  # radians, at magnitude 10
SHEAR = 0.3
SHIFT = 0.45  # share of height or width
ENHANCEMENT = 0.9
BITS = 4  # that posterize takes away

Operation = Callable[[Any, Any], Any]  # (image float32 [H, W, C] in whole numbers, signed strength) -> image


def rand_augment(image: Any, layers: int, magnitude: float, seed: Any) -> Any:
    """An image after `layers` random operations.

    Args:
        image: uint8 [H, W, channels], 1 or 3 channels.
        layers: how many operations.
        magnitude: of all of them, 0 to 10.
        seed: integers [2].

    Returns:
        uint8 [H, W, channels]; what enters from outside the image is black.
    """
    x = tf.cast(image, tf.float32)
    for layer in range(layers):
        uniform = tf.random.stateless_uniform([2], tf.random.fold_in(seed, layer))
        strength = tf.where(uniform[1] < 0.5, -magnitude / MOST, magnitude / MOST)
        choice = tf.cast(uniform[0] * len(OPERATIONS), tf.int32)
        branches = [_branch(operation, x, strength, image.shape) for operation in OPERATIONS.values()]
        x = tf.switch_case(choice, branches)
    return tf.cast(x, tf.uint8)


def _branch(operation: Operation, x: Any, strength: Any, shape: Any) -> Callable[[], Any]:
    return lambda: tf.ensure_shape(tf.clip_by_value(tf.round(operation(x, strength)), 0.0, 255.0), shape)


def grey(x: Any) -> Any:
    """Luminance (ITU-R 601), [H, W, 1]."""
    if x.shape[-1] == 1:
        return x
    return tf.reduce_sum(x * tf.constant([0.299, 0.587, 0.114]), -1, keepdims=True)


def blend(other: Any, x: Any, factor: Any) -> Any:
    """0 gives `other`, 1 gives `x`, more than 1 exaggerates what `x` has over it."""
    return other + factor * (x - other)


def _identity(x: Any, strength: Any) -> Any:
    return x


def _auto_contrast(x: Any, strength: Any) -> Any:
    low = tf.reduce_min(x, (0, 1))
    high = tf.reduce_max(x, (0, 1))
    return tf.where(high > low, (x - low) * 255.0 / tf.maximum(high - low, 1.0), x)


def _equalize(x: Any, strength: Any) -> Any:
    def channel(values: Any) -> Any:
        counts = tf.math.bincount(values, minlength=256, maxlength=256)
        last = tf.reduce_max(tf.where(counts > 0, tf.range(256), 0))
        step = (tf.reduce_sum(counts) - counts[last]) // 255
        table = tf.minimum((tf.cumsum(counts, exclusive=True) + step // 2) // tf.maximum(step, 1), 255)
        return tf.where(step > 0, tf.gather(table, values), values)

    whole = tf.cast(x, tf.int32)
    return tf.cast(tf.stack([channel(whole[..., c]) for c in range(x.shape[-1])], -1), tf.float32)


def _solarize(x: Any, strength: Any) -> Any:
    return tf.where(x >= 256.0 * (1 - abs(strength)), 255.0 - x, x)


def _posterize(x: Any, strength: Any) -> Any:
    unit = 2.0 ** tf.round(BITS * abs(strength))
    return tf.floor(x / unit) * unit


def _brightness(x: Any, strength: Any) -> Any:
    return (1 + ENHANCEMENT * strength) * x


def _contrast(x: Any, strength: Any) -> Any:
    return blend(tf.reduce_mean(grey(x)), x, 1 + ENHANCEMENT * strength)


def _color(x: Any, strength: Any) -> Any:
    return blend(grey(x), x, 1 + ENHANCEMENT * strength)


def _sharpness(x: Any, strength: Any) -> Any:
    """Against the image smoothed by a kernel of ones with a 5 in the middle; the border stays."""
    channels = x.shape[-1]
    kernel = tf.reshape(tf.constant([1.0, 1, 1, 1, 5, 1, 1, 1, 1]) / 13, [3, 3, 1, 1])
    smooth = tf.nn.depthwise_conv2d(x[None], tf.tile(kernel, [1, 1, channels, 1]), [1] * 4, "VALID")[0]
    inner = blend(tf.round(smooth), x[1:-1, 1:-1], 1 + ENHANCEMENT * strength)
    return tf.concat([x[:1], tf.concat([x[1:-1, :1], inner, x[1:-1, -1:]], 1), x[-1:]], 0)


def _moved(x: Any, row: list[Any], column: list[Any]) -> Any:
    """The image sampled, bilinearly, at (column, row) as linear functions [x, y, 1] of the output's place."""
    transform = tf.cast(tf.stack([*row, *column, 0.0, 0.0]), tf.float32)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=x[None],
        transforms=transform[None],
        output_shape=x.shape[:2],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )[0]


def _rotate(x: Any, strength: Any) -> Any:
    height, width = x.shape[:2]
    c, s = tf.cos(ROTATION * strength), tf.sin(ROTATION * strength)
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    return _moved(
        x,
        [c, -s, middle_x - c * middle_x + s * middle_y],
        [s, c, middle_y - s * middle_x - c * middle_y],
    )


def _shear_x(x: Any, strength: Any) -> Any:
    return _moved(x, [1.0, SHEAR * strength, 0.0], [0.0, 1.0, 0.0])


def _shear_y(x: Any, strength: Any) -> Any:
    return _moved(x, [1.0, 0.0, 0.0], [SHEAR * strength, 1.0, 0.0])


def _shift_x(x: Any, strength: Any) -> Any:
    return _moved(x, [1.0, 0.0, tf.round(SHIFT * x.shape[1] * strength)], [0.0, 1.0, 0.0])


def _shift_y(x: Any, strength: Any) -> Any:
    return _moved(x, [1.0, 0.0, 0.0], [0.0, 1.0, tf.round(SHIFT * x.shape[0] * strength)])


OPERATIONS: dict[str, Operation] = {
    "identity": _identity,
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "rotate": _rotate,
    "solarize": _solarize,
    "color": _color,
    "posterize": _posterize,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "shift_x": _shift_x,
    "shift_y": _shift_y,
}
