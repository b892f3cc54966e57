"""Segments of a channel graph: a network that narrows one group is the same up to the last cut before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from autoslim.graph.axes import Axis
from autoslim.graph.cost import node_flops
from autoslim.graph.options import RunOptions
from autoslim.graph.replicas import in_replicas, local_replicas, strategy_of
from autoslim.graph.run import as_images, forward_part
from autoslim.graph.structure import Structure
from autoslim.graph.trace import Trace


@dataclass(frozen=True)
class Cut:
    """A place between two nodes where a single value carries all that the later nodes need."""

    node: int  # index of the node before it
    value: int  # id of the value that crosses


def cut_points(traced: Trace) -> tuple[Cut, ...]:
    """All cuts in topological order; none after the last node, where nothing is left to run."""
    cuts = []
    live = set(traced.inputs)
    for node in traced.nodes[:-1]:
        live = live.union(node.outputs).difference(traced.ends[node.index])
        if len(live) == 1:
            cuts.append(Cut(node.index, *live))
    return tuple(cuts)


def first_nodes(graph: Structure) -> np.ndarray:
    """For every group the first node whose computation depends on its width, int64 [G].

    It is the first that has the group on an axis of a weight or of its output; the number of nodes where
    there is none.
    """
    first = np.full(len(graph.groups), len(graph.trace.nodes))
    for node in reversed(graph.trace.nodes):
        axes = [axis for layout in graph.output_layouts(node) for _, axis in layout.axes]
        for dimensions in graph.weight_dimensions(node).values():
            axes += [dimension for dimension in dimensions if isinstance(dimension, Axis)]
        for axis in axes:
            first[list(axis.groups)] = node.index
    return first


class Segments:
    """A channel graph as a chain of segments, each traced once for all widths and numbers of images.

    Only cuts that serve a group are kept: the last before the first node that the group touches. A graph
    without cuts is one segment. Each batch is normalised by its own statistics.

    Under a strategy of several replicas each runs a batch of its own. Values are then those of the first
    replica, followed by those of the second, and so on.

    Args:
        graph: of the supernet.
        strategy: of tf.distribute; None: the one that the network was made for.
        execution: as in `RunOptions`; with "mask" values have all channels, at static shapes.
    """

    def __init__(
        self,
        graph: Structure,
        strategy: tf.distribute.Strategy | None = None,
        execution: str = "slice",
    ) -> None:
        self._graph = graph
        self._options = RunOptions(batch_statistics=True, execution=execution)
        self.strategy = strategy or strategy_of(graph.model)
        self.replicas: int = local_replicas(self.strategy)
        cuts, first = cut_points(graph.trace), first_nodes(graph)
        place = np.searchsorted([cut.node for cut in cuts], first)  # cuts that stand before a group's first
        groups = [g.index for g in graph.slimmable if place[g.index]]
        self.cuts: tuple[Cut, ...] = tuple(cuts[i] for i in sorted({int(place[g]) - 1 for g in groups}))
        nodes = [cut.node for cut in self.cuts]
        self.of_group: np.ndarray = np.searchsorted(nodes, first)  # [G], where a change of it begins
        self._bounds = [0, *(node + 1 for node in nodes), len(graph.trace.nodes)]
        self._functions: list[Any] = [None] * len(self)
        self.traces: list[int] = [0] * len(
            self
        )  # how often each was traced: at most once, whatever the widths

    def __len__(self) -> int:
        return len(self.cuts) + 1

    def begin(self, *images: Any) -> list[Any]:
        """What the first segment starts from: the model's inputs, of the types that it declares.

        Args:
            images: those of each replica, as the model takes them.
        """
        return [value for own in images for value in as_images(self._graph.trace, own)]

    def run(self, values: Sequence[Any], widths: Any, start: int = 0, stop: int | None = None) -> list[Any]:
        """Run segments `start` to `stop` (exclusive; None: to the end).

        Args:
            values: what stands before segment `start`: from `begin`, or an entry of an earlier result.
            widths: int32 tensor [G].
            start: first segment to run.
            stop: segment to stop before.

        Returns:
            The values after each segment that ran; after the last, the model's outputs, flat.
        """
        after = []
        for segment in range(start, len(self) if stop is None else stop):
            if self._functions[segment] is None:
                self._functions[segment] = self._trace_segment(segment, values)
            values = self._functions[segment](*values, widths)
            after.append(values)
        return after

    def starts(self, base: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """First segment in which candidates [K, G] differ from `base` [G]: int [K]; their number: in none."""
        return np.where(candidates != base, self.of_group, len(self)).min(-1)

    def macs(self, widths: np.ndarray) -> np.ndarray:
        """Multiply-accumulates of one image in each segment at widths [..., G]: int64 [..., segments]."""
        flops = node_flops(self._graph.counted, widths)
        cumulated = np.concatenate([np.zeros((*flops.shape[:-1], 1), np.int64), flops.cumsum(-1)], -1)
        return np.diff(cumulated[..., self._bounds], axis=-1)

    @cached_property
    def _shapes(self) -> dict[int, tuple[int | None, ...]]:
        traced = self._graph.trace
        shapes = dict(zip(traced.inputs, traced.input_shapes, strict=True))
        for node in traced.nodes:
            shapes.update(zip(node.outputs, node.output_shapes, strict=True))
        return shapes

    def _trace_segment(self, segment: int, values: Sequence[Any]) -> Any:
        """A segment as a function of the values that enter and the widths; `values` tell only the types."""
        traced = self._graph.trace
        entering = traced.inputs if segment == 0 else (self.cuts[segment - 1].value,)
        last = segment == len(self) - 1
        part = dataclasses.replace(
            traced,
            nodes=traced.nodes[self._bounds[segment] : self._bounds[segment + 1]],
            inputs=entering,
            outputs=traced.outputs if last else (self.cuts[segment].value,),
        )
        specs = [
            self._spec(value, x.dtype) for value, x in zip(entering * self.replicas, values, strict=True)
        ]

        def run(*given: Any) -> list[Any]:
            self.traces[segment] += 1
            *inputs, widths = given
            of_replicas = in_replicas(
                self.strategy,
                lambda replica: forward_part(
                    self._graph,
                    part,
                    inputs[replica * len(entering) : (replica + 1) * len(entering)],
                    widths,
                    self._options,
                ),
            )
            return [value for own in of_replicas for value in own]

        specs.append(tf.TensorSpec([len(self._graph.groups)], tf.int32))
        return tf.function(run, input_signature=specs, autograph=False).get_concrete_function()

    def _spec(self, value: int, dtype: Any) -> tf.TensorSpec:
        """Any number of images; any number of channels where a group on the axis may be narrowed."""
        shape: list[int | None] = list(self._shapes[value])
        layout, groups = self._graph.layout(value), self._graph.groups
        if shape and layout.has_images:
            shape[layout.batch] = None
        for place, axis in layout.axes:
            if not self._options.masked and any(not groups[g].frozen for g in axis.groups):
                shape[place] = None
        return tf.TensorSpec(shape, dtype)
