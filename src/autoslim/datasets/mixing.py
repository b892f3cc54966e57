"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): each image of a batch with its neighbour.

Keras's MixUp and CutMix take an integer or a generator with a state as their seed, not a tensor (3.15): with
them a batch could not be a function of (seed, epoch, step) in a `tf.data` pipeline.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_SHARE, _KIND, _PLACE = 0, 1, 2  # streams of random numbers


def mixed(images: Any, labels: Any, classes: int, mixup: float, cutmix: float, seed: Any) -> tuple[Any, Any]:
    """Mix each image with the one before it in the batch, and their labels in the same shares.

    Mixup adds the two up, weighted; CutMix pastes a rectangle of the other one. The share that stays is drawn
    for each image from Beta(a, a), with a the value of `mixup` or `cutmix`; with both, each image gets one of
    them, half the time each.

    Args:
        images: float32 [B, H, W, C].
        labels: int32 [B].
        classes: number of classes.
        mixup: a of mixup; 0: none of it.
        cutmix: a of CutMix; 0: none of it.
        seed: integers [2].

    Returns:
        (images float32 [B, H, W, C], probabilities float32 [B, classes], each row's sum 1).
    """
    size, height, width = images.shape[:3]
    kept = tf.zeros([size, height, width, 1])  # share of each pixel that stays
    chosen = tf.random.stateless_uniform([size], tf.random.fold_in(seed, _KIND))
    by_mixup = chosen < (0.5 if mixup and cutmix else float(mixup > 0))
    if mixup:
        share = _beta(size, mixup, tf.random.fold_in(seed, _SHARE))
        kept += tf.where(by_mixup, share, 0.0)[:, None, None, None]
    if cutmix:
        share = _beta(size, cutmix, tf.random.fold_in(seed, _SHARE))
        place = tf.random.stateless_uniform([2, size], tf.random.fold_in(seed, _PLACE))
        outside = 1.0 - _rectangles(share, place, height, width)
        kept += tf.where(by_mixup[:, None, None, None], 0.0, outside)
    images = kept * images + (1.0 - kept) * tf.roll(images, 1, 0)
    share = tf.reduce_mean(kept, (1, 2))
    own = tf.one_hot(labels, classes)
    return images, share * own + (1.0 - share) * tf.roll(own, 1, 0)


def _beta(size: int, a: float, seed: Any) -> Any:
    """Draws from Beta(a, a), float32 [size]; in float64 on the way, where small a would underflow."""
    pair = tf.random.stateless_gamma([2, size], seed, alpha=tf.constant(a, tf.float64), dtype=tf.float64)
    return tf.cast(tf.math.divide_no_nan(pair[0], pair[0] + pair[1]), tf.float32)


def _rectangles(share: Any, place: Any, height: int, width: int) -> Any:
    """1 within a rectangle of the area 1 - share around a random place, cut at the borders: [B, H, W, 1]."""
    sides = []
    for length, middle in ((height, place[0]), (width, place[1])):
        half = 0.5 * length * tf.sqrt(1.0 - share)
        low, high = tf.round(middle * length - half), tf.round(middle * length + half)
        at = tf.range(length, dtype=tf.float32)
        sides.append(tf.cast((at >= low[:, None]) & (at < high[:, None]), tf.float32))
    return sides[0][:, :, None, None] * sides[1][:, None, :, None]
