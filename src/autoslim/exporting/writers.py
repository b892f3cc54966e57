"""Keras model -> file, one function for each format. Each writes to a path where nothing stands yet."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoslim.exporting.deployment import Deployment, Images
from autoslim.exporting.inside import with_preprocessing

if TYPE_CHECKING:
    import keras


class Source:
    """A model on its way into files, and the SavedModel from which all LiteRT files are converted.

    Args:
        model: functional, one input and one output.
        calibration: float32 [N, H, W, C], as the model takes them, or uint8 pixels, as
            `Deployment.inputs` returns them; None: no format needs them.
        folder: for what is needed on the way only.
        deployment: given if the preprocessing goes inside: calibration images are uint8 then.
    """

    def __init__(
        self,
        model: keras.Model,
        calibration: Images | None,
        folder: Path,
        deployment: Deployment | None = None,
    ) -> None:
        self.network = model
        self.calibration = calibration
        self._folder = folder
        self.deployment = deployment if deployment is not None and deployment.inside else None

    @cached_property
    def model(self) -> keras.Model:
        """What is written: the network, with its preprocessing where that goes inside."""
        if self.deployment is None:
            return self.network
        model = with_preprocessing(self.network, self.deployment)
        size = self.deployment.input_size or self.deployment.preprocessing.shape[:2]
        model(np.zeros((1, *size, self.deployment.preprocessing.shape[2]), np.uint8), training=False)
        return model

    @cached_property
    def saved_model(self) -> Path:
        """A folder with the model as a SavedModel."""
        path = self._folder / "source"
        self.model.export(str(path), format="tf_saved_model", verbose=False)
        return path

    def temporary(self, name: str) -> Path:
        """A path for intermediate files."""
        return self._folder / name


def write_keras(source: Source, path: Path) -> None:
    """A .keras file: configuration and weights, read by Keras without autoslim."""
    source.model.save(path)


def write_saved_model(source: Source, path: Path) -> None:
    """A SavedModel folder, with the endpoint `serve` for any number of images."""
    shutil.copytree(source.saved_model, path)


def write_litert(source: Source, path: Path) -> None:
    """A LiteRT file in float32."""
    path.write_bytes(_converter(source).convert())


def write_litert_to_time(source: Source, path: Path) -> None:
    """A LiteRT file with the operations of `write_litert`'s, made several times as fast.

    Variables become constants before the conversion, which then needs no SavedModel. It is for timing.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    model = source.model
    spec = tf.TensorSpec([None, *model.inputs[0].shape[1:]], model.inputs[0].dtype)
    traced = tf.function(lambda images: model(images, training=False), [spec], autograph=False)
    frozen = convert_variables_to_constants_v2(traced.get_concrete_function())
    warns = logging.getLogger("absl")
    level = warns.level
    try:
        warns.setLevel(logging.ERROR)  # it warns that conversion without the model is the older way
        path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert())
    finally:
        warns.setLevel(level)


def write_litert_float16(source: Source, path: Path) -> None:
    """A LiteRT file with weights in float16: half the size; input and output stay float32."""
    import tensorflow as tf

    converter = _converter(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    path.write_bytes(converter.convert())


def write_litert_int8(source: Source, path: Path) -> None:
    """A LiteRT file that computes in int8 throughout; input and output stay float32, converted at the edges.

    Ranges of activations come from the calibration images. An operation that has no int8 form is an error of
    the converter, not a silent return to float32. With the preprocessing inside the input is uint8.
    """
    import tensorflow as tf

    if source.deployment is None:
        converter = _converter(source)
        converter.representative_dataset = lambda: _one_by_one(source.calibration)
    else:
        model = with_preprocessing(source.network, source.deployment, quantised=True)
        folder = source.temporary("quantised")
        model.export(str(folder), format="tf_saved_model", verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
        converter.representative_dataset = lambda: _whole_range(source.calibration)
        converter.inference_input_type = tf.uint8
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    path.write_bytes(converter.convert())


def write_onnx(source: Source, path: Path) -> None:
    """An ONNX file (Keras' own exporter, by tf2onnx), for any number of images."""
    logging.getLogger("tf2onnx").setLevel(logging.WARNING)  # it tells versions and every optimisation
    with warnings.catch_warnings():
        # Keras looks up `np.object` to mend tf2onnx, which NumPy 2 warns of.
        warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)
        source.model(source.model.input)  # Keras refuses a network that was never called
        source.model.export(str(path), format="onnx", verbose=False)


def _converter(source: Source) -> Any:
    """From the SavedModel: conversion from concrete functions yields files that do not run."""
    import tensorflow as tf

    return tf.lite.TFLiteConverter.from_saved_model(str(source.saved_model))


def _one_by_one(images: Images | None) -> Iterator[list[np.ndarray]]:
    assert images is not None
    for index in range(len(images)):
        yield [images[index][None]]


def _whole_range(images: Images | None) -> Iterator[list[np.ndarray]]:
    """Pixels in float32, and one image with both ends of their range: a level of the input is one of 256."""
    assert images is not None
    for (image,) in _one_by_one(images):
        yield [image.astype(np.float32)]
    ends = images[0][None].astype(np.float32)
    ends[:, 0, 0], ends[:, -1, -1] = 0, 255
    yield [ends]
