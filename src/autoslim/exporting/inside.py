"""A network with its preprocessing: a Keras model from uint8 pixels to logits, of plain layers.

Antialiased bilinear resizing is linear along each side, so that it is two products with matrices, and the
crop is part of them. LiteRT and ONNX have no resizing that does the same; matrix products they all have.

    y[i, j] = sum over k, l of A[i, k] x[k, l] B[j, l]
    A[i, k] ~ max(0, 1 - |k + 1/2 - centre_i| / max(s, 1)) for the pixels k of the crop, each row's sum 1,
    centre_i = top + (i + 1/2) s, s = rows of the crop / rows wanted

as `tf.image.resize(antialias=True)` computes it (ScaleAndTranslate with a triangle kernel).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autoslim.exporting.deployment import Deployment, Preprocessing

if TYPE_CHECKING:
    import keras


def with_preprocessing(model: keras.Model, deployment: Deployment, *, quantised: bool = False) -> keras.Model:
    """The network with crop, resizing and normalisation before it.

    Args:
        model: takes float32 [N, height, width, channels], normalised; returns logits.
        deployment: its preprocessing, and the size of images to take; None: any.
        quantised: for a file in int8, which keeps pixels on levels by itself: takes float32 pixels and has no
            operation that int8 lacks. Needs an input size.

    Returns:
        Model: uint8 [N, h, w, channels] -> logits. `keras.saving.load_model` reads it without autoslim.
    """
    import keras

    how = deployment.preprocessing
    size = deployment.input_size or (None, None)
    kind = "float32" if quantised else "uint8"
    image = keras.Input((*size, how.shape[2]), dtype=kind, name="pixels")
    x = image if quantised else keras.ops.cast(image, "float32")
    x = _any_size(x, how) if deployment.input_size is None else _fixed_size(x, how, deployment.input_size)
    if not quantised:
        x = keras.ops.clip(keras.ops.round(x), 0.0, 255.0)
    scale = [1 / (255 * deviation) for deviation in how.std]
    shift = [-mean / deviation for mean, deviation in zip(how.mean, how.std, strict=True)]
    x = keras.layers.Rescaling(scale, shift, dtype="float32", name="normalise")(x)
    return keras.Model(image, model(x), name=f"{model.name}_with_preprocessing")


def _fixed_size(x: Any, how: Preprocessing, size: tuple[int, int]) -> Any:
    """Resizing by two dense layers whose weights are the matrices."""
    import keras

    height, width, _ = how.shape
    rows, columns = resizing(how, size)

    def side(x: Any, matrix: np.ndarray, name: str) -> Any:
        layer = keras.layers.Dense(len(matrix), use_bias=False, trainable=False, dtype="float32", name=name)
        y = layer(x)
        layer.set_weights([matrix.T])
        return y

    x = keras.layers.Permute((3, 1, 2), name="planes")(x)  # [N, channels, h, w]
    x = side(x, columns, f"to_width_{width}")
    x = keras.layers.Permute((1, 3, 2), name="columns_first")(x)  # [N, channels, width, h]
    x = side(x, rows, f"to_height_{height}")
    return keras.layers.Permute((3, 2, 1), name="channels_last")(x)


def resizing(how: Preprocessing, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The matrices for images of one size: float32 [height, h] and [width, w]."""
    height, width, _ = how.shape
    fits = np.float32(min(size[0] * width, size[1] * height))
    matrices = []
    for there, here, other in zip(size, (height, width), (width, height), strict=True):
        cut = float(np.clip(np.rint(fits / np.float32(other) * np.float32(how.crop)), 1, there))
        top, scale = (there - cut) // 2, cut / here
        place = np.arange(there) + 0.5
        centre = top + (np.arange(here)[:, None] + 0.5) * scale
        weights = np.maximum(0, 1 - np.abs(place - centre) / max(scale, 1))
        weights *= (place > top) & (place < top + cut)
        matrices.append((weights / weights.sum(1, keepdims=True)).astype(np.float32))
    return matrices[0], matrices[1]


def _any_size(x: Any, how: Preprocessing) -> Any:
    """The same with matrices that the model makes for the size of the images it is given."""
    from keras import ops

    height, width, _ = how.shape
    ones = ops.ones_like(x[0, :, 0, 0]), ops.ones_like(x[0, 0, :, 0])
    there = ops.sum(ones[0]), ops.sum(ones[1])
    fits = ops.minimum(there[0] * width, there[1] * height)
    rows, columns = (
        _matrix(ones[side], there[side], fits / how.shape[1 - side] * how.crop, how.shape[side])
        for side in (0, 1)
    )
    x = ops.transpose(x, (0, 3, 1, 2))
    x = ops.matmul(ops.matmul(rows, x), ops.transpose(columns))
    return ops.transpose(x, (0, 2, 3, 1))


def _matrix(ones: Any, there: Any, cut: Any, here: int) -> Any:
    """[here, there], for a crop of `cut` pixels before rounding, from the middle of `there`."""
    from keras import ops

    place = ops.cumsum(ones) - 0.5  # of the pixels' centres
    cut = ops.maximum(ops.minimum(ops.round(cut), there), 1.0)
    top = ops.floor((there - cut) / 2)
    scale = cut / here
    steps = np.arange(here, dtype=np.float32)[:, None] + 0.5
    centre = top + ops.multiply(scale, steps)
    near = ops.relu(1 - ops.abs(place - centre) / ops.maximum(scale, 1.0))
    kept = ops.cast(place > top, "float32") * ops.cast(place < top + cut, "float32")
    weights = near * kept
    return weights / ops.sum(weights, -1, keepdims=True)
