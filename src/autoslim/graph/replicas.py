"""The replicas of a `tf.distribute` strategy, one by one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def strategy_of(model: keras.Model) -> tf.distribute.Strategy:
    """The strategy in whose scope a network was made; TensorFlow's default one where there was none."""
    for variable in model.variables:
        if isinstance(variable.value, tf.distribute.DistributedValues):
            return variable.value.distribute_strategy
    return tf.distribute.get_strategy()


def local_replicas(strategy: tf.distribute.Strategy) -> int:
    """Number of a strategy's replicas in this process."""
    if strategy.num_replicas_in_sync == 1:
        return 1
    return len(strategy.extended.worker_devices)


class Replicas:
    """Which of a strategy's replicas are in this process, and what the others found.

    Args:
        strategy: of the replicas.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        self.count: int = strategy.num_replicas_in_sync
        self.here: tuple[int, ...] = tuple(range(self.count))  # numbers of the replicas in this process
        if local_replicas(strategy) < self.count:
            self.here = tuple(int(number) for number in self._numbers())

    def gathered(self, own: Sequence[np.ndarray], width: int) -> list[np.ndarray]:
        """The arrays of all replicas, on every worker; each of them must call this.

        Args:
            own: an array [A, B, C] for each replica in this process; C may differ.
            width: the largest C of all workers.

        Returns:
            An array for each replica; where there are several workers filled up with zeros to `width`.
        """
        if len(self.here) == self.count:
            return list(own)
        filled = [np.pad(x, [(0, 0), (0, 0), (0, width - x.shape[2])])[None] for x in own]
        return list(self._gather(*(tf.constant(x) for x in filled)).numpy())

    @functools.cached_property
    def _numbers(self) -> Any:
        """A function: the numbers of this process's replicas."""

        def own() -> Any:
            return tf.distribute.get_replica_context().replica_id_in_sync_group

        strategy = self._strategy
        return tf.function(lambda: strategy.experimental_local_results(strategy.run(own)), autograph=False)

    @functools.cached_property
    def _gather(self) -> Any:
        """A function of arrays [1, A, B, C], one a replica here: those of all, [replicas, A, B, C]."""
        strategy = self._strategy

        def gather(*filled: Any) -> Any:
            def own() -> Any:
                context = tf.distribute.get_replica_context()
                number = int(tf.get_static_value(context.replica_id_in_sync_group))
                mine = tf.identity(filled[self.here.index(number)])  # on the replica's own device
                return context.all_gather(mine, 0)

            return strategy.experimental_local_results(strategy.run(own))[0]

        signature = [tf.TensorSpec([1, None, None, None], tf.float32)] * len(self.here)
        return tf.function(gather, input_signature=signature, autograph=False)


def in_replicas(strategy: tf.distribute.Strategy, function: Callable[[int], list[Any]]) -> list[list[Any]]:
    """Run a function of the replica's number in every replica of this process, inside a `tf.function`.

    Returns:
        Its tensors, for each replica.
    """
    count = local_replicas(strategy)
    if count == 1:
        return [function(0)]

    def own() -> list[Any]:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return function(int(tf.get_static_value(replica)) % count)

    values = [strategy.experimental_local_results(value) for value in strategy.run(own)]
    return [[value[replica] for value in values] for replica in range(count)]
