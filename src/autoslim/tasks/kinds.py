"""The tasks there are: classification, multilabel, regression, segmentation."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from autoslim.errors import AutoslimError
from autoslim.metrics import F1, MAE, MEAN_IOU, TOP1
from autoslim.tasks.base import Task, mean_of_image

# -- labels ----------------------------------------------------------------------------------------------


def class_indices(labels: Any) -> Any:
    """Labels as int32 [B].

    Raises:
        AutoslimError: unless they are whole numbers [B] or [B, 1], one class index for each image.
    """
    labels = tf.convert_to_tensor(labels)
    if labels.dtype.is_integer and labels.shape.rank == 2 and labels.shape[-1] == 1:
        labels = labels[:, 0]
    if not labels.dtype.is_integer or (labels.shape.rank is not None and labels.shape.rank != 1):
        raise AutoslimError(
            f"Labels of shape {tuple(labels.shape)} and type {labels.dtype.name} were given; expected "
            "integers [B], one class index for each image, or one row of probabilities for each (one-hot)."
        )
    return tf.cast(labels, tf.int32)


def _class_labels(labels: Any, shape: Any) -> Any:
    """Class indices int32 [B], or probabilities float32 [B, classes], for outputs of this shape."""
    labels, classes = tf.convert_to_tensor(labels), shape[-1]
    if labels.shape.rank != 2 or (labels.shape[-1] == 1 and classes != 1):
        return _binary(labels) if labels.dtype.is_floating and classes == 2 else class_indices(labels)
    if labels.shape[-1] not in (None, classes):
        raise AutoslimError(
            f"Labels of shape {tuple(labels.shape)} were given as probabilities; the network has "
            f"{classes} outputs: expected [B, {classes}]."
        )
    return tf.cast(labels, tf.float32)


def _binary(labels: Any) -> Any:
    """Probabilities of the second of two classes, [B] or [B, 1], as rows [B, 2]."""
    second = tf.reshape(tf.cast(labels, tf.float32), [-1])
    return tf.stack([1.0 - second, second], -1)


def _mask_labels(labels: Any, shape: Any) -> Any:
    """Class indices int32 [B, H, W], or probabilities float32 [B, H, W, classes]."""
    labels, classes, rank = tf.convert_to_tensor(labels), shape[-1], len(shape)
    if labels.shape.rank == rank and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.shape.rank == rank - 1:
        if labels.dtype.is_floating and classes == 2:
            second = tf.cast(labels, tf.float32)
            return tf.stack([1.0 - second, second], -1)
        if labels.dtype.is_integer:
            _same_places(labels, shape[:-1])
            return tf.cast(labels, tf.int32)
    elif labels.shape.rank == rank and labels.shape[-1] == classes:
        _same_places(labels, shape)
        return tf.cast(labels, tf.float32)
    raise AutoslimError(
        f"Masks of shape {tuple(labels.shape)} and type {labels.dtype.name} were given for outputs "
        f"{tuple(shape)}: expected a whole number for each place, or a row of {classes} probabilities."
    )


def _same_places(labels: Any, shape: Any) -> None:
    if not labels.shape.is_compatible_with((None, *shape[1:])):
        raise AutoslimError(
            f"Masks of shape {tuple(labels.shape)} were given for outputs {tuple(shape)}: expected the same "
            "height and width. Resize the masks (nearest neighbour), or let the network return their size."
        )


def _like_outputs(labels: Any, shape: Any) -> Any:
    """Values float32 in the shape of the outputs; nothing is broadcast."""
    labels = tf.cast(tf.convert_to_tensor(labels), tf.float32)
    wanted = tuple(shape[1:])
    own = tuple(labels.shape[1:])
    if _without_ones(own) != _without_ones(wanted):
        raise AutoslimError(
            f"Labels of shape {tuple(labels.shape)} were given for outputs {tuple(shape)}: expected as many "
            f"values for each image, {list(wanted)}."
        )
    fixed = all(size is not None for size in wanted)
    return tf.reshape(labels, [-1, *wanted]) if own != wanted and fixed else labels


def _without_ones(shape: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(size for size in shape if size != 1)


# -- classification --------------------------------------------------------------------------------------


def _probabilities(labels: Any, outputs: Any, smoothing: float) -> Any:
    """Labels as probabilities float32 [..., classes], a share `smoothing` spread over all classes."""
    classes = outputs.shape[-1]
    given = tf.one_hot(labels, classes) if labels.dtype.is_integer else labels
    return given * (1.0 - smoothing) + smoothing / classes


def _cross_entropy(labels: Any, logits: Any) -> Any:
    """Of class indices [...], or of probabilities [..., classes]: float32 [...]."""
    if labels.dtype.is_integer:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return tf.nn.softmax_cross_entropy_with_logits(labels, logits)


def _classes(labels: Any) -> Any:
    """The class itself, or the most probable one: int32."""
    return labels if labels.dtype.is_integer else tf.argmax(labels, -1, tf.int32)


def _correct(labels: Any, logits: Any) -> Any:
    """Whether each image's largest logit is its label's: float32 [B], 0 or 1."""
    return tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), _classes(labels)), tf.float32)


def _softened(logits: Any, temperature: float) -> Any:
    return tf.nn.softmax(logits if temperature == 1 else logits / temperature)


def _imitated(soft: Any, logits: Any, temperature: float) -> Any:
    """Cross-entropy against softened classes (Hinton et al. 2015), times the temperature squared."""
    t = temperature
    return t * t * tf.nn.softmax_cross_entropy_with_logits(soft, logits / t)


# -- labels that do not exclude each other ---------------------------------------------------------------


def _binary_cross_entropy(labels: Any, logits: Any) -> Any:
    """Mean over the labels of each image: float32 [B]."""
    return mean_of_image(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))


def _spread(labels: Any, outputs: Any, smoothing: float) -> Any:
    """Labels 0 or 1 with a share `smoothing` spread over both."""
    return labels * (1.0 - smoothing) + 0.5 * smoothing


def _f1(labels: Any, logits: Any) -> Any:
    """F1 of each image's labels [B]; 1 where there are none and none is answered."""
    true, answered = tf.cast(labels > 0.5, tf.float32), tf.cast(logits > 0, tf.float32)
    axes = list(range(1, len(logits.shape)))
    both = tf.reduce_sum(true * answered, axes)
    either = tf.reduce_sum(true, axes) + tf.reduce_sum(answered, axes)
    return tf.where(either > 0, 2 * both / tf.maximum(either, 1), 1.0)


def _soft_sigmoid(logits: Any, temperature: float) -> Any:
    return tf.sigmoid(logits / temperature)


def _imitated_sigmoid(soft: Any, logits: Any, temperature: float) -> Any:
    return temperature**2 * _binary_cross_entropy(soft, logits / temperature)


def _one_vs_rest(labels: Any, logits: Any) -> Any:
    """Binary cross-entropy of every class against one-hot labels, mean over the classes [B]."""
    rows = tf.one_hot(labels, logits.shape[-1]) if labels.dtype.is_integer else labels
    return _binary_cross_entropy(rows, logits)


# -- values ----------------------------------------------------------------------------------------------


def _squared_error(labels: Any, outputs: Any) -> Any:
    return mean_of_image(tf.math.squared_difference(outputs, labels))


def _absolute_error(labels: Any, outputs: Any) -> Any:
    return mean_of_image(tf.abs(outputs - labels))


# -- segmentation ----------------------------------------------------------------------------------------


def _counted(values: Any, labels: Any, ignore: int) -> Any:
    """Values of each place, scaled so that their mean is that of the places that have a label."""
    counted = tf.cast(tf.not_equal(labels, ignore), tf.float32)
    axes = list(range(1, len(labels.shape)))
    share = tf.reduce_mean(counted, axes, keepdims=True)
    return tf.math.divide_no_nan(values * counted, share)


def _iou(labels: Any, logits: Any, ignore: int | None) -> Any:
    """Mean intersection over union of the classes that an image's mask or answer holds: float32 [B]."""
    classes = logits.shape[-1]
    true, answered = _classes(labels), tf.argmax(logits, -1, tf.int32)
    counted = tf.ones_like(true, tf.float32)
    if ignore is not None:
        counted = tf.cast(tf.not_equal(true, ignore), tf.float32)
    a, b = (tf.one_hot(x, classes) * counted[..., None] for x in (true, answered))
    axes = list(range(1, len(logits.shape) - 1))
    both = tf.reduce_sum(a * b, axes)
    either = tf.reduce_sum(a, axes) + tf.reduce_sum(b, axes) - both
    there = tf.cast(either > 0, tf.float32)
    shares = tf.reduce_sum(there * both / tf.maximum(either, 1.0), -1)
    return tf.where(tf.reduce_sum(there, -1) > 0, shares / tf.maximum(tf.reduce_sum(there, -1), 1.0), 1.0)


def segmentation(ignore: int | None = None) -> Task:
    """A class for each place of an image.

    Args:
        ignore: a label of places that count for nothing, such as 255; None: all count.
    """

    def targets(labels: Any, outputs: Any, smoothing: float) -> Any:
        if ignore is not None and labels.dtype.is_integer and smoothing == 0:
            return labels  # `loss` leaves out what one-hot rows no longer tell
        return _probabilities(labels, outputs, smoothing)

    def loss(labels: Any, logits: Any) -> Any:
        if ignore is None or not labels.dtype.is_integer:
            return _cross_entropy(labels, logits)
        inside = tf.where(tf.equal(labels, ignore), 0, labels)
        return _counted(_cross_entropy(inside, logits), labels, ignore)

    return Task(
        "segmentation",
        MEAN_IOU,
        loss=loss,
        score=lambda labels, logits: _iou(labels, logits, ignore),
        labels=_mask_labels,
        targets=targets,
        soften=_softened,
        imitate=_imitated,
        logits="softmax",
        bounded=True,
        ignore=ignore,
        smooths=ignore is None,
    )


CLASSIFICATION = Task(
    "classification",
    TOP1,
    loss=_cross_entropy,
    score=_correct,
    labels=_class_labels,
    targets=_probabilities,
    soften=_softened,
    imitate=_imitated,
    logits="softmax",
    bounded=True,
    smooths=True,
)
MULTILABEL = Task(
    "multilabel",
    F1,
    loss=_binary_cross_entropy,
    score=_f1,
    labels=_like_outputs,
    targets=_spread,
    soften=_soft_sigmoid,
    imitate=_imitated_sigmoid,
    logits="sigmoid",
    smooths=True,
)
REGRESSION = Task("regression", MAE, loss=_squared_error, score=_absolute_error, labels=_like_outputs)
CLASSIFICATION = dataclasses.replace(
    CLASSIFICATION,
    several=dataclasses.replace(
        CLASSIFICATION, loss=_one_vs_rest, soften=_soft_sigmoid, imitate=_imitated_sigmoid
    ),
)
TASKS = {task.name: task for task in (CLASSIFICATION, MULTILABEL, REGRESSION, segmentation())}
"""Name -> task."""
