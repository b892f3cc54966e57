"""One table of small models: (id, builder). Every invariant of the channel graph is tested on every row."""

import functools

import keras
import numpy as np
from building import CLASSES, IMAGE, Reversing, chain, conv, finish
from cases_layers import LAYER_CASES
from cases_operations import OPERATION_CASES
from cases_recurrent import RECURRENT_CASES

from autoslim.graph import ChannelGraph

L = keras.layers


def square_plus_one(x):
    return x * x + 1.0


def mnist_like():
    return chain(conv(), L.MaxPooling2D(), conv(6), L.ReLU(), L.Flatten(), L.Dense(7, "relu"))


def residual():
    x = keras.Input(IMAGE, name="image")
    y = L.ReLU()(L.BatchNormalization(name="stem_bn")(conv(8, use_bias=False, name="stem")(x)))
    for block in ("a", "b"):
        z = L.ReLU()(L.BatchNormalization()(conv(6, use_bias=False, name=f"{block}1")(y)))
        y = L.Add()([y, L.BatchNormalization()(conv(8, use_bias=False, name=f"{block}2")(z))])
        y = L.ReLU()(y)
    return finish(x, y)


def squeeze_and_excitation():
    x = keras.Input(IMAGE)
    y = L.BatchNormalization()(conv(8)(x))
    s = L.GlobalAveragePooling2D()(y)
    s = L.Reshape((1, 1, 8))(s)
    s = conv(3, 1, activation="swish")(s)
    s = conv(8, 1, activation="sigmoid")(s)
    return finish(x, L.Multiply()([y, s]))


def spatial_attention():
    """A map of one channel, multiplied and then added to all the channels."""
    x = keras.Input(IMAGE)
    y = conv(8)(x)
    one = conv(1, activation="sigmoid")(y)
    return finish(x, L.Add()([L.Multiply()([y, one]), one]))


def densenet():
    """Concatenations of concatenations, batch norm over them, flatten before the dense layer."""
    x = keras.Input(IMAGE)
    y = conv(4)(x)
    for _ in range(3):
        z = L.ReLU()(L.BatchNormalization()(y))
        y = L.Concatenate()([y, conv(3)(z)])
    y = L.AveragePooling2D(2)(L.BatchNormalization()(y))
    y = L.Flatten()(y)
    return finish(x, L.Dense(6, "relu")(y))


def misaligned_concatenations():
    """4 + 6 added to 6 + 4: the two of 6 are cut, so that there are pieces of 4, 2 and 4."""
    x = keras.Input(IMAGE)
    y = conv(5, name="before")(x)
    left = L.Concatenate()([conv(4, name="a")(y), conv(6, name="b")(y)])
    right = L.Concatenate()([conv(6, name="c")(y), conv(4, name="d")(y)])
    return finish(x, conv(7, name="after")(L.Add(name="join")([left, right])))


def concatenated_flats():
    x = keras.Input(IMAGE)
    a = L.Flatten()(L.MaxPooling2D(3)(conv(4)(x)))
    b = L.Flatten()(L.MaxPooling2D(2)(conv(3)(x)))
    return finish(x, L.Dense(5)(L.BatchNormalization()(L.Concatenate()([a, b]))))


def spatial_concatenation():
    x = keras.Input(IMAGE)
    y = conv(6)(x)
    return finish(x, L.Concatenate(axis=1)([y, conv(6)(y)]))


def joins():
    x = keras.Input(IMAGE)
    y = conv(6)(x)
    for kind in (L.Subtract, L.Average, L.Maximum, L.Minimum):
        y = kind()([conv(6, activation="tanh")(y), y])
    return finish(x, y)


def grouped():
    """A convolution in four groups: the width moves in blocks, before it and behind it."""
    x = keras.Input(IMAGE)
    y = L.ReLU()(conv(8, name="before")(x))
    y = conv(12, groups=4, strides=2, name="grouped")(y)
    y = L.BatchNormalization()(y)
    y = L.Add()([y, conv(12, 1, strides=2, name="shortcut")(x)])
    return finish(x, conv(5, dilation_rate=2, name="after")(y))


def two_granularities():
    """Groups of 4 and of 6 channels on the same 12: the width moves by 6 * 2 = 12 / gcd."""
    x = keras.Input(IMAGE)
    y = conv(12)(x)
    return finish(x, L.Add()([conv(12, groups=4)(y), conv(12, groups=6)(y)]))


def depth_multiplier():
    x = keras.Input(IMAGE)
    y = L.DepthwiseConv2D(3, depth_multiplier=2, padding="valid", activation="relu")(conv(4)(x))
    y = L.Concatenate()([y, L.Cropping2D(1)(conv(3)(x))])
    y = L.DepthwiseConv2D(3, depth_multiplier=3, use_bias=False, padding="same")(y)
    return finish(x, conv(5)(y))


def multiplier_added():
    """A depthwise output of twice the channels added to an ordinary one: that moves by two."""
    x = keras.Input(IMAGE)
    y = L.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(conv(4, name="narrow")(x))
    return finish(x, L.Add()([y, conv(8, name="wide")(x)]))


def shared_layer():
    x = keras.Input(IMAGE)
    block = conv(6, name="shared")
    norm = L.BatchNormalization()
    y = L.ReLU()(norm(block(conv(6, name="first")(x))))
    return finish(x, norm(block(y)))


def shared_reshape():
    """One Reshape layer, which has a number of channels in its settings, behind two convolutions."""
    x = keras.Input(IMAGE)
    reshape = L.Reshape((9, 4, 6))
    a, b = reshape(conv(6)(x)), reshape(conv(6)(x))
    return finish(x, L.Concatenate()([a, b]))


def nested():
    """Two nested models whose layers have the same names, one of them called twice; and a Sequential one."""

    def inner(name, filters):
        i = keras.Input((6, 6, filters))
        y = L.ReLU(name="relu")(L.BatchNormalization(name="bn")(conv(filters, name="conv")(i)))
        return keras.Model(i, y + 0.5 * i, name=name)

    x = keras.Input(IMAGE)
    y = conv(6)(x)
    one, two = inner("one", 6), inner("two", 6)
    tail = keras.Sequential([conv(5, name="conv"), L.ReLU(name="relu")], name="tail")
    return finish(x, tail(two(one(one(y)))))


def nested_deeper():
    i = keras.Input((6, 6, 5))
    innermost = keras.Model(i, conv(4, name="conv")(i), name="innermost")
    j = keras.Input((6, 6, 5))
    middle = keras.Model(j, [innermost(j), conv(4, name="conv")(j)], name="middle")
    x = keras.Input(IMAGE)
    return finish(x, L.Add()(middle(conv(5)(x))))


def sequential():
    return keras.Sequential(
        [keras.Input(IMAGE), conv(6, activation="relu"), L.GlobalMaxPooling2D(), L.Dense(CLASSES)]
    )


def several_outputs():
    """An inner tensor is an output too, one output stands twice, and they are named."""
    x = keras.Input(IMAGE)
    y = conv(6, name="seen")(x)
    z = L.GlobalAveragePooling2D()(conv(7, name="inside")(y))
    a, b = L.Dense(CLASSES, name="a")(z), L.Dense(2, name="b")(z)
    return keras.Model(x, {"main": a, "again": a, "aux": b, "inner": y})


def several_inputs():
    a, b = keras.Input(IMAGE, name="a"), keras.Input((3, 3, 2), name="b")
    y = L.Concatenate()([L.MaxPooling2D()(conv(5)(a)), conv(4)(b)])
    return finish([a, b], y)


def operations():
    """`keras.ops` functions and operators in place of layers."""
    x = keras.Input(IMAGE)
    ops, act = keras.ops, keras.activations
    y = conv(6)(x)
    y = act.relu(y) - 0.25 * ops.tanh(conv(6)(y))
    y = ops.relu(y) + ops.maximum(y, ops.minimum(1.0 - y, 3.0)) + act.sigmoid(y) * act.hard_sigmoid(y)
    for function in (act.relu6, act.leaky_relu, act.elu, act.selu, act.gelu, act.silu, ops.hard_silu):
        y = y + function(y)
    y = ops.cast(ops.cast(act.softplus(y), "float64"), "float32")
    return finish(x, y)


def activations():
    """Also activations that are not 0 at 0, and layers or functions of one's own as activation."""
    x = y = keras.Input(IMAGE)
    for layer in (
        conv(5, activation="sigmoid"),
        conv(5, activation=L.LeakyReLU(0.1)),
        conv(5, activation=square_plus_one),
        L.Activation("softplus"),
        conv(5),
        L.Activation("gelu"),
        L.Activation(L.ReLU(max_value=2.0)),
        L.ReLU(negative_slope=0.1, threshold=0.5),
        L.LeakyReLU(),
        conv(5),
        L.ELU(),
        L.PReLU(shared_axes=[1, 2]),
        L.PReLU(),
        L.Softmax(axis=1),
        L.Rescaling(3.0, offset=-0.5),
        L.Identity(),
    ):
        y = layer(y)
    return finish(x, L.Dense(6, activation="exponential")(L.Flatten()(y)))


def noise():
    return chain(
        conv(5),
        L.Dropout(0.3),
        L.Dropout(0.3, noise_shape=(None, 1, 1, None)),
        L.SpatialDropout2D(0.3),
        L.GaussianNoise(0.3),
        L.GaussianDropout(0.3),
    )


def shapes_1d():
    return chain(
        L.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu"),
        L.ZeroPadding1D(2),
        L.Conv1D(5, 3, strides=2),
        L.DepthwiseConv1D(3, depth_multiplier=2, padding="same"),
        L.BatchNormalization(),
        L.MaxPooling1D(2),
        L.UpSampling1D(2),
        L.AveragePooling1D(2, padding="same"),
        L.SpatialDropout1D(0.2),
        L.Cropping1D(1),
        shape=(16, 3),
    )


def shapes_2d():
    return chain(
        conv(6, strides=2, padding="valid"),
        L.ZeroPadding2D(2),
        conv(5, (1, 3), dilation_rate=(1, 2), padding="valid", use_bias=False),
        conv(4, (2, 3), dilation_rate=3),
        L.UpSampling2D(2, interpolation="bilinear"),
        L.AveragePooling2D(2, padding="same"),
        L.Cropping2D(((0, 1), (1, 0))),
        L.MaxPooling2D(3, strides=1, padding="same"),
        L.GlobalMaxPooling2D(keepdims=True),
        conv(4, 1),
    )


def shapes_3d():
    return chain(
        L.Conv3D(5, 2, activation="relu"),
        L.ZeroPadding3D(1),
        L.Conv3D(4, 3, strides=2),
        L.BatchNormalization(),
        L.UpSampling3D(2),
        L.MaxPooling3D(2, strides=1),
        L.AveragePooling3D(2, strides=1),
        L.SpatialDropout3D(0.2),
        L.Cropping3D(((0, 1), (0, 0), (0, 0))),
        shape=(4, 4, 4, 2),
    )


def global_pooling():
    line, volume = keras.Input((6, 2), name="line"), keras.Input((3, 3, 3, 2), name="volume")
    a, b = L.Conv1D(4, 3)(line), L.Conv3D(5, 2)(volume)
    pools = [L.GlobalMaxPooling1D()(a), L.GlobalAveragePooling1D()(a)]
    pools += [L.GlobalMaxPooling3D()(b), L.GlobalAveragePooling3D()(b)]
    return finish([line, volume], L.Concatenate()(pools))


def reshapes():
    """Positions moved about, flattened, and brought back from flat."""
    return chain(
        conv(5),
        L.Reshape((4, 9, 5)),
        L.BatchNormalization(),
        L.Reshape((180,)),
        L.Reshape((-1, 5)),
        L.Conv1D(4, 3),
        L.Reshape((-1,)),
        L.Reshape((17, 2, 4)),
        L.Reshape((34, -1)),
        L.Flatten(),
    )


def dense_on_maps():
    return chain(L.Dense(5, activation="relu"), L.BatchNormalization(), L.Dense(6), L.Flatten(), L.Dense(3))


def uncovered_in_the_middle():
    """A layer without a rule, with weights, between two slimmable convolutions."""
    return chain(conv(6, name="before"), Reversing(name="norm"), conv(5, name="after"), L.ReLU())


CASES = {
    function.__name__: function
    for function in (
        mnist_like,
        residual,
        squeeze_and_excitation,
        spatial_attention,
        densenet,
        misaligned_concatenations,
        concatenated_flats,
        spatial_concatenation,
        joins,
        grouped,
        two_granularities,
        depth_multiplier,
        multiplier_added,
        shared_layer,
        shared_reshape,
        nested,
        nested_deeper,
        sequential,
        several_outputs,
        several_inputs,
        operations,
        activations,
        noise,
        shapes_1d,
        shapes_2d,
        shapes_3d,
        global_pooling,
        reshapes,
        dense_on_maps,
        uncovered_in_the_middle,
    )
}
CASES.update(LAYER_CASES)
CASES.update(OPERATION_CASES)
CASES.update(RECURRENT_CASES)


@functools.cache
def graph_of(name):
    """The channel graph of a case: made once, with weights drawn so that nothing is trivial."""
    keras.utils.set_random_seed(1)
    model = CASES[name]()
    draw_weights(model)
    return ChannelGraph(model)


def draw_weights(model, seed=0):
    """Biases, scales and statistics away from 0 and 1, where mistakes would hide."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if not variable.path.endswith("kernel"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    for layer in model.layers:
        if isinstance(layer, L.Normalization):
            layer.finalize_state()


def images_for(model, count=3, seed=0):
    """Random inputs, in the structure of the model's; small whole numbers where it takes such."""
    rng = np.random.default_rng(seed)

    def drawn(x):
        shape = (count, *x.shape[1:])
        if "float" in x.dtype:
            return rng.normal(size=shape).astype("float32")
        whole = rng.integers(0, 4, shape)
        whole[:, :1] = 1  # a text has a word
        return whole

    return keras.tree.map_structure(drawn, inputs_of(model))


def inputs_of(model):
    """The model's symbolic inputs in their structure; a Sequential model's single one."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def random_widths(graph, rng):
    """Every slimmable group at a random width: int32 [G]."""
    widths = graph.full
    for group in graph.slimmable:
        widths[group.index] = rng.integers(1, group.size // group.unit + 1) * group.unit
    return widths
