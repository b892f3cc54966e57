"""A Keras functional model as a flat list of nodes, and the one walk that every reader uses."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from autoslim.errors import AutoslimError
from autoslim.graph.masks import set_mask


class UnknownSize(AutoslimError):
    """A cost is not a number, as a tensor has a size that is not known before an image comes in."""


class Slot(int):
    """The place of a tensor among a node's flat inputs, standing in the recorded call arguments."""


@dataclass(frozen=True)
class Node:
    """One call of one layer or `keras.ops` operation."""

    index: int  # position in topological order
    name: str  # layer name, prefixed by the nested models that it stands in
    op: keras.Operation
    args: tuple[Any, ...]  # call arguments, each tensor replaced by a Slot
    kwargs: dict[str, Any]
    inputs: tuple[int, ...]  # value ids
    outputs: tuple[int, ...]  # value ids
    input_shapes: tuple[tuple[int | None, ...], ...]  # batch first
    output_shapes: tuple[tuple[int | None, ...], ...]
    input_dtypes: tuple[str, ...]
    whole: str = (
        ""  # of a layer that no rule covers: why it could not be looked into; empty: it was not tried
    )
    noise: bool = False  # it returns its input as it is, but in training
    masks: tuple[int | None, ...] = ()  # of each input the place, among them, of the mask that it carries

    def call(self, inputs: Sequence[Any], op: keras.Operation | None = None, **extra: Any) -> Any:
        """Call the operation (or `op` in its place) on `inputs`, as the traced model did."""
        for x, place in zip(inputs, self.masks, strict=False):
            if place is not None:
                set_mask(x, inputs[place])
        if len(self.args) == 1 and isinstance(self.args[0], Slot) and not self.kwargs:
            return (op or self.op)(inputs[self.args[0]], **extra)
        fill = lambda x: inputs[x] if isinstance(x, Slot) else x  # noqa: E731
        args = keras.tree.map_structure(fill, self.args)
        kwargs = keras.tree.map_structure(fill, self.kwargs)
        return (op or self.op)(*args, **{**kwargs, **extra})

    @property
    def training(self) -> bool | None:
        """The `training` that the model's author passed to this call, or to a nested model around it.

        None where it is the layer's own default, which Keras does not tell apart.
        """
        return self.kwargs.get("training")

    @property
    def takes_training(self) -> bool:
        """Whether the operation behaves differently in training."""
        return "training" in call_defaults(self.op.__class__)

    def positions(self, shape: tuple[int | None, ...]) -> int:
        """Number of spatial positions of a tensor shape: the product of all axes but batch and channels.

        Raises:
            UnknownSize: if a spatial axis is dynamic.
        """
        if any(size is None for size in shape[1:-1]):
            raise UnknownSize(
                f"Layer {self.name!r} has the dynamic spatial shape {shape}: its cost is not a number. "
                "Build the model with a fixed input shape, or give ChannelGraph an image_shape."
            )
        return math.prod(shape[1:-1])  # type: ignore[arg-type]


@functools.lru_cache(maxsize=1024)
def call_defaults(kind: Hashable) -> dict[str, Any]:
    """Call arguments of a class of layers or operations, and their defaults."""
    parameters = inspect.signature(kind.call).parameters  # type: ignore[attr-defined]
    return {name: parameter.default for name, parameter in parameters.items()}


@dataclass(frozen=True)
class Looked:
    """A layer in whose place its inner calls stand."""

    name: str
    layer: keras.Layer
    args: tuple[Any, ...]  # as a node's
    kwargs: dict[str, Any]
    inputs: tuple[int, ...]  # value ids
    outputs: tuple[int, ...]

    def call(self, inputs: Sequence[Any]) -> Any:
        """Call the layer itself."""
        fill = lambda x: inputs[x] if isinstance(x, Slot) else x  # noqa: E731
        args, kwargs = keras.tree.map_structure(fill, (self.args, self.kwargs))
        return self.layer(*args, **kwargs)


@dataclass(frozen=True)
class Trace:
    """A functional model as nodes in topological order; values are numbered tensors."""

    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]  # value ids of the model's inputs
    outputs: tuple[int, ...]  # value ids of the model's outputs
    input_shapes: tuple[tuple[int | None, ...], ...]
    input_names: tuple[str, ...]
    input_dtypes: tuple[str, ...]
    input_structure: Any  # of the model: a tensor, or nested lists and dicts
    output_structure: Any
    ends: tuple[tuple[int, ...], ...]  # for each node the values that live no longer than it
    looked: tuple[Looked, ...] = ()  # layers that were looked into, inner ones first
    masked: bool = False  # whether an output carries a mask of steps

    def walk(self, inputs: Sequence[Any], visit: Callable[[Node, list[Any]], Sequence[Any]]) -> list[Any]:
        """Visit every node in order and return what stands at the model's outputs.

        Args:
            inputs: what stands at each model input: tensors, axes, symbolic tensors, ...
            visit: (node, its inputs) -> its outputs, one for each of the node's outputs.
        """
        values = dict(zip(self.inputs, inputs, strict=True))
        for node in self.nodes:
            results = visit(node, [values[i] for i in node.inputs])
            values.update(zip(node.outputs, results, strict=True))
            for i in self.ends[node.index]:  # let go, so that memory stays low
                del values[i]
        return [values[i] for i in self.outputs]

    def pack_inputs(self, flat: Sequence[Any]) -> Any:
        """A flat list in the structure of the model's inputs."""
        return _pack(self.input_structure, flat)

    def pack_outputs(self, flat: Sequence[Any]) -> Any:
        """A flat list in the structure of the model's outputs; a list of one as its entry, as Keras does."""
        return _pack(self.output_structure, flat)


def _pack(structure: Any, flat: Sequence[Any]) -> Any:
    if len(flat) == 1 and not isinstance(structure, dict):
        return flat[0]
    return keras.tree.pack_sequence_as(structure, list(flat))
