"""The input pipeline: normalised batches, shuffled and augmented for training, in order for evaluation.

Nothing in it has a state. Batch k of epoch e is a function of (seed, e, k), and an image's augmentation one
of (seed, e, index of the image), whatever the batch size, the number of threads or the batch at which reading
starts. So a resumed run reads what an uninterrupted one reads.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tensorflow as tf

from autoslim.errors import AutoslimError

log = logging.getLogger(__name__)

_PARALLEL_CALLS = 2
_ORDER, _AUGMENTATION = 0, 1  # streams of random numbers within an epoch


class BatchSource(Protocol):
    """Batches of training images that can be read from any batch of any epoch on."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""

    @property
    def batch_size(self) -> int:
        """Images in a batch."""

    def dataset(self, epochs: int, start_epoch: int = 0, start_batch: int = 0) -> tf.data.Dataset:
        """Batches (images float32 [B, H, W, C], labels int32 [B]) from there to the end of the epochs."""


@dataclass(frozen=True, eq=False)
class TrainingBatches:
    """Shuffled, augmented training batches, the last partial batch of an epoch dropped."""

    images: np.ndarray  # uint8 [N, height, width, channels]
    labels: np.ndarray  # integers [N]
    batch_size: int  # images a batch; at most N: a larger one is lowered to N
    seed: int  # whole number of at least 0
    mean: np.ndarray  # [channels], of images / 255
    std: np.ndarray  # [channels], of images / 255
    pad: int = 0  # largest random shift in pixels, each way; what enters is black
    flip: bool = False  # whether half of the images are mirrored left to right

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels) or len(self.images) == 0:
            raise AutoslimError(
                f"Got {len(self.images)} images and {len(self.labels)} labels to train on: expected as many "
                "labels as images, and at least one. Check the dataset."
            )
        if self.batch_size < 1 or self.pad < 0:
            raise AutoslimError(
                f"batch_size={self.batch_size}, pad={self.pad}: expected a batch size of at least 1 image "
                "and a pad of at least 0 pixels."
            )
        if self.batch_size > len(self.images):
            log.info("Batch size %d lowered to the %d training images.", self.batch_size, len(self.images))
            object.__setattr__(self, "batch_size", len(self.images))

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return len(self.images) // self.batch_size

    def dataset(self, epochs: int, start_epoch: int = 0, start_batch: int = 0) -> tf.data.Dataset:
        """Batches of the epochs start_epoch to epochs - 1, the first of them from its batch start_batch on.

        Yields:
            (images, labels): float32 [batch_size, height, width, channels], normalised, and int32
            [batch_size].
        """
        images, labels = _on_host(self.images, self.labels)

        def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
            epoch_seed = tf.random.fold_in(tf.constant([self.seed, 0], tf.int64), epoch)
            order = tf.random.experimental.stateless_shuffle(
                tf.range(len(self.images)), tf.random.fold_in(epoch_seed, _ORDER)
            )
            # row i belongs to image i: vertical shift, horizontal shift, mirror
            uniform = tf.random.stateless_uniform(
                [len(self.images), 3], tf.random.fold_in(epoch_seed, _AUGMENTATION)
            )

            def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                index = order[step * self.batch_size : (step + 1) * self.batch_size]
                x = self._augment(tf.gather(images, index), tf.gather(uniform, index))
                x = tf.ensure_shape(
                    _normalise(x, self.mean, self.std), [self.batch_size, *self.images.shape[1:]]
                )
                return x, tf.ensure_shape(tf.gather(labels, index), [self.batch_size])

            first = tf.where(epoch == start_epoch, tf.constant(start_batch, tf.int64), 0)
            return _map(tf.data.Dataset.range(first, self.steps_per_epoch), batch)

        return tf.data.Dataset.range(start_epoch, epochs).flat_map(epoch_batches).prefetch(2)

    def _augment(self, x: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
        """Shift and mirror each image by its own row of `uniform`, float32 [B, 3] in [0, 1)."""
        if self.pad == 0 and not self.flip:
            return x
        height, width = self.images.shape[1:3]
        x = tf.pad(x, [[0, 0], [self.pad, self.pad], [self.pad, self.pad], [0, 0]])
        offset = tf.cast(uniform[:, :2] * (2 * self.pad + 1), tf.int32)
        rows = offset[:, :1] + tf.range(height)
        columns = offset[:, 1:] + tf.range(width)
        if self.flip:
            columns = tf.where(uniform[:, 2:] < 0.5, columns, columns[:, ::-1])
        return tf.gather(tf.gather(x, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


@dataclass(frozen=True, eq=False)
class GivenBatches:
    """Training batches from a tf.data.Dataset of one epoch, as the user batched and augmented it.

    A training that is interrupted goes on bit for bit only if the dataset gives the same batches each time.
    """

    epoch: tf.data.Dataset  # of (images float32 [B, H, W, C], labels int [B])

    def __post_init__(self) -> None:
        if int(self.epoch.cardinality()) < 1:
            raise AutoslimError(
                "The tf.data.Dataset given has no known, finite number of batches (or none). Leave out "
                "repeat(), or tell it with dataset.apply(tf.data.experimental.assert_cardinality(n))."
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return int(self.epoch.cardinality())

    @property
    def batch_size(self) -> int:
        """Images in the first batch."""
        return int(next(iter(self.epoch.take(1)))[1].shape[0])

    def dataset(self, epochs: int, start_epoch: int = 0, start_batch: int = 0) -> tf.data.Dataset:
        """The epochs start_epoch to epochs - 1, the first of them from its batch start_batch on."""
        rest = self.epoch.skip(start_batch)
        later = epochs - start_epoch - 1
        return (rest.concatenate(self.epoch.repeat(later)) if later > 0 else rest).prefetch(2)


def evaluation_batches(
    images: np.ndarray, labels: np.ndarray, batch_size: int, mean: np.ndarray, std: np.ndarray
) -> tf.data.Dataset:
    """All images once, in order, the last partial batch included.

    Args:
        images: uint8 [N, height, width, channels].
        labels: integers [N].
        batch_size: images a batch.
        mean: [channels], of images / 255.
        std: [channels], of images / 255.

    Returns:
        Dataset of (images, labels): float32 [B, height, width, channels], normalised, and int32 [B].
    """
    pixels, classes = _on_host(images, labels)

    def batch(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _normalise(pixels[start : start + batch_size], mean, std), classes[start : start + batch_size]

    return _map(tf.data.Dataset.range(0, len(images), batch_size), batch).prefetch(2)


def _on_host(images: np.ndarray, labels: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    """Tensors in the host's memory, where the pipeline runs, also when there is an accelerator."""
    with tf.device("CPU:0"):
        return tf.constant(images), tf.constant(labels, tf.int32)


def _normalise(x: tf.Tensor, mean: np.ndarray, std: np.ndarray) -> tf.Tensor:
    """(x / 255 - mean) / std by channel."""
    scale = (1 / (255 * np.asarray(std, np.float64))).astype(np.float32)
    shift = (-np.asarray(mean, np.float64) / np.asarray(std, np.float64)).astype(np.float32)
    return tf.cast(x, tf.float32) * scale + shift


def _map(
    steps: tf.data.Dataset, batch: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
) -> tf.data.Dataset:
    return steps.map(batch, num_parallel_calls=_PARALLEL_CALLS, deterministic=True)
