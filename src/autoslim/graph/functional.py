"""What is asked of functional and Sequential models before they are traced."""

from __future__ import annotations

from typing import Any

import keras


def is_functional(model: Any) -> bool:
    """Whether the model is a graph of layers and nothing else: a subclass must keep its base's `call`."""
    if not isinstance(model, keras.Model):
        return False
    # keras.Model(inputs, outputs) makes a Functional, a class that Keras doesn't export.
    bases = [c for c in type(model).__mro__ if c is keras.Sequential or c.__name__ == "Functional"]
    return bool(bases) and type(model).call is bases[0].call  # type: ignore[attr-defined]


def inputs_of(model: keras.Model) -> Any:
    """The symbolic inputs, in the structure that the model takes."""
    return model.inputs if isinstance(model, keras.Sequential) else model.input


def outputs_of(model: keras.Model) -> Any:
    """The symbolic outputs, in the structure that the model returns."""
    return model.outputs if isinstance(model, keras.Sequential) else model.output


def with_sizes(
    shape: tuple[int | None, ...], image_shape: tuple[int | None, ...] | None
) -> tuple[int | None, ...]:
    """A shape, with the sizes of images where it leaves them open and they fit."""
    if image_shape is None or len(shape) != len(image_shape) + 1:
        return shape
    return (shape[0], *(size or given for size, given in zip(shape[1:], image_shape, strict=True)))
