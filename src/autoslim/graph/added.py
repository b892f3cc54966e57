"""The losses that layers add to a network's: by `add_loss` in their call, or by an activity regularizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


def forget_losses(op: Any) -> None:
    """Let go of what an earlier call of a layer added: Keras does so only where it calls the layer itself."""
    if isinstance(op, keras.Layer):
        op._clear_losses()


def added_losses(op: Any, outputs: Sequence[Any]) -> list[Any]:
    """What the last call of a layer adds to the loss: scalar tensors, as Keras adds them.

    Args:
        op: a layer, or another operation, which adds nothing.
        outputs: of the call; of a layer that a rule ran in its own way they give the activity regularizer.
    """
    if not isinstance(op, keras.Layer):
        return []
    by_weights = sum(v.regularizer is not None for v in op.trainable_weights)  # stand last
    found = list(op.losses)
    del found[len(found) - by_weights :]
    if op.activity_regularizer is not None and not found:
        # as Keras adds it: by image
        found += [op.activity_regularizer(y) / tf.cast(tf.shape(y)[0], y.dtype) for y in outputs]
    return found
