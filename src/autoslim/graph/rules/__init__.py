"""The table from layer class to rule. A layer that is not in it is frozen, and the user is warned."""

from __future__ import annotations

import keras

from autoslim.errors import AutoslimError
from autoslim.graph.own_weights import Constant, Weight
from autoslim.graph.rules.activation import (
    ACTIVATE,
    ACTIVATE_ZERO,
    ACTIVATION,
    ALPHA_DROPOUT,
    DROPOUT,
    GLU,
    MASKING,
    RELU,
    RESCALING,
    SOFTMAX,
)
from autoslim.graph.rules.applications import LAYER_SCALE, SCALED_SUM
from autoslim.graph.rules.base import (
    EACH,
    EACH_ZERO,
    NOISE,
    PASS,
    PASS_ZERO,
    LayerRule,
    NeedsCut,
    Unsupported,
    same_config,
)
from autoslim.graph.rules.convolution import CONV, DENSE, DEPTHWISE, PRELU, SEPARABLE, TRANSPOSED
from autoslim.graph.rules.elementwise import (
    ADD,
    DEFINED,
    FUNCTION,
    FUNCTIONS,
    MERGE,
    MERGING,
    MULTIPLY,
    SINGULAR,
    SINGULAR_MERGING,
)
from autoslim.graph.rules.kernels import CONV_BY, DEPTHWISE_BY
from autoslim.graph.rules.normalization import (
    BATCH_NORM,
    GROUP_NORM,
    INPUT_NORM,
    LAYER_NORM,
    RMS_NORM,
    UNIT_NORM,
)
from autoslim.graph.rules.own import CONSTANT, EMBEDDING, TAKE, WEIGHT
from autoslim.graph.rules.pieces import CONCATENATE, ITEM, PAD, SPLIT, STACK, UNSTACK
from autoslim.graph.rules.products import ATTENTION, EINSUM_DENSE, SUM_OF_PRODUCTS
from autoslim.graph.rules.recurrent import RECURRENT
from autoslim.graph.rules.reduction import (
    ALL,
    DEVIATION,
    INDEX,
    LOGSUMEXP,
    MAXIMUM,
    MEAN,
    MINIMUM,
    PRODUCT,
    SUM,
    VARIANCE,
)
from autoslim.graph.rules.shape import (
    DEPTH,
    EXPAND,
    FLATTEN,
    POSITIONS,
    REPEAT,
    RESHAPE,
    SQUEEZE,
    TILE,
    TRANSPOSE,
)
from autoslim.graph.rules.tried import tried_rule

__all__ = [
    "NAMED",
    "NOISE",
    "OPERATIONS",
    "RULES",
    "WHOLE",
    "LayerRule",
    "NeedsCut",
    "Unsupported",
    "keep_whole",
    "register_rule",
    "rule_for",
    "same_config",
    "stands_whole",
]

_L = keras.layers

RULES: dict[type, LayerRule] = {
    **dict.fromkeys((_L.Conv1D, _L.Conv2D, _L.Conv3D), CONV),
    **dict.fromkeys((_L.Conv1DTranspose, _L.Conv2DTranspose, _L.Conv3DTranspose), TRANSPOSED),
    _L.SeparableConv1D: SEPARABLE,
    _L.SeparableConv2D: SEPARABLE,
    _L.DepthwiseConv1D: DEPTHWISE,
    _L.DepthwiseConv2D: DEPTHWISE,
    _L.Dense: DENSE,
    _L.EinsumDense: EINSUM_DENSE,
    _L.Embedding: EMBEDDING,
    _L.PReLU: PRELU,
    **dict.fromkeys((_L.SimpleRNN, _L.LSTM, _L.GRU, _L.RNN), RECURRENT),
    **dict.fromkeys((_L.ConvLSTM1D, _L.ConvLSTM2D, _L.ConvLSTM3D), RECURRENT),
    _L.BatchNormalization: BATCH_NORM,
    _L.LayerNormalization: LAYER_NORM,
    _L.RMSNormalization: RMS_NORM,
    _L.GroupNormalization: GROUP_NORM,
    _L.UnitNormalization: UNIT_NORM,
    _L.Normalization: INPUT_NORM,
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
    _L.Masking: MASKING,
    _L.GaussianNoise: EACH,
    _L.AlphaDropout: ALPHA_DROPOUT,
    _L.Resizing: PASS,
    _L.Permute: TRANSPOSE,
    _L.LeakyReLU: ACTIVATE_ZERO,
    _L.ELU: ACTIVATE_ZERO,
    **dict.fromkeys((_L.GaussianDropout, _L.Identity, _L.ActivityRegularization), EACH_ZERO),
    **dict.fromkeys(
        (
            _L.SpatialDropout1D,
            _L.SpatialDropout2D,
            _L.SpatialDropout3D,
            _L.RepeatVector,
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

# Layers that Keras doesn't export.
NAMED: dict[tuple[str, str], LayerRule] = {
    ("keras.src.applications.convnext", "LayerScale"): LAYER_SCALE,
    ("keras.src.applications.convnext", "StochasticDepth"): PASS_ZERO,
    ("keras.src.applications.inception_resnet_v2", "CustomScaleLayer"): SCALED_SUM,
}

# keras.ops operations in a functional graph are instances of classes that Keras doesn't export.
_NUMPY: dict[str, LayerRule] = {
    **dict.fromkeys(FUNCTIONS["numpy"], FUNCTION),
    **dict.fromkeys([*SINGULAR["numpy"], *SINGULAR_MERGING], DEFINED),
    **dict.fromkeys(MERGING, MERGE),
    "Multiply": MULTIPLY,
    "Concatenate": CONCATENATE,
    "Stack": STACK,
    "Split": SPLIT,
    "GetItem": ITEM,
    "Pad": PAD,
    "Reshape": RESHAPE,
    **dict.fromkeys(("Transpose", "Moveaxis", "Swapaxes"), TRANSPOSE),
    "ExpandDims": EXPAND,
    "Squeeze": SQUEEZE,
    "Repeat": REPEAT,
    "Tile": TILE,
    "Take": TAKE,
    **dict.fromkeys(("Flip", "Roll", "Cumsum", "Cumprod", "Sort"), POSITIONS),
    **dict.fromkeys(("Sum", "Any"), SUM),
    "Mean": MEAN,
    **dict.fromkeys(("Max", "Amax"), MAXIMUM),
    **dict.fromkeys(("Min", "Amin"), MINIMUM),
    **dict.fromkeys(("Argmax", "Argmin"), INDEX),
    "Prod": PRODUCT,
    "All": ALL,
    "Var": VARIANCE,
    "Std": DEVIATION,
    **dict.fromkeys(("Einsum", "Matmul"), SUM_OF_PRODUCTS),
    "Tanh": ACTIVATE_ZERO,
}
_NN: dict[str, LayerRule] = {
    **dict.fromkeys(
        ("Relu", "Relu6", "LeakyRelu", "Elu", "Celu", "Selu", "Gelu", "Silu", "HardSilu", "HardTanh"),
        ACTIVATE_ZERO,
    ),
    **dict.fromkeys(("Softsign", "SoftShrink", "TanhShrink", "HardShrink"), ACTIVATE_ZERO),
    **dict.fromkeys(("Sigmoid", "SparseSigmoid", "HardSigmoid", "Softplus", "LogSigmoid"), ACTIVATE),
    **dict.fromkeys(("SparsePlus", "Squareplus", "Threshold"), ACTIVATE),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Sparsemax"), SOFTMAX),
    "Conv": CONV_BY,
    "DepthwiseConv": DEPTHWISE_BY,
    "Glu": GLU,
    "Normalize": UNIT_NORM,
    **dict.fromkeys(("MaxPool", "AveragePool"), PASS_ZERO),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), DEPTH),
    "DotProductAttention": ATTENTION,
}
_BY_MODULE: dict[str, dict[str, LayerRule]] = {
    "numpy": _NUMPY,
    "nn": _NN,
    "core": {**dict.fromkeys(FUNCTIONS["core"], FUNCTION), "Unstack": UNSTACK},
    "math": {
        **dict.fromkeys(FUNCTIONS["math"], FUNCTION),
        **dict.fromkeys(SINGULAR["math"], DEFINED),
        "Logsumexp": LOGSUMEXP,
    },
    "image": {"Resize": PASS_ZERO},
}
OPERATIONS: dict[tuple[str, str], LayerRule] = {
    (f"keras.src.ops.{module}", name): rule
    for module, own in _BY_MODULE.items()
    for name, rule in own.items()
} | {("keras.src.activations.activations", "ReLU"): RELU}

WHOLE: set[type] = set()  # classes that are not looked into


def rule_for(op: keras.Operation) -> LayerRule | None:
    """The rule of a layer or operation, or None: that of the table, or one that is found by trying.

    The latter are of layers of the user's that treat every channel alike.
    """
    return _written_rule(op) or (tried_rule(op) if isinstance(op, keras.Layer) else None)


def stands_whole(op: keras.Operation) -> bool:
    """Whether a layer or operation is a node of its own, as a rule covers it; others are looked into.

    So is a layer whose rule is found by trying if its class is not registered with Keras: a file that holds
    it could not be loaded. Where it can't be looked into, that rule holds.
    """
    if type(op) in WHOLE or _written_rule(op) is not None:
        return True
    name = keras.saving.get_registered_name(type(op))
    return keras.saving.get_registered_object(name) is type(op) and rule_for(op) is not None


def _written_rule(op: keras.Operation) -> LayerRule | None:
    """The rule of a layer or operation in the table, or None.

    Subclasses of a layer don't inherit its rule: their `call` may differ.
    """
    if isinstance(op, Weight):
        return WEIGHT
    if isinstance(op, Constant):
        return CONSTANT
    if type(op) is _L.RNN and isinstance(op.cell, _L.StackedRNNCells):
        return None  # written out, cell by cell
    name = (type(op).__module__, type(op).__name__)
    if isinstance(op, keras.Layer):
        return RULES.get(type(op)) or NAMED.get(name)
    return OPERATIONS.get(name)


def register_rule(layer_class: type[keras.Layer], rule: LayerRule | type[keras.Layer]) -> None:
    """Tell autoslim about a layer of your own. Graphs made from then on know it.

    >>> class Scale(keras.layers.Layer):
    ...     def build(self, shape):
    ...         self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")
    ...     def call(self, x):
    ...         return x * self.scale
    >>> register_rule(Scale, LayerRule(
    ...     weights=lambda layer, inputs, outputs: {"scale": (inputs[0],)},
    ...     run=lambda layer, inputs, weights, call: inputs[0] * weights["scale"],
    ... ))

    Args:
        layer_class: the class itself; its subclasses need rules of their own.
        rule: what holds for it; or another layer class, whose rule holds for it too.

    Raises:
        AutoslimError: if `layer_class` is not a layer class, or `rule` not a rule or a class with one.
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.Layer)):
        raise AutoslimError(f"layer_class={layer_class!r}: expected a subclass of keras.layers.Layer.")
    known = rule if isinstance(rule, LayerRule) else RULES.get(rule)
    if known is None:
        raise AutoslimError(
            f"rule={rule!r}: expected an autoslim.LayerRule, or a layer class that has a rule."
        )
    RULES[layer_class] = known


def keep_whole(layer_class: type[keras.Layer]) -> None:
    """Tell autoslim not to look into layers of this class; they keep their full width.

    Args:
        layer_class: the class itself; its subclasses are looked into.

    Raises:
        AutoslimError: if it is not a layer class.
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.Layer)):
        raise AutoslimError(f"layer_class={layer_class!r}: expected a subclass of keras.layers.Layer.")
    WHOLE.add(layer_class)
