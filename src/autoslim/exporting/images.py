"""What is given to an export: a model with one input and output, and images that fit it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.exporting.formats import FORMATS

if TYPE_CHECKING:
    import keras

NOISE_IMAGES = 32


@dataclass(frozen=True)
class Inputs:
    """What files are calibrated with and checked on."""

    calibration: np.ndarray | None  # float32 [N, H, W, C]
    images: np.ndarray  # float32 [M, H, W, C]
    labels: np.ndarray | None  # integers [M]


def check_inputs(
    model: keras.Model, formats: Sequence[str], calibration: Any, images: Any, labels: Any
) -> Inputs:
    """The images to calibrate with and to check on; see `export`.

    Raises:
        AutoslimError: if the model has several inputs or outputs, or images or labels do not fit.
    """
    shape = _input_shape(model)
    _check_precision(model, formats)
    if calibration is None:
        for name in formats:
            if FORMATS[name].calibrated:
                raise AutoslimError(
                    f"{name} needs calibration images: give calibration=..., some 200 training images, "
                    "float32, normalised as the model was trained."
                )
    else:
        calibration = _fitting(calibration, shape, "calibration")
    if images is None:
        if labels is not None:
            raise AutoslimError("labels were given without images: give images=..., or leave labels out.")
        images = _noise(shape) if calibration is None else calibration
    images = _fitting(images, shape, "images")
    return Inputs(calibration, images, None if labels is None else _class_indices(labels, len(images)))


def _input_shape(model: Any) -> tuple[int | None, ...]:
    import keras

    if not isinstance(model, keras.Model):
        raise AutoslimError(f"Got a {type(model).__name__} to export; expected a keras.Model.")
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    if len(inputs) != 1 or len(outputs) != 1 or len(outputs[0].shape) != 2:
        raise AutoslimError(
            f"Model {model.name!r} has {len(inputs)} inputs and {len(outputs)} outputs "
            f"{[list(output.shape) for output in outputs]}; expected one input of images and one output of "
            "logits [batch, classes]. Wrap it: keras.Model(image, model(image))."
        )
    return tuple(inputs[0].shape[1:])


def _check_precision(model: keras.Model, formats: Sequence[str]) -> None:
    """Refuse half precision where converters fail on it or change it."""
    other = next((layer for layer in model.layers if layer.compute_dtype != "float32"), None)
    for name in formats:
        if other is not None and FORMATS[name].float32:
            raise AutoslimError(
                f"{name} needs a model that computes in float32, and layer {other.name!r} of {model.name!r} "
                f"computes in {other.compute_dtype}. Build the model with dtype policy float32 and give it "
                "these weights with set_weights(model.get_weights())."
            )


def _fitting(images: Any, shape: tuple[int | None, ...], what: str) -> np.ndarray:
    """Images float32 [N, *shape], N at least 1."""
    images = np.asarray(images)
    fits = images.ndim == len(shape) + 1 and all(
        want in (None, have) for want, have in zip(shape, images.shape[1:], strict=True)
    )
    if not fits or len(images) == 0:
        raise AutoslimError(
            f"{what} has shape {list(images.shape)}; expected [N, {_named(shape)}], N at least 1, as the "
            "model takes them."
        )
    if not np.issubdtype(images.dtype, np.floating):
        raise AutoslimError(
            f"{what} is of type {images.dtype}; expected float32, normalised as the model was trained: "
            "(pixels / 255 - mean) / std for networks of autoslim."
        )
    if not np.isfinite(images).all():
        raise AutoslimError(f"{what} holds values that are not finite: check how they were normalised.")
    return np.ascontiguousarray(images, np.float32)


def _named(shape: tuple[int | None, ...]) -> str:
    return ", ".join("any" if n is None else str(n) for n in shape)


def _class_indices(labels: Any, count: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise AutoslimError(
            f"labels of shape {list(labels.shape)} and type {labels.dtype} were given with {count} images; "
            f"expected integers [{count}], one class index for each image."
        )
    return labels


def _noise(shape: tuple[int | None, ...]) -> np.ndarray:
    """Standard normal images, the same each time."""
    if None in shape:
        raise AutoslimError(
            f"The model takes images of any size, [N, {_named(shape)}]: give images=... to check on."
        )
    size = [NOISE_IMAGES, *(n for n in shape if n is not None)]
    return np.random.default_rng(0).standard_normal(size, np.float32)
