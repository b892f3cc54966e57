"""A data set of the user's own: what a function of theirs returns, read into memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.datasets.apart import check_labels
from autoslim.datasets.dataset import ArrayDataset
from autoslim.datasets.holdout import checked_subset
from autoslim.datasets.images import ArrayImages
from autoslim.errors import AutoslimError, first_line
from autoslim.importing import function_at

EXPECTED = (
    "expected (images, labels) of training and of test images, ((x, y), (x_test, y_test)) as "
    'keras.datasets return them, or {"train": ..., "test": ...}, also with "holdout", each a pair of arrays '
    "or a tf.data.Dataset of such pairs"
)
SPLITS = ("train", "test", "holdout")


def custom(
    target: str,
    args: Mapping[str, Any] | None = None,
    *,
    name: str = "custom",
    shape: Sequence[int] | None = None,
    classes: int | None = None,
    train_images: int | None = None,
    normalization: str = "dataset",
    eval_crop: float = 1.0,
) -> ArrayDataset:
    """The data set that a function of the user's own returns.

    Args:
        target: dotted path of the function, such as my.module.load.
        args: its keyword arguments.
        name: of the data set.
        shape: (height, width, channels) that the images must have; None: any.
        classes: labels lie in [0, classes); None: as many as the highest label says.
        train_images: use this number of training images, balanced over the classes; None: all.
        normalization, eval_crop: as in `Dataset`.

    Raises:
        AutoslimError: the function can't be found or fails, or what it returns is not images and labels.
    """
    where = f"dataset._target_={target}"
    found = _called(function_at(target, "dataset._target_", "images and labels"), where, args or {})
    splits = {split: _arrays(given, f"{where}: {split}") for split, given in _splits(found, where).items()}
    x = splits["train"][0]
    count = classes or max(int(labels.max()) for _, labels in splits.values()) + 1
    for split, (images, labels) in splits.items():
        check_labels(labels, count, f"{where}: labels of {split} images")
        wanted = x.shape[1:] if shape is None else tuple(shape)
        if images.shape[1:] != wanted:
            raise AutoslimError(
                f"{where}: {split} images are {_by(images.shape[1:])}: expected {_by(wanted)}, as "
                f"{'the training images are' if shape is None else 'dataset.shape says'}."
            )
    splits = {split: (images, labels.astype(np.int32)) for split, (images, labels) in splits.items()}
    (x, y), (x_test, y_test) = splits["train"], splits["test"]
    if train_images is not None:
        chosen = checked_subset(y, train_images, count, name, ArrayImages(x).keys)
        x, y = x[chosen], y[chosen]
    data = ArrayDataset(name, x, y, x_test, y_test, count, normalization, eval_crop)
    if "holdout" in splits:
        data.hold_apart(*splits["holdout"])
    return data


def _called(function: Callable[..., Any], where: str, args: Mapping[str, Any]) -> Any:
    try:
        return function(**args)
    except AutoslimError:
        raise
    except (Exception, SystemExit) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in args.items())
        raise AutoslimError(
            f"{where} failed with {type(error).__name__}: {first_line(error, 500)} It was called with "
            f"({given}) and should return images and labels. Call it so in Python to see where it fails."
        ) from error


def _splits(found: Any, where: str) -> dict[str, Any]:
    """What was returned, by split."""
    if isinstance(found, tuple | list) and len(found) == 2:
        found = dict(zip(SPLITS, found, strict=False))
    if not isinstance(found, Mapping) or not {"train", "test"} <= set(found) <= set(SPLITS):
        keys = f" with {', '.join(map(str, found))}" if isinstance(found, Mapping) else ""
        raise AutoslimError(f"{where} returned a {type(found).__name__}{keys}: {EXPECTED}.")
    return dict(found)


def _arrays(given: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, height, width, channels] and labels int32 [N] of one split."""
    if isinstance(given, tf.data.Dataset):
        pairs = [pair for pair in given.as_numpy_iterator() if isinstance(pair, tuple) and len(pair) == 2]
        if not pairs:
            raise AutoslimError(f"{where}: the tf.data.Dataset holds no (images, labels). {EXPECTED}.")
        join = np.concatenate if np.ndim(pairs[0][0]) == 4 else np.stack
        given = tuple(join([np.asarray(pair[i]) for pair in pairs]) for i in (0, 1))
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise AutoslimError(f"{where} is a {type(given).__name__}: {EXPECTED}.")
    images, labels = (np.asarray(part) for part in given)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.dtype != np.uint8 or len(images) == 0:
        raise AutoslimError(
            f"{where}: images are {images.dtype} {list(images.shape)}: expected uint8 pixels, 0 to 255, "
            "[N, height, width, channels], at least one image. dataset.normalization says how they are "
            "normalised."
        )
    return images, _integers(labels, len(images), where)


def _integers(labels: np.ndarray, count: int, where: str) -> np.ndarray:
    """Labels as int32 [N]: integers [N] or [N, 1], or one-hot [N, classes]."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim == 2 and np.isin(labels, (0, 1)).all() and (labels.sum(1) == 1).all():
        labels = labels.argmax(1)
    whole = np.issubdtype(labels.dtype, np.integer) or (labels.dtype.kind == "f" and (labels % 1 == 0).all())
    if labels.shape != (count,) or not whole:
        raise AutoslimError(
            f"{where}: labels are {labels.dtype} {list(labels.shape)} for {count} images: expected one whole "
            "number for each image, or one-hot rows."
        )
    return labels.astype(np.int64)


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
