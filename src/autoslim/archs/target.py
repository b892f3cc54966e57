"""Build the network that a dotted path names, one of ours or a user's own function, and check the result."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

from autoslim.errors import AutoslimError
from autoslim.importing import function_at


def build(
    target: str, input_shape: Any, classes: Any, classifies: bool = True, /, **args: Any
) -> keras.Model:
    """Call the function at the dotted path `target` and return its Keras functional model.

    Args:
        target: such as "autoslim.archs.resnet" or "my.module.net". The function is called with input_shape
            and classes by name where it has parameters of these names, else as its first two arguments.
        input_shape: (height, width, channels) of the images; for several inputs a dict or a list of shapes.
        classes: number of classes; or of values or labels of an image; for several outputs one each.
        classifies: whether the model must return one answer for each of the classes, whatever it ends in.
        **args: further arguments of the function, by name.

    Raises:
        AutoslimError: not the path of a function, or the function does not take these arguments, fails, or
            returns something other than a functional model from [batch, *input_shape] to [batch, classes].

    >>> build("autoslim.archs.resnet", (32, 32, 3), 10, depth=8).output_shape
    (None, 10)
    """
    function = function_at(target, "arch._target_", "a Keras functional model")
    shape = tuple(input_shape) if _is_shape(input_shape) else input_shape
    bound = _bind(target, function, shape, classes, args)
    try:
        model = function(*bound.args, **bound.kwargs)
    except AutoslimError as error:
        raise AutoslimError(f"{target}: {error}") from error
    except (Exception, SystemExit) as error:
        raise AutoslimError(
            f"{target} failed with {type(error).__name__}: {error}\nIt was called as "
            f"{_call(shape, classes, args)} and should return a Keras functional model. Call it so in Python "
            "to see where it fails."
        ) from error
    return _checked(target, model, shape, classes if classifies else None)


def _bind(
    target: str, function: Callable[..., Any], shape: Any, classes: Any, args: dict[str, Any]
) -> inspect.BoundArguments:
    signature = inspect.signature(function)
    try:
        if {"input_shape", "classes"} <= signature.parameters.keys():
            return signature.bind(input_shape=shape, classes=classes, **args)
        return signature.bind(shape, classes, **args)
    except TypeError as error:
        raise AutoslimError(
            f"{target} cannot be called as {_call(shape, classes, args)}: {error}. It accepts "
            f"{', '.join(signature.parameters) or 'no arguments'}. Correct the keys of arch to these names."
        ) from error


def _call(shape: Any, classes: Any, args: dict[str, Any]) -> str:
    named = [f"{key}={value!r}" for key, value in args.items()]
    return f"({', '.join([f'input_shape={shape}', f'classes={classes}', *named])})"


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list | tuple) and all(isinstance(size, int) for size in shape)


def _flat(shape: Any) -> list[tuple[int, ...]]:
    """The shapes of a structure, in the order in which Keras lays out inputs."""
    if _is_shape(shape):
        return [tuple(shape)]
    parts = [shape[key] for key in sorted(shape)] if isinstance(shape, Mapping) else list(shape)
    return [one for part in parts for one in _flat(part)]


def _checked(target: str, model: Any, shape: Any, classes: int | None) -> keras.Model:
    """The model, a Sequential one as a functional one.

    Args:
        target: that made it.
        model: what it returned.
        shape: of its inputs.
        classes: answers that it must return; None: anything.
    """
    if isinstance(model, keras.Sequential):
        model = _functional(model, _flat(shape))
    if not (isinstance(model, keras.Model) and isinstance(model, keras.Function)):
        raise AutoslimError(
            f"{target} returned a {type(model).__name__}: expected a Keras functional model. Build it as "
            "keras.Model(inputs, outputs), or as keras.Sequential(layers)."
        )
    inputs = [tuple(x.shape[1:]) for x in keras.tree.flatten(model.input)]
    outputs = [tuple(x.shape[1:]) for x in model.outputs]
    answers = [[(classes,)], *([[(1,)]] if classes == 2 else [])]
    if not _compatible(inputs, _flat(shape)) or (classes is not None and outputs not in answers):
        wanted = [(None, *one) for one in _flat(shape)]
        expected = "" if classes is None else f" and one output {(None, classes)}"
        raise AutoslimError(
            f"{target} returned a model from {[(None, *one) for one in inputs]} to "
            f"{[(None, *one) for one in outputs]}: expected {'one input' if len(wanted) == 1 else 'inputs'} "
            f"{', '.join(map(str, wanted))}{expected}. Build it from input_shape and classes as given."
        )
    return model


def _functional(model: keras.Sequential, shapes: list[tuple[int, ...]]) -> keras.Model:
    """A Sequential model as a functional one of the same layers, built if it was not."""
    if not model.built:
        model.build((None, *shapes[0]))
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def _compatible(own: list[tuple[Any, ...]], wanted: list[tuple[int, ...]]) -> bool:
    """Whether inputs take these shapes: an unknown size takes any."""
    return len(own) == len(wanted) and all(
        len(a) == len(b) and all(x in (None, y) for x, y in zip(a, b, strict=True))
        for a, b in zip(own, wanted, strict=True)
    )
