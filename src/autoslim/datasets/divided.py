"""Images that a user hands over in whatever form, divided into those to train on and those held out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from autoslim.datasets.batches import BatchSource
from autoslim.datasets.dataset import Dataset
from autoslim.datasets.given import batch_source, batches_of
from autoslim.datasets.holdout import mixed_order, split_holdout
from autoslim.datasets.labels import gathered, strata
from autoslim.errors import AutoslimError

log = logging.getLogger(__name__)


class Division(NamedTuple):
    """How images are divided."""

    batch_size: int  # of training
    heldout_batch: int  # of the search, at most
    most: int | None  # held-out images; None: all
    seed: int


class Divided(NamedTuple):
    """What each part of a search reads."""

    all: BatchSource  # to retrain on
    kept: BatchSource  # to train the supernet on
    heldout: list[Any]  # batches that the search scores on
    fingerprint: str  # of the held-out images


def divided(train: Any, holdout: Any, how: Division) -> Divided:
    """Divide the images into those of the supernet and those of the search.

    Args:
        train: arrays in a tuple, a tf.data.Dataset, a PyDataset, a list of batches, or a `Dataset`.
        holdout: a share of the images, the classes in their shares; or images apart, as `train`.
        how: sizes, and the seed of the draw.

    Raises:
        AutoslimError: for anything else, and for a data set without end.
    """
    if isinstance(train, Dataset):
        return _of_dataset(train, holdout, how)
    train = _listed(train)
    if not isinstance(holdout, float):
        heldout = images_of(holdout, how.heldout_batch)
        source = batch_source(train, how.batch_size, how.seed)
        return Divided(source, source, heldout, _fingerprint(heldout))
    parts = train if isinstance(train, tuple) else _in_memory(train, how.batch_size)
    classes = strata(parts[1])
    kept, held = split_holdout(classes, holdout, how.seed)
    held = held[mixed_order(classes[held], how.seed)][: how.most]
    heldout = list(batches_of(_part(parts, held), how.heldout_batch))
    every, rest = (batch_source(one, how.batch_size, how.seed) for one in (parts, _part(parts, kept)))
    return Divided(every, rest, heldout, _fingerprint(heldout))


def images_of(given: Any, batch_size: int) -> list[Any]:
    """Batches in order, of images to judge networks on; of a `Dataset` its test images."""
    return list(given.test() if isinstance(given, Dataset) else batches_of(_listed(given), batch_size))


def _listed(given: Any) -> Any:
    """A PyDataset as the list of its batches; anything else as it is."""
    return (
        [given[place] for place in range(len(given))] if isinstance(given, keras.utils.PyDataset) else given
    )


def _of_dataset(data: Dataset, holdout: Any, how: Division) -> Divided:
    if not isinstance(holdout, float):
        raise AutoslimError(
            f"holdout={holdout!r}: with a data set of autoslim.datasets it is a share, such as 0.2; images "
            "apart are given to the data set itself."
        )
    kept, held = data.split(holdout, how.seed)
    order = data.holdout_order(held, how.seed)[: how.most]
    heldout = list(data.heldout(order, how.heldout_batch, how.seed))
    every = data.training(how.batch_size, seed=how.seed)
    rest = data.training(how.batch_size, index=kept, seed=how.seed)
    return Divided(every, rest, heldout, _fingerprint(heldout))


def _in_memory(given: Any, batch_size: int) -> tuple[Any, ...]:
    """All batches as arrays."""
    if isinstance(given, tf.data.Dataset) and given.cardinality().numpy() == tf.data.INFINITE_CARDINALITY:
        raise AutoslimError(
            "The data set repeats without end: take .take(steps) of it, or give the search's images with "
            "holdout=."
        )
    log.info("The images are read into memory, to hold a part of them out (holdout=IMAGES does without).")
    batches = [tf.nest.map_structure(np.asarray, batch) for batch in batches_of(given, batch_size)]
    if not batches:
        raise AutoslimError("There are no images to train on.")
    return tf.nest.map_structure(lambda *one: np.concatenate(one), *batches)


def _part(parts: tuple[Any, ...], places: np.ndarray) -> tuple[Any, ...]:
    return tf.nest.map_structure(np.asarray, gathered(parts, places))


def _fingerprint(batches: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for batch in batches:
        for part in tf.nest.flatten(batch):
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
