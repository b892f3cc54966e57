"""Losses and gradients of a network within one replica, and the optimizer step that all replicas take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.graph.options import RunOptions
from autoslim.graph.run import Replaced, forward
from autoslim.schema.training import LoopOptions
from autoslim.training.distribution import Strategy, mean_in_replica, sum_in_replica
from autoslim.training.losses import weight_losses


@dataclass(frozen=True)
class Pass:
    """What one pass forward and backward gave, within one replica."""

    loss: Any  # scalar, this replica's share
    gradients: list[Any]  # of the loss, one for each trainable variable
    outputs: Any  # what the network returned, [B, classes] or a structure of outputs
    statistics: list[tuple[keras.Layer, Any, Any]]  # (layer, batch mean, batch variance)


class Differentiation:
    """Passes of a graph forward and backward.

    Args:
        graph: of the network.
        variables: its trainable ones.
        optimizer: that scales the loss, if its precision needs it.
        options: precision, batch norm over the replicas, XLA.
    """

    def __init__(
        self, graph: ChannelGraph, variables: list[Any], optimizer: Any, options: LoopOptions
    ) -> None:
        self.graph = graph
        self.jit = options.jit == "on"
        self.options = RunOptions(
            batch_statistics=True,
            training=True,
            execution=options.execution,
            precision=options.precision,
            sync_batch_norm=options.sync_batch_norm,
        )
        self._variables = variables
        self._optimizer = optimizer

    def __call__(
        self,
        images: Any,
        loss_of: Callable[[Any], Any],
        widths: Any = None,
        weight_share: float = 0.0,
        replaced: Replaced | None = None,
    ) -> Pass:
        """One pass, at full width or at `widths`.

        Args:
            images: float32 [B, H, W, C], this replica's.
            loss_of: what the network returns -> loss, scalar.
            widths: int32 [G], or None.
            weight_share: times what the weights' regularizers, and layers themselves, add to the loss.
            replaced: weights that others stand in for, as in `ChannelGraph.run`.
        """
        layers: list[keras.Layer] = []
        options = self.options if replaced is None else replace(self.options, execution="slice")

        def compute() -> tuple[Any, ...]:
            with tf.GradientTape() as tape:
                more: list[Any] | None = [] if weight_share else None  # what layers add
                outputs, statistics = forward(self.graph, images, widths, options, replaced, more)
                loss = loss_of(outputs)
                added = [
                    weight_share * tf.cast(one, loss.dtype)
                    for one in (*(weight_losses(self._variables) if weight_share else ()), *(more or ()))
                ]
                scaled = self._optimizer.scale_loss(tf.add_n([loss, *added]))
            values = [v.value for v in self._variables]  # zeros_like wants a tensor, not a Keras variable
            found = tape.gradient(scaled, values, unconnected_gradients="zero")
            gradients = [tf.convert_to_tensor(g) for g in found]  # rows of a table: a row may be there twice
            layers[:] = [layer for layer, *_ in statistics]
            return loss, gradients, outputs, [moments for _, _, *moments in statistics]

        if self.jit and (widths is None or options.masked):  # sliced arms have no static shapes
            compute = tf.function(compute, autograph=False, jit_compile=True)
        loss, gradients, outputs, moments = compute()
        statistics = [(layer, *pair) for layer, pair in zip(layers, moments, strict=True)]
        return Pass(loss, gradients, outputs, statistics)


class GradientSums:
    """Gradients summed over the arms and parts of a step, in each replica for itself.

    They are summed in place: a sum that each pass returned as new tensors would need twice the memory.
    """

    def __init__(self, variables: list[Any], optimizer: Any, strategy: Strategy) -> None:
        self._variables = variables
        self._optimizer = optimizer
        with strategy.scope():
            self._sums = [
                tf.Variable(
                    tf.zeros(v.shape, v.dtype),
                    trainable=False,
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM,
                )
                for v in variables
            ]

    def start(self, gradients: list[Any]) -> None:
        """Forget what is there and begin with these."""
        for total, gradient in zip(self._sums, gradients, strict=True):
            total.assign(gradient)

    def add(self, gradients: list[Any]) -> None:
        """Add to what is there."""
        for total, gradient in zip(self._sums, gradients, strict=True):
            total.assign_add(gradient)

    def clear(self) -> None:
        """Forget what is there."""
        self.start([tf.zeros_like(total) for total in self._sums])

    def apply(self) -> None:
        """Take the optimizer step."""
        apply(self._optimizer, [total.read_value() for total in self._sums], self._variables)


def apply(optimizer: Any, gradients: list[Any], variables: list[Any]) -> None:
    """The optimizer step of all replicas together, within a replica, with the sum of their gradients.

    The sum is taken before the optimizer clips it or asks whether it is finite, as one device would. The
    optimizer then adds up what the replicas hand it: the sum itself from the first, and zeros from the others
    (times zero, so that what is not finite is so for all of them).
    """
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync > 1:
        first = tf.equal(context.replica_id_in_sync_group, 0)
        gradients = [gradient * tf.cast(first, gradient.dtype) for gradient in sum_in_replica(gradients)]
    optimizer.apply(gradients, variables)


def update_moving_statistics(statistics: list[tuple[keras.Layer, Any, Any]]) -> None:
    """Move every batch norm's moving mean and variance towards the batch's own, by the layer's momentum.

    Replicas that have batches of their own move towards the mean of theirs, so that all hold the same.
    """
    values = mean_in_replica([value for _, mean, variance in statistics for value in (mean, variance)])
    for (layer, _, _), mean, variance in zip(statistics, values[::2], values[1::2], strict=True):
        for moving, batch in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(moving * layer.momentum + batch * (1.0 - layer.momentum))


def prepare(model: keras.Model, optimizer: keras.optimizers.Optimizer, strategy: Strategy) -> list[Any]:
    """The model's trainable variables, with the optimizer built on them.

    Raises:
        AutoslimError: if there are none, or the optimizer belongs to other variables.
    """
    variables = list(model.trainable_variables)
    if not variables:
        raise AutoslimError(
            f"Model {model.name!r} has no trainable weights: nothing can be trained. Set trainable = True on "
            "the model or on some of its layers."
        )
    with strategy.scope():
        optimizer.build(variables)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if [id(v) for v in getattr(inner, "_trainable_variables", variables)] != [id(v) for v in variables]:
        raise AutoslimError(
            f"The optimizer was built for other weights than those of model {model.name!r}. Give each "
            "training an optimizer of its own."
        )
    return variables


def images_in_all(labels: Any) -> Any:
    """Images of the whole batch, on all replicas together: float32 scalar, within a replica."""
    return tf.cast(sum_in_replica(tf.shape(tf.nest.flatten(labels)[0])[0]), tf.float32)


def part_of(value: Any, part: Any | None, parts: int) -> Any:
    """Part number `part` of a batch that is cut into `parts` along its first axis; None: the whole of it.

    Of a structure, that part of each of its tensors.
    """
    if part is None:
        return value
    return tf.nest.map_structure(lambda one: _part_of_tensor(one, part, parts), value)


def _part_of_tensor(value: Any, part: Any, parts: int) -> Any:
    count = tf.shape(value)[0]
    piece = value[part * count // parts : (part + 1) * count // parts]
    known = value.shape[0]
    if known is not None and known % parts == 0:
        piece = tf.ensure_shape(piece, [known // parts, *value.shape[1:]])
    return piece
