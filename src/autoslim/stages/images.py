"""From the configuration's section `dataset` to a data set."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from autoslim import datasets
from autoslim.datasets.given_labels import LabelKinds
from autoslim.schema import DatasetConfig, TaskConfig

_AUGMENTATION = tuple(field.name for field in dataclasses.fields(datasets.Augmentation))


def open_dataset(config: DatasetConfig, cache: Path, task: TaskConfig | None = None) -> datasets.Dataset:
    """The data set that is asked for.

    Args:
        config: section `dataset`.
        cache: folder that keeps what was found out about image files.
        task: section `task`; None: classification.
    """
    if config.source == "custom":
        assert config._target_ is not None
        kinds = label_kinds(task or TaskConfig(), config.classes)
        names = ("name", "train_images", "normalization", "eval_crop")
        given = {name: getattr(config, name) for name in names}
        return datasets.custom(config._target_, config.args, shape=config.shape, kinds=kinds, **given)
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
        config.train_images, config.verify, config.max_broken, cache, config.holdout_path
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
