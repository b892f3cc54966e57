"""Look into a layer that is made of layers: its `call`, traced on symbolic tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from autoslim.errors import first_line
from autoslim.graph.calls import IMAGES, Call, Opaque, calls_of
from autoslim.graph.masks import masks_carried, set_mask
from autoslim.graph.own_weights import Constant, Weight, own_variables, replaced_in, symbol_of
from autoslim.graph.written_out import written_out

Rows = Mapping[int, int]  # id(symbolic tensor) -> entries of its first dimension for one image
COMPOSED = (
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
    keras.layers.Attention,
    keras.layers.AdditiveAttention,
    keras.layers.Dot,
    keras.layers.Lambda,
)  # Keras's own layers that are made of layers and operations


@dataclass(frozen=True)
class Inside:
    """What a layer's `call` does: calls in topological order."""

    inputs: tuple[Any, ...]  # symbolic, one for each tensor among the layer's arguments, then for their masks
    sources: tuple[tuple[Any, Weight | Constant], ...]  # symbolic, and what of the layer's own it stands for
    calls: tuple[Call, ...]
    outputs: Any  # symbolic, in the structure that the layer returns

    def replay(
        self, inputs: list[Any], record: Callable[..., Any], source: Callable[[Weight | Constant], Any]
    ) -> Any:
        """Make every call again, from `inputs` on.

        Args:
            inputs: what stands in the place of each of `self.inputs`.
            record: (call, args, kwargs) -> outputs.
            source: (weight or constant) -> what stands in its place; asked for before it is first taken.

        Returns:
            What stands at the outputs, in the structure that the layer returns.
        """
        values = {id(x): y for x, y in zip(self.inputs, inputs, strict=True)}
        own = {id(x): kept for x, kept in self.sources}
        for call in self.calls:
            for x in call.arguments.keras_tensors:
                if id(x) in own and id(x) not in values:
                    values[id(x)] = source(own[id(x)])
            args, kwargs = call.arguments.fill_in(values)
            kwargs = {name: value for name, value in kwargs.items() if name != "training"}
            outputs = keras.tree.flatten(record(call, args, kwargs))
            values.update({id(x): y for x, y in zip(call.outputs, outputs, strict=True)})
        for x in keras.tree.flatten(self.outputs):
            if id(x) in own and id(x) not in values:
                values[id(x)] = source(own[id(x)])
        return keras.tree.map_structure(lambda x: values[id(x)], self.outputs)


def look_inside(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], rows: Rows) -> Inside:
    """What a layer's `call` does with these arguments, as calls of layers and operations.

    The inner layers are the layer's own. What the layer does must not depend on whether it is trained; what
    its inner layers do may. An operation that is written out in others is looked into likewise.

    Args:
        layer: with or without layers in it.
        args: of its call, tensors being symbolic.
        kwargs: likewise, without `training`.
        rows: how often the first dimension of a tensor is the number of images, where it is several times.

    Raises:
        Opaque: if that can't be known, with the reason.
    """
    _require_plain(layer, args, kwargs)
    takes_training = isinstance(layer, keras.Layer) and "training" in layer.call_signature_parameters
    inside = _traced(layer, args, kwargs, {"training": False} if takes_training else {}, rows)
    if not takes_training:
        return inside
    try:
        trained = _traced(layer, args, kwargs, {"training": True}, rows)
    except Opaque:
        raise _differs(layer, inside) from None
    if _description(inside) != _description(trained):
        raise _differs(layer, inside)
    calls = [
        Call(a.op, a.arguments, a.training if a.training is b.training else None, a.outputs)
        for a, b in zip(inside.calls, trained.calls, strict=True)
    ]
    return Inside(inside.inputs, inside.sources, tuple(calls), inside.outputs)


def sizes_lost(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> dict[int, Any]:
    """Where Keras loses a size of 1 inside a layer, as in attention: a sum would broadcast it.

    Args:
        layer: that was looked into.
        args: of its call.
        kwargs: likewise.
        outputs: symbolic, of the calls in its place.

    Returns:
        id(an output) -> the operation that gives it the sizes that the layer says it has.
    """
    flat = keras.tree.flatten(outputs)
    if not any(None in y.shape[1:] for y in flat):
        return {}
    try:
        known = keras.tree.flatten(layer.compute_output_spec(*args, **kwargs))
    except Exception:  # a layer of the user's may raise anything
        return {}
    found = {}
    for y, whole in zip(flat, known, strict=True):
        if None not in whole.shape[1:] and any(
            n == 1 and size is None for n, size in zip(whole.shape[1:], y.shape[1:], strict=True)
        ):
            found[id(y)] = keras.ops.reshape(y, (-1, *whole.shape[1:]))._keras_history.operation
            found[id(y)].name = "sizes"
    return found


def _require_plain(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    written = written_out(layer) is not None
    if not isinstance(layer, keras.Layer):
        if not written:
            raise Opaque
        return
    if type(layer).__module__.startswith("keras.") and type(layer) not in COMPOSED and not written:
        raise Opaque
    if getattr(layer, "quantization_mode", None) is not None:
        raise Opaque("it is quantised")
    if layer.activity_regularizer is not None or layer._losses:
        raise Opaque("it adds a loss")


def _differs(layer: Any, inside: Inside) -> Opaque:
    same = not inside.calls and len(inside.inputs) == 1 and inside.outputs is inside.inputs[0]
    return Opaque(
        "its call does something else in training", same and _keeps_channels(layer, inside.inputs[0])
    )


def _keeps_channels(layer: Any, x: Any) -> bool:
    """Whether in training each channel of the output depends on its own channel alone, and zero stays zero.

    Tried with the same random numbers each time, so that noise of the user's own is judged too.
    """
    shape = tuple(4 if place == 0 else size or 4 for place, size in enumerate(x.shape))
    if len(shape) < 2 or shape[-1] < 2 or "float" not in x.dtype:
        return False

    def noisy(values: np.ndarray) -> np.ndarray:
        with keras.StatelessScope(collect_losses=True):
            return np.asarray(layer(keras.ops.convert_to_tensor(values, x.dtype), training=True), np.float32)

    first = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    second = first.copy()
    second[..., 0] = 0.0
    try:
        a, b = noisy(first), noisy(second)
    except Exception:  # a layer of the user's may raise anything
        return False
    return a.shape == shape and not b[..., 0].any() and np.array_equal(a[..., 1:], b[..., 1:])


class _Watching(keras.StatelessScope):
    """Keeps variables as they are, and remembers which the code in it reads and writes."""

    def __init__(self) -> None:
        super().__init__(collect_losses=True)
        self.touched: list[Any] = []

    def get_current_value(self, variable: Any) -> Any:
        self.touched.append(variable)
        return super().get_current_value(variable)

    def add_update(self, update: Any) -> None:
        self.touched.append(update[0])
        super().add_update(update)


def _traced(
    layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], training: dict[str, bool], rows: Rows
) -> Inside:
    """The calls of one call of the layer, for a known number of images.

    Where the layer calls others with arrays, or in ways that Keras can't record, they are opened too.
    """
    try:
        return _Tracing(opens=False).of(layer, args, kwargs, training, rows)
    except Opaque as why:
        if written_out(layer) is not None:
            raise
        try:
            return _Tracing(opens=True).of(layer, args, kwargs, training, rows)
        except Opaque:
            raise why from None


class _Tracing:
    """One attempt to trace a layer's call.

    Args:
        opens: whether the layers in it are opened where they can't be called as they are.
    """

    def __init__(self, opens: bool) -> None:
        self._opens = opens
        self.sources: dict[int, tuple[Any, Weight | Constant]] = {}  # id(variable, or array) -> its symbol

    def of(
        self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], training: dict[str, bool], rows: Rows
    ) -> Inside:
        """What the layer does with these arguments."""
        inputs: list[Any] = []

        def own(x: Any) -> Any:
            if not isinstance(x, keras.KerasTensor):
                return x
            count = IMAGES * rows.get(id(x), 1)
            shape = (count, *x.shape[1:]) if x.shape and x.shape[0] is None else x.shape
            inputs.append(keras.Input(batch_shape=shape, dtype=x.dtype))
            return inputs[-1]

        own_args, own_kwargs = keras.tree.map_structure(own, (args, kwargs))
        given, owned = keras.tree.flatten((args, kwargs)), keras.tree.flatten((own_args, own_kwargs))
        for place, mask in masks_carried(layer, given):
            set_mask(owned[place], own(mask))
        with _Watching() as watching, _any_key():
            try:
                outputs = self.call(layer, own_args, {**own_kwargs, **training})
            except Exception as error:  # a layer of the user's may raise anything
                raise Opaque(f"its call can't be traced: {_said(error)}") from error
            finally:
                _forget_symbolic_losses(layer)
        if watching.touched:
            raise Opaque(f"its call computes with the variable {watching.touched[0].path} itself")
        if watching.losses:
            raise Opaque("it adds a loss")
        return self._inside(inputs, outputs)

    def _inside(self, inputs: list[Any], outputs: Any) -> Inside:
        """The record, from symbolic inputs and outputs."""
        if self._opens:
            outputs = keras.tree.map_structure(self.symbolic, outputs)
        flat = keras.tree.flatten(outputs)
        if not flat or not all(isinstance(x, keras.KerasTensor) for x in flat):
            raise Opaque("it returns something other than tensors made of its inputs")
        sources = tuple(self.sources.values())
        calls = calls_of(inputs, [x for x, _ in sources], flat)
        return Inside(tuple(inputs), sources, calls, outputs)

    def call(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A layer's own `call`, its weights symbolic; those of integers, as places in a table, are arrays."""
        written = written_out(layer)
        if written is not None:
            return written(layer, *args, **kwargs)
        instead: dict[int, Any] = {}
        for variable in own_variables(layer):
            known = "float" in variable.dtype
            instead[id(variable)] = self._weight(layer, variable) if known else _array(variable)
        if self._opens:
            instead |= {id(inner): _Opened(self, inner) for inner in layer._layers}
        with replaced_in(layer, instead):
            return type(layer).call(layer, *args, **kwargs)

    def _weight(self, layer: Any, variable: Any) -> Any:
        if id(variable) not in self.sources:
            weight = Weight(layer, variable)
            self.sources[id(variable)] = (symbol_of(weight), weight)
        return self.sources[id(variable)][0]

    def symbolic(self, value: Any) -> Any:
        """An array as a symbolic tensor; anything else as it is."""
        if isinstance(value, (keras.KerasTensor, keras.Variable)) or not hasattr(value, "shape"):
            return value
        constant = Constant(np.asarray(value))
        self.sources[id(constant)] = (symbol_of(constant), constant)
        return self.sources[id(constant)][0]


@contextlib.contextmanager
def _any_key() -> Iterator[None]:
    """Symbolic tensors take `x[None]`, `x[1:]` and `x[...]`, which Keras 3.15 takes in tuples alone."""
    own = keras.KerasTensor.__getitem__
    keras.KerasTensor.__getitem__ = lambda x, key: own(
        x, (key,) if key is None or key is Ellipsis or isinstance(key, slice) else key
    )
    try:
        yield
    finally:
        keras.KerasTensor.__getitem__ = own


def _forget_symbolic_losses(layer: Any) -> None:
    if isinstance(layer, keras.Layer):
        layer._losses = [x for x in layer._losses if not isinstance(x, keras.KerasTensor)]


def _array(variable: Any) -> np.ndarray:
    """A variable's value, read unwatched."""
    with keras.StatelessScope():
        return np.asarray(variable)


class _Opened:
    """Stands for a layer in the call of another one: calls it, or what its own `call` does.

    Args:
        tracing: that it is part of.
        layer: that it stands for.
    """

    def __init__(self, tracing: _Tracing, layer: Any) -> None:
        self._tracing, self._layer = tracing, layer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not any(isinstance(x, keras.KerasTensor) for x in keras.tree.flatten((args, kwargs))):
            args = keras.tree.map_structure(self._tracing.symbolic, args)
        try:
            return self._layer(*args, **kwargs)
        except Exception:  # as where it returns no tensors alone
            if isinstance(self._layer, keras.Sequential):  # of images of another size than it was built for
                return self._one_by_one(*args, **kwargs)
            if type(self._layer).__module__.startswith("keras."):
                raise
            return self._tracing.call(self._layer, args, kwargs)

    def _one_by_one(self, x: Any, training: bool | None = None) -> Any:
        for layer in self._layer.layers:
            passes = training is not None and "training" in layer.call_signature_parameters
            x = layer(x, training=training) if passes else layer(x)
        return x


def _said(error: BaseException) -> str:
    """What an exception says, without what Keras says around it."""
    text = str(error).partition("Error encountered:")[2].strip() or str(error)
    return first_line(Exception(text), 120)


def _description(inside: Inside) -> list[Any]:
    """What is called with what, so that two can be compared."""
    known = [*inside.inputs, *(x for x, _ in inside.sources)]
    number = {id(x): place for place, x in enumerate(known)}
    lines: list[Any] = []
    for call in inside.calls:
        arguments = call.arguments
        kwargs = {name: value for name, value in arguments.kwargs.items() if name != "training"}
        said = [
            ("tensor", number[id(x)]) if isinstance(x, keras.KerasTensor) else repr(x)
            for x in keras.tree.flatten((arguments.args, kwargs))
        ]
        lines.append((_identity(call.op), said))
        for x in call.outputs:
            number[id(x)] = len(number)
    return [*lines, [number[id(x)] for x in keras.tree.flatten(inside.outputs)]]


def _identity(op: Any) -> Any:
    """What two calls of the same operation have in common.

    Of a layer of Keras's without variables, which may have been made in the call, that is its configuration.
    """
    if isinstance(op, keras.Layer):
        made_in_call = type(op).__module__.startswith("keras.") and not op.variables
        return (type(op), repr(op.get_config() | {"name": ""})) if made_in_call else id(op)
    attributes = {name: repr(value) for name, value in vars(op).items() if not name.startswith("_")}
    return type(op), attributes
