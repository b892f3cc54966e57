"""The datasets by name: where their images come from, and what they must look like."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from autoslim.datasets.apart import check_tested
from autoslim.datasets.arrays import ArrayDataset
from autoslim.datasets.files import Split, read_folder, read_holdout
from autoslim.datasets.holdout import checked_subset
from autoslim.datasets.images import ArrayImages
from autoslim.errors import AutoslimError, near

log = logging.getLogger(__name__)

DIGITS_TEST_IMAGES = 360
DEBIAN_FASHION_MNIST = "/usr/share/datasets/fashion-mnist"


class Source(NamedTuple):
    """What is known of a dataset before it is read."""

    shape: tuple[int, int, int]  # (height, width, channels)
    classes: int


SOURCES = {
    "digits": Source((8, 8, 1), 10),
    "fashion_mnist": Source((28, 28, 1), 10),
    "cifar10": Source((32, 32, 3), 10),
    "cifar100": Source((32, 32, 3), 100),
}


def load(
    name: str,
    path: str | None = None,
    *,
    train_images: int | None = None,
    shape: Sequence[int] | None = None,
    classes: int | None = None,
    normalization: str = "dataset",
    eval_crop: float = 1.0,
    holdout: str | None = None,
) -> ArrayDataset:
    """Load a dataset into memory.

    Args:
        name: a key of SOURCES.
        path: folder with the files (see `read_folder`); None: scikit-learn's own images for digits, else
            Keras' download.
        train_images: use at most this many training images, chosen class-balanced, always the same; None:
            all.
        shape: (height, width, channels) that the images must have; None: those of SOURCES.
        classes: labels must lie in [0, classes); None: the number in SOURCES.
        normalization, eval_crop: as in `Dataset`.
        holdout: file or folder with images held apart for the search (see `read_holdout`); None: the training
            images give them.

    Raises:
        AutoslimError: unknown name, files missing or damaged, no download, or images and labels unlike those
            expected.
    """
    if name not in SOURCES:
        hint = near(name, SOURCES) or " Choose one of these."
        raise AutoslimError(f"dataset.name={name} is unknown: expected {', '.join(SOURCES)}.{hint}")
    source = SOURCES[name]
    shape = source.shape if shape is None else tuple(shape)
    classes = source.classes if classes is None else classes
    if path is None and classes != source.classes:
        raise AutoslimError(
            f"dataset.classes={classes}, but {name} has {source.classes} classes. Set "
            f"dataset.classes={source.classes}."
        )
    train, test = _read(name, path)
    for split in (train, test):
        _check_shape_and_labels(split, shape, classes)
    train_labels = train.labels.astype(np.int32)
    absent = classes - len(np.unique(train_labels))
    if absent:
        log.warning("%s: %d of the %d classes have no training image.", train.source, absent, classes)
    images = train.images
    if train_images is not None:
        keys = ArrayImages(images).keys
        index = checked_subset(train_labels, train_images, classes, train.source, keys)
        images, train_labels = images[index], train_labels[index]
    test_labels = test.labels.astype(np.int32)
    check_tested(train_labels, test_labels, None, test.source)
    data = ArrayDataset(
        name, images, train_labels, test.images, test_labels, classes, normalization, eval_crop
    )
    if holdout is not None:
        apart = read_holdout(holdout, name)
        _check_shape_and_labels(apart, shape, classes)
        data.hold_apart(apart.images, apart.labels)
    return data


def digits() -> ArrayDataset:
    """scikit-learn's handwritten digits: 1,437 and 360 images, 8x8x1, 10 classes, a fixed balanced split."""
    return load("digits")


def fashion_mnist(path: str | None = None) -> ArrayDataset:
    """Fashion-MNIST (Xiao et al., 2017): 60,000 and 10,000 images, 28x28x1, 10 classes."""
    return load("fashion_mnist", path)


def cifar10(path: str | None = None) -> ArrayDataset:
    """CIFAR-10 (Krizhevsky, 2009): 50,000 and 10,000 images, 32x32x3, 10 classes."""
    return load("cifar10", path)


def cifar100(path: str | None = None) -> ArrayDataset:
    """CIFAR-100 (Krizhevsky, 2009) with its fine labels: 50,000 and 10,000 images, 32x32x3, 100 classes."""
    return load("cifar100", path)


def _read(name: str, path: str | None) -> tuple[Split, Split]:
    if name == "digits":
        if path is not None:
            raise AutoslimError(
                f"dataset.path={path}, but digits comes with scikit-learn and reads no files: expected null. "
                "Leave dataset.path out, or choose another dataset."
            )
        return _read_digits()
    return _download(name) if path is None else read_folder(path, name)


def _read_digits() -> tuple[Split, Split]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)  # pixels are whole numbers, 0 to 16
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    index = np.arange(len(labels))
    train, test = train_test_split(index, test_size=DIGITS_TEST_IMAGES, stratify=labels, random_state=0)
    return Split(images[train], labels[train], "digits"), Split(images[test], labels[test], "digits")


def _download(name: str) -> tuple[Split, Split]:
    try:
        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises Exception itself when a download fails
        debian = f" Debian's package dataset-fashion-mnist puts them into {DEBIAN_FASHION_MNIST}."
        raise AutoslimError(
            f"Cannot download {name} ({error}): expected a network connection, or dataset.path. Set "
            f"dataset.path to a folder with its files.{debian if name == 'fashion_mnist' else ''}"
        ) from error
    shape = SOURCES[name].shape
    return (
        Split(x_train.reshape(-1, *shape), y_train.reshape(-1), name),
        Split(x_test.reshape(-1, *shape), y_test.reshape(-1), name),
    )


def _check_shape_and_labels(split: Split, shape: tuple[int, ...], classes: int) -> None:
    found = split.images.shape[1:]
    if found != shape:
        raise AutoslimError(
            f"{split.source}: images are {'x'.join(map(str, found))}, but dataset.shape is "
            f"{'x'.join(map(str, shape))}. Set dataset.shape=[{','.join(map(str, found))}], or correct "
            "dataset.path."
        )
    lowest, highest = int(split.labels.min()), int(split.labels.max())
    if lowest < 0 or highest >= classes:
        raise AutoslimError(
            f"{split.source}: labels go from {lowest} to {highest}, but dataset.classes={classes} allows 0 "
            f"to {classes - 1}. Correct dataset.classes or the labels."
        )
