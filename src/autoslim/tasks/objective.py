"""A task, or one for each output, on a network: what training, search and evaluation ask of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.errors import AutoslimError
from autoslim.metrics import Metric
from autoslim.scoring import unweighted
from autoslim.tasks.base import Task, mean_of_image
from autoslim.tasks.ends import LINEAR

log = logging.getLogger(__name__)

TINY = float(np.finfo(np.float32).tiny)


def _log(outputs: Any) -> Any:
    return tf.math.log(tf.maximum(outputs, TINY))


def _log_odds(outputs: Any) -> Any:
    return _log(outputs) - _log(1.0 - outputs)


_TO_LOGITS = {"softmax": _log, "sigmoid": _log_odds}


@dataclass(frozen=True)
class Head:
    """One output of a network, and the task that it is for."""

    name: str
    place: int  # among the flat outputs
    task: Task
    weight: float = 1.0  # times its loss
    end: str = LINEAR  # what it ends in, see `ends.end_of`
    shape: tuple[int | None, ...] | None = None  # of the output, batch first

    def values(self, outputs: Any) -> Any:
        """The output as the task takes it, in float32."""
        values = tf.cast(outputs, tf.float32)
        if not self.task.logits:
            return values
        values = _TO_LOGITS.get(self.end, lambda x: x)(values)
        if self.task.logits == "softmax" and values.shape[-1] == 1:  # one logit for two classes
            values = tf.concat([tf.zeros_like(values), values], -1)
        return values

    @property
    def classes(self) -> int | None:
        """How many classes labels may have; None: any, or not known."""
        if not self.task.bounded or self.shape is None or self.shape[-1] is None:
            return None
        return max(2, self.shape[-1])


class Objective:
    """What one network learns, and how good its answers are.

    Args:
        heads: its outputs that are learnt.
        main: the place among `heads` of the one whose metric counts.
        model: name of the network, for messages.
    """

    def __init__(self, heads: Sequence[Head], main: int = 0, model: str = "") -> None:
        self.heads, self._main, self._model = tuple(heads), main, model

    @property
    def metric(self) -> Metric:
        """Of the main output."""
        return self.heads[self._main].task.metric

    @property
    def main(self) -> Head:
        """The output whose metric counts."""
        return self.heads[self._main]

    # -- labels and outputs --------------------------------------------------------------------------

    def labels_of(self, labels: Any) -> list[Any]:
        """The labels of each head: of one structure with the outputs, or the same for all of them."""
        if not isinstance(labels, Mapping | list | tuple):
            return [labels] * len(self.heads)
        if isinstance(labels, Mapping):
            lacking = [head.name for head in self.heads if head.name not in labels]
            if not lacking:
                return [labels[head.name] for head in self.heads]
            raise AutoslimError(
                f"Labels were given for {', '.join(map(str, labels))}, and not for "
                f"{', '.join(lacking)}: expected labels for each output, {self._names}."
            )
        if len(labels) != len(self.heads):
            raise AutoslimError(
                f"{len(labels)} labels were given for {len(self.heads)} outputs: expected one for each, "
                f"{self._names}, or one for all of them."
            )
        return list(labels)

    @property
    def _names(self) -> str:
        return ", ".join(head.name for head in self.heads)

    def _pairs(self, labels: Any, outputs: Any) -> list[tuple[Head, Any, Any]]:
        """(Head, its labels as the task takes them, its values)."""
        flat = keras.tree.flatten(outputs)
        pairs = []
        for head, own in zip(self.heads, self.labels_of(labels), strict=True):
            values = head.values(flat[head.place])
            pairs.append((head, head.task.labels(own, values.shape), values))
        return pairs

    def _sum(self, losses: Sequence[Any], weights: Any) -> Any:
        """Losses of the heads, [B, ...] each, as one loss of each image, float32 [B]."""
        total: Any = None
        for head, loss in zip(self.heads, losses, strict=True):
            loss = tf.cast(loss, tf.float32)
            if weights is not None:
                loss = _weighed(loss, weights)
            loss = mean_of_image(loss)
            loss = loss if head.weight == 1.0 else head.weight * loss
            total = loss if total is None else total + loss
        return total

    # -- training ------------------------------------------------------------------------------------

    def targets(self, labels: Any, outputs: Any, smoothing: float = 0.0) -> list[Any]:
        """What each head's loss compares its outputs with."""
        pairs = self._pairs(unweighted(labels)[0], outputs)
        return [head.task.targets(own, values, smoothing) for head, own, values in pairs]

    def losses(self, targets: Sequence[Any], labels: Any, outputs: Any) -> Any:
        """Loss of each image, float32 [B], against `targets`; the labels give the weights of images."""
        flat = keras.tree.flatten(outputs)
        own = [
            head.task.loss(t, head.values(flat[head.place]))
            for head, t in zip(self.heads, targets, strict=True)
        ]
        return self._sum(own, unweighted(labels)[1])

    def learnt(self, labels: Any, outputs: Any, smoothing: float = 0.0) -> Any:
        """Loss of each image in training, float32 [B]."""
        return self.losses(self.targets(labels, outputs, smoothing), labels, outputs)

    def softened(self, outputs: Any, temperature: float = 1.0) -> list[Any]:
        """What another network learns from these outputs."""
        flat = keras.tree.flatten(outputs)
        return [head.task.soften(head.values(flat[head.place]), temperature) for head in self.heads]

    def imitated(self, soft: Sequence[Any], labels: Any, outputs: Any, temperature: float = 1.0) -> Any:
        """Loss of each image against what `softened` gave, float32 [B]."""
        flat = keras.tree.flatten(outputs)
        losses = []
        for head, taught in zip(self.heads, soft, strict=True):
            values = head.values(flat[head.place])
            if not taught.shape.is_compatible_with(values.shape):
                raise AutoslimError(
                    f"The teacher returns outputs of shape {tuple(taught.shape)}, the network of "
                    f"{tuple(values.shape)}: both must know the same classes."
                )
            imitate = head.task.imitate
            losses.append(
                head.task.loss(taught, values) if imitate is None else imitate(taught, values, temperature)
            )
        return self._sum(losses, unweighted(labels)[1])

    # -- evaluation ----------------------------------------------------------------------------------

    def scores(self, labels: Any, outputs: Any) -> tuple[Any, Any]:
        """Loss and metric of each image, float32 [B] each."""
        labels, weights = unweighted(labels)
        pairs = self._pairs(labels, outputs)
        losses = self._sum([head.task.loss(own, values) for head, own, values in pairs], weights)
        head, own, values = pairs[self._main]
        return losses, tf.cast(head.task.score(own, values), tf.float32)

    def scored(self, labels: Any, outputs: Any) -> Any:
        """The metric of each image, float32 [B]."""
        head, own, values = self._pairs(unweighted(labels)[0], outputs)[self._main]
        return tf.cast(head.task.score(own, values), tf.float32)

    def agreement(self, outputs: Any, others: Any) -> float | None:
        """Share of images, or of places in them, for which two networks give the same answer.

        Of the main output; None where it answers with values.
        """
        head = self.main
        if not head.task.logits:
            return None
        both = [keras.tree.flatten(one)[head.place] for one in (outputs, others)]
        first, second = (head.values(tf.convert_to_tensor(one)).numpy() for one in both)
        if head.task.logits == "softmax":
            return float(np.mean(first.argmax(-1) == second.argmax(-1)))
        return float(np.mean((first > 0) == (second > 0)))

    def check(self, labels: Any) -> None:
        """Refuse whole-number labels for which there is no output; a loss would ignore them.

        Raises:
            AutoslimError: naming the first such label.
        """
        for head, own in zip(self.heads, self.labels_of(unweighted(labels)[0]), strict=True):
            values = np.asarray(own)
            if head.classes is None or not np.issubdtype(values.dtype, np.integer):
                continue
            wrong = (values < 0) | (values >= head.classes)
            if head.task.ignore is not None:
                wrong &= values != head.task.ignore
            if wrong.any():
                raise AutoslimError(
                    str(values[wrong][0]).join(out_of_range(self._model or head.name, head.classes))
                )

    def fits(self, labels: Any) -> None:
        """Refuse labels whose shape or type the outputs cannot be compared with.

        Args:
            labels: tensors of some images, without weights.

        Raises:
            AutoslimError: naming the shapes.
        """
        for head, own in zip(self.heads, self.labels_of(labels), strict=True):
            if head.shape is None:
                continue
            shape = [None, *head.shape[1:]]
            if head.task.logits == "softmax" and shape[-1] == 1:
                shape[-1] = 2
            try:
                head.task.labels(own, tuple(shape))
            except AutoslimError as error:
                raise AutoslimError(f"task={head.task.name}, output {head.name}: {error}") from error

    def checked(self, labels: Any) -> Any:
        """The same labels, refused when they are read; for use within tf.data, on the host."""
        own, weights = unweighted(labels)
        conditions = []
        for head, one in zip(self.heads, self.labels_of(own), strict=True):
            if head.classes is not None and one.dtype.is_integer:
                conditions.append(self._in_range(head, one))
        if not conditions:
            return labels
        with tf.control_dependencies(conditions):
            own = tf.nest.map_structure(tf.identity, own)
        return own if weights is None else type(labels)(own, weights)

    def _in_range(self, head: Head, labels: Any) -> Any:
        classes = head.classes
        assert classes is not None
        outside = (labels < 0) | (labels >= classes)
        if head.task.ignore is not None:
            outside &= labels != head.task.ignore
        wrong = tf.reshape(tf.boolean_mask(labels, outside), [-1])
        first = tf.strings.as_string(tf.concat([wrong, tf.zeros([1], labels.dtype)], 0)[0])
        before, behind = out_of_range(self._model, classes)
        return tf.debugging.Assert(tf.size(wrong) == 0, [tf.strings.join([before, first, behind])])


def out_of_range(name: str, outputs: int) -> tuple[str, str]:
    """What a message says before and behind a label for which a network of this name has no output."""
    return (
        "Label ",
        f" is out of range: model {name!r} has {outputs} outputs, so labels are 0 to {outputs - 1}. "
        "Number the classes from 0, or build the model for all of them.",
    )


def _weighed(losses: Any, weights: Any) -> Any:
    """Losses [B, ...] times weights [B] or [B, ...]."""
    weights = tf.cast(weights, tf.float32)
    more = losses.shape.rank - weights.shape.rank
    if more < 0:
        raise AutoslimError(
            f"Weights of shape {tuple(weights.shape)} were given for losses of shape {tuple(losses.shape)}: "
            "expected one weight for each image."
        )
    return losses * tf.reshape(weights, tf.concat([tf.shape(weights), tf.ones([more], tf.int32)], 0))
