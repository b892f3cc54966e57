"""What every source of images returns: training and test images in memory."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tensorflow as tf

from autoslim.datasets.batches import TrainingBatches, evaluation_batches
from autoslim.datasets.holdout import split_holdout

SMALLEST_STD = 1e-3
_IMAGES_AT_ONCE = 1000


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels of one classification problem."""

    name: str
    train_images: np.ndarray  # uint8 [N, height, width, channels]
    train_labels: np.ndarray  # int32 [N], in [0, classes)
    test_images: np.ndarray  # uint8 [M, height, width, channels]
    test_labels: np.ndarray  # int32 [M], in [0, classes)
    classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one image."""
        height, width, channels = self.train_images.shape[1:]
        return height, width, channels

    @property
    def mean(self) -> np.ndarray:
        """Mean of train_images / 255 by channel, float32 [channels]."""
        return self._moments[0]

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of train_images / 255 by channel, at least 1e-3, float32 [channels]."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        images = self.train_images
        total = np.zeros(images.shape[-1], np.int64)
        squares = np.zeros(images.shape[-1], np.int64)
        for start in range(0, len(images), _IMAGES_AT_ONCE):
            part = images[start : start + _IMAGES_AT_ONCE].astype(np.int64)
            total += part.sum(axis=(0, 1, 2))
            squares += np.square(part).sum(axis=(0, 1, 2))
        pixels = images[..., 0].size
        mean = total / pixels
        variance = np.maximum(squares / pixels - np.square(mean), 0)
        std = np.maximum(np.sqrt(variance) / 255, SMALLEST_STD)
        return (mean / 255).astype(np.float32), std.astype(np.float32)

    def split(self, share: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the training images to train on and of those held out for the search; see `split_holdout`."""
        return split_holdout(self.train_labels, share, seed)

    def training(
        self,
        batch_size: int = 128,
        *,
        index: np.ndarray | None = None,
        seed: int = 0,
        pad: int = 0,
        flip: bool = False,
    ) -> TrainingBatches:
        """Shuffled, augmented, normalised batches of the training images at `index` (None: of all)."""
        images, labels = self.train_images, self.train_labels
        if index is not None:
            images, labels = images[index], labels[index]
        return TrainingBatches(images, labels, batch_size, seed, self.mean, self.std, pad, flip)

    def heldout(self, index: np.ndarray, batch_size: int = 256) -> tf.data.Dataset:
        """The training images at `index`, normalised, in batches of nearly equal size of at most `batch_size`."""
        size = -(-len(index) // -(-len(index) // batch_size))
        return evaluation_batches(
            self.train_images[index], self.train_labels[index], size, self.mean, self.std
        )

    def test(self, batch_size: int = 500) -> tf.data.Dataset:
        """The test images, normalised; for final evaluation only."""
        return evaluation_batches(self.test_images, self.test_labels, batch_size, self.mean, self.std)
