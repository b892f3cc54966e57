"""Batch-norm calibration: moving statistics of a subnetwork, taken again over training batches."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from autoslim.datasets.given import batches_of
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.scoring import as_tensors, images_in, traced_for_any_batch


def calibrate(graph: ChannelGraph, batches: Any) -> int:
    """Set every batch norm's moving mean and variance to the average over `batches` at full width.

    Batches count by their number of images. Batch norms that are not trainable, or whose call says
    `training=False`, keep what they have.

    A supernet's moving averages mean nothing at any one width; this gives a subnetwork its own, as a
    cumulative average (Yu & Huang 2019, "Universally Slimmable Networks", section 3.2).

    Args:
        graph: of the network (materialised at the widths of interest), whose statistics are set.
        batches: (images, labels) of training images; or all of them as arrays, in a tuple.

    Returns:
        The number of batches that were averaged.

    Raises:
        AutoslimError: if there are none.
    """

    layers: list[Any] = []

    def statistics_of(images):
        _, statistics = graph.run_with_statistics(images)
        layers[:] = [layer for layer, _, _, _ in statistics]
        return [(mean, variance) for _, _, mean, variance in statistics]

    sums: list[Any] = []
    count, total = 0, 0
    traced = None
    for images, *_ in batches_of(batches):
        images = as_tensors(images)
        traced = traced or traced_for_any_batch(statistics_of, images)
        size = images_in(images)
        found = [size * value for value in tf.nest.flatten(traced(images))]
        sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
        count, total = count + 1, total + size
    if count == 0:
        raise AutoslimError("There are no batches to calibrate with. Give at least one, of training images.")
    for layer in {id(layer): layer for layer in layers}.values():
        calls = [i for i, other in enumerate(layers) if other is layer]  # a shared layer has several
        layer.moving_mean.assign(tf.add_n([sums[2 * i] for i in calls]) / (total * len(calls)))
        layer.moving_variance.assign(tf.add_n([sums[2 * i + 1] for i in calls]) / (total * len(calls)))
    return count
