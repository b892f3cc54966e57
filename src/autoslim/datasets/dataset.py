"""What every source of images returns: training and test images in memory."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tensorflow as tf

from autoslim.datasets.batches import TrainingBatches, evaluation_batches
from autoslim.datasets.holdout import split_holdout
from autoslim.errors import AutoslimError

# Of images / 255: mean and standard deviation, for all channels or one each (red, green, blue).
CONSTANTS = {
    "unit": (0.0, 1.0),
    "symmetric": (0.5, 0.5),
    "pixels": (0.0, 1 / 255),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
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
    normalization: str = "dataset"  # what pixels become: see `mean` and `std`

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one image."""
        height, width, channels = self.train_images.shape[1:]
        return height, width, channels

    @property
    def mean(self) -> np.ndarray:
        """What is taken off images / 255, by channel, float32 [channels]: the training images' own mean, or
        zero ("unit", "pixels"), a half ("symmetric"), ImageNet's ("imagenet")."""
        return self._moments[0] if self.normalization == "dataset" else self._constants[0]

    @property
    def std(self) -> np.ndarray:
        """What images / 255 - mean are divided by, float32 [channels]: the training images' own deviation, at
        least 1e-3, or 1 ("unit"), 1/255 ("pixels": 0 to 255), a half ("symmetric": -1 to 1), ImageNet's
        ("imagenet")."""
        return self._moments[1] if self.normalization == "dataset" else self._constants[1]

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
        """Indices of the training images to train on and of those held out; see `split_holdout`."""
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
        """The training images at `index`, normalised, in nearly equal batches of at most `batch_size`."""
        size = -(-len(index) // -(-len(index) // batch_size))
        return evaluation_batches(
            self.train_images[index], self.train_labels[index], size, self.mean, self.std
        )

    def test(self, batch_size: int = 500) -> tf.data.Dataset:
        """The test images, normalised; for final evaluation only."""
        return evaluation_batches(self.test_images, self.test_labels, batch_size, self.mean, self.std)
