"""Copies of layers for a new model: exact ones, or made again from their configuration."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from autoslim.errors import AutoslimError, first_line

SIZE = 4  # stands for a size that is not known, while a copy is tried
TOLERANCE = 1e-4  # of the largest entry


def rebuilt(op: Any, changes: dict[str, Any], name: str) -> Any:
    """A layer or operation made again from its configuration, with these `changes`; its weights are new.

    Configuration that the constructor does not take is left out.

    Raises:
        Exception: whatever the class raises.
    """
    try:
        config = {**op.get_config(), **changes}
    except NotImplementedError:  # as of a layer of Keras's that was given a type by its object
        if not type(op).__module__.startswith("keras."):
            raise
        config = {"dtype": op.dtype_policy.name} if isinstance(op, keras.Layer) else {}
        config |= changes
    if inspect.isfunction(getattr(op, "activation", None)):
        config["activation"] = op.activation  # as it is: a function of the user's need not be registered
    if not isinstance(op, keras.Layer):
        made = type(op).from_config(config)
        made.name = name
        return made
    try:
        made = type(op).from_config({**config, "name": name})
    except TypeError:
        taken = inspect.signature(type(op).__init__).parameters
        made = type(op).from_config({key: value for key, value in config.items() if key in taken})
        made.name = name
    _keep_settings(op, made)
    return made


def _keep_settings(layer: keras.Layer, made: keras.Layer) -> None:
    """What is set at a layer after it was made: which of its layers are trained, and its type."""
    if made.dtype_policy != layer.dtype_policy:
        made.dtype_policy = layer.dtype_policy
    inner, own = list(layer._flatten_layers()), list(made._flatten_layers())
    for old, new in zip(inner, own, strict=False):
        new.trainable = old.trainable


def duplicate(op: Any, name: str, known: dict[int, Any]) -> Any:
    """The same layer or operation again, attribute by attribute, with variables of its own.

    Args:
        op: to copy.
        name: of the copy.
        known: {id(a variable or layer): what stands in its place in the copy}; what is copied joins it.

    Raises:
        Exception: if something that it holds can't be copied.
    """
    inner = [op] if not isinstance(op, keras.Layer) else list(op._flatten_layers())
    inner += [part._functional for part in inner if getattr(part, "_functional", None)]  # of a Sequential
    memo: dict[int, Any] = {id(module): module for module in list(sys.modules.values())}  # stay what they are
    memo |= known
    for part in inner:
        memo[id(part)] = type(part).__new__(type(part))  # type: ignore[call-overload]
        for nodes in (part._inbound_nodes, part._outbound_nodes):
            memo[id(nodes)] = []
    for variable in getattr(op, "variables", ()):
        memo.setdefault(id(variable), _variable(variable))
        known[id(variable)] = memo[id(variable)]
    trackers = [part._tracker for part in inner if hasattr(part, "_tracker")]
    for tracker in trackers:
        memo[id(tracker)] = copy.copy(tracker)
        memo[id(tracker)].locked = False  # its lists are filled again as they are copied
    for tracker in trackers:
        memo[id(tracker)].__dict__ |= {
            key: copy.deepcopy(vars(tracker)[key], memo) for key in ("config", "stored_ids", "exclusions")
        }
    for part in inner:
        made = memo[id(part)]
        wrapped = {key for key, value in vars(made).items() if inspect.isroutine(value)}  # bound to itself
        for key, value in vars(part).items():
            if key not in wrapped:
                made.__dict__[key] = copy.deepcopy(value, memo)
    for tracker in trackers:
        _forget_twice_tracked(memo[id(tracker)])
        memo[id(tracker)].locked = tracker.locked
    made = memo[id(op)]
    made.__dict__["name"] = name
    return made


def _variable(variable: Any) -> Any:
    made = keras.Variable(
        np.asarray(variable),
        dtype=variable.dtype,
        trainable=variable.trainable,
        autocast=variable._autocast,
        aggregation=variable.aggregation,
        synchronization=variable.synchronization,
        name=variable.name,
    )
    made._path = variable.path
    for key in ("regularizer", "constraint", "overwrite_with_gradient"):
        if hasattr(variable, key):
            setattr(made, key, getattr(variable, key))
    return made


def _forget_twice_tracked(tracker: Any) -> None:
    """Keras's lists of what a layer holds were copied, and then filled again as the layer's lists were."""
    for kind, (_, held) in tracker.config.items():
        unique = list({id(value): value for value in held}.values())
        held[:] = unique
        tracker.stored_ids[kind] = {id(value) for value in unique}


def as_it_is(
    op: Any, name: str, shapes: Sequence[tuple[int | None, ...]], known: dict[int, Any], call: Callable
) -> Any:
    """A copy of a layer that stays as it is, its weights and attributes among it, which was tried.

    Args:
        op: a layer, or an operation.
        name: of the copy.
        shapes: of its inputs.
        known: see `duplicate`.
        call: (layer, inputs) -> outputs.

    Raises:
        AutoslimError: if there is no way to copy it.
    """
    failed = ""
    for attempt in (lambda: duplicate(op, name, known), lambda: _rebuilt_as_it_is(op, name, shapes, call)):
        try:
            made = attempt()
        except Exception as error:  # a class of the user's may raise anything
            failed = failed or first_line(error, 120)
            continue
        if _agree(op, made, shapes, call):
            return made
        failed = failed or "its copy computes something else"
    if not getattr(op, "variables", ()):
        return op  # nothing in it that training would change
    raise AutoslimError(
        f"Layer {op.name!r}, a {type(op).__name__}, can't be copied into the new model: {failed}. Write a "
        "get_config() that returns its constructor's arguments."
    )


def _rebuilt_as_it_is(op: Any, name: str, shapes: Sequence[Any], call: Callable) -> Any:
    made = rebuilt(op, {}, name)
    if getattr(op, "variables", ()):
        call(made, [keras.KerasTensor(shape) for shape in shapes])  # builds it
        for old, new in zip(op.variables, made.variables, strict=True):
            new.assign(old)
    return made


def _agree(op: Any, made: Any, shapes: Sequence[tuple[int | None, ...]], call: Callable) -> bool:
    """Whether both compute the same from the same weights, each from variables of its own.

    Where the layer itself can't be called, as what stands for unknown sizes does not fit it, there is nothing
    to compare.
    """
    if not isinstance(op, keras.Layer) or made is op:
        return True
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=[size or SIZE for size in shape]).astype(np.float32) for shape in shapes]
    values = [_drawn(variable, rng) for variable in op.variables]
    if len(made.variables) != len(values):
        return False

    def outputs(layer: Any) -> list[Any]:
        with keras.StatelessScope(zip(layer.variables, values, strict=True), collect_losses=True):
            return keras.tree.flatten(call(layer, inputs))

    try:
        expected = outputs(op)
    except Exception:  # a layer of the user's may raise anything
        return True
    try:
        got = outputs(made)
    except Exception:
        return False
    return len(got) == len(expected) and all(map(_close, got, expected))


def _drawn(variable: Any, rng: np.random.Generator) -> np.ndarray:
    value = np.asarray(variable)
    if value.dtype.kind != "f":
        return value
    return (value * rng.uniform(0.5, 1.5, value.shape)).astype(value.dtype)


def _close(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype.kind not in "fV":
        return a.shape == b.shape and np.array_equal(a, b)
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.allclose(a, b, 0.0, TOLERANCE * max(1.0, np.max(np.abs(b), initial=0.0)), equal_nan=True)


def initial_values(op: Any, shapes: Sequence[tuple[int | None, ...]], call: Callable) -> list[np.ndarray]:
    """What the initializers of a layer give its variables, in a layer made again from its configuration.

    Args:
        op: a layer.
        shapes: of its inputs.
        call: (layer, inputs) -> outputs.

    Raises:
        Exception: if it can't be made again so.
    """
    made = rebuilt(op, {}, op.name)
    call(made, [keras.KerasTensor(shape) for shape in shapes])
    values = [variable.numpy() for variable in made.variables]
    if [value.shape for value in values] != [tuple(variable.shape) for variable in op.variables]:
        raise ValueError("its configuration makes other weights")
    return values
