"""Class-balanced choices among labelled images: the hold-out for the search, and a smaller training set."""

import numpy as np

from autoslim.errors import AutoslimError


def split_holdout(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide the training images into those to train on and those held out for the search.

    Every class gives the same share, rounded to whole images; at least one image of it lies on either side.

    Args:
        labels: integers [N].
        share: part of the images to hold out, in (0, 0.5].
        seed: whole number of at least 0; the same seed gives the same split.

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
    rank, class_sizes = _rank_within_class(labels, seed)
    if len(labels) == 0 or class_sizes.min() < 2:
        lonely = np.unique(labels[class_sizes < 2]).tolist()
        raise AutoslimError(
            "Cannot hold out images for the search: "
            f"{f'class {lonely[0]} has one' if lonely else 'there is no'} training image. Expected at least "
            "2 of every class. Raise dataset.train_images, or use more data."
        )
    held_out = rank < np.clip(np.rint(share * class_sizes), 1, class_sizes - 1)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def balanced_subset(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Choose `count` images so that each class keeps its share, at least one image where count >= classes.

    A smaller subset with the same seed is contained in a larger one.

    Args:
        labels: integers [N].
        count: how many images, 0 to N.
        seed: whole number of at least 0.

    Returns:
        Indices of the chosen images, int64 [count], ascending.
    """
    rank, class_sizes = _rank_within_class(labels, seed)
    return np.sort(np.lexsort((labels, rank / class_sizes))[:count])


def checked_subset(labels: np.ndarray, count: int, classes: int, source: str) -> np.ndarray:
    """The training images that `dataset.train_images=count` chooses, always the same: int64 [count].

    Raises:
        AutoslimError: if there are fewer, or fewer are asked for than there are classes.
    """
    if not classes <= count <= len(labels):
        raise AutoslimError(
            f"dataset.train_images={count} is outside [{classes}, {len(labels)}]: expected at least one "
            f"image a class and at most the training images of {source}. Use null for all."
        )
    return balanced_subset(labels, count, seed=0)


def _rank_within_class(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """For every image, its place in a random order of its class, and its class's size: both int64 [N]."""
    labels = np.asarray(labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    _, first, class_of, sizes = np.unique(
        labels[by_class], return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(labels), np.int64)
    rank[by_class] = np.arange(len(labels)) - first[class_of]
    class_sizes = np.empty(len(labels), np.int64)
    class_sizes[by_class] = sizes[class_of]
    return rank, class_sizes
