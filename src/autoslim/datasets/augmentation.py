"""How training images are varied. Every function takes its own seed: nothing here has a state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from autoslim.datasets.images import Box
from autoslim.datasets.randaugment import MOST, blend, grey
from autoslim.errors import AutoslimError


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images."""

    crop: str = "none"  # "resized": a random part, brought to the images' size; "none": the whole
    scale: tuple[float, float] = (0.08, 1.0)  # smallest and largest share of the area that a crop takes
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # smallest and largest width to height of a crop
    pad: int = 0  # largest random shift in pixels, each way; what enters is black
    flip: bool = False  # whether half of the images are mirrored left to right
    color: tuple[float, float, float] = (0.0, 0.0, 0.0)  # brightness, contrast, saturation: change by up to
    randaugment: tuple[float, float] | None = None  # number of operations, magnitude 0 to 10; None: none
    mixup: float = 0.0  # a of Beta(a, a), from which the share of an image is drawn; 0: not mixed
    cutmix: float = 0.0  # the same, for pasting a rectangle of another image

    def __post_init__(self) -> None:
        if self.crop not in ("none", "resized"):
            raise AutoslimError(f"crop={self.crop} is unknown. There are: none, resized.")
        if self.pad < 0:
            raise AutoslimError(f"pad={self.pad}: expected pixels, 0 or more.")
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise AutoslimError(f"scale={[low, high]}: expected shares of the area, 0 < low <= high <= 1.")
        low, high = self.ratio
        if not 0 < low <= high < math.inf:
            raise AutoslimError(f"ratio={[low, high]}: expected widths to heights, 0 < low <= high.")
        if len(self.color) != 3 or not all(0 <= strength <= 1 for strength in self.color):
            raise AutoslimError(
                f"color={list(self.color)}: expected changes of brightness, contrast and saturation, 0 to 1."
            )
        layers, magnitude = self.randaugment or (1, 0)
        if layers < 1 or layers != int(layers) or not 0 <= magnitude <= MOST:
            raise AutoslimError(
                f"randaugment={[layers, magnitude]}: expected a number of operations of at least 1 and a "
                f"magnitude in [0, {MOST:g}]."
            )
        if not (0 <= self.mixup < math.inf and 0 <= self.cutmix < math.inf):
            raise AutoslimError(f"mixup={self.mixup}, cutmix={self.cutmix}: expected numbers of 0 or more.")

    @property
    def by_image(self) -> bool:
        """Whether images must be handled one by one, not a batch at a time."""
        return self.crop != "none" or any(self.color) or self.randaugment is not None

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, so that labels become probabilities."""
        return self.mixup > 0 or self.cutmix > 0


def random_box(scale: tuple[float, float], ratio: tuple[float, float], seed: Any) -> Box:
    """A random window, as the Inception networks were trained with (Szegedy et al. 2015, section 6).

    Args:
        scale: smallest and largest share of the image's area.
        ratio: smallest and largest width to height.
        seed: integers [2].

    Returns:
        (height, width) -> int32 [4]: top, left, height, width. The whole image where ten draws did not fit.
    """

    def box(height: Any, width: Any) -> Any:
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.stack([height, width, 1]),
            tf.zeros([1, 0, 4]),
            seed,
            min_object_covered=0.0,
            aspect_ratio_range=ratio,
            area_range=scale,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        return tf.concat([begin[:2], size[:2]], 0)

    return box


def shifted_and_mirrored(x: Any, uniform: Any, pad: int, flip: bool) -> Any:
    """Shift and mirror each image of a batch [B, H, W, C] by its own row of `uniform`.

    Args:
        x: images.
        uniform: float32 [B, 3] in [0, 1): vertical shift, horizontal shift, mirror.
        pad: largest shift in pixels, each way; what enters is 0.
        flip: whether images whose third number is at least a half are mirrored left to right.
    """
    if pad == 0 and not flip:
        return x
    height, width = x.shape[1:3]
    x = tf.pad(x, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    offset = tf.cast(uniform[:, :2] * (2 * pad + 1), tf.int32)
    rows = offset[:, :1] + tf.range(height)
    columns = offset[:, 1:] + tf.range(width)
    if flip:
        columns = tf.where(uniform[:, 2:] < 0.5, columns, columns[:, ::-1])
    return tf.gather(tf.gather(x, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


def recolored(image: Any, strengths: tuple[float, float, float], seed: Any) -> Any:
    """An image with another brightness, contrast and saturation.

    Args:
        image: uint8 [H, W, channels], 1 or 3 channels.
        strengths: of the three; each factor is drawn from [1 - strength, 1 + strength].
        seed: integers [2].

    Returns:
        uint8 [H, W, channels].
    """
    factors = 1.0 + (2.0 * tf.random.stateless_uniform([3], seed) - 1.0) * strengths
    x = tf.cast(image, tf.float32) * factors[0]
    x = tf.minimum(x, 255.0)
    x = tf.clip_by_value(blend(tf.reduce_mean(grey(x)), x, factors[1]), 0.0, 255.0)
    x = blend(grey(x), x, factors[2])
    return tf.cast(tf.clip_by_value(tf.round(x), 0.0, 255.0), tf.uint8)
