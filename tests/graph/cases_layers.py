"""More rows of the table of cases: a row for every further kind of layer or operation."""

import keras
import numpy as np
from building import CLASSES, IMAGE, chain, conv, finish

from autoslim import LayerRule, register_rule

L = keras.layers
ops = keras.ops


def transposed():
    """Up and down again; strides wider than the kernel, padding of the output."""
    return chain(
        conv(5, 2, strides=2),
        L.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu"),
        L.Conv2DTranspose(4, (2, 1), strides=(3, 2), use_bias=False),
        conv(5, 3, strides=3),
        L.Conv2DTranspose(3, 3, strides=2, padding="same", output_padding=0),
        L.BatchNormalization(),
    )


def transposed_1d():
    return chain(
        L.Conv1D(4, 3),
        L.Conv1DTranspose(5, 3, strides=2, activation="relu"),
        L.Conv1DTranspose(6, 2, padding="same"),
        L.Flatten(),
        shape=(6, 2),
    )


def transposed_3d():
    return chain(
        L.Conv3D(3, 2),
        L.Conv3DTranspose(4, 2, strides=2, padding="same"),
        L.Conv3DTranspose(3, 2),
        shape=(3, 3, 3, 2),
    )


def separable():
    return chain(
        conv(5),
        L.SeparableConv2D(6, 3, padding="same", depth_multiplier=2, activation="relu"),
        L.SeparableConv2D(4, 2, strides=2, use_bias=False),
        L.BatchNormalization(),
        L.SeparableConv2D(5, 3, padding="same", dilation_rate=2),
        L.DepthwiseConv2D(2, padding="same", dilation_rate=3),
        L.UpSampling2D(2),
        L.DepthwiseConv2D(2, dilation_rate=2),
    )


def separable_1d():
    return chain(
        L.Conv1D(4, 3),
        L.SeparableConv1D(5, 3, padding="same", dilation_rate=2),
        L.SeparableConv1D(6, 3, strides=2, depth_multiplier=2),
        shape=(12, 2),
    )


def separable_of_concatenation():
    x = keras.Input(IMAGE)
    y = L.Concatenate()([conv(3)(x), conv(4)(x)])
    return finish(x, L.SeparableConv2D(5, 3, depth_multiplier=2)(y))


def grouped_1d():
    return chain(
        L.Conv1D(8, 3, name="before"),
        L.Conv1D(12, 3, groups=4, padding="causal", name="grouped"),
        L.Conv1D(12, 3, groups=4, padding="same", dilation_rate=2),
        L.Conv1D(8, 1, name="between"),
        L.Conv1D(6, 3, groups=2, strides=2, padding="same"),
        L.BatchNormalization(),
        shape=(12, 2),
    )


def grouped_of_concatenation():
    """Blocks of two channels in each of two concatenated tensors."""
    x = keras.Input(IMAGE)
    y = L.Concatenate()([conv(4, name="a")(x), conv(6, name="b")(x)])
    return finish(x, L.ReLU()(conv(15, groups=5, name="grouped")(y)))


def grouped_and_shuffled():
    """A unit of ShuffleNet: what comes out of each group goes to all, behind a depthwise convolution."""
    x = keras.Input(IMAGE)
    y = conv(8, name="stem")(x)
    z = conv(8, 1, groups=2, name="squeeze")(y)
    z = L.Reshape((6, 6, 8))(L.Permute((1, 2, 4, 3))(L.Reshape((6, 6, 2, 4))(z)))
    z = conv(8, 1, groups=2, name="expand")(L.DepthwiseConv2D(3, padding="same")(z))
    return finish(x, conv(4, 1, groups=2, name="next")(L.Concatenate()([y, z])))


def batch_norms():
    return chain(
        conv(6, use_bias=False),
        L.BatchNormalization(scale=False, center=False),
        conv(5),
        L.BatchNormalization(scale=False, epsilon=1e-6),
        L.BatchNormalization(center=False, momentum=0.5),
        L.GlobalAveragePooling2D(),
        L.Dense(5),
        L.BatchNormalization(),
    )


def layer_norms():
    """Over the channels, over everything, over the positions only."""
    return chain(
        conv(6),
        L.LayerNormalization(),
        conv(5),
        L.LayerNormalization(scale=False, center=False),
        conv(4),
        L.LayerNormalization(axis=(1, 2, 3)),
        conv(5),
        L.LayerNormalization(axis=(1, 2), center=False),
        L.LayerNormalization(axis=[2, 3], scale=False),
        L.Flatten(),
        L.LayerNormalization(),
    )


def layer_norm_of_concatenation():
    x = keras.Input(IMAGE)
    y = L.Concatenate()([conv(3)(x), conv(5)(x)])
    return finish(x, conv(4)(L.LayerNormalization(epsilon=1e-6)(y)))


def other_norms():
    return chain(
        conv(5),
        L.RMSNormalization(),
        conv(4),
        L.RMSNormalization(axis=(1, 2, 3)),
        L.UnitNormalization(),
        conv(6),
        L.UnitNormalization(axis=(1, 2, 3)),
        L.UnitNormalization(axis=1),
    )


def group_norms():
    """In blocks of channels, of all channels, of each channel by itself."""
    return chain(
        conv(8, name="blocks"),
        L.GroupNormalization(4),
        L.ReLU(),
        conv(5, name="all"),
        L.GroupNormalization(1, epsilon=1e-5),
        conv(6, name="each"),
        L.GroupNormalization(-1, scale=False),
        conv(4, name="six"),
        L.GroupNormalization(2, center=False),
        L.GlobalAveragePooling2D(),
        L.Dense(6),
        L.GroupNormalization(3),
    )


def group_norm_of_concatenation():
    x = keras.Input(IMAGE)
    y = L.Concatenate()([conv(4, name="a")(x), conv(6, name="b")(x)])
    return finish(x, L.ReLU()(L.GroupNormalization(5)(y)))


def measured_statistics():
    """Normalization at the input and in the middle: adapted, given, and turned round."""
    rng = np.random.default_rng(0)
    adapted, inside = L.Normalization(), L.Normalization()
    adapted.adapt(rng.normal(2.0, 3.0, (20, *IMAGE)))
    inside.adapt(rng.normal(1.0, 2.0, (20, 6, 6, 5)))
    mean, variance = rng.uniform(0.5, 1.5, (2, 4)).tolist()
    return chain(
        L.Rescaling([0.5, 0.25, 1.0], offset=[0.0, 1.0, 2.0]),
        adapted,
        conv(5),
        inside,
        conv(4),
        L.Normalization(mean=mean, variance=variance),
        L.Rescaling(mean, offset=0.5),
        L.Normalization(mean=mean, variance=variance, invert=True),
        L.Normalization(axis=None, mean=0.5, variance=2.0),
    )


def layers_of_applications():
    from keras.src.applications.convnext import LayerScale, StochasticDepth
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    x = keras.Input(IMAGE)
    y = conv(5)(x)
    z = StochasticDepth(0.2)(LayerScale(0.3, 5)(conv(5)(y)))
    return finish(x, CustomScaleLayer(0.2)([y, z]))


def resized():
    return chain(
        conv(5),
        L.Resizing(4, 9),
        L.Permute((2, 1, 3)),
        conv(4),
        L.Resizing(5, 3, interpolation="nearest"),
        L.AlphaDropout(0.2),
        L.ActivityRegularization(),
        L.GlobalAveragePooling2D(),
        L.RepeatVector(3),
        L.Conv1D(5, 2),
    )


def merging_operations():
    """Concatenation and division by `keras.ops`, and splitting where channels were concatenated."""
    x = keras.Input(IMAGE)
    a, b = conv(4, name="a")(x), conv(4, name="b")(x)
    both = ops.concatenate([a, b, conv(3, name="c")(x)], axis=-1)
    first, rest = ops.split(ops.relu(both), [4], axis=-1)
    left, right = ops.split(first, 2, axis=1)
    y = ops.multiply(left, right) + ops.divide(left, ops.exp(right) + 1.0) / 2.0
    y = ops.true_divide(1.0, y * y + 1.0)
    pooled = [ops.mean(y, axis=(1, 2)), ops.max(rest, axis=[1, 2])]
    return finish(x, ops.concatenate(pooled, axis=1))


def split_evenly():
    x = keras.Input(IMAGE)
    y = L.Concatenate()([conv(4, name="a")(x), conv(4, name="b")(x)])
    a, b = ops.split(L.ReLU()(y), 2, axis=-1)
    return finish(x, ops.subtract(a, b))


def split_halves():
    """One convolution's channels go two ways, as in ShuffleNet and gated units; and one split is uneven."""
    x = keras.Input(IMAGE)
    y = L.BatchNormalization()(conv(8, name="a")(conv(6, name="first")(x)))
    left, right = ops.split(y, 2, axis=-1)
    y = ops.concatenate([ops.relu(left), conv(5, name="b")(right)], axis=-1)
    one, two, three = ops.split(L.Flatten()(L.MaxPooling2D(6)(y)), [3, 4], axis=1)
    return finish(x, ops.concatenate([one, three, two], axis=1))


def cut_for_a_sum():
    """A convolution and its batch norm, ten channels, added to a concatenation of three tensors."""
    x = keras.Input(IMAGE)
    y = L.Concatenate()([conv(4)(x), conv(3)(x), conv(3)(x)])
    whole = L.BatchNormalization()(conv(10, 1, name="whole")(L.LayerNormalization()(y)))
    return finish(x, conv(10)(L.Add()([L.DepthwiseConv2D(3, padding="same")(whole), y])))


def cut_blocks():
    """Blocks of two channels of two concatenated tensors, each split between its blocks."""
    x = keras.Input(IMAGE)
    y = L.Concatenate()([conv(8, name="a")(x), conv(8, name="b")(x)])
    y = conv(16, groups=8, name="grouped")(L.GroupNormalization(8)(y))
    first, second, third, fourth = ops.split(y, [2, 8, 10], axis=-1)
    return finish(x, ops.concatenate([L.Add()([first, third]), L.Add()([second, fourth])], axis=-1))


def shape_operations():
    x = keras.Input(IMAGE)
    y = conv(5)(x)
    y = ops.transpose(ops.reshape(y, (-1, 4, 9, 5)), (0, 2, 1, 3))
    y = ops.max_pool(y, 2, padding="same")[:, 1:, ::-1]
    y = ops.average_pool(y, (1, 2), strides=1)
    y = ops.squeeze(ops.expand_dims(y, 1)[:, 0, ..., :], axis=2)
    y = ops.amax(ops.expand_dims(y, 2), axis=2) + ops.amin(y, axis=1, keepdims=True)
    y = ops.min(conv_1d(y), axis=1) - ops.sum(ops.square(conv_1d(y)), axis=1)
    return finish(x, L.Dense(5)(ops.abs(ops.negative(y))))


def conv_1d(y):
    return L.Conv1D(6, 1)(y)


def more_activations():
    x = keras.Input(IMAGE)
    y = conv(6)(x)
    act = keras.activations
    for function in (act.celu, act.hard_tanh, act.log_sigmoid, act.softsign):
        y = y + function(y)
    return finish(x, conv(5)(y * ops.softmax(y, axis=1)))


class Shift(L.Layer):
    """A user's own layer: twice its channels, each once shifted and once scaled."""

    def build(self, shape):
        self.shift = self.add_weight(name="shift", shape=(shape[-1],))
        self.scale = self.add_weight(name="scale", shape=(shape[-1],))

    def call(self, x):
        return ops.concatenate([x + self.shift, x * self.scale], axis=-1)


class OwnConv(L.Conv2D):
    """A subclass that computes what its base does."""


register_rule(OwnConv, L.Conv2D)
register_rule(
    Shift,
    LayerRule(
        connect=lambda layer, inputs, node, grouping: [
            type(inputs[0])(inputs[0].pieces * 2, inputs[0].tiles)
        ],
        weights=lambda layer, inputs, outputs: {"shift": (inputs[0],), "scale": (inputs[0],)},
        run=lambda layer, inputs, weights, call: ops.concatenate(
            [inputs[0] + weights["shift"], inputs[0] * weights["scale"]], axis=-1
        ),
    ),
)


def own_layers():
    return chain(OwnConv(5, 3), Shift(), conv(4))


def outputs_of_every_kind():
    """Two classifiers and a map on shared layers, one of them in a nested model."""
    x, z = keras.Input(IMAGE, name="one"), keras.Input(IMAGE, name="two")
    i = keras.Input((6, 6, 5))
    inner = keras.Model(i, L.ReLU()(L.LayerNormalization()(conv(6)(i))), name="inner")
    shared, head = conv(5, name="shared"), L.Dense(CLASSES, name="head")
    a, b = inner(shared(x)), inner(shared(z))
    pool = L.GlobalAveragePooling2D()
    return keras.Model([x, z], [head(pool(a)), head(pool(b)), conv(2, name="map")(L.Average()([a, b]))])


LAYER_CASES = {
    function.__name__: function
    for function in (
        transposed,
        transposed_1d,
        transposed_3d,
        separable,
        separable_1d,
        separable_of_concatenation,
        grouped_1d,
        grouped_of_concatenation,
        grouped_and_shuffled,
        batch_norms,
        layer_norms,
        layer_norm_of_concatenation,
        other_norms,
        group_norms,
        group_norm_of_concatenation,
        measured_statistics,
        layers_of_applications,
        resized,
        merging_operations,
        split_evenly,
        split_halves,
        cut_for_a_sum,
        cut_blocks,
        shape_operations,
        more_activations,
        own_layers,
        outputs_of_every_kind,
    )
}
