"""Losses of the user's own in place of a task's: Keras's by name or object, or any function."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from autoslim.errors import AutoslimError, near
from autoslim.importing import function_at
from autoslim.tasks.base import Task

# The task that a Keras loss is for, where the loss alone is named.
_TASK_OF = {
    "CategoricalCrossentropy": "classification",
    "CategoricalFocalCrossentropy": "classification",
    "SparseCategoricalCrossentropy": "classification",
    "BinaryCrossentropy": "multilabel",
    "BinaryFocalCrossentropy": "multilabel",
    "Huber": "regression",
    "LogCosh": "regression",
    "MeanAbsoluteError": "regression",
    "MeanAbsolutePercentageError": "regression",
    "MeanSquaredError": "regression",
    "MeanSquaredLogarithmicError": "regression",
    "Poisson": "regression",
}


def loss_at(loss: Any) -> Callable[[Any, Any], Any]:
    """A loss as an object or a function of (labels, outputs).

    Args:
        loss: Keras's name of it, a dotted path of a class or a function, or the thing itself.

    Raises:
        AutoslimError: for what is none of these.
    """
    if isinstance(loss, str):
        if "." in loss:
            found = function_at(loss, "task.loss", "the loss of each image")
        else:
            try:
                found = keras.losses.get(loss)
            except ValueError:
                known = [name for name in vars(keras.losses) if not name.startswith("_")]
                raise AutoslimError(
                    f"task.loss={loss} is not a loss of Keras.{near(loss, known)} Give a name such as huber "
                    "or MeanSquaredError, or a dotted path such as my.module.loss."
                ) from None
        loss = found
    if inspect.isclass(loss) and issubclass(loss, keras.losses.Loss):
        loss = loss()
    if not callable(loss):
        raise AutoslimError(f"The loss is a {type(loss).__name__}: expected a Keras loss or a function.")
    return loss


def task_for(loss: Any) -> str:
    """The name of the task that a loss is for, where no task is given.

    Raises:
        AutoslimError: where the loss does not tell.
    """
    found = loss_at(loss)
    name = type(found).__name__
    if name not in _TASK_OF:
        name = next((n for n in _TASK_OF if getattr(keras.losses, _snake(n), None) is found), name)
    if name not in _TASK_OF:
        raise AutoslimError(
            f"The loss {getattr(found, '__name__', name)} does not tell what its labels are. Give the task "
            "too: task='classification', 'multilabel', 'regression', 'segmentation' or a Task."
        )
    return _TASK_OF[name]


def _snake(name: str) -> str:
    """
    >>> _snake("SparseCategoricalCrossentropy")
    'sparse_categorical_crossentropy'
    """
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def with_loss(task: Task, loss: Any) -> Task:
    """A task with another loss.

    A Keras loss that expects probabilities gets them, whatever the network ends in; one with
    `from_logits=True` gets logits. Of classification and segmentation, losses get one-hot rows as labels,
    those called sparse whole numbers; their `reduction` plays no part, as batches are summed up here.

    Raises:
        AutoslimError: for a loss that has no value for each image.
    """
    found = loss_at(loss)
    name = getattr(found, "__name__", type(found).__name__)
    sparse = "sparse" in name.lower()
    call = found.call if isinstance(found, keras.losses.Loss) else found
    answers = _answers(task, found, name)
    exclusive = task.logits == "softmax"

    def targets(labels: Any, outputs: Any, smoothing: float) -> Any:
        if not exclusive:
            return task.targets(labels, outputs, smoothing)
        if sparse:
            return labels if labels.dtype.is_integer else tf.argmax(labels, -1, tf.int32)
        rows = tf.one_hot(labels, outputs.shape[-1]) if labels.dtype.is_integer else labels
        return task.targets(rows, outputs, smoothing)

    def each(labels: Any, outputs: Any) -> Any:
        values = tf.convert_to_tensor(call(targets(labels, outputs, 0.0), answers(outputs)))
        if values.shape.rank == 0:
            raise AutoslimError(
                f"The loss {name} returns one number for a batch: expected one for each image, [B] or "
                "[B, ...]. Leave out its last mean."
            )
        return values

    smooths = task.smooths and not sparse
    return dataclasses.replace(task, loss=each, targets=targets, smooths=smooths, several=None)


def _answers(task: Task, loss: Any, name: str) -> Callable[[Any], Any]:
    """From a task's outputs to what the loss takes."""
    if not task.logits:
        return lambda outputs: outputs
    if getattr(loss, "from_logits", False) or _default_of(loss, "from_logits"):
        return lambda logits: logits
    takes = hasattr(loss, "from_logits") or _default_of(loss, "from_logits") is not None
    if not (takes or "crossentropy" in name.lower() or isinstance(loss, keras.losses.Loss)):
        return lambda logits: logits  # a function of the user's own: logits, as tasks have them
    return tf.nn.softmax if task.logits == "softmax" else tf.sigmoid


def _default_of(function: Any, name: str) -> Any:
    try:
        parameter = inspect.signature(function).parameters.get(name)
    except (TypeError, ValueError):
        return None
    return None if parameter is None or parameter.default is inspect.Parameter.empty else parameter.default


def with_class_weights(task: Task, weights: Sequence[float]) -> Task:
    """A task whose loss counts each class's images or places by a weight.

    Raises:
        AutoslimError: where the task has no classes.
    """
    if task.logits != "softmax":
        raise AutoslimError(
            f"task.class_weights was given, and {task.name} has no classes that exclude each other. Weigh "
            "images by a third entry of their batches, (images, labels, weights), instead."
        )
    table = tf.constant(list(weights), tf.float32)

    def loss(labels: Any, outputs: Any) -> Any:
        if outputs.shape[-1] != len(weights):
            raise AutoslimError(
                f"task.class_weights has {len(weights)} weights, and there are {outputs.shape[-1]} classes: "
                "expected one for each."
            )
        rows = tf.one_hot(labels, len(weights)) if labels.dtype.is_integer else labels
        return tf.reduce_sum(rows * table, -1) * task.loss(labels, outputs)

    return dataclasses.replace(task, loss=loss)
