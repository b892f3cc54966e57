"""The batches of a training on their way to the replicas: labels looked at, parts dealt out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from autoslim.datasets import BatchSource
from autoslim.datasets.images import NOT_FINITE
from autoslim.errors import AutoslimError
from autoslim.tasks import Objective, Weighted
from autoslim.training.distribution import Strategy, check_batch_size, distributed

# A message of `Objective.checked` or of `_finite`, within what TensorFlow says around it.
_REFUSED = re.compile(
    r"Label -?\d+ is out of range: .*? for all of them\.|\d+ images of a batch hold .*? leave them out\."
)


def batches_for(
    batches: BatchSource,
    epochs: int,
    done: int,
    objective: Objective | None,
    strategy: Strategy,
    accumulate: int = 1,
) -> Any:
    """The batches from step `done` to the end of the epochs, for all replicas.

    Labels without an output of the network, which a training loss would take for no class, and images that
    are not finite end the reading: see `refusals_explained`. Batches (images, labels, weights) become
    (images, `Weighted`).

    Raises:
        AutoslimError: if a batch can't be cut into equal parts.
    """
    if strategy.num_replicas_in_sync * accumulate > 1:
        check_batch_size(batches.batch_size, strategy, accumulate)
    epoch, batch = divmod(done, batches.steps_per_epoch)
    dataset = batches.dataset(epochs, start_epoch=epoch, start_batch=batch)
    dataset = dataset.map(lambda *batch: _labelled(batch, objective))
    return distributed(dataset, strategy)


def _labelled(batch: tuple[Any, ...], objective: Objective | None) -> tuple[Any, Any]:
    """(Images, labels) of a batch; they are looked at here, on the host, where no step waits for it."""
    images, labels = batch[0], batch[1] if len(batch) == 2 else Weighted(batch[1], batch[2])
    images = tf.nest.map_structure(_finite, images)
    return images, labels if objective is None else objective.checked(labels)


def _finite(images: Any) -> Any:
    """The same images, refused when they are read if some are not finite.

    ReLU turns NaN into 0: after one such image a network with batch norm is dead, and its loss stays finite.
    """
    if not (isinstance(images, tf.Tensor) and images.dtype.is_floating):
        return images
    bad = tf.reduce_any(~tf.math.is_finite(images), axis=tf.range(1, tf.rank(images)))
    count = tf.strings.as_string(tf.math.count_nonzero(bad))
    message = tf.strings.join([count, f" images of a batch {NOT_FINITE}"])
    with tf.control_dependencies([tf.debugging.Assert(~tf.reduce_any(bad), [message])]):
        return tf.identity(images)


@contextmanager
def refusals_explained() -> Iterator[None]:
    """Within the block, turn TensorFlow's error about a refused label or image into its message alone."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = _REFUSED.search(str(error))
        if found is None:
            raise
        raise AutoslimError(found[0]) from None
