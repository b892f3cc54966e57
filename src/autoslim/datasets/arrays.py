"""Images and labels as arrays in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property

import numpy as np

from autoslim.datasets.apart import check_apart, check_labels
from autoslim.datasets.dataset import IMAGES_AT_ONCE, Dataset
from autoslim.datasets.images import ArrayImages
from autoslim.datasets.labels import Labels, add_to_hash, are_classes, count
from autoslim.errors import AutoslimError


class ArrayDataset(Dataset):
    """A dataset in memory.

    Args:
        name: of the dataset.
        train_images: uint8 [N, height, width, channels].
        train_labels: integers [N], in [0, classes); or what another task learns, see `labels.Labels`.
        test_images: uint8 [M, height, width, channels].
        test_labels: integers [M], in [0, classes); likewise.
        classes: number of classes.
        normalization: what pixels become: see `mean` and `std`.
        eval_crop: share of the height and width of held-out and test images that is kept, from the middle.
    """

    def __init__(
        self,
        name: str,
        train_images: np.ndarray,
        train_labels: Labels,
        test_images: np.ndarray,
        test_labels: Labels,
        classes: int,
        normalization: str = "dataset",
        eval_crop: float = 1.0,
    ) -> None:
        super().__init__(name, normalization, eval_crop)
        self.train_images, self.test_images = train_images, test_images
        self._train, self._test = ArrayImages(train_images), ArrayImages(test_images)
        self._labels = train_labels, test_labels
        self._classes = classes
        self._apart: tuple[ArrayImages, Labels] | None = None

    def hold_apart(self, images: np.ndarray, labels: Labels) -> None:
        """Hold out these images for the search, and none of the training images.

        Args:
            images: uint8 [N, height, width, channels].
            labels: integers [N], in [0, classes); or as those of the training images are.

        Raises:
            AutoslimError: other shapes or labels, or images that are training or test images too.
        """
        if images.shape[1:] != self.shape or len(images) != count(labels) or len(images) == 0:
            raise AutoslimError(
                f"Got {count(labels)} labels and images {list(images.shape)} to hold out: expected as many "
                f"labels as images, at least one, and images [N, {', '.join(map(str, self.shape))}]."
            )
        store = ArrayImages(images)
        if are_classes(labels):
            labels = np.asarray(labels, np.int32)
            check_labels(labels, self.classes, f"{self.name}: labels of held-out images")
        check_apart(store, self.train, self.test_set, self.name)
        self._apart = store, labels

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one image."""
        return self._train.shape

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self._classes

    @property
    def train(self) -> ArrayImages:
        """The training images."""
        return self._train

    @property
    def test_set(self) -> ArrayImages:
        """The test images."""
        return self._test

    @property
    def train_labels(self) -> Labels:
        """int32 [N], in [0, classes); or as given."""
        return self._labels[0]

    @property
    def test_labels(self) -> Labels:
        """int32 [M], in [0, classes); or as given."""
        return self._labels[1]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all pixels and labels."""
        train_labels, test_labels = self._labels
        return _array_hash((self.train_images, train_labels), (self.test_images, test_labels))

    @property
    def holdout_fingerprint(self) -> str | None:
        """A hash of the pixels and labels held apart; None: the training images give the held-out ones."""
        return None if self._apart is None else _array_hash((self._apart[0].pixels, self._apart[1]))

    @property
    def holdout_set(self) -> ArrayImages:
        """The images that held-out indices point into: the training images, or those held apart."""
        return self.train if self._apart is None else self._apart[0]

    @property
    def holdout_labels(self) -> Labels:
        """int32, of `holdout_set`, in [0, classes); or as given."""
        return self.train_labels if self._apart is None else self._apart[1]

    def _pixels(self) -> Iterable[np.ndarray]:
        for start in range(0, len(self.train_images), IMAGES_AT_ONCE):
            yield self.train_images[start : start + IMAGES_AT_ONCE]


def _array_hash(*splits: tuple[np.ndarray, Labels]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for images, labels in splits:
        digest.update(str(images.shape).encode())
        digest.update(np.ascontiguousarray(images).tobytes())
        add_to_hash(digest, labels)
    return digest.hexdigest()
