"""What every source of images returns: training and test images with their labels, wherever they lie."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.datasets.augmentation import Augmentation
from autoslim.datasets.batches import TrainingBatches, evaluation_batches
from autoslim.datasets.holdout import balanced_subset, mixed_order, split_holdout
from autoslim.datasets.images import ImageStore
from autoslim.datasets.labels import Labels, are_classes, strata, taken
from autoslim.errors import AutoslimError

log = logging.getLogger(__name__)

# Of images / 255: mean and standard deviation, for all channels or one each (red, green, blue).
CONSTANTS = {
    "unit": (0.0, 1.0),
    "symmetric": (0.5, 0.5),
    "pixels": (0.0, 1 / 255),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "uint8": (0.0, 1 / 255),
}
SMALLEST_STD = 1e-3
MOMENTS_IMAGES = 10_000  # images in files that are decoded to find their mean and deviation
IMAGES_AT_ONCE = 1000


class Dataset(ABC):
    """Images and labels of one problem.

    Args:
        name: of the dataset.
        normalization: what pixels become: see `mean` and `std`.
        eval_crop: share of the height and width of held-out and test images that is kept, from the middle.
    """

    def __init__(self, name: str, normalization: str = "dataset", eval_crop: float = 1.0) -> None:
        self.name = name
        self.normalization = normalization
        self.eval_crop = eval_crop
        self._warned = False

    # -- what there is -------------------------------------------------------------------------------

    @property
    @abstractmethod
    def shape(self) -> Any:
        """(height, width, channels) of the images that the pipeline gives out; of several inputs one each."""

    @property
    @abstractmethod
    def classes(self) -> int:
        """Number of classes; of values or labels that do not exclude each other, how many for each image."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What the classes are called, in the order of their labels; None where that is not known."""
        return None

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A short hash that other images or labels would change, and another place on disk would not."""

    @property
    @abstractmethod
    def train(self) -> ImageStore:
        """The training images."""

    @property
    @abstractmethod
    def test_set(self) -> ImageStore:
        """The test images."""

    @property
    @abstractmethod
    def train_labels(self) -> Labels:
        """int32 [N], in [0, classes); or what another task learns, see `labels.Labels`."""

    @property
    @abstractmethod
    def test_labels(self) -> Labels:
        """int32 [M], in [0, classes); likewise."""

    # -- images held apart for the search ------------------------------------------------------------

    @property
    def holdout_fingerprint(self) -> str | None:
        """A short hash of the images that are held apart; None: they are a share of the training images."""
        return None

    @property
    def holdout_set(self) -> ImageStore:
        """The images that held-out indices point into: the training images, or those held apart."""
        return self.train

    @property
    def holdout_labels(self) -> Labels:
        """int32, of `holdout_set`, in [0, classes); likewise."""
        return self.train_labels

    # -- what pixels become --------------------------------------------------------------------------

    @property
    def mean(self) -> np.ndarray:
        """What is taken off images / 255, by channel, float32 [channels]: the training images' own mean, or
        zero ("unit", "pixels", "uint8"), a half ("symmetric"), ImageNet's ("imagenet")."""
        return self.moments[0] if self.normalization == "dataset" else self._constants[0]

    @property
    def std(self) -> np.ndarray:
        """What images / 255 - mean are divided by, float32 [channels]: the training images' own deviation, at
        least 1e-3, or 1 ("unit"), 1/255 ("pixels": 0 to 255), a half ("symmetric": -1 to 1), ImageNet's
        ("imagenet")."""
        return self.moments[1] if self.normalization == "dataset" else self._constants[1]

    @property
    def _constants(self) -> tuple[np.ndarray, np.ndarray]:
        if self.normalization not in CONSTANTS:
            raise AutoslimError(
                f"dataset.normalization={self.normalization} is unknown. There are: dataset, "
                f"{', '.join(CONSTANTS)}."
            )
        channels = self.shape[-1]
        mean, std = (np.asarray(value, np.float32) for value in CONSTANTS[self.normalization])
        if mean.ndim and len(mean) != channels:
            raise AutoslimError(
                f"dataset.normalization={self.normalization} is for {len(mean)} channels, and the images "
                f"have {channels}. Choose another."
            )
        return np.broadcast_to(mean, (channels,)).copy(), np.broadcast_to(std, (channels,)).copy()

    @property
    def _given_out(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """What batches are normalised by; of "uint8" nothing, which gives out the pixels themselves."""
        return (None, None) if self.normalization == "uint8" else (self.mean, self.std)

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """The training images' own mean and deviation, of images / 255, float32 [channels] both."""
        channels = self.shape[-1]
        total, squares, pixels = np.zeros(channels, np.int64), np.zeros(channels, np.int64), 0
        for images in self._pixels():
            part = images.astype(np.int64)
            total += part.sum(axis=(0, 1, 2))
            squares += np.square(part).sum(axis=(0, 1, 2))
            pixels += part[..., 0].size
        mean = total / pixels
        variance = np.maximum(squares / pixels - np.square(mean), 0)
        std = np.maximum(np.sqrt(variance) / 255, SMALLEST_STD)
        return (mean / 255).astype(np.float32), std.astype(np.float32)

    def _pixels(self) -> Iterable[np.ndarray]:
        """Training images, uint8 [B, height, width, channels], that mean and deviation are taken of."""
        index = np.arange(len(self.train))
        if len(index) > MOMENTS_IMAGES:
            index = balanced_subset(strata(self.train_labels), MOMENTS_IMAGES, 0, self.train.keys)
        unit = np.zeros(self.shape[-1]), np.full(self.shape[-1], 1 / 255)
        for images, _ in evaluation_batches(
            self.train, self.train_labels, 100, *unit, index=index, crop=self.eval_crop
        ):
            yield np.rint(images.numpy())

    # -- what is made of it --------------------------------------------------------------------------

    def split(self, share: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the training images to train on, and of the held-out images in `holdout_set`, ascending.

        Which they are depends on the images and the seed, not on their order; see `split_holdout`. Where
        images are held apart, those are all held out, and all training images are for training.
        """
        if self.holdout_fingerprint is not None:
            return np.arange(len(self.train)), np.arange(len(self.holdout_set))
        return split_holdout(strata(self.train_labels), share, seed, self.train.keys)

    def training(
        self,
        batch_size: int = 128,
        *,
        index: np.ndarray | None = None,
        seed: int = 0,
        **augmentation: Any,
    ) -> TrainingBatches:
        """Shuffled, augmented, normalised batches of training images.

        Args:
            batch_size: images a batch.
            index: which training images; None: all.
            seed: of their order and augmentation.
            augmentation: fields of `Augmentation`, such as pad=4, flip=True.
        """
        how = Augmentation(**augmentation)
        return TrainingBatches(
            self._varied(how),
            self.train_labels,
            batch_size,
            seed,
            *self._given_out,
            how,
            index,
            self.classes,
        )

    def _varied(self, augmentation: Augmentation) -> ImageStore:
        """Where training images that are varied so are read from."""
        return self.train

    def holdout_order(self, index: np.ndarray, seed: int = 0) -> np.ndarray:
        """The held-out images at `index` so that every beginning holds the classes in their shares.

        The order depends on the images and the seed, not on the order of `index`; see `mixed_order`.
        """
        return index[mixed_order(strata(self.holdout_labels)[index], seed, self.holdout_set.keys[index])]

    def heldout(self, index: np.ndarray, batch_size: int = 128, seed: int = 0) -> tf.data.Dataset:
        """The held-out images at `index`, normalised, the classes mixed as in `holdout_order`.

        In batches of at most `batch_size` images that differ by at most one image.

        Args:
            index: from `split`.
            batch_size: largest number of images in a batch; 3 where it is 2 and one image would be left over.
            seed: of their order.
        """
        classes = (
            len(np.unique(strata(self.holdout_labels)[index])) if are_classes(self.holdout_labels) else 1
        )
        if min(batch_size, len(index)) < classes and not self._warned:
            self._warned = True
            log.warning(
                "%s: held-out batches of %d images cannot hold the %d classes (slim.batch_size=%d, %d "
                "held-out images). Each batch is normalised by its own statistics, so scores are worse and "
                "noisier than with all classes in it. Raise slim.batch_size to %d or more, if memory allows.",
                self.name,
                min(batch_size, len(index)),
                classes,
                batch_size,
                len(index),
                2 * classes,
            )
        order = self.holdout_order(index, seed)
        return self._in_order(self.holdout_set, self.holdout_labels, batch_size, order, even=True)

    def clean(self, batch_size: int = 128, batches: int = 20, seed: int = 0) -> tf.data.Dataset:
        """Training images as the network sees images in use: normalised, not augmented, the classes mixed.

        Always the same images for the same seed, each once, in batches that differ by at most one image.

        Args:
            batch_size: largest number of images in a batch.
            batches: how many; fewer where the training images do not suffice.
            seed: which images, and in which order.
        """
        index = self._some(self.train, self.train_labels, batch_size * batches, seed)
        return self._in_order(self.train, self.train_labels, batch_size, index, even=True)

    def test(self, batch_size: int = 500) -> tf.data.Dataset:
        """The test images, normalised; for final evaluation only."""
        return self._in_order(self.test_set, self.test_labels, batch_size)

    def sample(self, count: int, *, train: bool, seed: int = 0) -> tuple[Any, Labels]:
        """Some images, balanced over the classes: normalised float32 [n, H, W, C], and labels int32 [n].

        Args:
            count: how many; all, if there are fewer.
            train: whether of the training images (not augmented), or of the test images.
            seed: which.
        """
        store = self.train if train else self.test_set
        labels = self.train_labels if train else self.test_labels
        index = self._some(store, labels, count, seed)
        batches = list(self._in_order(store, labels, IMAGES_AT_ONCE, index))
        return _joined([x for x, _ in batches]), taken(labels, index)

    def sample_pixels(self, count: int, *, train: bool, seed: int = 0) -> tuple[list[np.ndarray], Labels]:
        """The images of `sample` as they are stored: uint8 [h, w, C] each, whole, and labels int32 [n]."""
        store = self.train if train else self.test_set
        labels = self.train_labels if train else self.test_labels
        index = self._some(store, labels, count, seed)
        read = store.reader()
        whole = (store.window(read(tf.constant(k, tf.int64)), _whole) for k in index)
        return [image.numpy() for image in whole], taken(labels, index)

    @staticmethod
    def _some(store: ImageStore, labels: Labels, count: int, seed: int) -> np.ndarray:
        """Indices of at most `count` images, balanced and mixed over the classes."""
        classes = strata(labels)
        index = balanced_subset(classes, min(count, len(classes)), seed, store.keys)
        return index[mixed_order(classes[index], seed, store.keys[index])]

    def _in_order(
        self,
        store: ImageStore,
        labels: Labels,
        batch_size: int,
        index: np.ndarray | None = None,
        even: bool = False,
    ) -> tf.data.Dataset:
        return evaluation_batches(
            store, labels, batch_size, *self._given_out, index=index, crop=self.eval_crop, even=even
        )


def _joined(batches: list[Any]) -> Any:
    """Batches of tensors, or of structures of them, as one of arrays."""
    return tf.nest.map_structure(lambda *parts: np.concatenate([x.numpy() for x in parts]), *batches)


def _whole(height: Any, width: Any) -> Any:
    """The box of a whole image."""
    return tf.stack([0, 0, height, width])
