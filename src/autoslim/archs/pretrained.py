"""Networks that exist already: a classifier of keras.applications, or a `.keras` file of the user's."""

from __future__ import annotations

import difflib
import inspect
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from autoslim.archs.blocks import logits
from autoslim.errors import AutoslimError, first_line

IMAGENET_CLASSES = 1000


def keras_application(
    input_shape: Sequence[int], classes: int, name: str, weights: str | None = None
) -> keras.Model:
    """A classifier of `keras.applications`, with logits.

    Args:
        input_shape: (height, width, channels) of the images.
        classes: number of logits.
        name: such as "MobileNetV2".
        weights: None: fresh; "imagenet": Keras downloads them (with other than 1000 classes all but the last
            layer's); else a weights file of the same network, written by `save_weights`.

    Raises:
        AutoslimError: for an unknown name, a shape that the network does not take, or weights that don't fit.
    """
    function = _application(name)
    shape = tuple(input_shape)
    try:
        if weights == "imagenet" and classes != IMAGENET_CLASSES:
            body = function(weights="imagenet", include_top=False, input_shape=shape)
            return keras.Model(body.input, logits(body.outputs[0], classes), name=body.name)
        model = function(
            weights="imagenet" if weights == "imagenet" else None,
            input_shape=shape,
            classes=classes,
            **_with_logits(function),
        )
    except ValueError as error:
        raise AutoslimError(
            f"keras.applications.{name} can't be built for images {shape} and {classes} classes: "
            f"{first_line(error, 1000)}"
        ) from error
    except Exception as error:  # the download of weights fails in many ways
        raise AutoslimError(
            f"The weights of keras.applications.{name} could not be loaded ({type(error).__name__}: "
            f"{first_line(error, 1000)}). Put them on disk and give arch.weights=FILE."
        ) from error
    if weights not in (None, "imagenet"):
        _load_weights(model, Path(str(weights)))
    return model


def keras_file(input_shape: Sequence[int], classes: int, path: str) -> keras.Model:
    """The model in a `.keras` file, with its weights; a softmax at its end is taken off.

    The file is loaded in Keras's safe mode: no code of its own is run.

    Args:
        input_shape, classes: what the file's model must take and return.
        path: of the file.

    Raises:
        AutoslimError: for a missing or damaged file, Lambda layers, unknown classes, a subclassed model.
    """
    file = Path(path)
    if (file / "saved_model.pb").is_file():
        raise AutoslimError(
            f"arch.path={path} is a SavedModel: it holds operations, and no layers that could be slimmed. "
            "Write the Keras model that it was made from with model.save('x.keras')."
        )
    if not file.is_file():
        raise AutoslimError(
            f"arch.path={path} is not a file. Expected a model that model.save('x.keras') wrote."
        )
    with open(file, "rb"):  # one without leave to read is not damaged
        pass
    if file.suffix == ".keras" and not zipfile.is_zipfile(file):
        raise AutoslimError(
            f"arch.path={path} is damaged, or no model: a .keras file is a zip archive. Write or copy it "
            "again."
        )
    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise AutoslimError(_why_not_loaded(path, error)) from error
    bad = [v.path for v in model.variables if "float" in v.dtype and not np.isfinite(v.numpy()).all()]
    if bad:
        raise AutoslimError(
            f"arch.path={path} holds weights that are NaN or infinite ({', '.join(bad[:3])}): no training "
            "can go on from there. Give a model from before it diverged."
        )
    if isinstance(model, keras.Sequential):
        if not model.built:
            model.build((None, *input_shape))
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return without_softmax(model)


def without_softmax(model: keras.Model) -> keras.Model:
    """The same model up to its logits: a softmax in or as its last layer is taken off, weights are shared."""
    last = model.layers[-1]
    if len(model.outputs) != 1 or getattr(last, "output", None) is not model.outputs[0]:
        return model  # of several outputs, or one that is nested: what they end in is recognised later
    softmax = getattr(last, "activation", None) is keras.activations.softmax
    if isinstance(last, keras.layers.Softmax) or (softmax and isinstance(last, keras.layers.Activation)):
        return keras.Model(model.input, last.input, name=model.name)
    if not softmax:
        return model
    config = {**last.get_config(), "activation": "linear"}
    twin = type(last).from_config(config)
    result = keras.Model(model.input, twin(last.input), name=model.name)
    twin.set_weights(last.get_weights())
    return result


def _application(name: str) -> Any:
    known = {
        key: value
        for key, value in vars(keras.applications).items()
        if inspect.isfunction(value) and "classes" in inspect.signature(value).parameters
    }
    if name not in known:
        near = difflib.get_close_matches(name, known, 3, 0.4)
        raise AutoslimError(
            f"arch.name={name} is not a classifier of keras.applications."
            f"{' Did you mean ' + ' or '.join(near) + '?' if near else ''} "
            f"There are: {', '.join(sorted(known))}."
        )
    return known[name]


def _with_logits(function: Any) -> dict[str, Any]:
    takes = "classifier_activation" in inspect.signature(function).parameters
    return {"classifier_activation": None} if takes else {}


def _load_weights(model: keras.Model, path: Path) -> None:
    try:
        with warnings.catch_warnings():  # what Keras warns of before it raises
            warnings.simplefilter("ignore", UserWarning)
            model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise AutoslimError(
            f"arch.weights={path} can't be loaded into {model.name}: {first_line(error, 1000)} "
            "Expected a file that save_weights of the same network, with as many classes, wrote."
        ) from error


def _why_not_loaded(path: str, error: Exception) -> str:
    text = str(error)
    if "Lambda" in text or "lambda" in text:
        return (
            f"arch.path={path} holds a Lambda layer, whose code is not run from a file. Put a layer of your "
            "own in its place, or build the model in Python and give arch=custom arch._target_=my.module.net."
        )
    if "Could not locate class" in text or "registered" in text:
        return (
            f"arch.path={path} holds a class that Keras does not know "
            f"({first_line(error, 160)}). Register it with "
            "@keras.saving.register_keras_serializable() in a module of yours, and give "
            "arch=custom arch._target_=my.module.net that imports it and loads the file."
        )
    if path.endswith(".weights.h5") or "No model config found" in text:
        return (
            f"arch.path={path} holds weights alone, and no network. Build the network in Python, load them "
            "with model.load_weights, and give what model.save('x.keras') then writes; or a function that "
            "does so: arch=custom arch._target_=my.module.net."
        )
    if "File not found" in text or "Unable to" in text or isinstance(error, (KeyError, zipfile.BadZipFile)):
        return f"arch.path={path} is damaged ({first_line(error, 120)}). Write or copy it again."
    return f"arch.path={path} can't be loaded: {first_line(error)}"
