"""File -> function from images to logits, by the runtime that the file is made for, on the CPU.

None of them needs the rest of autoslim, and LiteRT and ONNX Runtime need no TensorFlow.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Runtime = Callable[[np.ndarray], np.ndarray]
"""Images float32 [B, H, W, C] -> logits float32 [B, classes]."""


def open_keras(path: Path) -> Runtime:
    """Keras: `keras.saving.load_model`, in safe mode; the call is traced once as a graph."""
    import keras

    return call_keras(keras.saving.load_model(path, compile=False))


def call_keras(model: Any) -> Runtime:
    """A Keras model in memory, in inference, traced once as a graph for any number of images.

    On the CPU also where there is an accelerator: its shortened arithmetic (TF32) cannot serve as reference.
    """
    import tensorflow as tf

    shape = [None, *model.inputs[0].shape[1:]]
    spec = tf.TensorSpec(shape, model.inputs[0].dtype)
    traced = tf.function(lambda images: model(images, training=False), [spec], autograph=False)

    def run(images: np.ndarray) -> np.ndarray:
        with tf.device("CPU:0"):
            return np.asarray(tf.cast(traced(tf.cast(images, spec.dtype)), tf.float32))

    return run


def open_saved_model(path: Path) -> Runtime:
    """TensorFlow: `tf.saved_model.load`, endpoint `serve`."""
    import tensorflow as tf

    with tf.device("CPU:0"):
        loaded = tf.saved_model.load(str(path))

    def run(images: np.ndarray) -> np.ndarray:
        with tf.device("CPU:0"):  # `loaded` is kept: its variables go with it
            return np.asarray(tf.cast(loaded.serve(images), tf.float32))

    return run


def open_litert(path: Path) -> Runtime:
    """LiteRT: `ai_edge_litert`, or the interpreter within TensorFlow; one thread, image by image.

    Image by image because that is how such files are used, and not every file lets its batch be resized.
    """
    interpreter = _interpreter(path)
    source = interpreter.get_input_details()[0]
    target = interpreter.get_output_details()[0]["index"]
    allocated: tuple[int, ...] = ()

    def one(image: np.ndarray) -> np.ndarray:
        nonlocal allocated
        if image.shape != allocated:
            if image.shape != tuple(source["shape"]):
                interpreter.resize_tensor_input(source["index"], image.shape)
            interpreter.allocate_tensors()
            allocated = image.shape
        interpreter.set_tensor(source["index"], image.astype(source["dtype"], copy=False))
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(target), np.float32)

    return lambda images: np.concatenate([one(images[k : k + 1]) for k in range(len(images))])


def _interpreter(path: Path) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter
    with warnings.catch_warnings():
        # TensorFlow's own interpreter works and says that it will move to ai_edge_litert.
        warnings.filterwarnings("ignore", r"(?s).*tf\.lite\.Interpreter is deprecated")
        return Interpreter(model_path=str(path), num_threads=1)


def open_onnx(path: Path) -> Runtime:
    """ONNX Runtime on the CPU, one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: np.asarray(session.run(None, {name: images})[0], np.float32)
