"""The table from layer class to rule. A layer that is not in it is frozen, and the user is told."""

from __future__ import annotations

import keras

from autoslim.graph.rules.activation import ACTIVATION, DROPOUT, RELU, RESCALING, SOFTMAX
from autoslim.graph.rules.base import PASS, PASS_ZERO, LayerRule, Unsupported, same_config
from autoslim.graph.rules.convolution import CONV, CONV2D, DENSE, DEPTHWISE, PRELU
from autoslim.graph.rules.merging import ADD, CONCATENATE, MERGE, MULTIPLY
from autoslim.graph.rules.normalization import BATCH_NORM
from autoslim.graph.rules.shape import FLATTEN, RESHAPE

__all__ = ["OPERATIONS", "RULES", "LayerRule", "Unsupported", "rule_for", "same_config"]

_L = keras.layers

RULES: dict[type, LayerRule] = {
    _L.Conv2D: CONV2D,
    _L.Conv1D: CONV,
    _L.Conv3D: CONV,
    _L.DepthwiseConv1D: DEPTHWISE,
    _L.DepthwiseConv2D: DEPTHWISE,
    _L.Dense: DENSE,
    _L.PReLU: PRELU,
    _L.BatchNormalization: BATCH_NORM,
    _L.Add: ADD,
    _L.Subtract: ADD,
    _L.Average: ADD,
    _L.Maximum: ADD,
    _L.Minimum: ADD,
    _L.Multiply: MULTIPLY,
    _L.Concatenate: CONCATENATE,
    _L.Flatten: FLATTEN,
    _L.Reshape: RESHAPE,
    _L.Activation: ACTIVATION,
    _L.ReLU: RELU,
    _L.Softmax: SOFTMAX,
    _L.Dropout: DROPOUT,
    _L.Rescaling: RESCALING,
    _L.GaussianNoise: PASS,
    **dict.fromkeys(
        (
            _L.LeakyReLU,
            _L.ELU,
            _L.GaussianDropout,
            _L.SpatialDropout1D,
            _L.SpatialDropout2D,
            _L.SpatialDropout3D,
            _L.Identity,
            _L.MaxPooling1D,
            _L.MaxPooling2D,
            _L.MaxPooling3D,
            _L.AveragePooling1D,
            _L.AveragePooling2D,
            _L.AveragePooling3D,
            _L.GlobalMaxPooling1D,
            _L.GlobalMaxPooling2D,
            _L.GlobalMaxPooling3D,
            _L.GlobalAveragePooling1D,
            _L.GlobalAveragePooling2D,
            _L.GlobalAveragePooling3D,
            _L.ZeroPadding1D,
            _L.ZeroPadding2D,
            _L.ZeroPadding3D,
            _L.Cropping1D,
            _L.Cropping2D,
            _L.Cropping3D,
            _L.UpSampling1D,
            _L.UpSampling2D,
            _L.UpSampling3D,
        ),
        PASS_ZERO,
    ),
}

# keras.ops operations in a functional graph are instances of classes that Keras doesn't export.
OPERATIONS: dict[tuple[str, str], LayerRule] = {
    **{("keras.src.ops.numpy", name): MERGE for name in ("Add", "Subtract", "Maximum", "Minimum")},
    ("keras.src.ops.numpy", "Multiply"): MULTIPLY,
    ("keras.src.ops.numpy", "Tanh"): PASS_ZERO,
    ("keras.src.ops.core", "Cast"): PASS_ZERO,
    ("keras.src.activations.activations", "ReLU"): RELU,
    **{
        ("keras.src.ops.nn", name): PASS_ZERO
        for name in ("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Gelu", "Silu", "HardSilu")
    },
    **{("keras.src.ops.nn", name): PASS for name in ("Sigmoid", "HardSigmoid", "Softplus")},
}


def rule_for(op: keras.Operation) -> LayerRule | None:
    """The rule of a layer or operation, or None.

    Subclasses of a layer don't inherit its rule: their `call` may differ.
    """
    if isinstance(op, keras.Layer):
        return RULES.get(type(op))
    return OPERATIONS.get((type(op).__module__, type(op).__name__))
