"""The input pipeline: normalised batches, shuffled and augmented for training, in order for evaluation.

Nothing in it has a state. Batch k of epoch e is a function of (seed, e, k), an image's augmentation one of
(seed, e, index of the image), whatever the batch size, the number of threads or the batch at which reading
starts; how a batch is mixed is one of (seed, e, k). So a resumed run reads what an uninterrupted one reads.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from autoslim.datasets.augmentation import Augmentation, random_box, recolored, shifted_and_mirrored
from autoslim.datasets.images import ImageStore, central_box, on_host, resized
from autoslim.datasets.labels import (
    Labels,
    are_classes,
    count,
    gathered,
    in_memory,
    of_places,
    spatial,
    taken,
)
from autoslim.datasets.mixing import mixed
from autoslim.datasets.randaugment import rand_augment
from autoslim.errors import AutoslimError

log = logging.getLogger(__name__)

THREADS = os.cpu_count() or 1  # that read and decode images
_ORDER, _SHIFT, _IMAGE, _MIX = 0, 1, 2, 3  # streams of random numbers within an epoch
_CROP, _OPERATIONS, _COLOR = 0, 1, 2  # streams of random numbers of an image


class BatchSource(Protocol):
    """Batches of training images that can be read from any batch of any epoch on."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""

    @property
    def batch_size(self) -> int:
        """Images in a batch."""

    def dataset(self, epochs: int, start_epoch: int = 0, start_batch: int = 0) -> tf.data.Dataset:
        """Batches from there to the end of the epochs.

        Of images float32 [B, H, W, C] and labels, such as int32 [B]; perhaps a third entry, weights [B].
        """


@dataclass(frozen=True, eq=False)
class TrainingBatches:
    """Shuffled, augmented training batches, the last partial batch of an epoch dropped."""

    images: ImageStore
    labels: Labels  # such as integers [N]
    batch_size: int  # images a batch; at most N: a larger one is lowered to N
    seed: int  # whole number of at least 0
    mean: np.ndarray | None  # [channels], of images / 255; None: uint8 pixels, as they are
    std: np.ndarray | None  # [channels], of images / 255; likewise
    augmentation: Augmentation = field(default_factory=Augmentation)
    index: np.ndarray | None = None  # int64 [n], which images and labels to train on; None: all
    classes: int | None = None  # number of classes; needed where images are mixed

    def __post_init__(self) -> None:
        if len(self.images) != count(self.labels) or self._count == 0:
            raise AutoslimError(
                f"Got {len(self.images)} images and {count(self.labels)} labels to train on: expected as "
                "many labels as images, and at least one. Check the dataset."
            )
        if self.batch_size < 1:
            raise AutoslimError(f"batch_size={self.batch_size}: expected at least 1 image.")
        if self.augmentation.mixes and self.classes is None:
            raise AutoslimError("Mixing images needs the number of classes: give classes.")
        self._check_augmentation()
        if self.batch_size > self._count:
            log.info("Batch size %d lowered to the %d training images.", self.batch_size, self._count)
            object.__setattr__(self, "batch_size", self._count)

    @property
    def _count(self) -> int:
        return count(self.labels) if self.index is None else len(self.index)

    def _check_augmentation(self) -> None:
        """Refuse what would leave labels behind that do not fit their images any more."""
        a, instead = self.augmentation, "Leave it out, or do it in the function that gives the images."
        if a.mixes and not are_classes(self.labels):
            raise AutoslimError(f"Mixing images (mixup, cutmix) needs one class for each image. {instead}")
        if a.mixes and self.mean is None:
            raise AutoslimError(f"Mixing images (mixup, cutmix) gives no whole numbers of pixels. {instead}")
        moved = [name for name in ("crop", "pad", "randaugment") if getattr(a, name) not in ("none", 0, None)]
        if spatial(self.labels) and not all(of_places(self.labels, self.images.shape[:2])):
            moved += ["flip"] if a.flip else []
        if moved and spatial(self.labels):
            raise AutoslimError(
                f"Labels of places in the image, such as masks, do not move with it by {', '.join(moved)}: "
                f"only flip and color are known to keep them. {instead}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self._count // self.batch_size

    def dataset(self, epochs: int, start_epoch: int = 0, start_batch: int = 0) -> tf.data.Dataset:
        """Batches of the epochs start_epoch to epochs - 1, the first of them from its batch start_batch on.

        Yields:
            (images, labels): float32 [batch_size, height, width, channels], normalised, and int32
            [batch_size], or as they are; where images are mixed,
            they are probabilities float32 [batch_size, classes].
        """
        in_batches = self.images.in_memory and not self.augmentation.by_image
        read = self.images.reader()
        stream = self.images.stream(THREADS)
        chosen = on_host(np.arange(self._count) if self.index is None else self.index, tf.int64)
        labels = in_memory(taken(self.labels, chosen.numpy()))

        def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
            epoch_seed = _epoch_seed(self.seed, epoch)
            order = epoch_order(self.seed, epoch, self._count)
            # row i belongs to image i: vertical shift, horizontal shift, mirror
            uniform = tf.random.stateless_uniform([self._count, 3], tf.random.fold_in(epoch_seed, _SHIFT))

            def finish(step: tf.Tensor, x: tf.Tensor, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                seed = tf.random.fold_in(tf.random.fold_in(epoch_seed, _MIX), step)
                return self._varied(x, self._labels(labels, place, uniform), tf.gather(uniform, place), seed)

            def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                place = order[step * self.batch_size : (step + 1) * self.batch_size]
                return finish(step, read(tf.gather(chosen, place)), place)

            def image(content: tf.Tensor, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                seed = tf.random.fold_in(tf.random.fold_in(epoch_seed, _IMAGE), place)
                return self._one(content, seed), place

            first = tf.where(epoch == start_epoch, tf.constant(start_batch, tf.int64), 0)
            steps = tf.data.Dataset.range(first, self.steps_per_epoch)
            if in_batches:
                return _map(steps, batch)
            size = self.batch_size
            places = tf.data.Dataset.range(first * size, self.steps_per_epoch * size).map(
                lambda number: order[number]
            )
            stored = stream(places.map(lambda place: chosen[place]))
            images = _map(tf.data.Dataset.zip((stored, places)), image, THREADS)
            batches = images.batch(size, drop_remainder=True)
            return _map(tf.data.Dataset.zip((steps, batches)), lambda step, batch: finish(step, *batch))

        return tf.data.Dataset.range(start_epoch, epochs).flat_map(epoch_batches).prefetch(2)

    def _varied(self, x: Any, y: Any, uniform: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """A batch shifted, mirrored, normalised and mixed; `uniform`: draws [B, 3] in [0, 1)."""
        a = self.augmentation
        x = _normalise(shifted_and_mirrored(x, uniform, a.pad, a.flip), self.mean, self.std)
        x = tf.ensure_shape(x, [self.batch_size, *self.images.shape])
        if self.classes is None or not a.mixes:
            return x, y
        return mixed(x, y, self.classes, a.mixup, a.cutmix, seed)

    def _labels(self, labels: Any, place: tf.Tensor, uniform: tf.Tensor) -> Any:
        """The labels of a batch; those of places are mirrored with their images."""
        size, flip = self.batch_size, self.augmentation.flip

        def one(values: tf.Tensor) -> tf.Tensor:
            own = tf.ensure_shape(tf.gather(values, place), [size, *values.shape[1:]])
            if not flip or values.shape.rank < 3:
                return own
            flat = own if own.shape.rank == 4 else own[..., None]
            return tf.reshape(shifted_and_mirrored(flat, tf.gather(uniform, place), 0, True), own.shape)

        return tf.nest.map_structure(one, labels)

    def _one(self, stored: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Decode one image and vary it by itself: uint8 [height, width, channels]."""
        a, shape = self.augmentation, self.images.shape
        if a.crop == "resized":
            box = random_box(a.scale, a.ratio, tf.random.fold_in(seed, _CROP))
        else:
            box = central_box(shape)
        x = tf.ensure_shape(resized(self.images.window(stored, box), shape), shape)
        if a.randaugment is not None:
            layers, magnitude = a.randaugment
            x = rand_augment(x, int(layers), magnitude, tf.random.fold_in(seed, _OPERATIONS))
        if any(a.color):
            x = recolored(x, a.color, tf.random.fold_in(seed, _COLOR))
        return x


@dataclass(frozen=True, eq=False)
class GivenBatches:
    """Training batches from a tf.data.Dataset of one epoch, as the user batched and augmented it.

    A training that is interrupted goes on bit for bit only if the dataset gives the same batches each time.
    """

    epoch: tf.data.Dataset  # of (images, labels) or (images, labels, weights), tensors or structures of them

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
        return int(tf.nest.flatten(next(iter(self.epoch.take(1)))[1])[0].shape[0])

    def dataset(self, epochs: int, start_epoch: int = 0, start_batch: int = 0) -> tf.data.Dataset:
        """The epochs start_epoch to epochs - 1, the first of them from its batch start_batch on."""
        rest = self.epoch.skip(start_batch)
        later = epochs - start_epoch - 1
        return (rest.concatenate(self.epoch.repeat(later)) if later > 0 else rest).prefetch(2)


def _epoch_seed(seed: int, epoch: Any) -> Any:
    return tf.random.fold_in(tf.constant([seed, 0], tf.int64), epoch)


def epoch_order(seed: int, epoch: Any, images: int) -> Any:
    """The places of all images in the order of an epoch."""
    own = tf.random.fold_in(_epoch_seed(seed, epoch), _ORDER)
    return tf.random.experimental.stateless_shuffle(tf.range(images), own)


def shuffled(
    batch_at: Callable[[Any], Any],
    images: int,
    batch_size: int,
    seed: int,
    epochs: int,
    start_epoch: int = 0,
    start_batch: int = 0,
) -> tf.data.Dataset:
    """Whole batches of images in another order in every epoch, from a place on.

    Args:
        batch_at: places int [batch_size] -> the batch.
        images: how many there are; what is left over at the end of an epoch is dropped.
        batch_size: images a batch.
        seed: of the orders.
        epochs, start_epoch, start_batch: epochs start_epoch to epochs - 1, the first from its batch
            start_batch on.
    """

    def epoch_batches(epoch: Any) -> tf.data.Dataset:
        order = epoch_order(seed, epoch, images)
        first = tf.where(epoch == start_epoch, tf.constant(start_batch, tf.int64), 0)

        def batch(step: Any) -> Any:
            here = order[step * batch_size : (step + 1) * batch_size]
            return batch_at(tf.ensure_shape(here, [batch_size]))

        return tf.data.Dataset.range(first, images // batch_size).map(batch)

    return tf.data.Dataset.range(start_epoch, epochs).flat_map(epoch_batches).prefetch(2)


def even_bounds(images: int, batch_size: int, even: bool) -> list[tuple[int, int]]:
    """First and last place (exclusive) of each batch of images in order.

    >>> even_bounds(10, 4, False), even_bounds(10, 4, True)
    ([(0, 4), (4, 8), (8, 10)], [(0, 4), (4, 7), (7, 10)])

    Args:
        images: how many.
        batch_size: largest number in a batch.
        even: whether batches differ by at most one image, as in `evaluation_batches`.
    """
    if not even or images == 0:
        return [(start, min(start + batch_size, images)) for start in range(0, images, batch_size)]
    parts = max(1, min(-(-images // batch_size), images // 2))
    size, larger = divmod(images, parts)
    ends = np.cumsum([size + 1] * larger + [size] * (parts - larger)).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def evaluation_batches(
    images: ImageStore,
    labels: Labels,
    batch_size: int,
    mean: np.ndarray | None,
    std: np.ndarray | None,
    *,
    index: np.ndarray | None = None,
    crop: float = 1.0,
    even: bool = False,
) -> tf.data.Dataset:
    """Images once, in order, the last partial batch included.

    Args:
        images: N images.
        labels: such as integers [N].
        batch_size: images a batch.
        mean: [channels], of images / 255; None: uint8 pixels, as they are.
        std: [channels], of images / 255.
        index: int64 [n], which images; None: all.
        crop: share of the height and width that is kept, from the middle.
        even: whether batches differ by at most one image, instead of a smaller last one; none has a single
            image if there are two images or more.

    Returns:
        Dataset of (images, labels): float32 [B, height, width, channels], normalised, and labels.
    """
    index = np.arange(len(images)) if index is None else index
    chosen = on_host(index, tf.int64)
    own = in_memory(taken(labels, index))
    read = images.reader()

    stream = images.stream(THREADS)

    def image(stored: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = images.window(stored, central_box(images.shape, crop))
        return tf.ensure_shape(resized(x, images.shape), images.shape), label

    def part(first: int, last: int, size: int) -> tf.data.Dataset:
        """The images at places `first` to `last` - 1, in batches of `size`."""

        def batch(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            end = tf.minimum(start + size, last)
            return _normalise(read(chosen[start:end]), mean, std), tf.nest.map_structure(
                lambda one: one[start:end], own
            )

        if images.in_memory and crop == 1:
            return _map(tf.data.Dataset.range(first, last, size), batch)
        places = tf.data.Dataset.range(first, last)
        stored = stream(places.map(lambda place: chosen[place]))
        labelled = tf.data.Dataset.zip((stored, places.map(lambda place: gathered(own, place))))
        decoded = _map(labelled, image, THREADS).batch(size)
        return _map(decoded, lambda x, y: (_normalise(x, mean, std), y))

    count = len(index)
    if not even or count == 0:
        return part(0, count, batch_size).prefetch(2)
    size, larger = divmod(count, max(1, min(-(-count // batch_size), count // 2)))
    cut = larger * (size + 1)
    parts = [part(*limits) for limits in ((0, cut, size + 1), (cut, count, size)) if limits[0] < limits[1]]
    return (parts[0] if len(parts) == 1 else parts[0].concatenate(parts[1])).prefetch(2)


def _normalise(x: tf.Tensor, mean: np.ndarray | None, std: np.ndarray | None) -> tf.Tensor:
    """(x / 255 - mean) / std by channel; without a mean the pixels as they are."""
    if mean is None:
        return x
    scale = (1 / (255 * np.asarray(std, np.float64))).astype(np.float32)
    shift = (-np.asarray(mean, np.float64) / np.asarray(std, np.float64)).astype(np.float32)
    return tf.cast(x, tf.float32) * scale + shift


def _map(
    data: tf.data.Dataset, function: Callable[..., tuple[tf.Tensor, tf.Tensor]], threads: int = 2
) -> tf.data.Dataset:
    return data.map(function, num_parallel_calls=threads, deterministic=True)
