"""Images of files that are decoded once and kept in memory, where all epochs would decode the same pixels."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.datasets.images import Box, EncodedImages, central_box, mapped, on_host, part_of, resized

log = logging.getLogger(__name__)

_AT_ONCE = 256  # images that are decoded before they are put in their places


class DecodedImages:
    """The images of a store, whole and in its `shape`; they are decoded when the first of them is read."""

    in_memory = True

    def __init__(self, images: EncodedImages) -> None:
        self._images, self.shape = images, images.shape

    def __len__(self) -> int:
        return len(self._images)

    @property
    def size(self) -> int:
        """Of all images in memory, bytes."""
        return len(self) * int(np.prod(self.shape))

    def name(self, index: int) -> str:
        """What to call an image in a message."""
        return self._images.name(index)

    @property
    def keys(self) -> np.ndarray:
        """A hash of what each image is, uint64 [N], as the store has it."""
        return self._images.keys

    def reader(self) -> Callable[[Any], Any]:
        """index -> the image, uint8 [height, width, channels]; a vector of indices gives a batch."""
        pixels = self._pixels
        return lambda index: tf.gather(pixels, index)

    def stream(self, threads: int) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
        """indices -> images."""
        return mapped(self.reader(), threads)

    def window(self, stored: Any, box: Box) -> Any:
        """The part of an image that `box` chooses."""
        return part_of(stored, box(*self.shape[:2]))

    @cached_property
    def _pixels(self) -> tf.Tensor:
        """uint8 [N, height, width, channels], in the host's memory."""
        threads = os.cpu_count() or 1
        box = central_box(self.shape)

        def whole(stored: Any) -> Any:
            return tf.ensure_shape(resized(self._images.window(stored, box), self.shape), self.shape)

        stored = self._images.stream(threads)(tf.data.Dataset.range(len(self)))
        pixels, first = np.empty((len(self), *self.shape), np.uint8), 0
        for part in mapped(whole, threads)(stored).batch(_AT_ONCE).as_numpy_iterator():
            pixels[first : first + len(part)] = part
            first += len(part)
        log.info("%d images are decoded once and kept in memory: %.0f MiB.", len(self), self.size / 2**20)
        return on_host(pixels)
