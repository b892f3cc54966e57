"""Batches: labels with weights, and functions of batches of any size, traced once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf


class Weighted(NamedTuple):
    """Labels with a weight for each image, by which its loss is multiplied."""

    labels: Any
    weights: Any  # [B], or of the labels' own shape


def unweighted(labels: Any) -> tuple[Any, Any]:
    """(Labels, weights or None)."""
    return (labels.labels, labels.weights) if isinstance(labels, Weighted) else (labels, None)


def as_tensors(values: Any) -> Any:
    """A structure of arrays as tensors."""
    return keras.tree.map_structure(tf.convert_to_tensor, values)


def without_lists(values: Any) -> Any:
    """A structure with tuples in place of lists, which `tf.data` would make one tensor of."""
    if isinstance(values, Mapping):
        return {key: without_lists(value) for key, value in values.items()}
    if isinstance(values, list):
        return tuple(without_lists(value) for value in values)
    return values


def images_in(values: Any) -> int:
    """Images in a batch: the first size of its first tensor."""
    return int(tf.nest.flatten(values)[0].shape[0])


def traced_for_any_batch(function: Callable[..., Any], *tensors: Any) -> Callable[..., Any]:
    """`function` traced once for structures of tensors like these with any number of images."""

    def spec(x: Any) -> tf.TensorSpec:
        return tf.TensorSpec([None, *x.shape[1:]], x.dtype)

    specs = [tf.nest.map_structure(spec, like) for like in tensors]
    return tf.function(function, autograph=False).get_concrete_function(*specs)
