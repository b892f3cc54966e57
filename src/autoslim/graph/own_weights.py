"""Weights that a layer holds itself, such as a class token: nodes of a trace, and parts of a new model."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from autoslim.graph.copying import rebuilt

TRACKED = ("_trainable_variables", "_non_trainable_variables", "_tracker")  # Keras's own lists of them


class Weight(keras.Operation):
    """A weight as a node without inputs: its value, in the type that its layer computes in.

    Args:
        owner: the layer that holds it.
        variable: the weight.
    """

    def __init__(self, owner: Any, variable: Any) -> None:
        super().__init__(name=variable.name)
        self.owner, self.variable = owner, variable
        self.autocast = bool(owner.autocast and variable._autocast and "float" in variable.dtype)
        self.compute_dtype = owner.compute_dtype if self.autocast else variable.dtype

    @property
    def weights(self) -> list[Any]:
        """The one variable, as a layer tells of its own."""
        return [self.variable]

    def call(self) -> Any:
        """The value."""
        return keras.ops.cast(self.variable, self.compute_dtype)

    def initial_value(self) -> np.ndarray:
        """What its initializer gives, in a layer that is made again from its configuration.

        Raises:
            Exception: if the layer can't be made again so.
        """
        made = rebuilt(self.owner, {}, self.owner.name)
        sizes = self.owner.get_build_config()
        made.build_from_config(sizes) if sizes else made.build()
        place = [id(variable) for variable in self.owner.variables].index(id(self.variable))
        value = made.variables[place].numpy()
        if value.shape != tuple(self.variable.shape):
            raise ValueError("its configuration makes another weight")
        return value


class Constant(keras.Operation):
    """An array as a node without inputs, where a layer is called with it.

    Args:
        value: the array.
    """

    def __init__(self, value: np.ndarray) -> None:
        super().__init__(name="constant")
        self.value = value

    def call(self) -> Any:
        """The array as a tensor."""
        return keras.ops.convert_to_tensor(self.value)


def symbol_of(source: Weight | Constant) -> Any:
    """A symbolic tensor of a source's shape and type."""
    if isinstance(source, Constant):
        return keras.Input(batch_shape=source.value.shape, dtype=str(source.value.dtype))
    return keras.Input(batch_shape=tuple(source.variable.shape), dtype=source.compute_dtype)


def own_variables(layer: Any) -> list[Any]:
    """The variables among a layer's attributes, also in lists and dicts; not those of its layers."""
    held = [value for name, value in vars(layer).items() if name not in TRACKED]
    found = [value for entry in held for value in _leaves(entry) if isinstance(value, keras.Variable)]
    return list({id(value): value for value in found}.values())


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for entry in value.values() for leaf in _leaves(entry)]
    if isinstance(value, (list, tuple)):
        return [leaf for entry in value for leaf in _leaves(entry)]
    return [value]


@contextlib.contextmanager
def attributes_of(layer: Any, values: Mapping[str, Any]) -> Iterator[None]:
    """The layer's attributes, methods among them, are these."""
    before = {name: vars(layer)[name] for name in values if name in vars(layer)}
    vars(layer).update(values)
    try:
        yield
    finally:
        for name in values:
            vars(layer).pop(name, None)
        vars(layer).update(before)


@contextlib.contextmanager
def replaced_in(layer: Any, values: Mapping[int, Any]) -> Iterator[None]:
    """The layer's attributes are these, {id(what stands there): another}, also in lists and dicts."""
    before = dict(vars(layer))
    for name, value in before.items():
        if name not in TRACKED and any(id(leaf) in values for leaf in _leaves(value)):
            vars(layer)[name] = _with(value, values)
    try:
        yield
    finally:
        vars(layer).update(before)


def _with(value: Any, values: Mapping[int, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _with(entry, values) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with(entry, values) for entry in value]
    return values.get(id(value), value)


class Written:
    """A weight in a new model, as a layer of Keras's: the rows of an `Embedding`, all of them looked up.

    Args:
        weight: of the traced model.
        shape: at the new model's widths.
        name: of the layer.
    """

    def __init__(self, weight: Weight, shape: tuple[int, ...], name: str) -> None:
        self._shape = shape
        rows, columns = math.prod(shape[:-1]), shape[-1] if shape else 1
        self.layer = keras.layers.Embedding(rows, columns, name=name, dtype=weight.owner.dtype_policy)
        self.layer.build()
        self.layer.trainable = weight.variable.trainable
        if not weight.autocast:
            self.layer.dtype_policy = keras.DTypePolicy(weight.variable.dtype)
        self.variables = self.layer.variables

    def __call__(self, zero: Any) -> Any:
        """The weight, symbolic.

        Args:
            zero: int32 [1], symbolic: 0, made from the model's input, as all that is in a model must be.
        """
        rows = np.arange(self.layer.input_dim, dtype="int32")
        found = self.layer(zero if len(rows) == 1 else keras.ops.add(zero, rows))
        return found if tuple(found.shape) == self._shape else keras.ops.reshape(found, self._shape)

    @property
    def variable(self) -> Any:
        """Itself, as what is to be given a value."""
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight."""
        return self._shape

    def assign(self, value: Any) -> None:
        """Give it a value of its shape."""
        variable = self.layer.embeddings
        variable.assign(keras.ops.reshape(value, variable.shape))


def zero_of(images: Any) -> Any:
    """int32 [1]: 0, whatever stands in a symbolic tensor."""
    total = keras.ops.sum(keras.ops.cast(images, "int32") if images.dtype == "bool" else images)
    return keras.ops.reshape(keras.ops.cast(keras.ops.zeros_like(total), "int32"), (1,))
