"""Labels of any task: arrays with the images first, or structures of them (dicts, lists, `Weighted`)."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.scoring import Weighted, unweighted, without_lists

Labels = Any
"""Integers [N] of classes; or numbers [N, ...]; or a structure of such arrays, one for each output."""

BINS = 10  # of values, for shares that a hold-out keeps


def count(labels: Labels) -> int:
    """How many images they are of."""
    return len(tf.nest.flatten(labels)[0])


def taken(labels: Labels, index: np.ndarray | None) -> Labels:
    """The labels of the images at `index`; None: of all."""
    if index is None:
        return labels
    return tf.nest.map_structure(lambda one: np.asarray(one)[index], labels)


def in_memory(labels: Labels) -> Any:
    """Labels as tensors in the host's memory: class indices int32, other integers as they are, or float32."""

    def tensor(one: Any) -> Any:
        values = np.asarray(one)
        whole = np.issubdtype(values.dtype, np.integer)
        kind = values.dtype if whole and values.ndim > 1 else np.int32 if whole else np.float32
        with tf.device("CPU:0"):
            return tf.constant(values, kind)

    return tf.nest.map_structure(tensor, _plain(labels))


def _plain(labels: Labels) -> Any:
    if isinstance(labels, Weighted):
        return Weighted(without_lists(labels.labels), labels.weights)
    return without_lists(labels)


def gathered(labels: Any, places: Any) -> Any:
    """The labels at some places of tensors."""
    return tf.nest.map_structure(lambda one: tf.gather(one, places), labels)


def strata(labels: Labels) -> np.ndarray:
    """A class for each image, int64 [N], in whose shares images are held out and mixed.

    The class itself; of values the tenth that they lie in; else the same for all.
    """
    flat = tf.nest.flatten(unweighted(labels)[0])
    values = np.asarray(flat[0])
    if len(flat) == 1 and values.ndim == 1 and np.issubdtype(values.dtype, np.integer):
        return values
    if len(flat) == 1 and values.size == len(values) and values.dtype.kind == "f":
        bins = min(BINS, len(values) // 2)
        ranks = np.argsort(np.argsort(values.reshape(-1), kind="stable"), kind="stable")
        return ranks * max(bins, 1) // max(len(values), 1)
    return np.zeros(len(values), np.int64)


def of_places(labels: Labels, height_width: tuple[int, ...]) -> list[bool]:
    """For each array whether it has a label for each place of an image, [N, height, width, ...]."""
    return [
        tuple(np.shape(one)[1:3]) == tuple(height_width) for one in tf.nest.flatten(unweighted(labels)[0])
    ]


def spatial(labels: Labels) -> bool:
    """Whether labels say something about places within the image."""
    return any(np.ndim(one) > 2 for one in tf.nest.flatten(unweighted(labels)[0]))


def are_classes(labels: Labels) -> bool:
    """Whether labels are class indices [N]."""
    plain = not isinstance(labels, dict | list | tuple)
    return plain and np.ndim(labels) == 1 and np.issubdtype(np.asarray(labels).dtype, np.integer)


def add_to_hash(digest: Any, labels: Labels) -> None:
    """Make a hash depend on labels; class indices count by their values alone."""
    if are_classes(labels):
        digest.update(np.ascontiguousarray(labels, np.int32).tobytes())
        return
    digest.update(str(tf.nest.map_structure(lambda one: 0, labels)).encode())
    for one in tf.nest.flatten(labels):
        values = np.ascontiguousarray(one)
        digest.update(f"{values.dtype.str}{values.shape}".encode())
        digest.update(values.tobytes())


def fingerprint(*parts: Any) -> str:
    """A short hash of arrays and structures of them."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        add_to_hash(digest, part)
    return digest.hexdigest()
