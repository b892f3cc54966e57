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

if TYPE_CHECKING:
    import keras


class Source:
    """A model on its way into files, and the SavedModel from which all LiteRT files are converted.

    Args:
        model: functional, one input and one output.
        calibration: float32 [N, H, W, C], as the model takes them; None: no format needs them.
        folder: for what is needed on the way only.
    """

    def __init__(self, model: keras.Model, calibration: np.ndarray | None, folder: Path) -> None:
        self.model = model
        self.calibration = calibration
        self._folder = folder

    @cached_property
    def saved_model(self) -> Path:
        """A folder with the model as a SavedModel."""
        path = self._folder / "source"
        self.model.export(str(path), format="tf_saved_model", verbose=False)
        return path


def write_keras(source: Source, path: Path) -> None:
    """A .keras file: configuration and weights, read by Keras without autoslim."""
    source.model.save(path)


def write_saved_model(source: Source, path: Path) -> None:
    """A SavedModel folder, with the endpoint `serve` for any number of images."""
    shutil.copytree(source.saved_model, path)


def write_litert(source: Source, path: Path) -> None:
    """A LiteRT file in float32."""
    path.write_bytes(_converter(source).convert())


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
    the converter, not a silent return to float32.
    """
    import tensorflow as tf

    converter = _converter(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: _one_by_one(source.calibration)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    path.write_bytes(converter.convert())


def write_onnx(source: Source, path: Path) -> None:
    """An ONNX file (Keras' own exporter, by tf2onnx), for any number of images."""
    logging.getLogger("tf2onnx").setLevel(logging.WARNING)  # it tells versions and every optimisation
    with warnings.catch_warnings():
        # Keras looks up `np.object` to mend tf2onnx, which NumPy 2 warns of.
        warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)
        source.model.export(str(path), format="onnx", verbose=False)


def _converter(source: Source) -> Any:
    """From the SavedModel: conversion from concrete functions yields files that do not run."""
    import tensorflow as tf

    return tf.lite.TFLiteConverter.from_saved_model(str(source.saved_model))


def _one_by_one(images: np.ndarray | None) -> Iterator[list[np.ndarray]]:
    assert images is not None
    for index in range(len(images)):
        yield [images[index : index + 1]]
