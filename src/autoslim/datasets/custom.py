"""A data set of the user's own: what a function of theirs returns, read into memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.datasets.apart import check_labels
from autoslim.datasets.arrays import ArrayDataset
from autoslim.datasets.dataset import Dataset
from autoslim.datasets.given_labels import LabelKinds
from autoslim.datasets.holdout import checked_subset
from autoslim.datasets.images import ArrayImages, check_finite
from autoslim.datasets.labels import are_classes, strata, taken
from autoslim.datasets.several import InputsDataset
from autoslim.errors import AutoslimError, first_line
from autoslim.importing import function_at
from autoslim.scoring import Weighted

EXPECTED = (
    "expected (images, labels) of training and of test images, ((x, y), (x_test, y_test)) as "
    'keras.datasets return them, or {"train": ..., "test": ...}, also with "holdout", each a pair of arrays '
    "(or of dicts of them, for several inputs or outputs), with weights of images as a third entry or "
    "without, or a tf.data.Dataset of such pairs"
)
SPLITS = ("train", "test", "holdout")


def custom(target: str, args: Mapping[str, Any] | None = None, **options: Any) -> Dataset:
    """The data set that a function of the user's own returns.

    Args:
        target: dotted path of the function, such as my.module.load.
        args: its keyword arguments.
        options: as of `from_arrays`, from `name` on.

    Raises:
        AutoslimError: the function can't be found or fails, or what it returns is not images and labels.
    """
    where = f"dataset._target_={target}"
    found = _called(function_at(target, "dataset._target_", "images and labels"), where, args or {})
    return from_arrays(_splits(found, where), where, **options)


def from_arrays(
    found: Mapping[str, Any],
    where: str,
    *,
    name: str = "custom",
    shape: Sequence[int] | None = None,
    train_images: int | None = None,
    normalization: str = "dataset",
    eval_crop: float = 1.0,
    kinds: LabelKinds | None = None,
) -> Dataset:
    """The data set of images and labels in memory.

    Args:
        found: {"train": (images, labels), "test": ..., perhaps "holdout": ...}.
        where: they were found, for messages.
        name: of the data set.
        shape: (height, width, channels) that the images must have; None: any.
        train_images: use this number of training images, balanced over the classes; None: all.
        normalization, eval_crop: as in `Dataset`.
        kinds: what the labels are; None: one class for each image, as many as the highest label says.

    Raises:
        AutoslimError: they are not images and labels.
    """
    kinds = kinds or LabelKinds()
    splits = {split: _arrays(given, f"{where}: {split}", kinds) for split, given in found.items()}
    count = kinds.count([_plain(labels) for _, labels in splits.values()])
    _check(splits, count, where)
    if isinstance(splits["train"][0], np.ndarray):
        return _of_images(splits, count, where, name, shape, train_images, normalization, eval_crop)
    if shape is not None or train_images is not None or eval_crop != 1:
        raise AutoslimError(
            f"{where} returns several inputs: dataset.shape, dataset.train_images and dataset.eval_crop are "
            "for one image each. Leave them null (eval_crop: 1)."
        )
    return InputsDataset(name, splits, count, normalization)


def _plain(labels: Any) -> Any:
    return labels.labels if isinstance(labels, Weighted) else labels


def _check(splits: Mapping[str, tuple[Any, Any]], count: Any, where: str) -> None:
    """Refuse class indices out of range."""
    for split, (_, labels) in splits.items():
        if are_classes(_plain(labels)):
            check_labels(_plain(labels), count, f"{where}: labels of {split} images")


def _of_images(
    splits: dict[str, tuple[Any, Any]],
    count: Any,
    where: str,
    name: str,
    shape: Sequence[int] | None,
    train_images: int | None,
    normalization: str,
    eval_crop: float,
) -> ArrayDataset:
    """A data set of one image each."""
    x = splits["train"][0]
    for split, (images, _) in splits.items():
        wanted = x.shape[1:] if shape is None else tuple(shape)
        if not isinstance(images, np.ndarray) or images.shape[1:] != wanted:
            own = _by(images.shape[1:]) if isinstance(images, np.ndarray) else "several inputs"
            raise AutoslimError(
                f"{where}: {split} images are {own}: expected {_by(wanted)}, as "
                f"{'the training images are' if shape is None else 'dataset.shape says'}."
            )
    splits = {split: (images, _narrow(labels)) for split, (images, labels) in splits.items()}
    (x, y), (x_test, y_test) = splits["train"], splits["test"]
    if train_images is not None:
        least = count if are_classes(_plain(y)) else 2
        chosen = checked_subset(strata(y), train_images, least, name, ArrayImages(x).keys)
        x, y = x[chosen], taken(y, chosen)
    data = ArrayDataset(name, x, y, x_test, y_test, count, normalization, eval_crop)
    if "holdout" in splits:
        data.hold_apart(*splits["holdout"])
    return data


def _narrow(labels: Any) -> Any:
    return tf.nest.map_structure(lambda one: one.astype(np.int32) if are_classes(one) else one, labels)


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


def _arrays(given: Any, where: str, kinds: LabelKinds) -> tuple[Any, Any]:
    """Images uint8 [N, height, width, channels] (or a structure of inputs) and labels of one split."""
    if isinstance(given, tf.data.Dataset):
        given = _read(given, where)
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise AutoslimError(f"{where} is a {type(given).__name__}: {EXPECTED}.")
    images = given[0]
    several = isinstance(images, Mapping | tuple) or (isinstance(images, list) and _are_arrays(images))
    images = _inputs(images, where) if several else _images(images, where)
    count = len(tf.nest.flatten(images)[0])
    labels = kinds.formed(given[1], count, where)
    if len(given) == 2:
        return images, labels
    weights = np.asarray(given[2], np.float32)
    if weights.shape != (count,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise AutoslimError(
            f"{where}: weights are {list(weights.shape)} for {count} images: expected one number of 0 or "
            "more for each image."
        )
    return images, Weighted(labels, weights)


def _read(data: tf.data.Dataset, where: str) -> tuple[Any, ...]:
    """All of a dataset of (images, labels) or (images, labels, weights), batched or not."""
    pairs = [pair for pair in data.as_numpy_iterator() if isinstance(pair, tuple) and len(pair) in (2, 3)]
    if not pairs:
        raise AutoslimError(f"{where}: the tf.data.Dataset holds no (images, labels). {EXPECTED}.")
    batched = any(np.ndim(one) == 4 for one in tf.nest.flatten(pairs[0][0]))
    join = np.concatenate if batched else np.stack
    return tuple(
        tf.nest.map_structure(lambda *parts: join([np.asarray(one) for one in parts]), *entries)
        for entries in zip(*pairs, strict=True)
    )


def _are_arrays(images: list[Any]) -> bool:
    """Whether a list holds whole inputs, [N, ...] each, rather than the images themselves."""
    return 1 < len(images) < 20 and all(np.ndim(one) == 4 for one in images)


def _images(images: Any, where: str) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.dtype != np.uint8 or len(images) == 0:
        raise AutoslimError(
            f"{where}: images are {images.dtype} {list(images.shape)}: expected uint8 pixels, 0 to 255, "
            "[N, height, width, channels], at least one image. dataset.normalization says how they are "
            "normalised."
        )
    return images


def _inputs(inputs: Any, where: str) -> Any:
    """Several inputs, as a dict or a list of arrays: images uint8, or other numbers as they are."""
    if isinstance(inputs, tuple):
        inputs = list(inputs)
    arrays = tf.nest.map_structure(np.asarray, inputs)
    counts = {len(one) if one.ndim else 0 for one in tf.nest.flatten(arrays)}
    kinds = {one.dtype.kind for one in tf.nest.flatten(arrays)}
    if len(counts) != 1 or counts == {0} or not kinds <= set("biuf"):
        raise AutoslimError(
            f"{where}: inputs are {[f'{one.dtype} {list(one.shape)}' for one in tf.nest.flatten(arrays)]}: "
            "expected arrays of numbers, as many images in each, at least one."
        )

    def form(one: np.ndarray) -> np.ndarray:
        if one.dtype == np.uint8:
            return one[..., None] if one.ndim == 3 else one
        return one.astype(np.float32 if one.dtype.kind == "f" else np.int32)

    check_finite(arrays, where)
    return tf.nest.map_structure(form, arrays)


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
