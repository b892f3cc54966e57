"""More rows of the table of cases: operations that move, cut, join and multiply channels."""

import re

import keras
import numpy as np
from building import IMAGE, conv, finish

from autoslim.graph.rules import elementwise

L = keras.layers
ops = keras.ops


def named(operation):
    """The function of keras.ops that makes an operation of this name."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[0-9])(?=[A-Z])", "_", operation).lower()
    for spelling in (name, name.replace("_", ""), re.sub(r"_(?=\d)", "", name)):
        if hasattr(ops, spelling):
            return getattr(ops, spelling)
    raise LookupError(operation)


def functions():
    """Every function of one tensor, of values between 0.5 and 0.9, or for arccosh above 1."""
    x = keras.Input(IMAGE)
    y = conv(6)(x)
    z = 0.5 + 0.4 * ops.sigmoid(y)
    total = z
    lists = [*elementwise.FUNCTIONS.values(), *elementwise.SINGULAR.values()]
    more = {"Clip": (0.6, 0.8), "Cast": ("float64",), "Round": (1,)}
    for name in [name for names in lists for name in names]:
        if name != "LogicalNot":
            taken = named(name)(z + 1.0 if name == "Arccosh" else z, *more.get(name, ()))
            total = total + 0.1 * ops.cast(taken, "float32")
    return finish(x, conv(5)(total) + ops.cast(ops.logical_not(ops.isnan(y)), "float32")[..., :5])


def functions_of_two():
    """Every function of two tensors; also of a tensor and a number, and of a vector of constants."""
    x = keras.Input(IMAGE)
    y = conv(6)(x)
    a, b = 0.5 + 0.4 * ops.sigmoid(y), 0.5 + 0.4 * ops.sigmoid(conv(6)(x))
    total = a
    for name in [*elementwise.MERGING, *elementwise.SINGULAR_MERGING]:
        if name == "Where":
            y = ops.where(a > b, a, 2.0 * b)
        elif name.startswith("Logical"):
            y = named(name)(a > b, a > 0.7)
        else:
            y = named(name)(a, b)
        total = total + 0.1 * ops.cast(y, "float32")
    return finish(x, total)


def constants():
    """Vectors with an entry for each channel, maps for each position; what is not slimmed, too."""
    rng = np.random.default_rng(0)
    vector, position = (rng.uniform(0.5, 1.5, shape).astype("float32") for shape in ((5,), (6, 6, 1)))
    x = keras.Input(IMAGE)
    y = conv(5)(x * vector[:3])
    y = ops.maximum(y * vector + position, -vector) / (1.0 + vector)
    y = ops.where(y > 0.0, y, ops.multiply(vector, y))
    return finish(x, conv(4)(y * rng.uniform(0.5, 1.5, (1, 6, 6, 5)).astype("float32")))


def channel_means():
    """Attention over positions from means and maxima over the channels, as in CBAM."""
    x = keras.Input(IMAGE)
    y = L.Concatenate()([conv(5)(x), conv(4)(x)])
    pooled = [ops.mean(y, axis=-1, keepdims=True), ops.max(y, axis=-1, keepdims=True)]
    y = y * conv(1, activation="sigmoid")(L.Concatenate()(pooled))
    deviation = ops.std(y, axis=(1, 2, 3), keepdims=True)
    y = (y - ops.mean(y, axis=(1, 2, 3), keepdims=True)) / (0.1 + deviation)
    spread = ops.var(y, axis=-1) + ops.logsumexp(y, axis=-1) + ops.min(y, axis=3) + ops.sum(y, axis=-1)
    spread += ops.prod(y / 2.0, axis=-1) + ops.amax(y, axis=-1) * ops.amin(y, axis=3)
    for kind in (ops.all(y > -2.0, axis=-1), ops.any(y > 1.0, axis=-1)):
        spread += 0.1 * ops.cast(kind, "float32")
    y = y * ops.expand_dims(spread, -1)
    return finish(x, conv(4)(ops.concatenate([y, ops.std(y, axis=1, keepdims=True) * y], axis=-1)))


def response_normalisation():
    """Global response normalisation by operations: norms over positions, over their mean over channels."""
    x = keras.Input(IMAGE)
    y = conv(6, activation="gelu")(x)
    norm = ops.sqrt(ops.sum(y**2, axis=(1, 2), keepdims=True) + 1e-3)
    y = y * (norm / (ops.mean(norm, axis=-1, keepdims=True) + 1e-3)) + y
    return finish(x, conv(5)(ops.normalize(y, axis=-1)))


def local_attention_over_channels():
    """A 1-D convolution over the channels, as in ECA."""
    x = keras.Input(IMAGE)
    y = conv(6)(x)
    s = L.Reshape((6, 1))(L.GlobalAveragePooling2D()(y))
    s = L.Conv1D(1, 3, padding="same", use_bias=False, activation="sigmoid")(s)
    y = y * L.Reshape((1, 1, 6))(s)
    t = ops.expand_dims(ops.mean(y, axis=(1, 2)), -1)
    t = L.Conv1D(1, 3, padding="same")(t)
    return finish(x, conv(4)(L.Multiply()([y, ops.transpose(ops.expand_dims(t, 1), (0, 1, 3, 2))])))


def channel_slices():
    x = keras.Input(IMAGE)
    y = L.BatchNormalization()(conv(9, name="a")(x))
    left, right = y[..., :4], y[:, :, :, 4:]
    y = ops.concatenate([right[..., None, 1:, :, :][:, 0], left[:, 1:]], axis=-1)
    y = ops.relu(y[..., 2:7]) * conv(5)(x)[:, 1:]
    return finish(x, conv(4)(y))


def strided_slices():
    """Every second channel where each stands twice."""
    x = keras.Input(IMAGE)
    y = ops.repeat(conv(5)(x), 2, axis=-1)
    y = y[..., ::2] * ops.tanh(y[..., 1::2])
    return finish(x, conv(4)(ops.tile(y, (1, 1, 2, 3))))


def padded_shortcut():
    """Positions padded in several ways; zero channels behind the shortcut's, as in the first ResNet."""
    x = keras.Input(IMAGE)
    y = ops.pad(conv(4)(x), [[0, 0], [1, 1], [2, 0], [0, 0]])
    y = ops.pad(y, [[0, 0], [1, 0], [0, 1], [0, 0]], mode="reflect")
    y = conv(4)(ops.pad(y, [[0, 0], [0, 1], [0, 0], [0, 0]], constant_values=2.0))
    shortcut = ops.pad(y[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (2, 3)))
    y = L.BatchNormalization()(conv(9, strides=2)(y))
    y = L.ReLU()(L.Add()([y, shortcut]))
    return finish(x, conv(5)(y))


def channel_shuffle():
    """Channels taken apart and transposed, before a depthwise convolution, as in ShuffleNet."""
    x = keras.Input(IMAGE)
    y = conv(8, name="a")(x)
    y = L.Reshape((6, 6, 8))(L.Permute((1, 2, 4, 3))(L.Reshape((6, 6, 2, 4))(y)))
    y = L.DepthwiseConv2D(3, padding="same")(y)
    y = ops.concatenate([conv(6, name="b")(y), conv(6, name="c")(y)], axis=-1)
    y = ops.reshape(ops.transpose(ops.reshape(y, (-1, 6, 6, 2, 6)), (0, 1, 2, 4, 3)), (-1, 6, 6, 12))
    left, right = ops.split(y, 2, axis=-1)
    return finish(x, conv(4)(left * right))


def grouped_and_shuffled():
    """Convolution groups that concatenated tensors share, and shuffling between them."""
    x = keras.Input(IMAGE)
    y = L.Concatenate()([conv(6, name="a")(x), conv(6, 1, name="b")(x)])
    y = L.BatchNormalization()(conv(18, groups=3, name="c")(y))
    y = ops.reshape(ops.transpose(ops.reshape(y, (-1, 6, 6, 3, 6)), (0, 1, 2, 4, 3)), (-1, 6, 6, 18))
    y = L.DepthwiseConv2D(3, padding="same")(y)
    return finish(x, conv(9, 1, groups=3, name="d")(y))


def pixel_shuffle():
    """Channels that become positions and come back, by the operation and by transposing."""
    x = keras.Input(IMAGE)
    y = ops.depth_to_space(conv(12, name="a")(x), 2)
    y = conv(8, name="b")(ops.space_to_depth(y, 2))
    y = ops.transpose(ops.reshape(y, (-1, 6, 6, 2, 2, 2)), (0, 1, 3, 2, 4, 5))
    y = conv(16, name="c")(ops.reshape(y, (-1, 12, 12, 2)))
    y = ops.transpose(ops.reshape(y, (-1, 12, 12, 4, 2, 2)), (0, 1, 4, 2, 5, 3))
    return finish(x, conv(4)(ops.reshape(y, (-1, 24, 24, 4))))


def decoder():
    """A dense layer whose channels become a map."""
    x = keras.Input((5,))
    y = L.Reshape((2, 2, 6))(L.Dense(24, activation="relu")(x))
    y = L.Conv2DTranspose(4, 3, strides=2, padding="same")(y)
    return keras.Model(x, conv(2, name="map")(y))


def folded_axis():
    """An axis of positions that is folded into the channels, as before a recurrent layer."""
    x = keras.Input((6, 4, 3))
    y = L.MaxPooling2D((1, 2))(conv(5)(x))
    y = L.Dense(6)(L.Reshape((6, 10))(y))
    y = ops.reshape(ops.transpose(ops.reshape(y, (-1, 3, 2, 6)), (0, 2, 1, 3)), (-1, 2, 18))
    return finish(x, L.Conv1D(4, 2)(y))


def selective_kernels():
    """Branches stacked, and added with weights that a softmax over the branches gives."""
    x = keras.Input(IMAGE)
    branches = [conv(5, 3)(x), conv(5, 5)(x), conv(5, 1)(x)]
    stacked = ops.stack(branches, axis=1)
    s = L.Dense(3, "relu")(ops.mean(ops.sum(stacked, axis=1), axis=(1, 2)))
    weights = ops.softmax(ops.stack([L.Dense(5)(s) for _ in branches], axis=1), axis=1)
    y = ops.sum(stacked * weights[:, :, None, None, :], axis=1)
    first, second, third = ops.unstack(stacked, axis=1)
    return finish(x, conv(4)(y + first * second - third))


def attention_by_hand():
    """Query, key and value from one dense layer, heads taken apart by reshaping; and a gated hidden layer."""
    x = keras.Input((6, 3))
    y = L.Dense(8, name="embed")(x)
    qkv = ops.reshape(L.Dense(3 * 2 * 4, name="qkv")(L.LayerNormalization()(y)), (-1, 6, 3, 2, 4))
    qkv = ops.transpose(qkv, (2, 0, 3, 1, 4))
    q, k, v = qkv[0], qkv[1], qkv[2]
    scores = ops.matmul(q * 0.5, ops.swapaxes(k, -1, -2))
    scores = L.Dropout(0.1)(L.Softmax()(scores))
    z = ops.reshape(ops.moveaxis(ops.matmul(scores, v), 1, 2), (-1, 6, 8))
    y = y + L.Dense(8, name="out")(z)
    hidden = ops.glu(L.Dense(12, name="gated")(L.RMSNormalization()(y)))
    return finish(x, y + L.Dense(8)(ops.gelu(hidden)))


def attention_by_sums():
    """The layers and sums that multi-head attention is made of; more keys than queries."""
    a, b = keras.Input((4, 6), name="a"), keras.Input((5, 3), name="b")
    q = L.EinsumDense("abc,cde->abde", (4, 2, 4), bias_axes="de", name="q")(0.2 * L.Dense(6)(a))
    k = L.EinsumDense("abc,cde->abde", (5, 2, 4), name="k")(b)
    v = L.EinsumDense("abc,cde->abde", (5, 2, 5), bias_axes="e", name="v")(b)
    scores = ops.softmax(ops.einsum("btnh,bsnh->bnts", q, k) / 2.0)
    y = ops.einsum("bnts,bsnh->btnh", scores, v)
    w = L.EinsumDense("...c,cde->...de", (2, 4), name="w")(b)
    y = ops.concatenate([y, ops.dot_product_attention(q, k, w)], axis=-1)
    y = L.EinsumDense("abcd,cde->abe", (4, 7), bias_axes="e", activation="relu", name="o")(y)
    matrix = np.full((7, 3), 0.1, "float32")
    y = ops.matmul(y, matrix) + 0.1 * ops.einsum("...d,de->...e", y, matrix)
    return finish([a, b], y)


def attention_layers():
    """Keras's own layers of attention, which are looked into; with dropout, with shared keys and values.

    The peak of memory is at the beginning, as it depends on the order in which projections are made.
    """
    x = keras.Input((6, 3))
    y = L.Dense(8, name="embed")(ops.repeat(x, 60, axis=-1))
    z = L.LayerNormalization()(y)
    y = y + L.MultiHeadAttention(2, 4, value_dim=3, dropout=0.1, name="mha")(z, z)
    y = y + L.MultiHeadAttention(2, 4, name="plain")(y, y[:, 1:])
    y = y + L.GroupQueryAttention(4, 4, 2, name="grouped")(y, y)
    y = y + L.AdditiveAttention(use_scale=False)([y, y]) * L.Dot(2, normalize=True)([y, y])[:, :, :1]
    return finish(x, L.Dense(5)(y))


class Tokens(L.Layer):
    """A class token, which is tiled for the images, and positions, by a table's places."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.places = L.Embedding(7, 8, name="places")

    def build(self, shape):
        self.token = self.add_weight(name="token", shape=(1, 1, 8), initializer="ones")
        self.shift = self.add_weight(name="shift", shape=(6, 8), initializer="ones")
        self.places.build((7,))

    def call(self, x):
        token = ops.tile(self.token, (ops.shape(x)[0], 1, 1))
        more = ops.broadcast_to(ops.cast(self.token[0], "float32"), (ops.shape(x)[0], 1, 8))
        x = ops.concatenate([token + more, x + ops.reshape(self.shift, (2, 3, 8))[0, 0]], axis=1)
        return x + self.places(ops.expand_dims(ops.arange(7), 0))


class Mixing(L.Layer):
    """Attention whose kernels, bias by distance and scale are weights of its own; it returns a None too."""

    def build(self, shape):
        self.kernels = [self.add_weight(name=f"kernel{n}", shape=(8, 8)) for n in range(2)]
        self.hidden = self.add_weight(name="hidden", shape=(8, 9))
        self.back = self.add_weight(name="back", shape=(9, 8))
        self.table = self.add_weight(name="table", shape=(13, 2), initializer="random_normal")
        self.offsets = self.add_weight(name="offsets", shape=(7, 7), dtype="int32", trainable=False)
        self.offsets.assign(np.arange(7)[:, None] - np.arange(7) + 6)
        self.scale = self.add_weight(name="scale", shape=(8,), initializer="ones")

    def call(self, x):
        heads = [ops.reshape(ops.matmul(x, kernel), (-1, 7, 2, 4)) for kernel in self.kernels]
        scores = 0.05 * ops.einsum("bqhd,bkhd->bhqk", *heads)
        scores = scores + ops.transpose(ops.take(self.table, self.offsets, axis=0), (2, 0, 1))
        y = ops.einsum("bhqk,bkhd->bqhd", ops.softmax(scores), heads[1])
        x = x + self.scale * ops.reshape(y, (-1, 7, 8))
        return x + ops.matmul(ops.gelu(ops.matmul(x, self.hidden)), self.back), None


class Encoder(L.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.mixing = Mixing(name="mixing")

    def build(self, shape):
        self.mixing.build(shape)

    def call(self, x):
        return self.mixing(x)[0]


class Standardised(L.Conv2D):
    """A convolution whose kernel is standardised."""

    def call(self, x):
        mean = ops.mean(self.kernel, (0, 1, 2), keepdims=True)
        deviation = ops.std(self.kernel, (0, 1, 2), keepdims=True)
        y = ops.conv(x, (self.kernel - mean) / (deviation + 0.1), padding="same")
        return ops.depthwise_conv(y + self.bias, ops.reshape(self.bias, (1, 1, -1, 1)))


def weights_of_layers_own():
    """Weights that layers hold themselves; the peak of memory is at the end."""
    x = keras.Input((2, 3, 3))
    y = Standardised(8, 3, padding="same", name="stem")(x)
    y = Tokens(name="tokens")(ops.reshape(L.Dense(8, name="embed")(y), (-1, 6, 8)))
    return finish(x, ops.repeat(0.001 * Encoder(name="encoder")(y), 60, axis=-1))


def words():
    """An embedding of whole numbers, and rows of a matrix that are looked up."""
    x = keras.Input((6,))
    y = L.Embedding(5, 8, name="words")(ops.cast(ops.clip(3 * ops.abs(x), 0, 4), "int32"))
    return finish(x, ops.relu(L.Dense(6)(ops.take(y, np.array([[0, 1], [4, 2]]), axis=1))))


def wrapped_layers():
    """A layer for each step, and one whose kernel is normalised while it is trained."""
    x = keras.Input((2, *IMAGE))
    y = L.TimeDistributed(conv(5, name="a"))(x)
    y = L.TimeDistributed(L.BatchNormalization())(y)
    y = L.TimeDistributed(L.SpectralNormalization(conv(4, strides=2, activation="relu", name="b")))(y)
    y = L.TimeDistributed(L.GlobalAveragePooling2D())(L.TimeDistributed(L.Dropout(0.2))(y))
    return finish(x, L.SpectralNormalization(L.Dense(6, name="c"))(L.TimeDistributed(L.Dense(5))(y)))


def mixer():
    """Dense layers along the positions, whose channels meanwhile stand before them, as in MLP-Mixer."""
    x = keras.Input((6, 3))
    y = L.Dense(5, name="embed")(x)
    z = L.Permute((2, 1))(L.LayerNormalization()(y))
    z = L.Dense(6, name="back")(L.Dropout(0.1)(L.Dense(7, activation="gelu", name="tokens")(z)))
    y = y + ops.transpose(z, (0, 2, 1))
    return finish(x, L.Dense(4)(y))


def windows():
    """Positions in windows that count as images of their own, as in Swin."""
    x = keras.Input(IMAGE)
    y = conv(6)(x)
    y = ops.roll(y, (1, 2), axis=(1, 2))
    y = ops.transpose(ops.reshape(y, (-1, 2, 3, 2, 3, 6)), (0, 1, 3, 2, 4, 5))
    y = L.LayerNormalization()(L.Dense(5)(ops.reshape(y, (-1, 9, 6))))
    y = ops.transpose(ops.reshape(y, (-1, 2, 2, 3, 3, 5)), (0, 1, 3, 2, 4, 5))
    return finish(x, conv(4)(ops.reshape(y, (-1, 6, 6, 5))))


def positions_moved():
    x = keras.Input(IMAGE)
    y = ops.flip(conv(5)(x), axis=1)
    y = ops.image.resize(y, (4, 6), interpolation="bilinear")
    y = ops.take(ops.cumsum(y, axis=2), np.array([0, 2, 1]), axis=1) + ops.sort(y, axis=2)[:, :3]
    y = ops.repeat(y, [1, 2, 1], axis=1) * ops.cumprod(ops.sigmoid(y), axis=1)[:, :1]
    y = y + 0.1 * ops.cast(ops.argmax(y, axis=1) - ops.argmin(y, axis=1), "float32")[:, None]
    return finish(x, conv(4)(y))


def more_activation_operations():
    x = keras.Input(IMAGE)
    y = conv(6)(x)
    for name in ("sparse_sigmoid", "soft_shrink", "tanh_shrink", "hard_shrink", "sparse_plus", "squareplus"):
        y = y + getattr(ops, name)(y)
    y = y + ops.threshold(y, 0.5, 0.25)
    y = y * ops.log_softmax(y, axis=1) - ops.sparsemax(y, axis=2)
    return finish(x, conv(5)(ops.glu(y, axis=-1)))


@keras.saving.register_keras_serializable("tests")
class OwnScale(L.Layer):
    """Holds the number of channels in its configuration."""

    def __init__(self, start, dim, **kwargs):
        super().__init__(**kwargs)
        self.start, self.dim = start, dim

    def build(self, shape):
        self.gamma = self.add_weight(name="gamma", shape=(self.dim,), initializer="ones")

    def call(self, x):
        return self.start * x * self.gamma

    def get_config(self):
        return {**super().get_config(), "start": self.start, "dim": self.dim}


@keras.saving.register_keras_serializable("tests")
class OwnNorm(L.Layer):
    """Its channels depend on the mean over all of them."""

    def build(self, shape):
        self.gamma = self.add_weight(name="gamma", shape=(1, 1, 1, shape[-1]))
        self.beta = self.add_weight(name="beta", shape=(shape[-1],))

    def call(self, x):
        norm = ops.sqrt(ops.sum(x * x, axis=(1, 2), keepdims=True) + 1e-3)
        return self.gamma * (x * norm / (ops.mean(norm, axis=-1, keepdims=True) + 0.1)) + self.beta + x


@keras.saving.register_keras_serializable("tests")
class OwnPositions(L.Layer):
    """A token before the others, and a vector added to each."""

    def build(self, shape):
        self.token = self.add_weight(name="token", shape=(1, 1, shape[-1]))
        self.places = self.add_weight(name="places", shape=(shape[1] + 1, shape[-1]))

    def call(self, x):
        token = ops.tile(self.token, (ops.shape(x)[0], 1, 1))
        return ops.concatenate([token, x], axis=1) + self.places


@keras.saving.register_keras_serializable("tests")
class OwnAffine(L.Layer):
    """One scale and one shift for all channels."""

    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=())
        self.shift = self.add_weight(name="shift", shape=())

    def call(self, x):
        return self.scale * x + self.shift


def own_layers_that_are_found_by_trying():
    x = keras.Input(IMAGE)
    y = OwnNorm()(OwnScale(0.5, 5)(OwnAffine()(conv(5, name="a")(x))))
    y = L.Concatenate()([y, conv(3, name="b")(y)])
    y = L.Reshape((36, 8))(OwnNorm()(y))
    y = OwnPositions(name="positions")(L.Dense(6, name="c")(y))
    return finish(x, L.Dense(5)(y))


class Windows(L.Layer):
    """Attention in windows: queries, keys and values stand first, before images with their windows."""

    def __init__(self, heads, width, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.width = heads, width
        self.qkv, self.out = L.Dense(3 * heads * width), L.Dense(heads * width)

    def build(self, shape):
        self.qkv.build(shape)
        self.out.build((*shape[:-1], self.heads * self.width))
        self.bias = self.add_weight(name="bias", shape=(self.heads, 9, 9))

    def call(self, x):
        images, height, width = ops.shape(x)[:3]
        y = ops.reshape(self.qkv(x), (-1, height // 3, 3, width // 3, 3, 3, self.heads, self.width))
        y = ops.reshape(ops.transpose(y, (5, 0, 1, 3, 6, 2, 4, 7)), (3, -1, self.heads, 9, self.width))
        q, k, v = ops.unstack(y, 3)
        scores = ops.softmax(ops.matmul(q, ops.swapaxes(k, -2, -1)) + self.bias[None])
        y = ops.reshape(ops.matmul(scores, v), (-1, height // 3, width // 3, self.heads, 3, 3, self.width))
        y = ops.transpose(y, (0, 1, 4, 2, 5, 3, 6))
        return self.out(ops.reshape(y, (-1, height, width, self.heads * self.width)))


def windows_behind_queries():
    x = keras.Input(IMAGE)
    y = Windows(2, 4, name="windows")(conv(5)(x))
    return finish(x, conv(4)(y))


def patches():
    """That touch, with a rest at the edge, and that overlap, also with holes; of images and of channels."""
    x = keras.Input((7, 6, 3))
    y = conv(6)(ops.image.extract_patches(x, (2, 3)))
    y = conv(5)(ops.image.extract_patches(y, 2, strides=1, dilation_rate=(2, 1), padding="same"))
    y = conv(4)(ops.image.extract_patches(y, 2, padding="same"))
    return finish(x, conv(5)(ops.image.extract_patches(y, (2, 1), strides=(1, 1), padding="valid")))


OPERATION_CASES = {
    function.__name__: function
    for function in (
        functions,
        functions_of_two,
        constants,
        channel_means,
        response_normalisation,
        local_attention_over_channels,
        channel_slices,
        strided_slices,
        padded_shortcut,
        channel_shuffle,
        grouped_and_shuffled,
        pixel_shuffle,
        decoder,
        folded_axis,
        selective_kernels,
        attention_by_hand,
        attention_by_sums,
        attention_layers,
        weights_of_layers_own,
        words,
        wrapped_layers,
        mixer,
        windows,
        positions_moved,
        windows_behind_queries,
        patches,
        more_activation_operations,
        own_layers_that_are_found_by_trying,
    )
}
