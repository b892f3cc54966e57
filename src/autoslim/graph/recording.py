"""Trace a Keras functional model: call every layer again on symbolic tensors, and keep each as a node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras

from autoslim.errors import AutoslimError, first_line
from autoslim.graph.calls import IMAGES, Call, Opaque, nodes_to
from autoslim.graph.folding import known_value, whole_table
from autoslim.graph.functional import inputs_of, is_functional, outputs_of, with_sizes
from autoslim.graph.inside import look_inside, sizes_lost
from autoslim.graph.masks import mask_of, masks_carried, masks_taken, no_mask_warnings, set_mask
from autoslim.graph.own_weights import Constant, Weight, symbol_of
from autoslim.graph.trace import Looked, Node, Slot, Trace, call_defaults


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
    recorder = _Recorder(known, {id(weight) for weight in model.weights})
    inputs = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=with_sizes(x.shape, image_shape), dtype=x.dtype, name=x.name),
        inputs_of(model),
    )
    flat_inputs = keras.tree.flatten(inputs)
    for tensor in flat_inputs:
        recorder.number(tensor)
    with no_mask_warnings():
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

    def __init__(self, known: Callable[[keras.Operation], bool], held: set[int]) -> None:
        self.known = known
        self.held = held  # ids of the weights that the model has
        self.nodes: list[Node] = []
        self.looked: list[Looked] = []
        self.rows: dict[int, int] = {}  # id(KerasTensor) -> entries of its first dimension for one image
        self.weights: dict[int, Weight] = {}  # id(variable) -> its operation
        self.ids: dict[int, int] = {}  # id(KerasTensor) -> value id
        self.tensors: list[Any] = []  # by value id; keeps the tensors alive, so that their id() stays theirs
        self.aliases: list[Any] = []  # kept alive too
        self.constants: dict[int, Any] = {}  # id(KerasTensor) -> its value, the same for all images
        self.made_masks: dict[str, int] = {}  # kind of an operation -> how many of it make masks

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
            set_mask(own_input, mask_of(tensor))
            own_inputs.append(own_input)
        packed = keras.tree.pack_sequence_as(inputs_of(model), own_inputs)
        inner = self.inline(model, packed, f"{prefix}{model.name}/", kwargs.get("training"))
        outputs = model(*args, **kwargs)
        for outer, tensor in zip(keras.tree.flatten(outputs), keras.tree.flatten(inner), strict=True):
            self.alias(outer, tensor)
            set_mask(outer, mask_of(tensor))
        return outputs

    def record(
        self, prefix: str, op: keras.Operation, args: tuple, kwargs: dict, training: bool | None
    ) -> Any:
        """Call an operation on symbolic tensors and keep the call as a node."""
        defaults = call_defaults(op.__class__)
        if "training" in kwargs and kwargs["training"] is defaults.get("training"):
            kwargs.pop("training")  # Keras records a layer's default as if the author had written it
        if training is not None and "training" in defaults:
            kwargs = {**kwargs, "training": training}
        if is_functional(op):
            return self.nested(prefix, op, args, kwargs)
        if any(mask_of(x) is not None for x in keras.tree.flatten((args, kwargs))):
            kwargs = self.with_masks(prefix, op, args, kwargs)
        folded = self.folded(prefix, op, args, kwargs)
        if folded is not None:
            return folded
        if self.known(op):
            return self.single(prefix, op, args, kwargs)
        nodes, looked = len(self.nodes), len(self.looked)
        try:
            return self.inside(prefix, op, args, kwargs, training)
        except Opaque as why:
            del self.nodes[nodes:], self.looked[looked:]
            return self.single(prefix, op, args, kwargs, whole=str(why), noise=why.noise)

    def folded(self, prefix: str, op: Any, args: tuple, kwargs: dict) -> Any:
        """The symbolic result of a call that is the same for all images, or None; it is no node.

        Where it is none, what is known among its arguments becomes a constant, and a node.
        """
        table = whole_table(op, args, self.constants)
        if table is not None:
            return self.source(prefix, table)
        value = known_value(op, args, kwargs, self.constants)
        if value is not None:
            made = op(*args, **kwargs)
            self.constants[id(made)] = value
            self.aliases.append(made)
            return made
        for x in keras.tree.flatten((args, kwargs)):
            if id(x) in self.constants and id(x) not in self.ids:
                self.alias(x, self.source(prefix, Constant(self.constants[id(x)])))
        return None

    def with_masks(self, prefix: str, op: keras.Operation, args: tuple, kwargs: dict) -> dict[str, Any]:
        """Call arguments with the masks among them that Keras hands to the layer."""
        if not isinstance(op, keras.Layer):
            return kwargs
        taken = masks_taken(op, args, kwargs)
        for mask in keras.tree.flatten(taken):
            self.require(prefix, mask)
        return {**kwargs, **taken}

    def require(self, prefix: str, mask: Any) -> None:
        """Record the operations that make a mask, unless it is None or known."""
        if mask is None or id(mask) in self.ids:
            return
        for node in nodes_to([mask], set(self.ids)):
            kind = type(node.operation).__name__.lower()
            self.made_masks[kind] = self.made_masks.get(kind, 0) + 1
            node.operation.name = f"mask_{kind}_{self.made_masks[kind]}"
            outputs = self.single(prefix, node.operation, node.arguments.args, node.arguments.kwargs)
            for old, new in zip(node.outputs, keras.tree.flatten(outputs), strict=True):
                self.alias(old, new)

    def inside(self, prefix: str, layer: Any, args: tuple, kwargs: dict, training: bool | None) -> Any:
        """Record what a layer calls, in its place.

        Raises:
            Opaque: if that can't be known.
        """
        training = kwargs.get("training", training)
        plain = {name: value for name, value in kwargs.items() if name != "training"}
        inside = look_inside(layer, args, plain, self.rows)
        given = [x for x in keras.tree.flatten((args, plain)) if isinstance(x, keras.KerasTensor)]
        masks = [mask for _, mask in masks_carried(layer, given)]
        for mask in masks:
            self.require(prefix, mask)
        given += masks
        inner = f"{prefix}{layer.name}/"

        def record(call: Call, args: tuple, kwargs: dict) -> Any:
            return self.called_inside(inner, call, args, kwargs, training)

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
        outputs = self.as_whole(layer, args, kwargs, keras.tree.map_structure(restore, outputs))
        inputs: list[Any] = []
        recorded_args, recorded_kwargs = _slots((args, kwargs), inputs)
        ids = tuple(self.number(x) for x in inputs)
        flat = tuple(self.number(x) for x in keras.tree.flatten(outputs))
        name = f"{prefix}{layer.name}"
        self.looked.append(Looked(name, layer, recorded_args, recorded_kwargs, ids, flat))
        return outputs

    def called_inside(self, prefix: str, call: Call, args: tuple, kwargs: dict, training: bool | None) -> Any:
        """Record a call that a layer makes.

        Raises:
            Opaque: if the layer that is called holds weights that the model does not.
        """
        if any(id(weight) not in self.held for weight in getattr(call.op, "weights", ())):
            raise Opaque(f"it calls {call.op.name}, whose weights are not the model's: Keras trains none")
        passed = kwargs if call.training is None else {**kwargs, "training": call.training}
        outputs = self.record(prefix, call.op, args, passed, training)
        for x, y in zip(call.outputs, keras.tree.flatten(outputs), strict=True):
            if x.shape and x.shape[0] and x.shape[0] % IMAGES == 0:
                self.rows[id(y)] = x.shape[0] // IMAGES
        return outputs

    def as_whole(self, layer: Any, args: tuple, kwargs: dict, outputs: Any) -> Any:
        """Symbolic outputs of a layer that was looked into, with the masks and sizes that its own have."""
        unknown = any(None in x.shape[1:] for x in keras.tree.flatten(outputs))
        masks = masks_carried(layer, keras.tree.flatten((args, kwargs)))
        if not unknown and not (masks and layer.supports_masking):
            return outputs
        found, whole = [], keras.tree.flatten(layer(*args, **kwargs))
        for x, y in zip(keras.tree.flatten(outputs), whole, strict=True):
            mask = mask_of(y) if mask_of(x) is None else mask_of(x)
            if None in x.shape[1:] and len(x.shape) == len(y.shape):
                shape = [n or m for n, m in zip(x.shape, y.shape, strict=True)]
                sized = keras.Input(batch_shape=shape, dtype=x.dtype)
                self.alias(sized, x)
                self.rows |= {id(sized): self.rows[id(x)]} if id(x) in self.rows else {}
                x = sized
            set_mask(x, mask)
            found.append(x)
        return keras.tree.pack_sequence_as(outputs, found)

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
        made = self.record(prefix, cast, (tensor,), {}, None)
        set_mask(made, mask_of(tensor))
        return made

    def single(self, prefix: str, op: keras.Operation, args: tuple, kwargs: dict, **about: Any) -> Any:
        """Record a call as one node; `about` it: further fields of the node."""
        inputs: list[Any] = []
        recorded_args, recorded_kwargs = _slots((args, kwargs), inputs)
        carried = [] if self.known(op) or not isinstance(op, keras.Layer) else [mask_of(x) for x in inputs]
        places = []
        for mask in carried:
            self.require(prefix, mask)
            places.append(None if mask is None else len(inputs))
            inputs += [] if mask is None else [mask]
        if inputs[len(carried) :]:
            about["masks"] = tuple(places)
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

    def drop_unread(self, outputs: list[Any]) -> None:
        """Forget operations whose results nothing reads, as what was folded goes on without them."""
        read = {self.number(x) for x in outputs}
        kept = []
        for node in reversed(self.nodes):
            if isinstance(node.op, keras.Layer) or read.intersection(node.outputs):
                kept.append(node)
                read.update(node.inputs)
        self.nodes = [replace(node, index=index) for index, node in enumerate(reversed(kept))]

    def finish(self, model: keras.Model, inputs: list[Any], outputs: list[Any]) -> Trace:
        """The trace of all that was recorded."""
        if self.constants:
            self.drop_unread(outputs)
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
            masked=any(mask_of(x) is not None for x in outputs),
        )
