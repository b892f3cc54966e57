"""Look into a layer that is made of layers: its `call`, traced on symbolic tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from autoslim.errors import first_line

# Number of images while a `call` is traced. Code that computes with it stays code that computes with numbers;
# they are found again as multiples of this prime, which is no size of a real network.
IMAGES = 1009
COMPOSED = (
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
    keras.layers.Attention,
    keras.layers.AdditiveAttention,
    keras.layers.Dot,
    keras.layers.Bidirectional,
)  # Keras's own layers that are made of layers and operations
SMALL = 8  # entries of a constant that are looked through for it


def _each_step(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    """TimeDistributed: the layer on all steps at once, as images of their own."""
    if mask is not None or None in inputs.shape[1:]:
        raise Opaque("it has a mask, or steps of unknown number or size")
    steps, *shape = inputs.shape[1:]
    folded = keras.ops.reshape(inputs, (-1, *shape))
    told = {"training": training} if layer.layer._call_has_training_arg else {}
    outputs = layer.layer(folded, **told)
    return keras.ops.reshape(outputs, (-1, steps, *outputs.shape[1:]))


def _not_normalised(layer: Any, inputs: Any, training: bool = False) -> Any:
    """SpectralNormalization: its layer, as it is when the network isn't trained."""
    return layer.layer(inputs)


class Opaque(Exception):
    """Why a layer can't be looked into.

    Args:
        why: in words; empty: it is not tried.
        noise: whether the layer returns its input as it is, but in training.
    """

    def __init__(self, why: str = "", noise: bool = False) -> None:
        super().__init__(why)
        self.noise = noise


WRITTEN_OUT: dict[type, Callable[..., Any]] = {
    keras.layers.TimeDistributed: _each_step,
    keras.layers.SpectralNormalization: _not_normalised,
}
"""Keras's layers around a layer, whose own `call` can't be looked into -> the same in calls of the layer."""


@dataclass(frozen=True)
class Call:
    """One call inside of a layer."""

    op: keras.Operation
    arguments: Any  # Keras's own record of the call's arguments
    training: bool | None  # what the layer's author passed; None: nothing, or what the layer itself is told
    outputs: tuple[Any, ...]  # symbolic


@dataclass(frozen=True)
class Inside:
    """What a layer's `call` does: calls in topological order."""

    inputs: tuple[Any, ...]  # symbolic, one for each tensor among the layer's arguments
    calls: tuple[Call, ...]
    outputs: Any  # symbolic, in the structure that the layer returns

    def replay(self, inputs: list[Any], record: Callable[..., Any]) -> Any:
        """Make every call again, from `inputs` on.

        Args:
            inputs: what stands in the place of each of `self.inputs`.
            record: (operation, args, kwargs, training) -> outputs.

        Returns:
            What stands at the outputs, in the structure that the layer returns.
        """
        values = {id(x): y for x, y in zip(self.inputs, inputs, strict=True)}
        for call in self.calls:
            args, kwargs = call.arguments.fill_in(values)
            kwargs = {name: value for name, value in kwargs.items() if name != "training"}
            outputs = keras.tree.flatten(record(call.op, args, kwargs, call.training))
            values.update({id(x): y for x, y in zip(call.outputs, outputs, strict=True)})
        return keras.tree.map_structure(lambda x: values[id(x)], self.outputs)


def look_inside(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inside:
    """What a layer's `call` does with these arguments, as calls of layers and operations.

    The inner layers are the layer's own. What the layer does must not depend on whether it is trained; what
    its inner layers do may.

    Args:
        layer: with or without layers in it.
        args: of its call, tensors being symbolic.
        kwargs: likewise, without `training`.

    Raises:
        Opaque: if that can't be told, with the reason.
    """
    _require_plain(layer, args, kwargs)
    takes_training = "training" in layer.call_signature_parameters
    inside = _traced(layer, args, kwargs, {"training": False} if takes_training else {})
    if not takes_training:
        return inside
    try:
        trained = _traced(layer, args, kwargs, {"training": True})
    except Opaque:
        raise _differs(layer, inside) from None
    if _description(inside) != _description(trained):
        raise _differs(layer, inside)
    calls = [
        Call(a.op, a.arguments, a.training if a.training is b.training else None, a.outputs)
        for a, b in zip(inside.calls, trained.calls, strict=True)
    ]
    return Inside(inside.inputs, tuple(calls), inside.outputs)


def _require_plain(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not isinstance(layer, keras.Layer):
        raise Opaque
    if type(layer).__module__.startswith("keras.") and type(layer) not in (*COMPOSED, *WRITTEN_OUT):
        raise Opaque
    own = [*layer._trainable_variables, *layer._non_trainable_variables]
    if own and type(layer) not in WRITTEN_OUT:
        raise Opaque(f"it holds weights of its own ({own[0].name})")
    if getattr(layer, "quantization_mode", None) is not None:
        raise Opaque("it is quantised")
    if layer.activity_regularizer is not None or layer._losses:
        raise Opaque("it adds a loss")
    if any(getattr(x, "_keras_mask", None) is not None for x in keras.tree.flatten((args, kwargs))):
        raise Opaque("a mask comes in with its input")


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


def _traced(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], training: dict[str, bool]) -> Inside:
    """The calls of one call of the layer, for a known number of images."""
    inputs: list[Any] = []

    def own(x: Any) -> Any:
        if not isinstance(x, keras.KerasTensor):
            return x
        shape = tuple(IMAGES if place == 0 and size is None else size for place, size in enumerate(x.shape))
        inputs.append(keras.Input(batch_shape=shape, dtype=x.dtype))
        return inputs[-1]

    own_args, own_kwargs = keras.tree.map_structure(own, (args, kwargs))
    with _Watching() as watching:
        try:
            call = WRITTEN_OUT.get(type(layer), type(layer).call)
            outputs = call(layer, *own_args, **own_kwargs, **training)
        except Exception as error:  # a layer of the user's may raise anything
            raise Opaque(f"its call can't be traced: {_said(error)}") from error
        finally:
            layer._losses = [x for x in layer._losses if not isinstance(x, keras.KerasTensor)]
    if watching.touched:
        raise Opaque(f"its call computes with the variable {watching.touched[0].path} itself")
    if watching.losses:
        raise Opaque("it adds a loss")
    flat = keras.tree.flatten(outputs)
    if not flat or not all(isinstance(x, keras.KerasTensor) for x in flat):
        raise Opaque("it returns something other than tensors made of its inputs")
    try:
        function = keras.Function(inputs, flat)
    except Exception as error:
        raise Opaque(f"its outputs are not made of its inputs alone: {_said(error)}") from error
    return Inside(tuple(inputs), _calls(function), outputs)


def _said(error: BaseException) -> str:
    """What an exception says, without what Keras says around it."""
    text = str(error).partition("Error encountered:")[2].strip() or str(error)
    return first_line(Exception(text), 120)


def _calls(function: Any) -> tuple[Call, ...]:
    """The calls of a function, each operation that is no layer made for any number of images and named."""
    calls = []
    count: dict[str, int] = {}
    for depth in sorted(function._nodes_by_depth, reverse=True):
        for node in function._nodes_by_depth[depth]:
            if node.is_input:
                continue
            op, arguments = node.operation, node.arguments
            if not isinstance(op, keras.Layer):
                op = _of_any_images(op, node.outputs)
                kind = type(op).__name__.lower()
                count[kind] = count.get(kind, 0) + 1
                op.name = kind if count[kind] == 1 else f"{kind}_{count[kind]}"
            for value in keras.tree.flatten((arguments.args, arguments.kwargs)):
                _require_constant(value)
            training = arguments.kwargs.get("training")
            calls.append(Call(op, arguments, training, tuple(node.outputs)))
    return tuple(calls)


def _require_constant(value: Any) -> None:
    """Raise Opaque for an argument that can't stand in a graph for any number of images."""
    if isinstance(value, keras.Variable):
        raise Opaque(f"its call computes with the variable {value.path} itself")
    if isinstance(value, keras.KerasTensor):
        return
    if callable(value):
        raise Opaque("a function is an argument of one of its operations")
    if any(_counts_images(size) for size in (*_numbers(value), *getattr(value, "shape", ()))):
        raise Opaque("it computes with the number of images")


def _numbers(value: Any) -> list[Any]:
    """A number, or those of a small tensor; of a large one none, which may hold any number."""
    if isinstance(value, (str, bytes, slice, type(None), type(Ellipsis))):
        return [x for x in (value.start, value.stop) if x is not None] if isinstance(value, slice) else []
    array = np.asarray(value)
    return array.ravel().tolist() if array.size <= SMALL and array.dtype.kind in "iuf" else []


def _counts_images(value: Any) -> bool:
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return number and value != 0 and value % IMAGES == 0


def _of_any_images(op: Any, outputs: list[Any]) -> Any:
    """The operation with `-1` where it was told the number of images."""
    told = [x for value in vars(op).values() for x in _leaves(value)]
    if not any(_counts_images(x) for x in told):
        return op
    shape = outputs[0].shape if hasattr(op, "newshape") else ()
    if sum(_counts_images(size) for size in shape) != 1 or None in shape:
        raise Opaque("it computes with the number of images")
    return type(op)(tuple(-1 if _counts_images(size) else size for size in shape))


def _leaves(value: Any) -> list[Any]:
    return keras.tree.flatten(value) if isinstance(value, (int, list, tuple)) else []


def _description(inside: Inside) -> list[Any]:
    """What is called with what, so that two can be compared."""
    number = {id(x): place for place, x in enumerate(inside.inputs)}
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
    """What two calls of the same operation have in common."""
    if isinstance(op, keras.Layer):
        return id(op)
    told = {name: repr(value) for name, value in vars(op).items() if not name.startswith("_")}
    return type(op), told
