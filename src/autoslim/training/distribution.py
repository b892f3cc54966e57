"""Where a training runs: one device, several, or several machines, through `tf.distribute`.

A network made within a strategy's scope is trained on all of the strategy's replicas; the network itself says
which strategy that is. Each replica takes an equal part of every batch.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from autoslim.errors import AutoslimError, first_line

log = logging.getLogger(__name__)

Strategy = Any  # tf.distribute.Strategy

EXAMPLE = '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}'


def make_strategy(name: str = "auto") -> Strategy:
    """The strategy that `train.strategy` names; for several workers the first thing that touches TensorFlow.

    Args:
        name: "single": this device; "mirrored": all GPUs of this machine (or, without one, all logical CPU
            devices); "multi_worker": the machines that the environment variable TF_CONFIG lists; "auto": what
            there is of these, the last one first.

    Raises:
        AutoslimError: for several workers, if TF_CONFIG lists none, or if TensorFlow was used before.
    """
    workers = cluster_workers()
    if name == "auto":
        several = len(tf.config.list_physical_devices("GPU")) > 1
        name = "multi_worker" if len(workers) > 1 else "mirrored" if several else "single"
    if name == "single":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        strategy = tf.distribute.MirroredStrategy(_devices())
    elif name == "multi_worker":
        strategy = _multi_worker(workers)
    else:
        raise AutoslimError(f"train.strategy={name!r}: expected auto, single, mirrored or multi_worker.")
    log.info("Training on %d replicas (%s).", strategy.num_replicas_in_sync, name)
    return strategy


def cluster_workers() -> list[str]:
    """Addresses of the workers that TF_CONFIG lists, the chief first; none without it.

    Raises:
        AutoslimError: if TF_CONFIG can't be read, or names no place in its own cluster.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return []
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        jobs = {job: cluster.get(job, []) for job in ("chief", "worker")}
        if not all(isinstance(addresses, list) for addresses in jobs.values()):
            raise ValueError("its workers are not a list")
        workers = [*jobs["chief"], *jobs["worker"]]
        if len(workers) > 1 and int(task.get("index", -1)) not in range(len(jobs.get(task.get("type"), []))):
            raise ValueError(f"its task {json.dumps(task)} is not in the cluster")
        return workers
    except (ValueError, AttributeError, TypeError) as error:
        raise AutoslimError(
            f"The environment variable TF_CONFIG can't be read ({first_line(error, 80)}): expected JSON "
            f"such as {EXAMPLE}."
        ) from error


def _devices() -> list[str]:
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    return [device.name for device in tf.config.list_logical_devices(kind)]


def _multi_worker(workers: list[str]) -> Strategy:
    if not workers:
        raise AutoslimError(
            "train.strategy=multi_worker needs the environment variable TF_CONFIG on every worker: "
            f"{EXAMPLE}."
        )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise AutoslimError(
            f"Several workers must be joined before TensorFlow is used ({first_line(error, 120)}). Start "
            "each as a process of its own."
        ) from error


def is_multi_worker(strategy: Strategy) -> bool:
    """Whether the strategy's replicas are in several processes."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and len(cluster_workers()) > 1


def is_chief(strategy: Strategy) -> bool:
    """Whether this process is the one that writes: the only one, or the first worker."""
    if not is_multi_worker(strategy):
        return True
    resolver = strategy.cluster_resolver
    return resolver.task_type == "chief" or (
        resolver.task_id == 0 and "chief" not in resolver.cluster_spec().jobs
    )


def wait_for_all(strategy: Strategy) -> None:
    """Come back once every worker has called this; at once where there is one only."""
    if not is_multi_worker(strategy):
        return
    with peers_watched(strategy):

        @tf.function(autograph=False)
        def count():
            return strategy.reduce("SUM", strategy.run(lambda: tf.ones([])), axis=None)

        float(count())


@contextmanager
def peers_watched(strategy: Strategy) -> Iterator[None]:
    """Within the block, turn what TensorFlow raises when another worker dies into one message."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        if not is_multi_worker(strategy):
            raise
        raise AutoslimError(
            f"Another worker stopped answering ({type(error).__name__}). Start all workers again with the "
            "same command: the training goes on from the last checkpoint."
        ) from error


def check_batch_size(batch_size: int, strategy: Strategy, accumulate: int = 1) -> None:
    """Refuse a batch that can't be cut into equal parts.

    Raises:
        AutoslimError: with the next sizes that can.
    """
    parts = strategy.num_replicas_in_sync * accumulate
    if batch_size % parts:
        below = batch_size // parts * parts
        sizes = f"{below} or {below + parts}" if below else f"{parts}"
        raise AutoslimError(
            f"A batch of {batch_size} images can't be cut into {parts} equal parts "
            f"({strategy.num_replicas_in_sync} replicas, train.accumulate={accumulate}). Set "
            f"train.batch_size={sizes}."
        )


def distributed(dataset: tf.data.Dataset, strategy: Strategy) -> Any:
    """The batches of a dataset, each cut into equal parts, one for every replica."""
    if strategy.num_replicas_in_sync == 1 and not is_multi_worker(strategy):
        return dataset
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return strategy.experimental_distribute_dataset(dataset.with_options(options))


def on_replicas(strategy: Strategy, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that runs `function` in every replica, on its part of each distributed argument."""
    return lambda *arguments: strategy.run(function, args=arguments)


def total(strategy: Strategy, values: Any) -> Any:
    """The sum over the replicas of each tensor of a structure; for use outside of them."""
    return tf.nest.map_structure(lambda value: strategy.reduce("SUM", value, axis=None), values)


def sum_in_replica(values: Any) -> Any:
    """The same sum, for use within a replica, where each goes on with it."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce(tf.distribute.ReduceOp.SUM, values)


def mean_in_replica(values: list[Any]) -> list[Any]:
    """Mean over the replicas of each tensor, within a replica."""
    replicas = tf.distribute.get_replica_context().num_replicas_in_sync
    return values if replicas == 1 or not values else [v / replicas for v in sum_in_replica(values)]
