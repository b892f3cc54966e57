"""The batches of a training on their way to the replicas: labels looked at, parts dealt out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from autoslim.datasets import BatchSource
from autoslim.errors import AutoslimError
from autoslim.scoring import out_of_range
from autoslim.training.distribution import Strategy, check_batch_size, distributed

# A message with `out_of_range`, within what TensorFlow says around it.
_REFUSED = re.compile(r"Label -?\d+ is out of range: .*? for all of them\.")


def batches_for(
    batches: BatchSource,
    epochs: int,
    done: int,
    model: keras.Model,
    strategy: Strategy,
    accumulate: int = 1,
) -> Any:
    """The batches from step `done` to the end of the epochs, for all replicas.

    Labels without an output of the network, which a training loss would take for no class, end the reading:
    see `refusals_explained`.

    Raises:
        AutoslimError: if a batch can't be cut into equal parts.
    """
    if strategy.num_replicas_in_sync * accumulate > 1:
        check_batch_size(batches.batch_size, strategy, accumulate)
    epoch, batch = divmod(done, batches.steps_per_epoch)
    dataset = batches.dataset(epochs, start_epoch=epoch, start_batch=batch)
    shape = model.output_shape
    classes = shape[-1] if isinstance(shape, tuple) else None
    labels = dataset.element_spec[1]
    if classes is not None and labels.dtype.is_integer:
        dataset = dataset.map(lambda images, labels: (images, _checked(labels, classes, model.name)))
    return distributed(dataset, strategy)


def _checked(labels: Any, classes: int, name: str) -> Any:
    """The same labels. Looked at here, on the host, where no step has to wait for it."""
    wrong = tf.reshape(tf.boolean_mask(labels, (labels < 0) | (labels >= classes)), [-1])
    first = tf.strings.as_string(tf.concat([wrong, tf.zeros([1], labels.dtype)], 0)[0])
    before, behind = out_of_range(name, classes)
    message = tf.strings.join([before, first, behind])
    with tf.control_dependencies([tf.debugging.Assert(tf.size(wrong) == 0, [message])]):
        return tf.identity(labels)


@contextmanager
def refusals_explained() -> Iterator[None]:
    """Within the block, turn TensorFlow's error about a label that was refused into its message alone."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = _REFUSED.search(str(error))
        if found is None:
            raise
        raise AutoslimError(found[0]) from None
