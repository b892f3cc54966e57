"""XLA for steps at full width, where it helps, and several small steps in one call."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import tensorflow as tf

from autoslim.errors import AutoslimError, first_line
from autoslim.training.gradients import images_in_all, part_of
from autoslim.training.steps import ArmsStep, Metrics, Step, traced

log = logging.getLogger(__name__)

WARM, MEASURED = 2, 5  # calls of each variant


def choose_jit(step: Step, first_batch: Callable[[], tuple[Any, Any]], before: bool | None) -> bool | None:
    """Decide on XLA for the steps of a training, and set it.

    Args:
        step: about to be used.
        first_batch: gives (images, labels) for the measurement, if one is made.
        before: what an earlier part of the same training decided: it goes on with the same bits.

    Returns:
        The decision; None for a step that can't be compiled.
    """
    if not getattr(step, "compilable", False):
        return None
    differentiation = cast(ArmsStep, step).differentiation
    if step.options.jit != "auto":
        differentiation.jit = step.options.jit == "on"
    elif before is not None:
        differentiation.jit = before
    elif step.options.sync_batch_norm or not _worth_measuring():
        differentiation.jit = False
        _tell_unmeasured()
    else:
        differentiation.jit = _faster(step, *first_batch())
    return differentiation.jit


@contextmanager
def failures_explained(step: Step) -> Iterator[None]:
    """Within the block, turn what TensorFlow raises for a network that XLA can't compile into one message."""
    try:
        yield
    except tf.errors.UnimplementedError as error:
        if not getattr(getattr(step, "differentiation", None), "jit", False):
            raise
        reason = next((line for line in str(error).splitlines() if "XLA" in line), str(error))
        raise AutoslimError(
            f"XLA can't compile this network's steps ({reason.strip()[:160]}). Set train.jit=off or auto, or "
            "train.deterministic=false, if it is the determinism that it lacks."
        ) from error


@functools.cache
def _tell_unmeasured() -> None:
    """Once is enough, not in every stage."""
    log.info("train.jit=auto: off, without measuring: no GPU, or batch norm over several devices.")


def _worth_measuring() -> bool:
    return bool(tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"))


def _faster(step: Any, images: Any, labels: Any) -> bool:
    """Whether a pass forward and backward is faster with XLA; nothing that it moves stays moved."""
    state = [v for v in step.model.variables if not v.trainable]
    drawn = [(v, tf.identity(tf.convert_to_tensor(v))) for v in state]
    try:
        plain = seconds(step, images, labels, False)
        compiled = seconds(step, images, labels, True)
    except (tf.errors.OpError, ValueError, RuntimeError, NotImplementedError) as error:
        log.info("train.jit=auto: off, this network can't be compiled (%s).", first_line(error, 120))
        return False
    finally:
        for variable, value in drawn:  # the state of dropout
            variable.assign(value)
    better = compiled < plain
    log.info(
        "train.jit=auto: %s; a pass takes %.1f ms without XLA, %.1f with it.",
        "on" if better else "off",
        1000 * plain,
        1000 * compiled,
    )
    return better


def seconds(step: Any, images: Any, labels: Any, jit: bool) -> float:
    """Seconds of a pass forward and backward at full width, the least of a few."""
    step.differentiation.jit = jit
    parts = step.options.accumulate

    def in_replica(images: Any, labels: Any) -> Any:
        count = images_in_all(labels)
        if parts > 1:
            images, labels = (part_of(x, tf.constant(0), parts) for x in (images, labels))
        found = step.full_pass(images, labels, count)
        return tf.stack([found.loss, *(tf.reduce_sum(g) for g in found.gradients)])

    call = traced(step.strategy, in_replica, summed=True)
    times = []
    for _ in range(WARM + MEASURED):
        start = time.perf_counter()
        float(call(images, labels)[0])
        times.append(time.perf_counter() - start)
    return min(times[WARM:])


class Fused:
    """Several steps in one call of a traced function; the loop stands outside of the replicas.

    Args:
        step: with a method `compute`, the step for use within a `tf.function`: one with a single arm.
    """

    def __init__(self, step: Any) -> None:
        self._step = step
        self._names: list[str] = []
        self._call = tf.function(self._steps, autograph=False)

    def __call__(self, iterator: Any, count: int) -> list[Metrics]:
        """Take `count` steps on the next batches of an iterator: the metrics of each."""
        values = self._call(iterator, tf.constant(count))
        return [dict(zip(self._names, step, strict=True)) for step in values.numpy()]

    def _steps(self, iterator: Any, count: Any) -> Any:
        """Metrics of all steps: float32 [count, metrics]."""

        def one(i: Any, found: Any) -> tuple[Any, Any]:
            metrics = self._step.compute(*next(iterator))
            self._names = list(metrics)
            return i + 1, found.write(i, tf.stack(list(metrics.values())))

        found = tf.TensorArray(tf.float32, size=count, element_shape=[None])
        return tf.while_loop(lambda i, _: i < count, one, (0, found), parallel_iterations=1)[1].stack()
