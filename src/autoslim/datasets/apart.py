"""Checks of images that are handed over to be held out: their labels, and that they are no other images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.datasets.images import ImageStore
from autoslim.errors import AutoslimError

log = logging.getLogger(__name__)

COMPARED = 200  # images of the same key that are compared byte by byte
MOST_SHARED = 0.01  # share of the held-out images that may also be among the others: data sets have doubles


def check_labels(labels: np.ndarray, classes: int, what: str) -> None:
    """Refuse labels outside [0, classes).

    Args:
        labels: integers [N], at least one.
        classes: number of classes.
        what: the labels are, for the message.
    """
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        raise AutoslimError(
            f"{what} go from {lowest} to {highest}, but there are {classes} classes: expected 0 to "
            f"{classes - 1}. Correct dataset.classes, dataset.label_offset or the files."
        )


MOST_CLASSES = 1000  # that are believed of labels alone, where there are fewer images


def counted_classes(labels: Sequence[np.ndarray], name: str) -> int:
    """How many classes labels speak of, arrays of integers: the highest and 1.

    Raises:
        AutoslimError: for far more classes than images: a label that is wrong.
    """
    highest, images = max(int(one.max(initial=0)) for one in labels), sum(map(len, labels))
    if highest >= max(MOST_CLASSES, images):
        raise AutoslimError(
            f"{name}: the highest label is {highest}, which would be {highest + 1} classes for {images} "
            "images. Correct the labels, or say how many classes there are: dataset.classes."
        )
    return highest + 1


def check_tested(train: np.ndarray, test: np.ndarray, names: Sequence[str] | None, what: str) -> None:
    """Warn of classes that are trained and never tested, integers [N] and [M]: no figure speaks of them."""
    absent = np.setdiff1d(train, test)
    if len(absent):
        shown = ", ".join(names[label] if names else str(label) for label in absent[:5])
        more = ", ..." if len(absent) > 5 else ""
        log.warning(
            "%s: %d classes with training images have no test image (%s%s): the test metric says nothing "
            "of them.",
            what,
            len(absent),
            shown,
            more,
        )


def check_apart(holdout: ImageStore, train: ImageStore, test: ImageStore, name: str) -> None:
    """Refuse held-out images that are training or test images too.

    Images whose keys agree are compared by what is stored of them, some of them if there are many.

    Args:
        holdout: the images held apart.
        train, test: the others.
        name: of the data set.
    """
    for other, what in ((train, "training"), (test, "test")):
        _, mine, theirs = np.intersect1d(holdout.keys, other.keys, return_indices=True)
        if len(mine) <= MOST_SHARED * len(holdout):
            continue
        shown = np.linspace(0, len(mine) - 1, min(COMPARED, len(mine))).astype(np.int64)
        read, read_other = holdout.reader(), other.reader()
        same = sum(_same(read(int(mine[k])), read_other(int(theirs[k]))) for k in shown) / len(shown)
        shared = round(same * len(mine))
        if shared > MOST_SHARED * len(holdout):
            raise AutoslimError(
                f"{name}: about {shared} of the {len(holdout)} images of dataset.holdout_path are {what} "
                f"images too, such as {holdout.name(int(mine[0]))}. Expected images that no network is "
                "trained or tested on. Give others, or leave dataset.holdout_path out: then a share of the "
                "training images is held out."
            )


def _same(one: Any, other: Any) -> bool:
    return bool(tf.reduce_all(one == other)) if one.shape == other.shape else False
