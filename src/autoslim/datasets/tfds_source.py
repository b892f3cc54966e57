"""Data sets of TensorFlow Datasets, which lie in TFRecord files once they are prepared."""

from __future__ import annotations

import warnings
from typing import Any

from autoslim.datasets.encoded import Choice, EncodedDataset
from autoslim.datasets.folder import TEST_NAMES
from autoslim.datasets.records import record_dataset
from autoslim.errors import AutoslimError, first_line


def tfds(
    name: str,
    path: str | None = None,
    shape: tuple[int, int, int] = (224, 224, 3),
    *,
    test: str | None = None,
    classes: int | None = None,
    choice: Choice | None = None,
    normalization: str = "imagenet",
    eval_crop: float = 0.875,
) -> EncodedDataset:
    """An image classification data set of tensorflow-datasets.

    Args:
        name: as `tfds.builder` takes it, such as "imagenette/160px-v2".
        path: its data_dir; None: ~/tensorflow_datasets. What is not prepared there is downloaded.
        shape: (height, width, channels) that the images come in.
        test: the split with the test images; None: the first of val, validation, test.
        classes: how many there must be; None: as many as there are.
        choice: which of the images are used.
        normalization, eval_crop: as in `Dataset`.

    Raises:
        AutoslimError: the package is not installed, the data set is unknown, cannot be prepared or does not
            hold images with one label each.
    """
    info = _prepared(name, path).info
    image_key, label_key = _keys(name, info)
    if info.file_format.value != "tfrecord":
        raise AutoslimError(
            f"dataset.name={name} is prepared as {info.file_format.value}: expected tfrecord. Prepare it "
            "again with file_format=tfrecord, or give another dataset.path."
        )
    test_split = next((split for split in ((test,) if test else TEST_NAMES) if split in info.splits), None)
    if "train" not in info.splits or test_split is None:
        raise AutoslimError(
            f"dataset.name={name} has the splits {', '.join(info.splits)}: expected train and "
            f"{test or ' or '.join(TEST_NAMES)}. Set dataset.test_split to one of them."
        )
    apart = choice.holdout if choice else None
    if apart is not None and (apart not in info.splits or apart in ("train", test_split)):
        raise AutoslimError(
            f"dataset.holdout_path={apart}: expected a split of {name} that no network is trained or tested "
            f"on. Its splits are {', '.join(info.splits)}; train and {test_split} are taken."
        )
    train, test_files, apart_files = (
        [str(file) for file in info.splits[split].filepaths] if split else []
        for split in ("train", test_split, apart)
    )
    return record_dataset(
        name,
        train,
        test_files,
        shape,
        image_key=image_key,
        label_key=label_key,
        class_names=tuple(info.features[label_key].names),
        classes=classes,
        choice=choice,
        normalization=normalization,
        eval_crop=eval_crop,
        apart=apart_files,
    )


def _prepared(name: str, path: str | None) -> Any:
    """The builder, its files there."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages underneath, which are not ours to mend
            import tensorflow_datasets
    except ImportError as error:
        raise AutoslimError(
            f"dataset=tfds needs the package tensorflow-datasets ({error}). Install it with pip install "
            "'autoslim[tfds]'."
        ) from error
    try:
        builder = tensorflow_datasets.builder(name, data_dir=path)
        builder.download_and_prepare()
    except Exception as error:  # it raises errors of every kind: unknown names, downloads, checksums
        raise AutoslimError(
            f"dataset.name={name} could not be loaded by tensorflow-datasets ({first_line(error)}). Expected "
            "a name that it knows, and a network connection or a dataset.path where it is prepared. Correct "
            "them."
        ) from error
    return builder


def _keys(name: str, info: Any) -> tuple[str, str]:
    """The features that hold the image and its label."""
    keys: tuple[Any, ...] = info.supervised_keys or ()
    kinds = [type(info.features[key]).__name__ if isinstance(key, str) else "" for key in keys]
    if kinds != ["Image", "ClassLabel"]:
        raise AutoslimError(
            f"dataset.name={name} has the features {', '.join(info.features)} and as input and target "
            f"{' and '.join(map(str, keys)) or 'none'}: expected an image and a class label. Choose another."
        )
    return keys[0], keys[1]
