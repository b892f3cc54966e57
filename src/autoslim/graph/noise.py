"""Layers of the user's that only do something in training, written as Keras's own where they are the same."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

IMAGES = 4096  # small ones, that a layer is tried on
TOLERANCE = 1e-4  # of a factor
DEVIATIONS = 5.0  # standard deviations that the share of dropped images may be off


def as_dropout(layer: Any, shape: tuple[int | None, ...], name: str) -> keras.layers.Dropout | None:
    """A `Dropout` of whole images, in the place of a layer that drops them and scales the others up.

    Args:
        layer: returns its input as it is, but in training; one call of it in training is looked at.
        shape: of its input.
        name: of the new layer.

    Returns:
        The new layer, which loads without the layer's class; None if the layer does something else.
    """
    x = np.random.default_rng(0).uniform(0.5, 1.5, (IMAGES, *(1 for _ in shape[1:-1]), 2)).astype("float32")
    try:
        with keras.StatelessScope(collect_losses=True):
            y = np.asarray(layer(tf.constant(x), training=True), np.float32)
    except Exception:  # a layer of the user's may raise anything
        return None
    rate = _rate((y / x).reshape(IMAGES, -1)) if y.shape == x.shape else None
    if rate is None:
        return None
    noise_shape = (None, *(1 for _ in shape[1:]))
    return keras.layers.Dropout(rate, noise_shape=noise_shape, name=name, dtype=layer.dtype_policy)


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
    expected = DEVIATIONS * np.sqrt(max(rate * (1.0 - rate), 0.0) / IMAGES)
    by_chance = dropped.any() == (rate > 0.0) and abs(dropped.mean() - rate) <= expected
    return rate if rate >= 0.0 and by_chance else None
