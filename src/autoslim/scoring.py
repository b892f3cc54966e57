"""Answers of a network compared with labels, image by image: shared by training, search and evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.errors import AutoslimError


def class_indices(labels: Any) -> Any:
    """Labels as int32 [B].

    Raises:
        AutoslimError: unless they are whole numbers [B], one class index for each image.
    """
    labels = tf.convert_to_tensor(labels)
    if not labels.dtype.is_integer or (labels.shape.rank is not None and labels.shape.rank != 1):
        raise AutoslimError(
            f"Labels of shape {tuple(labels.shape)} and type {labels.dtype.name} were given; expected "
            "integers [B], one class index for each image. Flatten them, or take argmax of one-hot labels."
        )
    return tf.cast(labels, tf.int32)


def check_labels(labels: Any, model: keras.Model) -> None:
    """Refuse labels int [B] for which a network has no output; a training loss would take them for no class.

    Raises:
        AutoslimError: naming the first such label.
    """
    shape, values = model.output_shape, np.asarray(labels)
    if not isinstance(shape, tuple) or shape[-1] is None or not np.issubdtype(values.dtype, np.integer):
        return
    wrong = values[(values < 0) | (values >= shape[-1])]
    if wrong.size:
        raise AutoslimError(str(wrong[0]).join(out_of_range(model.name, shape[-1])))


def out_of_range(name: str, outputs: int) -> tuple[str, str]:
    """What a message says before and behind a label for which a network of this name has no output."""
    return (
        "Label ",
        f" is out of range: model {name!r} has {outputs} outputs, so labels are 0 to {outputs - 1}. "
        "Number the classes from 0, or build the model for all of them.",
    )


def correct(labels: Any, logits: Any) -> Any:
    """Whether each image's largest logit is its label's: bool [B]."""
    return tf.equal(tf.argmax(logits, -1, tf.int32), labels)


def scores(labels: Any, logits: Any) -> tuple[Any, Any]:
    """Cross-entropy float32 [B] and correctness bool [B] of every image."""
    labels, logits = class_indices(labels), tf.cast(logits, tf.float32)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits), correct(labels, logits)


def traced_for_any_batch(function: Callable[..., Any], *tensors: Any) -> Callable[..., Any]:
    """`function` traced once for tensors like these with any number of images."""
    like = [tf.convert_to_tensor(x) for x in tensors]
    specs = [tf.TensorSpec([None, *x.shape[1:]], x.dtype) for x in like]
    return tf.function(function, autograph=False).get_concrete_function(*specs)
