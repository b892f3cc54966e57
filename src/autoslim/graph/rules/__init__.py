"""The table from layer class to rule. A layer that is not in it is frozen, and the user is told."""

from __future__ import annotations

import keras

from autoslim.graph.rules.base import PASS, PASS_ZERO, LayerRule, Unsupported
from autoslim.graph.rules.convolution import CONV, CONV2D, DENSE, DEPTHWISE, PRELU
from autoslim.graph.rules.merging import CONCATENATE, MERGE, MERGE_ZERO
from autoslim.graph.rules.normalization import BATCH_NORM
from autoslim.graph.rules.shape import FLATTEN, RESHAPE

__all__ = ["RULES", "LayerRule", "Unsupported", "rule_for"]

_L = keras.layers

RULES: dict[type, LayerRule] = {
    _L.Conv2D: CONV2D,
    _L.Conv1D: CONV,
    _L.Conv3D: CONV,
    _L.DepthwiseConv2D: DEPTHWISE,
    _L.Dense: DENSE,
    _L.PReLU: PRELU,
    _L.BatchNormalization: BATCH_NORM,
    _L.Add: MERGE_ZERO,
    _L.Subtract: MERGE_ZERO,
    _L.Average: MERGE_ZERO,
    _L.Maximum: MERGE_ZERO,
    _L.Minimum: MERGE_ZERO,
    _L.Multiply: MERGE_ZERO,
    _L.Concatenate: CONCATENATE,
    _L.Flatten: FLATTEN,
    _L.Reshape: RESHAPE,
    **dict.fromkeys(
        (
            _L.ReLU,
            _L.LeakyReLU,
            _L.ELU,
            _L.Dropout,
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


def _connect_activation(op, inputs, node, grouping):
    from autoslim.graph.rules.base import freeze_softmax, same_axis

    freeze_softmax(op, inputs[0], node.name, grouping)
    return same_axis(op, inputs, node, grouping)


RULES[_L.Activation] = PASS._replace(connect=_connect_activation)
RULES[_L.GaussianNoise] = PASS

# keras.ops operations in a functional graph are instances of classes that Keras doesn't export.
OPERATIONS: dict[str, LayerRule] = {"Add": MERGE, "Subtract": MERGE, "Multiply": MERGE, "Maximum": MERGE}


def rule_for(op: keras.Operation) -> LayerRule | None:
    """The rule of a layer or operation, or None. Subclasses of a layer don't inherit its rule: their `call` may differ."""
    if isinstance(op, keras.Layer):
        return RULES.get(type(op))
    if type(op).__module__ == "keras.src.ops.numpy":
        return OPERATIONS.get(type(op).__name__)
    return None
