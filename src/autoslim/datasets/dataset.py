"""What every source of images returns: training and test images in memory."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

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
