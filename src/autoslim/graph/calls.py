"""The calls of a traced function, each made to hold for any number of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

# Number of images while a `call` is traced. Code that computes with it stays code that computes with numbers;
# they are found again as multiples of this prime, which is no size of a real network.
IMAGES = 1009
SMALL = 8  # entries of a constant that are looked through for it


class Opaque(Exception):
    """Why a layer can't be looked into.

    Args:
        why: in words; empty: it is not tried.
        noise: whether the layer returns its input as it is, but in training.
    """

    def __init__(self, why: str = "", noise: bool = False) -> None:
        super().__init__(why)
        self.noise = noise


@dataclass(frozen=True)
class Call:
    """One call inside of a layer."""

    op: keras.Operation
    arguments: Any  # Keras's own record of the call's arguments
    training: bool | None  # what the layer's author passed; None: nothing, or what the layer itself gets
    outputs: tuple[Any, ...]  # symbolic


def calls_of(inputs: Sequence[Any], sources: Sequence[Any], outputs: Sequence[Any]) -> tuple[Call, ...]:
    """The calls that lead to symbolic outputs, for `IMAGES` images, made for any number of them.

    Args:
        inputs: symbolic, those that may have images.
        sources: likewise, others that the outputs are made of.
        outputs: likewise.

    Raises:
        Opaque: where the number of images is computed with, or the outputs are made of something else too.
    """
    images = _Images(inputs)
    count: dict[str, int] = {}
    for node in nodes_to(outputs, {id(x) for x in (*inputs, *sources)}):
        images.add(node)
    for call in images.calls:
        if not isinstance(call.op, keras.Layer):
            kind = type(call.op).__name__.lower()
            count[kind] = count.get(kind, 0) + 1
            call.op.name = kind if count[kind] == 1 else f"{kind}_{count[kind]}"
    return tuple(images.calls)


def nodes_to(outputs: Sequence[Any], known: set[int]) -> list[Any]:
    """Keras's records of the calls that make the outputs from what is known (ids), in topological order."""
    found: dict[int, Any] = {}
    waiting = [(x, False) for x in reversed(outputs)]
    while waiting:
        x, entered = waiting.pop()
        if id(x) in known:
            continue
        node = _node_of(x)
        if node.is_input:
            raise Opaque("its outputs are not made of its inputs alone")
        if entered:
            found.setdefault(id(node), node)
            known.update(id(y) for y in node.outputs)
        else:
            waiting.append((x, True))
            waiting += [(y, False) for y in reversed(node.arguments.keras_tensors)]
    return list(found.values())


def _node_of(x: Any) -> Any:
    """Keras's record of the call that made a symbolic tensor."""
    return x._keras_history.operation._inbound_nodes[x._keras_history.node_index]


class _Images:
    """Calls for any number of images, one after another."""

    def __init__(self, inputs: Sequence[Any]) -> None:
        self._inputs = [x for x in inputs if x.shape and x.shape[0] == IMAGES]
        self.calls: list[Call] = []

    def add(self, node: Any) -> None:
        """A node of Keras's, and calls before it that make what it is to take."""
        arguments, op = self._without_constants(node.arguments), node.operation
        if not isinstance(op, keras.Layer):
            if type(op).__name__ == "ConvTranspose":  # its arguments are mixed up in Keras 3.15
                raise Opaque("a ConvTranspose operation of Keras can't be called in a graph")
            if type(op).__name__ == "BroadcastTo":
                return self._broadcast(arguments, node.outputs[0])
            if _holds_image_count(op) and not hasattr(op, "newshape"):
                return self._repeated(op, arguments, node.outputs[0])
            op = _of_any_images(op, node.outputs)
        training = arguments.kwargs.get("training")
        self.calls.append(Call(op, arguments, training, tuple(node.outputs)))

    def _without_constants(self, arguments: Any) -> Any:
        """The arguments; an array that is the same for all images is made for as many as there are."""

        def varied(value: Any) -> Any:
            array = _same_for_all(value)
            if array is None:
                _require_constant(value)
                return value
            return self._sum(array, self._zeros(array.dtype, array.ndim))

        args, kwargs = keras.tree.map_structure(varied, (arguments.args, arguments.kwargs))
        return type(arguments)(*args, **kwargs)

    def _broadcast(self, arguments: Any, output: Any) -> None:
        """BroadcastTo as a sum with zeros, whose shape says nothing of the images."""
        x = arguments.keras_tensors[0]
        had = (1,) * (len(output.shape) - len(x.shape)) + tuple(x.shape)
        shape = [1 if n in (old, IMAGES) else n for n, old in zip(output.shape, had, strict=True)]
        if any(map(_counts_images, shape)):
            raise Opaque("it computes with the number of images")
        zeros = np.zeros(shape, x.dtype)
        if output.shape[0] == IMAGES != had[0]:
            x = self._sum(x, self._zeros(x.dtype, len(shape)))
        self._sum(x, zeros, output)

    def _repeated(self, op: Any, arguments: Any, output: Any) -> None:
        """Tile and Repeat along the images: of a single one, to which zeros of each image are added."""
        name = "repeats"
        once = keras.tree.map_structure(lambda n: 1 if n == IMAGES else n, getattr(op, name, None))
        if (
            output.shape[:1] != (IMAGES,)
            or once is None
            or getattr(op, "axis", 0) not in (0, -len(output.shape))
        ):
            raise Opaque("it computes with the number of images")
        given = {name: once, "axis": 0} if hasattr(op, "axis") else {name: once}
        single = type(op)(**given)(*arguments.args, **arguments.kwargs)
        if any(map(_counts_images, single.shape)):
            raise Opaque("it computes with the number of images")
        self._keep(single)
        self._sum(single, self._zeros(single.dtype, len(output.shape)), output)

    def _zeros(self, dtype: Any, rank: int) -> Any:
        """[images, 1, ...]: a zero for each image."""
        if not self._inputs:
            raise Opaque("it computes with the number of images")
        x = self._inputs[0]
        for place in range(1, len(x.shape) - 1):
            x = self._keep(x[(slice(None),) * place + (slice(0, 1),)])
        if len(x.shape) > 1:
            x = self._keep(keras.ops.sum(x, tuple(range(1, len(x.shape)))))
        x = self._keep(keras.ops.cast(self._keep(keras.ops.zeros_like(x)), str(dtype)))
        return self._keep(keras.ops.reshape(x, (-1,) + (1,) * (rank - 1)))

    def _sum(self, x: Any, zeros: Any, output: Any = None) -> Any:
        """Zeros are subtracted: what is added Keras 3.15 takes for a bias where its one long side fits."""
        joined = keras.ops.logical_or if "bool" in str(zeros.dtype) else keras.ops.subtract
        return self._keep(joined(x, zeros), output)

    def _keep(self, made: Any, output: Any = None) -> Any:
        """Keep the call that made a symbolic tensor; `output`: the one that stands for it in later calls."""
        node, kept = _node_of(made), made if output is None else output
        self.calls.append(Call(node.operation, node.arguments, None, (kept,)))
        return kept


def _same_for_all(value: Any) -> np.ndarray | None:
    """An array that has `IMAGES` equal rows, as one row; None for anything else."""
    if isinstance(value, (keras.KerasTensor, keras.Variable)) or not getattr(value, "shape", ()):
        return None
    array = np.asarray(value)
    same = array.ndim and len(array) == IMAGES and (array == array[:1]).all()
    return array[:1] if same else None


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
    return bool(number and value != 0 and value % IMAGES == 0)


def _holds_image_count(op: Any) -> bool:
    """Whether the number of images is among an operation's attributes."""
    return any(_counts_images(x) for value in vars(op).values() for x in _leaves(value))


def _of_any_images(op: Any, outputs: Sequence[Any]) -> Any:
    """A Reshape with `-1` where it holds the number of images."""
    if not _holds_image_count(op):
        return op
    shape = outputs[0].shape
    if sum(_counts_images(size) for size in shape) != 1 or None in shape:
        raise Opaque("it computes with the number of images")
    return type(op)(tuple(-1 if _counts_images(size) else size for size in shape))


def _leaves(value: Any) -> list[Any]:
    return keras.tree.flatten(value) if isinstance(value, (int, list, tuple)) else []
