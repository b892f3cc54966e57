"""Trace a Keras functional model into a flat list of nodes, and the one walk that every reader uses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from autoslim.errors import AutoslimError


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

    def call(self, inputs: Sequence[Any], op: keras.Operation | None = None, **extra: Any) -> Any:
        """Call the operation (or `op` in its place) on `inputs`, as the traced model did."""
        fill = lambda x: inputs[x] if isinstance(x, Slot) else x  # noqa: E731
        args = keras.tree.map_structure(fill, self.args)
        kwargs = keras.tree.map_structure(fill, self.kwargs)
        return (op or self.op)(*args, **{**kwargs, **extra})

    def positions(self, shape: tuple[int | None, ...]) -> int:
        """Number of spatial positions of a tensor shape: the product of all axes but batch and channels.

        Raises:
            AutoslimError: if a spatial axis is dynamic.
        """
        if any(size is None for size in shape[1:-1]):
            raise AutoslimError(
                f"Layer {self.name!r} has the dynamic spatial shape {shape}: its cost is not a number. "
                "Build the model with a fixed input shape."
            )
        return math.prod(shape[1:-1])  # type: ignore[arg-type]


@dataclass(frozen=True)
class Trace:
    """A functional model as nodes in topological order; values are numbered tensors."""

    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]  # value ids of the model's inputs
    outputs: tuple[int, ...]  # value ids of the model's outputs
    input_shapes: tuple[tuple[int | None, ...], ...]
    input_names: tuple[str, ...]
    last_use: dict[int, int]  # value id -> index of the last node that reads it

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
            for i in set(node.inputs):  # what nobody reads again is let go, so that memory stays low
                if self.last_use[i] == node.index and i not in self.outputs:
                    del values[i]
        return [values[i] for i in self.outputs]


def trace(model: keras.Model) -> Trace:
    """Trace a functional (or Sequential) Keras model; nested models are traced through.

    Raises:
        AutoslimError: if the model is subclassed, so that no graph of it exists.
    """
    if isinstance(model, keras.Sequential) and not model.built:
        raise AutoslimError(
            f"Sequential model {model.name!r} has no input shape yet. Begin it with keras.Input(shape)."
        )
    if not isinstance(model, keras.Sequential) and not _is_functional(model):
        raise AutoslimError(
            f"Model {getattr(model, 'name', model)!r} is a {type(model).__name__}, not a Keras functional model: "
            "its channels can't be traced. Write its call as a functional graph: "
            "x = keras.Input(shape); model = keras.Model(x, layers_applied_to(x))."
        )
    recorder = _Recorder()
    inputs = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), model.input
    )
    flat_inputs = keras.tree.flatten(inputs)
    for tensor in flat_inputs:
        recorder.number(tensor)
    outputs = recorder.inline(model, inputs, prefix="")
    return recorder.finish(flat_inputs, keras.tree.flatten(outputs))


def _is_functional(model: Any) -> bool:
    # keras.Model(inputs, outputs) makes a Functional, a class that Keras doesn't export.
    return isinstance(model, keras.Model) and any(c.__name__ == "Functional" for c in type(model).__mro__)


class _Recorder:
    """Collects nodes while `keras.models.clone_model` calls every layer again on symbolic inputs."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.ids: dict[int, int] = {}  # id(KerasTensor) -> value id
        self.tensors: list[Any] = []  # keeps the tensors alive, so that their id() stays theirs

    def number(self, tensor: Any) -> int:
        if id(tensor) not in self.ids:
            self.ids[id(tensor)] = len(self.tensors)
            self.tensors.append(tensor)
        return self.ids[id(tensor)]

    def inline(self, model: keras.Model, inputs: Any, prefix: str) -> Any:
        """Record every layer of a functional or Sequential model and return its symbolic outputs."""
        if isinstance(model, keras.Sequential):
            for layer in model.layers:
                inputs = self.record(prefix, layer, (inputs,), {})
            return inputs

        def record(op, *args, **kwargs):
            return self.record(prefix, op, args, kwargs)

        return keras.models.clone_model(
            model, input_tensors=inputs, clone_function=lambda layer: layer, call_function=record
        ).output

    def record(self, prefix: str, op: keras.Operation, args: tuple, kwargs: dict) -> Any:
        if isinstance(op, keras.Sequential) or _is_functional(op):
            return self.inline(op, args[0], f"{prefix}{op.name}/")
        inputs: list[Any] = []

        def slot(x):
            if isinstance(x, keras.KerasTensor):
                inputs.append(x)
                return Slot(len(inputs) - 1)
            return x

        recorded_args = keras.tree.map_structure(slot, args)
        recorded_kwargs = keras.tree.map_structure(slot, kwargs)
        outputs = op(*args, **kwargs)
        flat = keras.tree.flatten(outputs)
        self.nodes.append(
            Node(
                index=len(self.nodes),
                name=prefix + op.name,
                op=op,
                args=recorded_args,
                kwargs=recorded_kwargs,
                inputs=tuple(self.number(x) for x in inputs),
                outputs=tuple(self.number(x) for x in flat),
                input_shapes=tuple(tuple(x.shape) for x in inputs),
                output_shapes=tuple(tuple(x.shape) for x in flat),
            )
        )
        return outputs

    def finish(self, inputs: list[Any], outputs: list[Any]) -> Trace:
        last_use = {i: node.index for node in self.nodes for i in node.inputs}
        return Trace(
            nodes=tuple(self.nodes),
            inputs=tuple(self.number(x) for x in inputs),
            outputs=tuple(self.number(x) for x in outputs),
            input_shapes=tuple(tuple(x.shape) for x in inputs),
            input_names=tuple(x.name for x in inputs),
            last_use=last_use,
        )
