"""Scores of networks at given widths on held-out images, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.datasets.given import batches_of
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph, Segments
from autoslim.graph.replicas import Replicas
from autoslim.metrics import Metric
from autoslim.scoring import as_tensors, images_in
from autoslim.tasks import AnyTask, Weighted, objective_of
from autoslim.tasks.configured import given_task

Batch = tuple[Any, ...]  # images [B, H, W, C], labels as the task takes them, perhaps weights [B]


class Scorer:
    """Scores of networks at given widths on held-out images, each batch normalised by its own statistics.

    Args:
        graph: of the trained supernet.
        batches: (images, labels) of held-out images, each at least two images.
        strategy: of tf.distribute, each of whose replicas takes whole batches; None: the one that the network
            was made for. Several workers tell one another their scores.
        execution: as in `RunOptions`; with "mask" all shapes but the number of images are static.
        task: what answers are judged by, see `tasks.objective_of`.

    Raises:
        AutoslimError: if there are none, one of a single image, or labels out of range.
    """

    def __init__(
        self,
        graph: ChannelGraph,
        batches: Iterable[Batch],
        strategy: tf.distribute.Strategy | None = None,
        execution: str = "slice",
        task: AnyTask | Mapping[str, Any] | None = None,
    ) -> None:
        self._graph = graph
        self.objective = objective_of(given_task(task), graph)
        self._batches = [self._as_tensors(batch) for batch in batches_of(batches)]
        if not self._batches:
            raise AutoslimError("The search got no held-out images. Raise dataset.holdout.")
        if any(images_in(labels) < 2 for _, labels in self._batches):
            raise AutoslimError(
                "A held-out batch has one image, whose own statistics mean nothing: expected two images or "
                "more. Give batches of about equal size, or drop the last one."
            )
        self.sizes: tuple[int, ...] = tuple(images_in(labels) for _, labels in self._batches)
        self.images = sum(self.sizes)
        graph.verify()
        self.segments = Segments(graph, strategy, execution)
        self.macs = 0  # multiply-accumulates spent so far
        self.scored = 0  # images scored so far, each as often as a network was scored on it
        self._replicas = Replicas(self.segments.strategy)
        self._judge = tf.function(self._judge_batch, autograph=False, reduce_retracing=True)
        self._kept: tuple[Any, list[Any]] = (None, [])

    def _judge_batch(self, labels: Any, outputs: Any) -> tuple[Any, Any]:
        return self.objective.scores(labels, self._graph.trace.pack_outputs(outputs))

    def _as_tensors(self, batch: Batch) -> tuple[Any, Any]:
        """(Images, labels) of a batch, the labels looked at."""
        images, labels, *weights = (as_tensors(part) for part in batch)
        self.objective.check(labels)
        return images, Weighted(labels, *weights) if weights else labels

    @property
    def metric(self) -> Metric:
        """What the second values of a score are."""
        return self.objective.metric

    @property
    def traces(self) -> int:
        """How often a segment of the network was traced, at most: once, whatever the widths."""
        return max(self.segments.traces)

    def batch(self, index: int) -> Batch:
        """Images and labels of one batch, as tensors."""
        return self._batches[index]

    def batches(self) -> list[Batch]:
        """Images and labels of all batches, as tensors."""
        return list(self._batches)

    def __call__(
        self, candidates: np.ndarray, base: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per-image loss and metric of candidates [K, G]: float32 [K, images] each.

        `base` is as in `score`.
        """
        return self.score(range(len(self.sizes)), candidates, base)

    def score(
        self, batches: Sequence[int], candidates: np.ndarray, base: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per-image scores of candidates on some batches.

        Args:
            batches: indices of the batches.
            candidates: widths int32 [K, G].
            base: widths int32 [G] of a network that runs once; each candidate goes on from the last cut
                before the first layer in which it differs from it. The scores are the same without.

        Returns:
            Loss and metric, float32 [K, images of these batches, in this order] each.
        """
        segments = self.segments
        starts = np.zeros(len(candidates), int) if base is None else segments.starts(base, candidates)
        found = []
        for begin in range(0, len(batches), self._replicas.count):
            part = batches[begin : begin + self._replicas.count]
            found += self._round(part, candidates, starts, base)
        spent = segments.macs(candidates)
        spent[np.arange(len(segments)) < starts[:, None]] = 0
        images = sum(self.sizes[batch] for batch in batches)
        self.macs += int(spent.sum()) * images
        self.scored += len(candidates) * images
        losses, values = (np.concatenate(parts, 1) for parts in zip(*found, strict=True))
        return losses, values

    def _round(
        self, batches: Sequence[int], candidates: np.ndarray, starts: np.ndarray, base: np.ndarray | None
    ) -> list[np.ndarray]:
        """Scores on a batch a replica: for each batch loss and metric [2, K, images].

        Where there are fewer batches than replicas, the others repeat the last, and the results go unused.
        """
        segments = self.segments
        dealt = [batches[min(place, len(batches) - 1)] for place in self._replicas.here]
        prefix = self._prefix(batches, dealt, base, int(starts.max()))
        scored: list[list[Any]] = [[] for _ in dealt]
        for widths, start in zip(candidates, starts, strict=True):
            values = prefix[start]
            if start < len(segments):
                values = segments.run(values, tf.constant(widths, tf.int32), start)[-1]
            each = len(values) // segments.replicas
            for place, batch in enumerate(dealt):
                outputs = values[place * each : (place + 1) * each]
                scored[place].append(self._judge(self._batches[batch][1], outputs))
        own = [np.stack([np.stack([np.asarray(x) for x in pair]) for pair in each], 1) for each in scored]
        widest = max(self.sizes[batch] for batch in batches)
        every = self._replicas.gathered(own, widest)
        return [every[place][..., : self.sizes[batch]] for place, batch in enumerate(batches)]

    def price(self, candidates: np.ndarray, base: np.ndarray | None = None) -> tuple[np.ndarray, int]:
        """What a call costs: multiply-accumulates of each candidate, int64 [K], and of the base for all."""
        spent = self.segments.macs(candidates)
        if base is None:
            return spent.sum(-1) * self.images, 0
        starts = self.segments.starts(base, candidates)
        spent[np.arange(len(self.segments)) < starts[:, None]] = 0
        shared = int(self.segments.macs(base)[: starts.max()].sum())
        return spent.sum(-1) * self.images, shared * self.images

    def _prefix(
        self, batches: Sequence[int], dealt: Sequence[int], base: np.ndarray | None, depth: int
    ) -> list[Any]:
        """Values of a round before each of the base's segments up to `depth`; only this round's are kept."""
        key = (tuple(batches), None if base is None else tuple(base))
        if self._kept[0] != key:
            self._kept = (key, [self.segments.begin(*(self._batches[batch][0] for batch in dealt))])
        values = self._kept[1]
        there = len(values) - 1
        if depth > there:
            values += self.segments.run(values[there], tf.constant(base, tf.int32), there, depth)
            images = sum(self.sizes[batch] for batch in batches)
            self.macs += int(self.segments.macs(np.asarray(base))[there:depth].sum()) * images
        return values
