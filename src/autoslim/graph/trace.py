"""Trace a Keras functional model into a flat list of nodes, and the one walk that every reader uses."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from autoslim.errors import AutoslimError, first_line
from autoslim.graph.calls import IMAGES, Call, Opaque
from autoslim.graph.functional import inputs_of, is_functional, outputs_of, with_sizes
from autoslim.graph.inside import look_inside, sizes_lost
from autoslim.graph.own_weights import Constant, Weight, symbol_of


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

    def call(self, inputs: Sequence[Any], op: keras.Operation | None = None, **extra: Any) -> Any:
        """Call the operation (or `op` in its place) on `inputs`, as the traced model did."""
        if len(self.args) == 1 and isinstance(self.args[0], Slot) and not self.kwargs:
            return (op or self.op)(*inputs, **extra)
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
        return "training" in _call_defaults(self.op.__class__)

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
def _call_defaults(kind: Hashable) -> dict[str, Any]:
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


def trace(
    model: keras.Model,
    known: Callable[[keras.Operation], bool],
    image_shape: tuple[int | None, ...] | None = None,
) -> Trace:
    """Trace a functional (or Sequential) Keras model; nested models are traced through.

    Args:
        model: to trace.
        known: whether a rule may cover an operation. A layer that is not known is looked into, where that can
            be done: its inner calls stand in its place.
        image_shape: sizes of the images, without the batch, in the place of those that the model leaves open.

    Raises:
        AutoslimError: if the model is subclassed, so that no graph of it exists.
    """
    if isinstance(model, keras.Sequential) and not model.built:
        raise AutoslimError(
            f"Sequential model {model.name!r} has no input shape yet. Begin it with keras.Input(shape)."
        )
    if not is_functional(model):
        raise AutoslimError(
            f"Model {getattr(model, 'name', model)!r} is a {type(model).__name__}, not a Keras functional "
            "model: its channels can't be traced. Write its call as a functional graph: "
            "x = keras.Input(shape); model = keras.Model(x, layers_applied_to(x))."
        )
    recorder = _Recorder(known)
    inputs = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=with_sizes(x.shape, image_shape), dtype=x.dtype, name=x.name),
        inputs_of(model),
    )
    flat_inputs = keras.tree.flatten(inputs)
    for tensor in flat_inputs:
        recorder.number(tensor)
    outputs = recorder.inline(model, inputs, prefix="", training=None)
    return recorder.finish(model, flat_inputs, keras.tree.flatten(outputs))


def _slots(structure: Any, found: list[Any]) -> Any:
    """The structure with each symbolic tensor replaced by a Slot; the tensors join `found`."""

    def slot(x: Any) -> Any:
        if isinstance(x, keras.KerasTensor):
            found.append(x)
            return Slot(len(found) - 1)
        return x

    return keras.tree.map_structure(slot, structure)


class _Recorder:
    """Collects nodes while every layer of a model is called again on symbolic inputs."""

    def __init__(self, known: Callable[[keras.Operation], bool]) -> None:
        self.known = known
        self.nodes: list[Node] = []
        self.looked: list[Looked] = []
        self.rows: dict[int, int] = {}  # id(KerasTensor) -> entries of its first dimension for one image
        self.weights: dict[int, Weight] = {}  # id(variable) -> its operation
        self.ids: dict[int, int] = {}  # id(KerasTensor) -> value id
        self.tensors: list[Any] = []  # by value id; keeps the tensors alive, so that their id() stays theirs
        self.aliases: list[Any] = []  # kept alive too

    def number(self, tensor: Any) -> int:
        if id(tensor) not in self.ids:
            self.ids[id(tensor)] = len(self.tensors)
            self.tensors.append(tensor)
        return self.ids[id(tensor)]

    def alias(self, tensor: Any, known: Any) -> None:
        """Give a tensor the number of another one."""
        self.ids[id(tensor)] = self.number(known)
        self.aliases.append(tensor)

    def inline(self, model: keras.Model, inputs: Any, prefix: str, training: bool | None) -> Any:
        """Record every layer of a functional or Sequential model and return its symbolic outputs.

        A `training` that was passed to a nested model holds for all layers in it.
        """
        if isinstance(model, keras.Sequential):
            (x,) = keras.tree.flatten(inputs)
            for layer in model.layers:
                x = self.record(prefix, layer, (x,), {}, training)
            return x

        def record(op, *args, **kwargs):
            return self.record(prefix, op, args, kwargs, training)

        # As keras.models.clone_model does, which would make a model of it.
        return model._run_through_graph(inputs, call_fn=record)

    def nested(self, prefix: str, model: keras.Model, args: tuple, kwargs: dict) -> Any:
        """Record the layers of a nested model in its place.

        They are traced from inputs of their own, whose numbers are those of the tensors that come in.
        """
        own_inputs = []
        given = keras.tree.flatten(args[0] if args else kwargs["inputs"])
        expected = keras.tree.flatten(inputs_of(model))
        for tensor, own in zip(given, expected, strict=True):
            source = self.converted(prefix, tensor, own.dtype)  # as a nested model does
            own_input = keras.Input(batch_shape=tensor.shape, dtype=own.dtype)
            self.alias(own_input, source)
            own_inputs.append(own_input)
        packed = keras.tree.pack_sequence_as(inputs_of(model), own_inputs)
        inner = self.inline(model, packed, f"{prefix}{model.name}/", kwargs.get("training"))
        outputs = model(*args, **kwargs)
        for outer, tensor in zip(keras.tree.flatten(outputs), keras.tree.flatten(inner), strict=True):
            self.alias(outer, tensor)
        return outputs

    def record(
        self, prefix: str, op: keras.Operation, args: tuple, kwargs: dict, training: bool | None
    ) -> Any:
        """Call an operation on symbolic tensors and keep the call as a node."""
        defaults = _call_defaults(op.__class__)
        if "training" in kwargs and kwargs["training"] is defaults.get("training"):
            kwargs.pop("training")  # Keras records a layer's default as if the author had written it
        if training is not None and "training" in defaults:
            kwargs = {**kwargs, "training": training}
        if is_functional(op):
            return self.nested(prefix, op, args, kwargs)
        if self.known(op):
            return self.single(prefix, op, args, kwargs)
        nodes, looked = len(self.nodes), len(self.looked)
        try:
            return self.inside(prefix, op, args, kwargs, training)
        except Opaque as why:
            del self.nodes[nodes:], self.looked[looked:]
            return self.single(prefix, op, args, kwargs, whole=str(why), noise=why.noise)

    def inside(self, prefix: str, layer: Any, args: tuple, kwargs: dict, training: bool | None) -> Any:
        """Record what a layer calls, in its place.

        Raises:
            Opaque: if that can't be known.
        """
        training = kwargs.get("training", training)
        plain = {name: value for name, value in kwargs.items() if name != "training"}
        inside = look_inside(layer, args, plain, self.rows)
        given = [x for x in keras.tree.flatten((args, plain)) if isinstance(x, keras.KerasTensor)]
        inner = f"{prefix}{layer.name}/"

        def record(call: Call, args: tuple, kwargs: dict) -> Any:
            passed = kwargs if call.training is None else {**kwargs, "training": call.training}
            outputs = self.record(inner, call.op, args, passed, training)
            for x, y in zip(call.outputs, keras.tree.flatten(outputs), strict=True):
                if x.shape and x.shape[0] and x.shape[0] % IMAGES == 0:
                    self.rows[id(y)] = x.shape[0] // IMAGES
            return outputs

        casts = isinstance(layer, keras.Layer) and layer.autocast
        sources = [
            self.converted(inner, x, layer.input_dtype if casts and "float" in x.dtype else x.dtype)
            for x in given
        ]
        try:
            outputs = inside.replay(sources, record, lambda own: self.source(inner, own))
        except Opaque:
            raise
        except Exception as error:  # an operation that works for a known number of images only
            raise Opaque(f"its call can't be traced: {first_line(error, 120)}") from error
        lost = sizes_lost(layer, args, kwargs, outputs)
        restore = lambda y: self.record(inner, lost[id(y)], (y,), {}, None) if id(y) in lost else y  # noqa: E731
        outputs = keras.tree.map_structure(restore, outputs)
        inputs: list[Any] = []
        recorded_args, recorded_kwargs = _slots((args, kwargs), inputs)
        ids = tuple(self.number(x) for x in inputs)
        flat = tuple(self.number(x) for x in keras.tree.flatten(outputs))
        name = f"{prefix}{layer.name}"
        self.looked.append(Looked(name, layer, recorded_args, recorded_kwargs, ids, flat))
        return outputs

    def source(self, prefix: str, op: Weight | Constant) -> Any:
        """Record what a layer holds itself as a node without inputs; a weight is one for all its calls."""
        if isinstance(op, Weight):
            op = self.weights.setdefault(id(op.variable), op)
        value = symbol_of(op)
        made = (self.number(value),)
        self.nodes.append(
            Node(len(self.nodes), prefix + op.name, op, (), {}, (), made, (), (tuple(value.shape),), ())
        )
        return value

    def converted(self, prefix: str, tensor: Any, dtype: str) -> Any:
        """A tensor in the type that a layer takes, by an operation of its own if need be."""
        if tensor.dtype == dtype:
            return tensor
        cast = keras.ops.cast(tensor, dtype)._keras_history.operation
        return self.record(prefix, cast, (tensor,), {}, None)

    def single(self, prefix: str, op: keras.Operation, args: tuple, kwargs: dict, **about: Any) -> Any:
        """Record a call as one node; `about` it: further fields of the node."""
        inputs: list[Any] = []
        recorded_args, recorded_kwargs = _slots((args, kwargs), inputs)
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
                input_dtypes=tuple(x.dtype for x in inputs),
                **about,
            )
        )
        return outputs

    def ends(self, inputs: list[int], outputs: list[int]) -> tuple[tuple[int, ...], ...]:
        """For each node the values that no node reads after it, and that the model doesn't return.

        A value lives from the node that makes it (a model's input from the start) to the last that reads it;
        one that is never read only while it is made.
        """
        last = dict.fromkeys(inputs, 0)
        for node in self.nodes:
            last |= dict.fromkeys((*node.inputs, *node.outputs), node.index)
        ends: list[list[int]] = [[] for _ in self.nodes]
        for value, index in last.items():
            if self.nodes and value not in outputs:
                ends[index].append(value)
        return tuple(tuple(values) for values in ends)

    def finish(self, model: keras.Model, inputs: list[Any], outputs: list[Any]) -> Trace:
        """The trace of all that was recorded."""
        return Trace(
            nodes=tuple(self.nodes),
            inputs=tuple(self.number(x) for x in inputs),
            outputs=tuple(self.number(x) for x in outputs),
            input_shapes=tuple(tuple(x.shape) for x in inputs),
            input_names=tuple(x.name for x in inputs),
            input_dtypes=tuple(x.dtype for x in inputs),
            input_structure=keras.tree.map_structure(lambda x: 0, inputs_of(model)),
            output_structure=keras.tree.map_structure(lambda x: 0, outputs_of(model)),
            ends=self.ends([self.number(x) for x in inputs], [self.number(x) for x in outputs]),
            looked=tuple(self.looked),
        )
