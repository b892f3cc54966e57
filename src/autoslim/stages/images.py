"""The images of a run: the data set that is asked for, in the batches that the stages take."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim import datasets
from autoslim.datasets import TrainingBatches
from autoslim.datasets.given_labels import LabelKinds
from autoslim.datasets.labels import taken
from autoslim.schema import DatasetConfig, SlimConfig, TaskConfig, TrainConfig

_AUGMENTATION = tuple(field.name for field in dataclasses.fields(datasets.Augmentation))


@dataclass(frozen=True)
class Images:
    """A data set in the batches that the stages take."""

    data: datasets.Dataset
    options: DatasetConfig  # how training images are varied, and the share that is held out
    train: TrainConfig  # sizes of batches
    slim: SlimConfig  # which held-out images the search looks at
    seed: int

    @cached_property
    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """(Training images to train the supernet on, held-out images for the search); see `Dataset.split`."""
        return self.data.split(self.options.holdout, self.seed)

    @property
    def holdout_key(self) -> Any:
        """Which images are held out."""
        return self.data.holdout_fingerprint or self.options.holdout

    def training(self, index: np.ndarray | None = None) -> TrainingBatches:
        """Batches of the training images at `index`; None: of all."""
        varied = augmentation(self.options)
        return self.data.training(self.train.batch_size, index=index, seed=self.seed, **varied)

    def test(self) -> tf.data.Dataset:
        """The test images; for final evaluation only."""
        return self.data.test(self.train.eval_batch_size)

    def heldout(self) -> tf.data.Dataset:
        """The held-out images that the search scores on."""
        return self.data.heldout(self.heldout_index(), self.slim.batch_size, self.seed)

    def heldout_index(self) -> np.ndarray:
        """Indices of the held-out images that the search scores on, the classes in their shares."""
        return self.data.holdout_order(self.split[1], self.seed)[: self.slim.images]

    def heldout_labels(self) -> Any:
        """Their labels."""
        return taken(self.data.holdout_labels, self.heldout_index())

    def calibration(self, index: np.ndarray | None = None) -> tf.data.Dataset:
        """Batches that batch-norm statistics are calibrated over: as the network was trained on, augmented.

        They are of the training images at `index`; None: of all.

        Its weights are used to what layers give for such images. With statistics of plain images networks
        were worse on photographs, by up to 2.5 points of top-1.
        """
        return self.training(index).dataset(1).take(self.train.calibration_batches)

    def plain(self) -> tf.data.Dataset:
        """As many training images, not augmented, the classes mixed."""
        return self.data.clean(self.train.batch_size, self.train.calibration_batches, self.seed)

    def normalization(self) -> dict[str, list[float]]:
        """Per-channel constants: a network's input is (pixels / 255 - mean) / std."""
        as_lists = lambda values: tf.nest.map_structure(lambda one: one.tolist(), values)  # noqa: E731
        return {"mean": as_lists(self.data.mean), "std": as_lists(self.data.std)}


def open_dataset(config: DatasetConfig, cache: Path, task: TaskConfig | None = None) -> datasets.Dataset:
    """The data set that is asked for.

    Args:
        config: section `dataset`.
        cache: folder that keeps what was found out about image files.
        task: section `task`; None: classification.
    """
    if config.source in ("custom", "npz"):
        names = ("name", "shape", "train_images", "normalization", "eval_crop")
        given = {name: getattr(config, name) for name in names}
        given["kinds"] = label_kinds(task or TaskConfig(), config.classes)
        if config.source == "npz":
            return datasets.npz(config.path, **given)
        assert config._target_ is not None
        return datasets.custom(config._target_, config.args, **given)
    assert config.shape is not None
    height, width, channels = config.shape
    common: dict[str, Any] = {
        "shape": (height, width, channels),
        "classes": config.classes,
        "normalization": config.normalization,
        "eval_crop": config.eval_crop,
    }
    if config.source == "arrays":
        common |= {"train_images": config.train_images, "holdout": config.holdout_path}
        return datasets.load(config.name, config.path, **common)
    common["choice"] = datasets.Choice(
        config.train_images,
        config.verify,
        config.max_broken,
        cache,
        config.holdout_path,
        config.memory,
    )
    common["test"] = config.test_split
    if config.source == "image_folder":
        return datasets.image_folder(config.path, name=config.name, **common)
    if config.source == "tfds":
        return datasets.tfds(config.name, config.path, **common)
    return datasets.tfrecord(
        config.path,
        name=config.name,
        image_key=config.image_key,
        label_key=config.label_key,
        label_offset=config.label_offset,
        **common,
    )


def label_kinds(task: TaskConfig, classes: int | None) -> LabelKinds:
    """What labels a task learns."""
    kinds = {output: str(name) for output, name in task.outputs.items()} or task.name
    return LabelKinds("own" if task._target_ else kinds, task.ignore, classes)


def augmentation(config: DatasetConfig) -> dict[str, Any]:
    """How training images are varied: keyword arguments of `Augmentation`."""
    values = {name: getattr(config, name) for name in _AUGMENTATION}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def dataset_key(config: DatasetConfig, data: datasets.Dataset) -> dict[str, Any]:
    """What of the images a result depends on: the keys that affect results, and the images' fingerprint."""
    return config.affecting_result() | {"fingerprint": data.fingerprint}
