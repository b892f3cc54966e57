"""Say it where a shorter number format makes training slower: not every processor computes in it."""

from __future__ import annotations

import functools
import logging
import time

import tensorflow as tf

from autoslim.graph.options import DTYPES

log = logging.getLogger(__name__)

SLOWER = 3.0  # times as long as in float32: beyond what a busy machine explains
SHAPE, CHANNELS = (8, 8, 8), 64  # images, height, width of the convolution that is timed
ROUNDS = 3  # of which the fastest counts


@functools.cache
def warn_where_slow(precision: str) -> None:
    """Warn, once a process, where gradients take much longer in this `train.precision` than in float32.

    Forward passes may be fast where gradients are not, so these are timed, of one small convolution.
    """
    dtype = DTYPES[precision]
    if dtype is None:
        return
    times = _gradient_seconds(dtype) / _gradient_seconds("float32")
    if times > SLOWER:
        log.warning(
            "train.precision=%s: gradients of a convolution take %.0f times as long as in float32 on this "
            "machine, which has no instructions for it. train.precision=float32 trains faster here.",
            precision,
            times,
        )


def _gradient_seconds(dtype: str) -> float:
    """How long the gradients of a convolution take in a number format, by the fastest round."""
    images = tf.cast(tf.random.stateless_normal((*SHAPE, CHANNELS), (0, 0)), dtype)
    kernel = tf.cast(tf.random.stateless_normal((3, 3, CHANNELS, CHANNELS), (0, 1)), dtype)

    def once() -> float:
        with tf.GradientTape() as tape:
            tape.watch((images, kernel))
            outputs = tf.nn.conv2d(images, kernel, 1, "SAME")
        start = time.perf_counter()
        for gradient in tape.gradient(outputs, (images, kernel)):
            gradient.numpy()  # waits for a device
        return time.perf_counter() - start

    once()
    return min(once() for _ in range(ROUNDS))
