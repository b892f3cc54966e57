"""What is given to an export: a model with one input and output, and images that fit it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.exporting.deployment import Deployment, Images, Preprocessing
from autoslim.exporting.formats import FORMATS, check_sizes

if TYPE_CHECKING:
    import keras

NOISE_IMAGES = 32


@dataclass(frozen=True)
class Inputs:
    """What files are calibrated with and checked on."""

    calibration: Images | None  # as the file takes them: N of float32 or uint8 [H, W, C]
    images: Images  # likewise
    labels: Any | None  # integers [M], or what another task learns
    prepared: np.ndarray  # the images as the network takes them, float32 [M, H, W, C]

    @property
    def first(self) -> Inputs:
        """The first image alone, without its label."""
        return Inputs(None, self.images[:1], None, self.prepared[:1])


def check_inputs(
    model: keras.Model,
    formats: Sequence[str],
    calibration: Any,
    images: Any,
    labels: Any,
    deployment: Deployment | None = None,
) -> Inputs:
    """The images to calibrate with and to check on; see `export`.

    Raises:
        AutoslimError: if the model has several inputs or outputs, or images or labels do not fit.
    """
    shape = _input_shape(model)
    _check_precision(model, formats)
    if deployment is not None:
        _check_shape(deployment.preprocessing, shape)
        if deployment.inside:
            return _check_pixels(formats, calibration, images, labels, deployment)
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
        images = noise(shape) if calibration is None else calibration
    images = _fitting(images, shape, "images")
    labels = None if labels is None else _as_many(labels, len(images))
    return Inputs(calibration, images, labels, images)


def _check_shape(how: Preprocessing, shape: tuple[int | None, ...]) -> None:
    if len(shape) != 3 or any(want not in (None, have) for want, have in zip(shape, how.shape, strict=True)):
        raise AutoslimError(
            f"The preprocessing makes images of shape {list(how.shape)}, and the model takes "
            f"[{_named(shape)}]: expected the same."
        )


def _check_pixels(
    formats: Sequence[str], calibration: Any, images: Any, labels: Any, deployment: Deployment
) -> Inputs:
    """Images for a file that takes pixels."""
    if deployment.input_size is None:
        check_sizes(formats)
    if calibration is None and any(FORMATS[name].calibrated for name in formats):
        raise AutoslimError(
            "litert_int8 needs calibration images: give calibration=..., some 200 training images, uint8 "
            "[h, w, channels] each."
        )
    if images is None:
        raise AutoslimError(
            "The preprocessing goes inside the files, and no images were given to check it on: give "
            "images=..., uint8 [h, w, channels] each."
        )
    channels = deployment.preprocessing.shape[2]
    for name, some in (("calibration", calibration), ("images", images)):
        for image in () if some is None else some:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != channels:
                raise AutoslimError(
                    f"{name} holds an image of shape {list(image.shape)} and type {image.dtype}; expected "
                    f"uint8 [h, w, {channels}]: the preprocessing goes inside the files."
                )
    if len(images) == 0:
        raise AutoslimError("images is empty: expected at least one, to check the files on.")
    taken = deployment.inputs(list(images))
    return Inputs(
        None if calibration is None else deployment.inputs(list(calibration)),
        taken,
        None if labels is None else _as_many(labels, len(taken)),
        deployment.preprocessing.prepared(taken),
    )


def _input_shape(model: Any) -> tuple[int | None, ...]:
    import keras

    if not isinstance(model, keras.Model):
        raise AutoslimError(f"Got a {type(model).__name__} to export; expected a keras.Model.")
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    if len(inputs) != 1 or len(outputs) != 1:
        raise AutoslimError(
            f"Model {model.name!r} has {len(inputs)} inputs and {len(outputs)} outputs "
            f"{[list(output.shape) for output in outputs]}; expected one input of images and one "
            "output. Wrap it: keras.Model(image, model(image))."
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


def _as_many(labels: Any, count: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape[:1] != (count,):
        raise AutoslimError(
            f"labels of shape {list(labels.shape)} and type {labels.dtype} were given with {count} images; "
            f"expected labels of {count} images, such as integers [{count}], one class index for each."
        )
    return labels


def noise(shape: tuple[int | None, ...]) -> np.ndarray:
    """Standard normal images, the same each time."""
    if None in shape:
        raise AutoslimError(
            f"The model takes images of any size, [N, {_named(shape)}]: give images=... to check on."
        )
    size = [NOISE_IMAGES, *(n for n in shape if n is not None)]
    return np.random.default_rng(0).standard_normal(size, np.float32)
