"""Data sets whose networks have several inputs: arrays in memory, given out as they are structured."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.datasets.augmentation import Augmentation
from autoslim.datasets.batches import even_bounds, shuffled
from autoslim.datasets.dataset import CONSTANTS, SMALLEST_STD, Dataset
from autoslim.datasets.images import hashes
from autoslim.datasets.labels import Labels, fingerprint, gathered, in_memory, taken
from autoslim.errors import AutoslimError
from autoslim.scoring import without_lists


class Inputs:
    """Several inputs in memory: a dict or a list of arrays [N, ...]; uint8 [N, H, W, C] are images."""

    def __init__(self, arrays: Any) -> None:
        self.arrays = arrays = without_lists(arrays)
        self.shape: Any = tf.nest.map_structure(lambda one: tuple(one.shape[1:]), arrays)

    def __len__(self) -> int:
        return len(tf.nest.flatten(self.arrays)[0])

    def name(self, index: int) -> str:
        """What to call an example in a message."""
        return f"example {index}"

    @cached_property
    def keys(self) -> np.ndarray:
        """A hash of each example, uint64 [N]."""
        flat = [np.ascontiguousarray(one) for one in tf.nest.flatten(self.arrays)]
        return hashes(
            hashlib.blake2b(b"".join(one[i].tobytes() for one in flat)).digest() for i in range(len(self))
        )


def is_image(array: Any) -> bool:
    """Whether an input is images, which are normalised."""
    return bool(array.dtype == np.uint8 and array.ndim == 4)


class InputsDataset(Dataset):
    """A data set in memory whose examples have several inputs. They are not varied in training.

    Args:
        name: of the data set.
        splits: "train", "test" and perhaps "holdout" -> (inputs, labels).
        classes: number of classes, values or labels of an example; for several outputs one each.
        normalization: of the images among the inputs, as in `Dataset`; other numbers are as they are.
    """

    def __init__(
        self,
        name: str,
        splits: Mapping[str, tuple[Any, Labels]],
        classes: Any,
        normalization: str = "dataset",
    ) -> None:
        super().__init__(name, normalization)
        shapes = [tf.nest.map_structure(lambda one: str(one.shape[1:]), x) for x, _ in splits.values()]
        if any(other != shapes[0] for other in shapes[1:]):
            raise AutoslimError(
                f"{name}: the inputs of its splits have other shapes: {shapes}. Expected the same."
            )
        self._stores = {split: Inputs(x) for split, (x, _) in splits.items()}
        self._labels = {split: y for split, (_, y) in splits.items()}
        self._classes = classes

    @property
    def shape(self) -> Any:
        """The shape of each input, structured as the inputs are."""
        return self.train.shape

    @property
    def classes(self) -> Any:
        """Number of classes, values or labels; for several outputs one each."""
        return self._classes

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all inputs and labels but those held apart."""
        parts = [(self._stores[split].arrays, self._labels[split]) for split in ("train", "test")]
        return fingerprint(*(one for pair in parts for one in pair))

    @property
    def train(self) -> Any:
        """The training examples."""
        return self._stores["train"]

    @property
    def test_set(self) -> Any:
        """The test examples."""
        return self._stores["test"]

    @property
    def train_labels(self) -> Labels:
        """Of the training examples."""
        return self._labels["train"]

    @property
    def test_labels(self) -> Labels:
        """Of the test examples."""
        return self._labels["test"]

    @property
    def holdout_fingerprint(self) -> str | None:
        """A hash of the examples held apart; None: there are none."""
        if "holdout" not in self._stores:
            return None
        return fingerprint(self._stores["holdout"].arrays, self._labels["holdout"])

    @property
    def holdout_set(self) -> Any:
        """The examples that held-out indices point into."""
        return self._stores.get("holdout", self.train)

    @property
    def holdout_labels(self) -> Labels:
        """Of `holdout_set`."""
        return self._labels.get("holdout", self.train_labels)

    @cached_property
    def moments(self) -> Any:
        """(Mean, deviation) of the training images / 255, each structured as the inputs are."""
        found = [_moments(one) for one in tf.nest.flatten(self.train.arrays)]
        pack = lambda place: tf.nest.pack_sequence_as(self.train.arrays, [pair[place] for pair in found])  # noqa: E731
        return pack(0), pack(1)

    @property
    def _constants(self) -> Any:
        if self.normalization not in CONSTANTS:
            raise AutoslimError(f"dataset.normalization={self.normalization} is unknown.")
        flat = tf.nest.flatten(self.train.arrays)

        def of(value: Any, one: Any) -> np.ndarray:
            values = np.asarray(value, np.float32)
            if values.ndim and is_image(one) and len(values) != one.shape[-1]:
                raise AutoslimError(
                    f"dataset.normalization={self.normalization} is for {len(values)} channels, and an input "
                    f"has {one.shape[-1]}. Choose another."
                )
            return np.broadcast_to(values, one.shape[-1:]).copy() if is_image(one) else values.reshape(-1)[:1]

        return tuple(
            tf.nest.pack_sequence_as(self.train.arrays, [of(value, one) for one in flat])
            for value in CONSTANTS[self.normalization]
        )

    def training(
        self, batch_size: int = 128, *, index: np.ndarray | None = None, seed: int = 0, **augmentation: Any
    ) -> Any:
        """Shuffled, normalised batches of training examples.

        Raises:
            AutoslimError: for an augmentation: it would have to know how the inputs belong together.
        """
        if Augmentation(**augmentation) != Augmentation():
            raise AutoslimError(
                f"{self.name} has several inputs, which are not varied in training: leave dataset.crop, pad, "
                "flip, color, randaugment, mixup and cutmix at their defaults, and vary examples in the "
                "function that gives them, or by layers in the network."
            )
        count = len(self.train) if index is None else len(index)
        return InputsBatches(self, index, min(batch_size, count), seed)

    def normalised(self, inputs: Any) -> Any:
        """A batch of inputs: images as (pixels / 255 - mean) / deviation, other numbers as they are."""

        if self.normalization == "uint8":
            return inputs

        def one(x: Any, mean: Any, std: Any) -> Any:
            if x.dtype != tf.uint8 or x.shape.rank != 4:
                return x
            scale, shift = 1 / (255 * np.asarray(std, np.float64)), -np.asarray(mean, np.float64) / std
            return tf.cast(x, tf.float32) * scale.astype(np.float32) + shift.astype(np.float32)

        return tf.nest.map_structure(one, inputs, self.mean, self.std)

    def _in_order(
        self,
        store: Any,
        labels: Labels,
        batch_size: int,
        index: np.ndarray | None = None,
        even: bool = False,
    ) -> tf.data.Dataset:
        index = np.arange(len(store)) if index is None else index
        inputs, own = _on_host(taken(store.arrays, index)), in_memory(taken(labels, index))
        bounds = np.asarray(even_bounds(len(index), batch_size, even), np.int64).reshape(-1, 2)
        data = tf.data.Dataset.from_tensor_slices(bounds).map(
            lambda pair: (
                self.normalised(tf.nest.map_structure(lambda x: x[pair[0] : pair[1]], inputs)),
                tf.nest.map_structure(lambda y: y[pair[0] : pair[1]], own),
            )
        )
        return data.prefetch(2)

    def sample_pixels(self, count: int, *, train: bool, seed: int = 0) -> Any:
        """There is no image file that holds several inputs.

        Raises:
            AutoslimError: always.
        """
        raise AutoslimError("export.preprocessing=inside is for networks of one image: leave it outside.")


@dataclass(frozen=True, eq=False)
class InputsBatches:
    """Shuffled batches of a data set with several inputs, the last partial one of an epoch dropped."""

    data: InputsDataset
    index: np.ndarray | None
    batch_size: int
    seed: int

    @property
    def _count(self) -> int:
        return len(self.data.train) if self.index is None else len(self.index)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self._count // self.batch_size

    def dataset(self, epochs: int, start_epoch: int = 0, start_batch: int = 0) -> tf.data.Dataset:
        """Batches of the epochs start_epoch to epochs - 1, the first from its batch start_batch on."""
        inputs = _on_host(taken(self.data.train.arrays, self.index))
        labels = in_memory(taken(self.data.train_labels, self.index))

        def batch_at(places: Any) -> Any:
            return self.data.normalised(gathered(inputs, places)), gathered(labels, places)

        return shuffled(batch_at, self._count, self.batch_size, self.seed, epochs, start_epoch, start_batch)


def _on_host(arrays: Any) -> Any:
    with tf.device("CPU:0"):
        return tf.nest.map_structure(tf.constant, arrays)


def _moments(one: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of images / 255 by channel, float32 both; of other numbers 0 and 1, unused."""
    if not is_image(one):
        return np.zeros(1, np.float32), np.ones(1, np.float32)
    pixels = one.reshape(-1, one.shape[-1]).astype(np.float64) / 255
    return pixels.mean(0).astype(np.float32), np.maximum(pixels.std(0), SMALLEST_STD).astype(np.float32)
