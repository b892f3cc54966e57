"""Batches as users have them: arrays, `tf.data` sets, lists of batches, or a `BatchSource`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.datasets.batches import BatchSource, GivenBatches, even_bounds, shuffled
from autoslim.datasets.images import check_finite
from autoslim.datasets.labels import gathered
from autoslim.errors import AutoslimError
from autoslim.scoring import without_lists

BATCH_SIZE = 128  # of arrays, where none is given

EXPECTED = (
    "expected (images, labels) or (images, labels, weights) as arrays, a tf.data.Dataset of such batches, a "
    "list of such batches, or what a data set's training() returns"
)


def batch_source(given: Any, batch_size: int = BATCH_SIZE, seed: int = 0) -> BatchSource:
    """What a training reads, from what it was given.

    Args:
        given: (images, labels) or (images, labels, weights) in a tuple, each an array or a structure of them:
            they are shuffled again in every epoch. Or a tf.data.Dataset of one epoch's batches, whose
            number is known; a list of batches; a `BatchSource`, returned as it is.
        batch_size: of arrays; lowered to their number.
        seed: of the order of arrays.

    Raises:
        AutoslimError: for anything else, saying what is expected.
    """
    if isinstance(given, tf.data.Dataset):
        _check_batched(given)
        return GivenBatches(given)
    if hasattr(given, "dataset") and hasattr(given, "steps_per_epoch"):
        return given
    if _are_arrays(given):
        return ArrayBatches(_arrays(given), batch_size, seed)
    _check_batches(given)
    if isinstance(given, list) and given and all(isinstance(one, tuple) for one in given):
        return GivenBatches(_dataset_of(given))
    raise AutoslimError(f"Got a {type(given).__name__} as batches: {EXPECTED}.")


def batches_of(given: Any, batch_size: int = BATCH_SIZE) -> Iterable[tuple[Any, ...]]:
    """Batches in order, from what evaluation, calibration or a search was given.

    Args:
        given: as `batch_source` takes it; arrays are read in order, in batches of about equal size.
        batch_size: of arrays.

    Raises:
        AutoslimError: for anything else, saying what is expected; when it is read, for a batch with images
            that are NaN or infinite, which ReLU may turn into zeros.
    """
    if isinstance(given, tf.data.Dataset):
        _check_batched(given)
        return _finite(given)
    if _are_arrays(given):
        return _cut(_arrays(given), batch_size)
    if hasattr(given, "dataset") and hasattr(given, "steps_per_epoch"):
        return _finite(given.dataset(1))
    if isinstance(given, Iterable) and not isinstance(given, Mapping | str | np.ndarray):
        _check_batches(given)
        return _finite(given)
    raise AutoslimError(f"Got a {type(given).__name__} as batches: {EXPECTED}.")


def _finite(batches: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The batches, each looked at when it is read."""
    for number, batch in enumerate(batches):
        plain = [x for x in tf.nest.flatten(batch[0]) if isinstance(x, np.ndarray | tf.Tensor)]
        check_finite([np.asarray(x) for x in plain], f"Batch {number}")
        yield batch


def _check_batches(given: Any) -> None:
    """Refuse [images, labels], which is no list of batches."""
    if isinstance(given, list) and 1 < len(given) < 4 and all(hasattr(one, "shape") for one in given):
        raise AutoslimError(
            f"Got a list of {len(given)} arrays: {EXPECTED}. Write a tuple, (images, labels)."
        )


def _are_arrays(given: Any) -> bool:
    """Whether something is (images, labels) or (images, labels, weights), not a tuple of batches."""
    if not isinstance(given, tuple) or len(given) not in (2, 3):
        return False
    return not any(isinstance(part, tuple) for part in given[1:]) and _count(given[0]) is not None


def _count(part: Any) -> int | None:
    """Images in an array or a structure of arrays; None: it is neither."""
    flat = tf.nest.flatten(part)
    sized = [one for one in flat if hasattr(one, "shape") and len(one.shape)]
    return int(sized[0].shape[0]) if flat and len(sized) == len(flat) else None


def _arrays(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same, once it is sure that they are of as many images."""
    parts = tuple(tf.nest.map_structure(_as_array, without_lists(part)) for part in given)
    counts = [len(one) for part in parts for one in tf.nest.flatten(part)]
    if len(set(counts)) != 1 or counts[0] == 0:
        raise AutoslimError(
            f"Images, labels and weights are of {', '.join(map(str, counts))} images: expected the same "
            "number of each, at least one."
        )
    check_finite(parts[0], "The arrays given")
    return parts


def _as_array(one: Any) -> np.ndarray:
    values = np.asarray(one)
    return values.astype(np.float32) if values.dtype == np.float64 else values


def _cut(parts: tuple[Any, ...], batch_size: int) -> Iterator[tuple[Any, ...]]:
    count = len(tf.nest.flatten(parts[0])[0])
    for first, last in even_bounds(count, batch_size, True):
        yield tuple(tf.nest.map_structure(lambda one: one[first:last], part) for part in parts)  # noqa: B023


def _check_batched(data: tf.data.Dataset) -> None:
    spec = data.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise AutoslimError(
            f"The tf.data.Dataset gives {type(spec).__name__}s: expected batches (images, labels) or "
            "(images, labels, weights). Map it to that."
        )
    if any(one.shape.rank == 0 for part in spec for one in tf.nest.flatten(part)):
        raise AutoslimError("The tf.data.Dataset gives single images: batch it first, with .batch(128).")


def _dataset_of(batches: list[tuple[Any, ...]]) -> tf.data.Dataset:
    """A list of batches as a tf.data.Dataset of a known length."""
    arrays = [_arrays(batch) for batch in batches]

    def spec(one: np.ndarray) -> tf.TensorSpec:
        return tf.TensorSpec([None, *one.shape[1:]], one.dtype)

    signature = tf.nest.map_structure(spec, arrays[0])
    try:
        data = tf.data.Dataset.from_generator(lambda: iter(arrays), output_signature=signature)
    except (TypeError, ValueError) as error:
        raise AutoslimError(f"The batches of the list are not alike: {EXPECTED}.") from error
    return data.apply(tf.data.experimental.assert_cardinality(len(arrays)))


@dataclass(frozen=True, eq=False)
class ArrayBatches:
    """Arrays in batches, in another order in every epoch, the last partial batch of an epoch dropped."""

    parts: tuple[Any, ...]  # images, labels and perhaps weights
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise AutoslimError(f"batch_size={self.batch_size}: expected at least 1 image.")
        object.__setattr__(self, "batch_size", min(self.batch_size, self._count))

    @property
    def _count(self) -> int:
        return len(tf.nest.flatten(self.parts)[0])

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self._count // self.batch_size

    def dataset(self, epochs: int, start_epoch: int = 0, start_batch: int = 0) -> tf.data.Dataset:
        """Batches of the epochs start_epoch to epochs - 1, the first from its batch start_batch on."""
        with tf.device("CPU:0"):
            parts = tf.nest.map_structure(tf.constant, self.parts)

        def batch_at(places: Any) -> Any:
            return tuple(gathered(part, places) for part in parts)

        return shuffled(batch_at, self._count, self.batch_size, self.seed, epochs, start_epoch, start_batch)
