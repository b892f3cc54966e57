"""A dataset of encoded images in files: names, places and labels are in memory, pixels if they are few."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from autoslim.datasets.apart import check_apart, check_labels, check_tested, counted_classes
from autoslim.datasets.augmentation import Augmentation
from autoslim.datasets.dataset import Dataset
from autoslim.datasets.decoded import DecodedImages
from autoslim.datasets.holdout import checked_subset
from autoslim.datasets.images import EncodedImages, ImageStore
from autoslim.datasets.verify import broken_images, check_broken
from autoslim.errors import AutoslimError

log = logging.getLogger(__name__)


class EncodedSplit(NamedTuple):
    """Training or test images as they were found."""

    images: EncodedImages
    labels: np.ndarray  # integers [N]
    state: str  # hash of the files' names, sizes and times


@dataclass(frozen=True)
class Choice:
    """Which of the images that are found are used."""

    train_images: int | None = None  # use at most this many training images, balanced over classes; None: all
    verify: bool = True  # whether every image is decoded once before use
    max_broken: float = 0.001  # share of a split's images that may be broken; they are left out
    cache: Path | None = None  # folder that keeps what was found out about files; None: nothing is kept
    holdout: str | None = None  # where images held apart for the search lie; None: training images give them
    memory: float = 1.0  # GiB of decoded training images that are kept; more are decoded in every epoch


class EncodedDataset(Dataset):
    """Images in class folders or record files.

    Args:
        name: of the dataset.
        splits: finds training and test images, and the held-out ones if there are any; called once, when they
            are first needed.
        shape: (height, width, channels) that the images come in.
        fingerprint: hash of the files' names and sizes.
        class_names: in the order of the labels; None: not known.
        classes: labels lie in [0, classes); None: as many as class names, or else the highest label + 1.
        choice: which of the images are used.
        normalization, eval_crop: as in `Dataset`.
        holdout_fingerprint: hash of the names and sizes of files held apart; None: there are none.
    """

    def __init__(
        self,
        name: str,
        splits: Callable[[], Sequence[EncodedSplit]],
        shape: tuple[int, int, int],
        fingerprint: str,
        *,
        class_names: tuple[str, ...] | None = None,
        classes: int | None = None,
        choice: Choice | None = None,
        normalization: str = "imagenet",
        eval_crop: float = 0.875,
        holdout_fingerprint: str | None = None,
    ) -> None:
        super().__init__(name, normalization, eval_crop)
        if class_names is not None and classes not in (None, len(class_names)):
            raise AutoslimError(
                f"dataset.classes={classes}, but {name} has {len(class_names)} classes. Set "
                "dataset.classes=null to count them, or correct dataset.path."
            )
        self._find, self._shape, self._fingerprint = splits, shape, fingerprint
        self._class_names, self._given_classes = class_names, classes
        self._choice = choice or Choice()
        self._holdout_fingerprint = holdout_fingerprint

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images that the pipeline gives out."""
        return self._shape

    @property
    def classes(self) -> int:
        """Number of classes."""
        if self._class_names is not None:
            return len(self._class_names)
        if self._given_classes is not None:
            return self._given_classes
        return counted_classes([split.labels for split in self._found[:2]], self.name)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What the classes are called, in the order of their labels."""
        return self._class_names

    @property
    def fingerprint(self) -> str:
        """A hash of the files' names and sizes."""
        return self._fingerprint

    @property
    def train(self) -> EncodedImages:
        """The training images that are whole, or as many of them as were asked for."""
        return self._used[0].images

    @property
    def test_set(self) -> EncodedImages:
        """The test images that are whole."""
        return self._used[1].images

    @property
    def train_labels(self) -> np.ndarray:
        """int32 [N], in [0, classes)."""
        return self._used[0].labels

    @property
    def test_labels(self) -> np.ndarray:
        """int32 [M], in [0, classes)."""
        return self._used[1].labels

    @property
    def holdout_fingerprint(self) -> str | None:
        """A hash of names and sizes of files held apart; None: a share of the training images is held out."""
        return self._holdout_fingerprint

    @property
    def holdout_set(self) -> EncodedImages:
        """The images that held-out indices point into: the training images, or those held apart."""
        return self._used[2 if self._holdout_fingerprint else 0].images

    @property
    def holdout_labels(self) -> np.ndarray:
        """int32, of `holdout_set`, in [0, classes)."""
        return self._used[2 if self._holdout_fingerprint else 0].labels

    def _varied(self, augmentation: Augmentation) -> ImageStore:
        """Images that are used whole are decoded once, if memory suffices."""
        whole = augmentation.crop == "none"  # else another part in every epoch
        return self._decoded if whole and self._decoded.size <= self._choice.memory * 2**30 else self.train

    @cached_property
    def _decoded(self) -> DecodedImages:
        return DecodedImages(self.train)

    @cached_property
    def _found(self) -> Sequence[EncodedSplit]:
        return self._find()

    @cached_property
    def _used(self) -> tuple[EncodedSplit, ...]:
        c = self._choice
        names = ("training images", "test images", "held-out images")
        train, *others = (self._whole(split, what) for split, what in zip(self._found, names, strict=False))
        absent = self.classes - len(np.unique(train.labels))
        if absent:
            log.warning("%s: %d of the %d classes have no training image.", self.name, absent, self.classes)
        if c.train_images is not None:
            args = c.train_images, self.classes, self.name, train.images.keys
            train = _taken(train, checked_subset(train.labels, *args))
        check_tested(train.labels, others[0].labels, self._class_names, self.name)
        for apart in others[1:]:
            check_apart(apart.images, train.images, others[0].images, self.name)
        return train, *others

    def _whole(self, split: EncodedSplit, what: str) -> EncodedSplit:
        """The images that can be decoded, their labels checked."""
        check_labels(split.labels, self.classes, f"{self.name}: labels of {what}")
        split = split._replace(labels=split.labels.astype(np.int32))
        if not self._choice.verify:
            return split
        broken = broken_images(split.images, split.state, self._choice.cache)
        check_broken(broken, split.images, f"{what} of {self.name}", self._choice.max_broken)
        if not broken:
            return split
        return _taken(split, np.setdiff1d(np.arange(len(split.labels)), list(broken)))


def _taken(split: EncodedSplit, index: np.ndarray) -> EncodedSplit:
    return EncodedSplit(split.images.take(index), split.labels[index], split.state)
