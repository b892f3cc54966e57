"""Choices and orders of labelled images that depend on the images, and not on how a source sorts them.

Each image has a key, a hash of what it is (see `ImageStore.keys`). A seed turns keys into random numbers, and
these rank the images of a class. So the same images in another order, or in other files, give the same
hold-out, the same smaller training set and the same batches. Copies of an image follow one another.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np

from autoslim.errors import AutoslimError

_SPLIT, _SUBSET, _ORDER = 1, 2, 3  # streams of random numbers


def split_holdout(
    labels: np.ndarray, share: float, seed: int, keys: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Divide the training images into those to train on and those held out for the search.

    Every class gives the same share, rounded to whole images; at least one image of it lies on either side.
    Copies of an image within a class lie on the same side, where that leaves an image on either.

    Args:
        labels: integers [N].
        share: part of the images to hold out, in (0, 0.5].
        seed: whole number of at least 0; the same seed gives the same split.
        keys: uint64 [N], what each image is; None: its place.

    Returns:
        (train_index, holdout_index), int64, ascending, disjoint, together 0 to N - 1.

    Raises:
        AutoslimError: the share is out of range, or a class has a single image.
    """
    if not 0 < share <= 0.5:
        raise AutoslimError(
            f"dataset.holdout={share} is outside (0, 0.5]: it is the share of the training images to hold "
            "out for the search."
        )
    place = _places(labels, _numbers(labels, seed, _SPLIT, keys))
    if len(labels) == 0 or place.class_sizes.min() < 2:
        lonely = np.unique(labels[place.class_sizes < 2]).tolist()
        raise AutoslimError(
            "Cannot hold out images for the search: "
            f"{f'class {lonely[0]} has one' if lonely else 'there is no'} training image. Expected at least "
            "2 of every class. Raise dataset.train_images, or use more data."
        )
    wanted = np.clip(np.rint(share * place.class_sizes), 1, place.class_sizes - 1)
    together = place.first_copy < wanted  # all copies of the last image go with it
    held_out = place.rank < wanted
    for label in np.unique(labels[together != held_out]):
        own = labels == label
        if not together[own].all():
            held_out[own] = together[own]
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def balanced_subset(labels: np.ndarray, count: int, seed: int, keys: np.ndarray | None = None) -> np.ndarray:
    """Choose `count` images so that each class keeps its share, at least one image where count >= classes.

    A smaller subset with the same seed is contained in a larger one.

    Args:
        labels: integers [N].
        count: how many images, 0 to N.
        seed: whole number of at least 0.
        keys: uint64 [N], what each image is; None: its place.

    Returns:
        Indices of the chosen images, int64 [count], ascending.
    """
    numbers = _numbers(labels, seed, _SUBSET, keys)
    place = _places(labels, numbers)
    return np.sort(np.lexsort((labels, numbers, place.rank / place.class_sizes))[:count])


def checked_subset(
    labels: np.ndarray, count: int, classes: int, source: str, keys: np.ndarray | None = None
) -> np.ndarray:
    """The training images that `dataset.train_images=count` chooses, always the same: int64 [count].

    Raises:
        AutoslimError: if there are fewer, or fewer are asked for than there are classes.
    """
    if not classes <= count <= len(labels):
        raise AutoslimError(
            f"dataset.train_images={count} is outside [{classes}, {len(labels)}]: expected at least one "
            f"image a class and at most the training images of {source}. Use null for all."
        )
    return balanced_subset(labels, count, 0, keys)


def mixed_order(labels: np.ndarray, seed: int, keys: np.ndarray | None = None) -> np.ndarray:
    """An order in which every beginning holds the classes in their shares.

    Among the first n images there are n * size / N of a class of that size, to less than one image more or
    fewer. Image k of a class may come from place k * N / size on and must have come by place
    (k + 1) * N / size; of those that may come, the one that must come first is taken, at random among equals
    (Tijdeman 1980, "The chairman assignment problem").

    Args:
        labels: integers [N].
        seed: whole number of at least 0.
        keys: uint64 [N], what each image is; None: its place.

    Returns:
        A permutation, int64 [N].
    """
    numbers = _numbers(labels, seed, _ORDER, keys)
    place = _places(labels, numbers)
    total = len(numbers)
    release = place.rank * total // np.maximum(place.class_sizes, 1)
    deadline = -(-(place.rank + 1) * total // np.maximum(place.class_sizes, 1))
    coming = np.argsort(release, kind="stable")
    entries = list(
        zip(deadline.tolist(), numbers.tolist(), np.asarray(labels).tolist(), range(total), strict=True)
    )
    waiting: list[tuple[int, int, int, int]] = []
    order = np.empty(total, np.int64)
    begun = 0
    for position in range(total):
        while begun < total and release[coming[begun]] <= position:
            heapq.heappush(waiting, entries[coming[begun]])
            begun += 1
        order[position] = heapq.heappop(waiting)[-1]
    return order


class _Places(NamedTuple):
    rank: np.ndarray  # int64 [N], place of each image in the random order of its class
    first_copy: np.ndarray  # int64 [N], rank of the first image of its class that has the same key
    class_sizes: np.ndarray  # int64 [N], of the image's class


def _numbers(labels: np.ndarray, seed: int, stream: int, keys: np.ndarray | None) -> np.ndarray:
    """A random number for each image, uint64 [N]: the same for the same key.

    The two rounds of the finalizer of SplitMix64 (Steele, Lea & Flood 2014), a bijection.
    """
    x = np.arange(len(labels), dtype=np.uint64) if keys is None else keys
    salt = np.random.default_rng([seed, stream]).integers(0, 2**64, 2, dtype=np.uint64)
    for one in salt:
        x = x ^ one
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return x


def _places(labels: np.ndarray, numbers: np.ndarray) -> _Places:
    """Where each image stands when those of its class are sorted by their random numbers."""
    labels = np.asarray(labels)
    by_class = np.lexsort((numbers, labels))
    _, first, class_of, sizes = np.unique(
        labels[by_class], return_index=True, return_inverse=True, return_counts=True
    )
    within = np.arange(len(labels)) - first[class_of]
    ordered = numbers[by_class]
    new = np.ones(len(labels), bool)
    new[1:] = (ordered[1:] != ordered[:-1]) | (within[1:] == 0)
    rank, first_copy, class_sizes = (np.empty(len(labels), np.int64) for _ in range(3))
    rank[by_class] = within
    first_copy[by_class] = np.maximum.accumulate(np.where(new, np.arange(len(labels)), 0)) - first[class_of]
    class_sizes[by_class] = sizes[class_of]
    return _Places(rank, first_copy, class_sizes)
