"""The replicas of a `tf.distribute` strategy, one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
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
