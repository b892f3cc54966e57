"""Layers of the user's that only do something in training, written as Keras's own where they are the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

IMAGES = 4096  # that a layer is tried on; fewer where they have more entries than ENTRIES together
ENTRIES = 2**22
SIZES = (3, 16)  # positions along the first dimension of those images, one more along each that follows
CHANNELS = 3
TOLERANCE = 1e-4  # of a factor
DEVIATIONS = 5.0  # standard deviations that the share of dropped images may be off


def as_dropout(layer: Any, shape: tuple[int | None, ...], name: str) -> keras.layers.Dropout | None:
    """A `Dropout` of whole images, in the place of a layer that drops them and scales the others up.

    Args:
        layer: returns its input as it is, but in training; calls of it in training, with images of several
            sizes, are looked at.
        shape: of its input.
        name: of the new layer.

    Returns:
        The new layer, which loads without the layer's class; None if the layer does something else.
    """
    rates = [_rate_at(layer, [size + place for place in range(len(shape) - 2)]) for size in SIZES]
    known = [rate for rate in rates if rate is not None]
    if len(known) < len(rates) or max(known) - min(known) > TOLERANCE:
        return None
    noise_shape = (None, *(1 for _ in shape[1:]))
    return keras.layers.Dropout(known[0], noise_shape=noise_shape, name=name, dtype=layer.dtype_policy)


def _rate_at(layer: Any, positions: Sequence[int]) -> float | None:
    """The share of images of so many positions that a layer drops; None if it does something else."""
    entries = math.prod(positions) * CHANNELS
    images = min(IMAGES, ENTRIES // entries)
    x = np.random.default_rng(0).uniform(0.5, 1.5, (images, *positions, CHANNELS)).astype("float32")
    try:
        with keras.StatelessScope(collect_losses=True):
            y = np.asarray(layer(tf.constant(x), training=True), np.float32)
    except Exception:  # a layer of the user's may raise anything
        return None
    return _rate((y / x).reshape(images, entries)) if y.shape == x.shape else None


def _rate(factors: np.ndarray) -> float | None:
    """The share of images that are dropped, from what each entry was multiplied with: [images, entries].

    None if that is not 0 for some whole images, by chance, and 1 / (1 - rate) for all others.
    """
    first, largest = factors[:, 0], float(factors.max())
    dropped = first < TOLERANCE
    whole = np.abs(factors - first[:, None]).max() <= TOLERANCE * largest
    if not whole or not np.all(dropped | (np.abs(first - largest) <= TOLERANCE * largest)):
        return None
    rate = round(1.0 - 1.0 / largest, 5) if largest > 0 else -1.0
    expected = DEVIATIONS * np.sqrt(max(rate * (1.0 - rate), 0.0) / len(first))
    by_chance = dropped.any() == (rate > 0.0) and abs(dropped.mean() - rate) <= expected
    return rate if rate >= 0.0 and by_chance else None
