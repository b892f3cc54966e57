"""Build the network that a dotted path names, one of ours or a user's own function, and check the result."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras

from autoslim.errors import AutoslimError
from autoslim.importing import function_at


def build(target: str, input_shape: Sequence[int], classes: int, /, **args: Any) -> keras.Model:
    """Call the function at the dotted path `target` and return its Keras functional model.

    Args:
        target: such as "autoslim.archs.resnet" or "my.module.net". The function is called with input_shape
            and classes by name where it has parameters of these names, else as its first two arguments.
        input_shape: (height, width, channels) of the images.
        classes: number of logits that the model must return for each image.
        **args: further arguments of the function, by name.

    Raises:
        AutoslimError: the path cannot be imported, is no function, does not take these arguments, fails, or
            returns something other than a functional model from [batch, *input_shape] to logits [batch,
            classes].

    >>> build("autoslim.archs.resnet", (32, 32, 3), 10, depth=8).output_shape
    (None, 10)
    """
    function = function_at(target, "arch._target_", "a Keras functional model")
    shape = tuple(input_shape)
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
    _check_model(target, model, shape, classes)
    return model


def _bind(
    target: str, function: Callable[..., Any], shape: tuple[int, ...], classes: int, args: dict[str, Any]
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


def _call(shape: tuple[int, ...], classes: int, args: dict[str, Any]) -> str:
    named = [f"{key}={value!r}" for key, value in args.items()]
    return f"({', '.join([f'input_shape={shape}', f'classes={classes}', *named])})"


def _check_model(target: str, model: Any, shape: tuple[int, ...], classes: int) -> None:
    if not (isinstance(model, keras.Model) and isinstance(model, keras.Function)):
        raise AutoslimError(
            f"{target} returned a {type(model).__name__}: expected a Keras functional model. Build it as "
            "keras.Model(inputs, outputs); for a Sequential model, return keras.Model(model.inputs, "
            "model.outputs)."
        )
    shapes = [tuple(x.shape[1:]) for x in (*model.inputs, *model.outputs)]
    if shapes != [shape, (classes,)]:
        raise AutoslimError(
            f"{target} returned a model from {[tuple(x.shape) for x in model.inputs]} to "
            f"{[tuple(x.shape) for x in model.outputs]}: expected one input {(None, *shape)} and one output "
            f"{(None, classes)}. Build it from input_shape and classes as given."
        )
    last = model.layers[-1]
    if getattr(last, "activation", None) is keras.activations.softmax or isinstance(
        last, keras.layers.Softmax
    ):
        raise AutoslimError(
            f"{target} returned a model that ends in a softmax (layer {last.name}): expected logits, to "
            "which the loss applies the softmax itself. Drop the activation (keras.applications: "
            "classifier_activation=None)."
        )
